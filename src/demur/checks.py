"""Checks of arguments: numbers, misspelt names, durations, calls that do not fit; and where warnings are shown."""

import datetime
import difflib
import enum
import functools
import inspect
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import numpy as np

from demur.errors import InvalidSetting, WrongType

F = TypeVar("F", bound=Callable[..., Any])
C = TypeVar("C", bound=type)

SYNONYMS = {
    "x": ("X",),
    "data": ("X",),
    "y": ("labels",),
    "labels": ("y",),
    "y_true": ("y", "labels"),
    "eps": ("epsilon", "epsilons"),
    "epsilon": ("epsilons",),
    "max_iter": ("steps",),
    "classifier": ("model",),
    "network": ("model",),
    "student": ("distilled_model",),
    "autoencoder": ("ae",),
    "loss": ("loss_fn", "loss_type"),
    "metrics": ("log_metric",),
    "lr": ("optimizer",),
    "learning_rate": ("optimizer",),
    "random_state": ("seed",),
    "alpha": ("fpr",),
    "contamination": ("fpr",),
    "percentile": ("threshold_perc",),
    "filepath": ("path",),
    "filename": ("path",),
}
"""What an argument is called elsewhere, and here: the first of them that there is."""
LABELS = ("y", "labels", "sample_weight", "class_weight")
"""Arguments for labels, elsewhere."""
NO_LABELS = "no labels are needed: leave them out"
SHOWN = 4
"""Arguments that are named where one is given by position that has to be given by name."""
UNITS = {
    **dict.fromkeys(("", "s", "sec", "secs", "second", "seconds"), 1),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), 60),
    **dict.fromkeys(("h", "hour", "hours"), 3600),
    **dict.fromkeys(("d", "day", "days"), 86400),
}
"""Seconds in what times are written in."""


def is_number(value: Any) -> bool:
    """Whether a value is one finite number."""
    return isinstance(value, int | float | np.integer | np.floating) and bool(np.isfinite(value))


def check_whole(name: str, value: Any, least: int) -> None:
    """Raise InvalidSetting unless a setting is a whole number of at least `least`."""
    if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < least:
        raise InvalidSetting(f"{name} is a whole number of at least {least}; got {value!r}")


def seconds_of(duration: Any, name: str) -> float:
    """A duration in seconds: "10min", "90s", "1.5 hours", a `timedelta`, or a number of seconds.

    Args:
        duration: what was given.
        name: of the argument, for the error.

    Raises:
        InvalidSetting: it is none, or not above 0.
    """
    if isinstance(duration, datetime.timedelta):
        duration = duration.total_seconds()
    if is_number(duration) and not isinstance(duration, bool) and duration > 0:
        return float(duration)
    units = "|".join(UNITS)
    matched = re.fullmatch(rf"\s*([0-9]*\.?[0-9]+)\s*({units})\s*", duration) if isinstance(duration, str) else None
    if matched is None or float(matched[1]) == 0:
        raise InvalidSetting(
            f"{name} is a time such as '10min', '90s' or '1h', or a number of seconds; got {duration!r}"
        )
    return float(matched[1]) * UNITS[matched[2]]


def kind(value: Any) -> str:
    """The class of an object, or a class itself, with its module."""
    cls = value if isinstance(value, type) else type(value)
    return f"{cls.__module__}.{cls.__qualname__}"


def plain(name: Any) -> str:
    """A name without case, spaces, hyphens and the like."""
    return re.sub(r"[^a-z0-9]", "", str(name).lower())


def meant(name: str, options: Iterable[str]) -> str | None:
    """The option that is nearest to a misspelt name; None if no option is near."""
    named = {plain(option): option for option in options}
    found = difflib.get_close_matches(plain(name), named, 1)
    return named[found[0]] if found else None


