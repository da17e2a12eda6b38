"""Extensions: all parts of one kind (detectors, attacks, file formats), demur's own and those of other packages.

A part registers itself when its module is imported: a class by being defined, a function by its decorator. A registry
imports demur's own modules of its kind when it is first asked, and then what installed packages name in entry points:

    [project.entry-points."demur.attacks"]
    guessing = "my_package.guessing"

Both are imported late, because Keras takes seconds to import and fixes its backend.
"""

import importlib
import pkgutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, MutableSequence
from contextvars import ContextVar
from importlib import metadata
from typing import Any, Generic, TypeVar

from demur.errors import NameTaken

T = TypeVar("T")

_LOADING: ContextVar[frozenset[int]] = ContextVar("loading", default=frozenset())
"""Registries, by id, that load entry points now: the modules that are loaded may use the registry."""


class Kind(Generic[T]):
    """Where the parts of one kind come from.

    Args:
        group: the group of the entry points, "demur." and the kind in the plural.
        home: the module with demur's own parts, or the package with their modules; None where they are given.
        definition: from a part to the class or function that defines it.
    """

    _parts: Any

    def __init__(self, group: str, home: str | None, definition: Callable[[T], Any]) -> None:
        self.group, self.home, self.definition = group, home, definition
        self._has_own, self._has_all = home is None, False

    def find(self) -> None:
        """Import all modules with parts of this kind that have not been imported.

        Raises:
            NameTaken: two parts have one name.
        """
        if self._has_all or self._is_loading:
            return
        token = _LOADING.set(_LOADING.get() | {id(self)})
        try:
            self.find_own()
            for entry in sorted(metadata.entry_points(group=self.group)):
                load(entry)
        finally:
            _LOADING.reset(token)
        self._has_all = True

    def find_own(self) -> None:
        """Import demur's own modules of this kind."""
        if self._has_own or self.home is None:
            return
        home = importlib.import_module(self.home)
        for module in pkgutil.iter_modules(getattr(home, "__path__", ())):
            importlib.import_module(f"{self.home}.{module.name}")
        self._has_own = True

    def __getstate__(self) -> dict[str, Any]:
        """All parts, found before pickling: later, modules would fill the registry that they import, not the copy."""
        self.find()
        return vars(self)

    def admit(self, part: T) -> None:
        """Make sure that demur's own parts are known before a part of another package is added."""
        if not self.is_own(part):
            self.find_own()

    def check(self, name: str, known: T, new: T) -> None:
        """Raise NameTaken unless the new part is the known one, defined again: a notebook's cell run twice."""
        if self.origin(known) != self.origin(new):
            raise NameTaken(
                f"the name {name!r} in the group {self.group} belongs to {self._described(known)}, and "
                f"{self._described(new)} has it too: rename one of them, or uninstall the package of one"
            )

    def origin(self, part: T) -> tuple[str, str]:
        """The file (or, in a notebook, the module) and the qualified name of a part's definition.

        The file, because a script that runs is the module `__main__` and, where it is imported as well, a second one.
        """
        module, name = self._place(part)
        return getattr(sys.modules.get(module), "__file__", None) or module, name

    def is_own(self, part: T) -> bool:
        """Whether a part is demur's own."""
        return self._place(part)[0].partition(".")[0] == __name__.partition(".")[0]

    @property
    def _is_loading(self) -> bool:
        return id(self) in _LOADING.get()

    def __delitem__(self, key: Any) -> None:
        del self._parts[key]

    def __len__(self) -> int:
        self.find()
        return len(self._parts)

    def _place(self, part: T) -> tuple[str, str]:
        found = self.definition(part)
        return str(found.__module__), getattr(found, "__qualname__", type(found).__qualname__)

    def _described(self, part: T) -> str:
        module, name = self._place(part)
        packages = metadata.packages_distributions().get(module.partition(".")[0], ())
        return f"{module}.{name}" + (f" (package {', '.join(sorted(set(packages)))})" if packages else "")


class Registry(Kind[T], MutableMapping[str, T]):
    """The parts of one kind by name; `known` are demur's own parts, where no module of `home` registers them."""

    def __init__(
        self,
        group: str,
        home: str | None = None,
        definition: Callable[[T], Any] = lambda part: part,
        known: Mapping[str, T] | None = None,
    ) -> None:
        super().__init__(group, home, definition)
        self._parts: dict[str, T] = dict(known or {})

    def __setitem__(self, name: str, part: T) -> None:
        self.admit(part)
        if name in self._parts:
            self.check(name, self._parts[name], part)
        self._parts[name] = part

    def __getitem__(self, name: str) -> T:
        self.find()
        return self._parts[name]

    def __iter__(self) -> Iterator[str]:
        self.find()
        return iter(self._parts)


class OrderedRegistry(Kind[T], MutableSequence[T]):
    """The parts of one kind in the order in which they are asked; no two parts share one of their `names`."""

    def __init__(
        self, group: str, home: str | None = None, *, names: Callable[[T], Iterable[str]], known: Iterable[T] = ()
    ) -> None:
        super().__init__(group, home, lambda part: part)
        self.names = names
        self._parts: list[T] = list(known)

    def insert(self, index: int, part: T) -> None:
        """Add a part; a part that an entry point puts first comes after the parts that the caller put there."""
        self.admit(part)
        for other in self._parts:
            for name in sorted({*self.names(part)} & {*self.names(other)}):
                self.check(name, other, part)
        self._parts = [other for other in self._parts if self.origin(other) != self.origin(part)]
        if index == 0 and self._is_loading:
            index = next((i for i, other in enumerate(self._parts) if self.is_own(other)), len(self._parts))
        self._parts.insert(index, part)

    def __getitem__(self, index: Any) -> Any:
        self.find()
        return self._parts[index]

    def __setitem__(self, index: Any, part: Any) -> None:
        self._parts[index] = part


def load(entry: metadata.EntryPoint) -> None:
    """Import what an entry point names; warn if it cannot be imported, raise NameTaken if its name is taken."""
    try:
        entry.load()
    except NameTaken:
        raise
    except Exception as error:  # whatever another package's module raises while it is imported
        from demur.checks import warn

        package = "unknown" if entry.dist is None else entry.dist.name
        warn(
            f"the entry point {entry.name} = {entry.value!r} (package {package}, group {entry.group}) cannot be loaded"
            f", and demur works without it: {type(error).__name__}: {error}. Update the package, or uninstall it"
        )
