"""`.safetensors` files: the weights of a PyTorch module, which a named function makes."""

import importlib
import sys
from pathlib import Path
from typing import Any

from demur.classifiers.files.base import Asked
from demur.errors import InvalidSetting, MissingExtra, WrongType


def read(path: Path, asked: Asked) -> Any:
    """Make the module that is named, and load its weights, all of them.

    Raises:
        WrongType: no module is named, what is named makes none, or the weights are another module's.
        InvalidSetting: what is named cannot be imported or called.
        MissingExtra: PyTorch or safetensors is not installed.
    """
    if asked.module is None:
        raise WrongType(
            f"{path} holds weights, and not the network: name what makes it, --module package.module:function, a "
            "function without arguments that returns the torch.nn.Module (in Python module=)"
        )
    try:
        import safetensors.torch
        import torch
    except ImportError as error:
        raise MissingExtra("safetensors" if error.name == "safetensors" else "torch", "torch") from error
    made = _made(asked.module)
    if not isinstance(made, torch.nn.Module):
        raise WrongType(
            f"{asked.module} must return a torch.nn.Module, the {asked.role}; it returned a {type(made).__name__}"
        )
    try:
        safetensors.torch.load_model(made, path, strict=True)
    except Exception as error:  # the RuntimeError of PyTorch, and safetensors' own
        reason = " ".join(str(error).split())
        raise WrongType(
            f"{path} does not hold the weights of the {type(made).__name__} that {asked.module} makes: {reason[:300]}"
        ) from error
    return made.eval()


def _made(name: str) -> Any:
    """What the function of a name returns; an object that is no function, but a module already, as it is."""
    package, _, function = name.partition(":")
    if not package or not function:
        raise InvalidSetting(f"--module is package.module:function, such as net:make; got {name!r}")
    sys.path.insert(0, str(Path.cwd()))  # as `python -m` has it
    try:
        found: Any = importlib.import_module(package)
        for part in function.split("."):
            found = getattr(found, part)
        return found if hasattr(found, "state_dict") and not isinstance(found, type) else found()
    except Exception as error:  # the user's code may raise anything
        raise InvalidSetting(
            f"--module {name} fails with {type(error).__name__}: {error}. It must be importable from the current "
            "folder, and need no arguments"
        ) from error
    finally:
        sys.path.remove(str(Path.cwd()))
