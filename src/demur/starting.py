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
"""The extra that installs each backend; the first one installed is used."""
ONLY_SCORING = ("numpy", "openvino")
"""Keras's other backends, which train nothing."""
NATIVE = {".safetensors": "torch"}
"""The backend that the gradients of a classifier in such a file go through, if they go through one alone."""


def start_keras(for_file: Path | None = None, role: str = "classifier") -> None:
    """Choose Keras's backend and import both. To be called before anything else imports Keras.

    Args:
        for_file: a model's file: the backend that suits it is chosen, if that is installed and KERAS_BACKEND names no
            other.
        role: what to call the model in error messages.

    Raises:
        FileNotFoundError: there is no such file; told before Keras is imported, which takes seconds.
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
    """Hold back the process's standard error, C++ included; show it if the code inside fails."""
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
    """Have Keras compute with a backend that is installed, where nobody has chosen one and its own choice is missing.

    Raises:
        DemurError, MissingExtra, InvalidSetting: see `choose_backend`.
    """
    asked = os.environ.get("KERAS_BACKEND")
    if "keras" in sys.modules or asked in ONLY_SCORING:
        return
    if asked or importlib.util.find_spec(_of_keras()) is None:
        choose_backend()


def _of_keras() -> str:
    """The backend that Keras chooses: the one in its settings file, or TensorFlow."""
    settings = Path(os.environ.get("KERAS_HOME", Path.home() / ".keras")) / "keras.json"
    try:
        found = json.loads(settings.read_text(encoding="utf-8")).get("backend")
    except (OSError, ValueError, AttributeError):
        return "tensorflow"
    return found if found in EXTRAS else "tensorflow"


def choose_backend(prefer: str | None = None) -> None:
    """Say what Keras shall compute with, unless KERAS_BACKEND already does.

    Args:
        prefer: the first to try.

    Raises:
        DemurError: no backend is installed.
        MissingExtra: the one that KERAS_BACKEND names is not.
        InvalidSetting: KERAS_BACKEND names none that demur can train with.
    """
    wanted = os.environ.get("KERAS_BACKEND")
    if wanted and wanted not in EXTRAS:
        raise InvalidSetting(f"KERAS_BACKEND is one of {', '.join(EXTRAS)}; got {wanted!r}")
    if wanted and importlib.util.find_spec(wanted) is None:
        raise MissingExtra(wanted, EXTRAS[wanted])
    if wanted or "keras" in sys.modules:
        return
    wanted_first = [name for name in (prefer, *EXTRAS) if name]
    installed = next((name for name in wanted_first if importlib.util.find_spec(name) is not None), None)
    if installed is None:
        raise DemurError(
            "Keras computes with TensorFlow, JAX or PyTorch, and none of them is installed: "
            "pip install 'demur[tensorflow-cpu]'"
        )
    os.environ["KERAS_BACKEND"] = installed
