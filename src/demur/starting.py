"""Keras for demur's own programs, the command line and the server: its backend, and no chatter while it is imported."""

import contextlib
import importlib.util
import json
import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from demur.errors import DemurError, InvalidSetting, MissingExtra

EXTRAS = {"tensorflow": "tensorflow-cpu", "jax": "jax", "torch": "torch"}
"""The extra that installs each backend; the first backend that is installed is used."""
ONLY_SCORING = ("numpy", "openvino")
"""Keras's other backends, which train nothing."""
NATIVE = {".safetensors": "torch"}
"""The only backend through which gradients of a classifier in such a file go."""


def start_keras(for_file: Path | None = None, role: str = "classifier") -> None:
    """Choose Keras's backend and import both. To be called before anything else imports Keras.

    The backend suits the model in the file, if one is given, unless KERAS_BACKEND names another. That there is no such
    file, which error messages call `role`, is told before Keras is imported, which takes seconds.
    """
    if for_file is not None:
        check_there(for_file, role)
    choose_backend(None if for_file is None else NATIVE.get(for_file.suffix.lower()))
    # TensorFlow's C++ side logs while it is imported, partly at any log level. A level that the user has set is kept.
    hush = contextlib.nullcontext() if "TF_CPP_MIN_LOG_LEVEL" in os.environ else _hushed()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with hush:
        import keras

        if keras.backend.backend() == "tensorflow":
            logging.getLogger("tensorflow").setLevel(logging.ERROR)


def check_there(file: Path, role: str) -> None:
    """Raise FileNotFoundError if there is no such file."""
    if not file.exists():
        raise FileNotFoundError(f"there is no {role} at {file}: no such file")


@contextlib.contextmanager
def _hushed() -> Iterator[None]:
    """Hold back what is written to the process's standard error, by C++ too; show it after all if the block fails."""
    if sys.stderr is None:  # closed by whoever started the process
        yield
        return
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(stderr, held.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


def take_an_installed_backend() -> None:
    """Call `choose_backend` where the backend that Keras would take is not installed."""
    asked = os.environ.get("KERAS_BACKEND")
    if "keras" in sys.modules or asked in ONLY_SCORING:
        return
    if asked or importlib.util.find_spec(_usual_backend()) is None:
        choose_backend()


def _usual_backend() -> str:
    """The backend that Keras takes by itself: the one in Keras's settings file, or TensorFlow."""
    settings = Path(os.environ.get("KERAS_HOME", Path.home() / ".keras")) / "keras.json"
    try:
        found = json.loads(settings.read_text(encoding="utf-8")).get("backend")
    except (OSError, ValueError, AttributeError):
        return "tensorflow"
    return found if found in EXTRAS else "tensorflow"


def choose_backend(prefer: str | None = None) -> None:
    """Say what Keras shall compute with, unless KERAS_BACKEND already does; `prefer` is the first backend to try.

    Raises:
        DemurError: no backend is installed.
        MissingExtra: the backend that KERAS_BACKEND names is not installed.
        InvalidSetting: KERAS_BACKEND names a backend that demur cannot train with.
    """
    wanted = os.environ.get("KERAS_BACKEND")
    if wanted and wanted not in EXTRAS:
        raise InvalidSetting(f"KERAS_BACKEND is one of {', '.join(EXTRAS)}; got {wanted!r}")
    if wanted and importlib.util.find_spec(wanted) is None:
        raise MissingExtra(wanted, EXTRAS[wanted])
    if wanted or "keras" in sys.modules:
        return
    installed = next((name for name in (prefer, *EXTRAS) if name and importlib.util.find_spec(name)), None)
    if installed is None:
        raise DemurError(
            "Keras computes with TensorFlow, JAX or PyTorch, and none of them is installed: "
            "pip install 'demur[tensorflow-cpu]'"
        )
    os.environ["KERAS_BACKEND"] = installed
