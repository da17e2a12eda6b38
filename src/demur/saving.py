"""Saving and loading under the name of the module that alibi-detect has them in."""

from demur.lazy import lazy

__getattr__, __dir__ = lazy(
    __name__, {"load_detector": "demur.detectors.saved", "save_detector": "demur.detectors.saved"}
)