def chosen(value: Any, options: Iterable[str], what: str, also: Mapping[str, str] | None = None) -> str:
    """The option that is meant, in whatever case and with whatever spaces, hyphens and underscores.

    Args:
        value: what the caller gave: a name, or a member of an enumeration that stands for one.
        options: all names.
        what: the argument, for the message: "loss_type", "an attack".
        also: other names of the options.

    Raises:
        InvalidSetting: it is none of them; the message names the nearest.
    """
    options = list(options)
    said = value.value if isinstance(value, enum.Enum) else value
    if isinstance(said, str):
        others = {plain(name): option for name, option in (also or {}).items()}
        named = others | {plain(option): option for option in options}
        if plain(said) in named:
            return named[plain(said)]
    near = meant(said, options) if isinstance(said, str) else None
    hint = "" if near is None else f": did you mean {near!r}?"
    raise InvalidSetting(f"{what} is one of {', '.join(map(repr, options)) or 'none'}; got {value!r}{hint}")


def explained(function: F) -> F:
    """Have a call that does not fit a function's arguments say, as a WrongType, what would."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except TypeError as error:
            traceback = error.__traceback__
            if isinstance(error, WrongType) or traceback is None or traceback.tb_next is not None:
                raise  # not of this call: of something that it has led to
            raise WrongType(_advice(function, args, kwargs, str(error))) from None

    return call  # type: ignore[return-value]


def explained_methods(cls: C) -> C:
    """Have all calls of a class's public methods, and of the class, say what would fit; a class decorator."""
    for name, member in vars(cls).copy().items():
        if inspect.isfunction(member) and (name == "__init__" or not name.startswith("_")):
            setattr(cls, name, explained(member))
    return cls


def warn(message: str | Warning, category: type[Warning] = UserWarning) -> None:
    """Warn at the line of the caller's code, outside demur."""
    level, frame = 1, sys._getframe()  # noqa: SLF001 - inspect.currentframe is the same and may be None
    while frame.f_back is not None and frame.f_globals.get("__name__", "").split(".")[0] in ("demur", "contextlib"):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)


def is_misfit(error: Exception) -> bool:
    """Whether an error is what `explained` made of a call that does not fit."""
    return isinstance(error, WrongType) and type(error.__context__) is TypeError


def arguments_of(cls: type) -> list[str]:
    """What a class can be made with, by keyword: what its `__init__` takes, and what that passes on to the bases'."""
    names: list[str] = []
    for kind in cls.__mro__:
        if "__init__" not in vars(kind):
            continue
        parameters = list(inspect.signature(vars(kind)["__init__"]).parameters.values())[1:]
        names += [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            break
    return list(dict.fromkeys(names))


def _advice(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], error: str) -> str:
    parameters = list(inspect.signature(function).parameters.values())
    is_method = bool(parameters) and parameters[0].name == "self"
    is_init = function.__name__ == "__init__"
    title = type(args[0]).__name__ if is_init else function.__name__
    names = arguments_of(type(args[0])) if is_init else [p.name for p in parameters[is_method:]]
    if is_method:
        parameters, args = parameters[1:], args[1:]
    for name in kwargs:
        if name not in names:
            return f"{title} has no argument {name!r}: {_instead(name, names)}"
    placed = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    if len(args) > len(placed):
        named = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
        shown = ", ".join([*placed, *(f"{name}=..." for name in named[:SHOWN])])
        more = ", ..." if len(named) > SHOWN else ""
        first = " and ".join([", ".join(placed[:-1]), *placed[-1:]]) if len(placed) > 1 else "".join(placed)
        return f"{title} takes {first or 'nothing'} by position: write {title}({shown}{more})"
    return error


def _instead(name: str, names: list[str]) -> str:
    known = [option for option in SYNONYMS.get(name, ()) if option in names]
    near = known[0] if known else meant(name, names)
    if near is not None:
        return f"did you mean {near}=?"
    return NO_LABELS if name in LABELS else f"it takes {', '.join(names)}"
