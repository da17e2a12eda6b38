"""Detectors from the folders that `save` writes. Keras is imported once there is a folder to read."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from demur.checks import explained, kind
from demur.errors import WrongType
from demur.guards.folder import read_document

if TYPE_CHECKING:
    from demur.detectors.base import Detector


@explained
def save_detector(detector: "Detector", path: str | Path, **settings: Any) -> None:
    """Call `detector.save(path)`.

    Examples:
        >>> save_detector(detector, "guard")
        >>> load_detector("guard").threshold == detector.threshold
        True

    Args:
        detector: what to save.
        path: the folder.
        settings: see `Detector.save`.
    """
    if not hasattr(detector, "save"):
        raise WrongType(
            "save_detector takes a detector, and then the path: write save_detector(detector, path); got "
            + kind(detector)
        )
    detector.save(path, **settings)


@explained
def load_detector(
    path: str | Path,
    *,
    model: Any = None,
    companion: Any = None,
    companion_preprocess: Any = None,
    custom_objects: dict[str, Any] | None = None,
) -> "Detector":
    """Load a detector that `save` has written, on whichever Keras backend is in use. Runs no code from the folder.

    Examples:
        >>> detector.save("guard")
        >>> guard = load_detector("guard")
        >>> np.allclose(guard.score(X_new), detector.score(X_new), atol=1e-5)
        True

    Args:
        path: the folder.
        model: the classifier, to use instead of the saved one; needed if it was not saved, and for any that is not a
            Keras model. It must be the one that the detector was saved with: what it has learned is compared or, where
            that differs, its answers on the made-up rows that `save` wrote. There is a warning where neither tells, and
            where a plain function, which need not answer alike twice, answers otherwise.
        companion: a `torch.nn.Module` like the one that was trained, if that was one of yours: its weights are loaded
            into it. Of one that started as a "copy" of the classifier, `model` is enough.
        companion_preprocess: what makes the companion's rows, if one of your own did when the detector was saved.
        custom_objects: classes and functions of your own that the models use, by name; passed to Keras.

    Raises:
        DetectorNotFound, NotADetector, CorruptDetector, WrongClassifier, WrongType, ForkedProcess: see `demur.errors`.
    """
    read_document(Path(path))
    from demur.detectors.restored import restored

    return restored(Path(path), model, companion, companion_preprocess, custom_objects)
