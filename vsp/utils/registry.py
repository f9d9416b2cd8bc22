"""Tables of families: name → "module:attribute", imported only when used."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from vsp.errors import ConfigError
from vsp.utils.spelling import unknown_name


class Registry:
    """The members of a family; each is one file and one line of the table.

    Other packages add members with entry points of the group `group`. They cannot replace a name
    of the table.
    """

    def __init__(self, kind: str, group: str, table: Mapping[str, str]) -> None:
        self.kind = kind
        self.group = group
        self._table = dict(table)

    def __contains__(self, name: object) -> bool:
        return name in self._table or any(point.name == name for point in self._points)

    def own_names(self) -> list[str]:
        """Names in the table only, for help texts: does not search installed packages."""
        return sorted(self._table)

    def names(self) -> list[str]:
        """All names, including those of installed packages."""
        return sorted({*self._table, *(point.name for point in self._points)})

    def load(self, name: str) -> Any:
        """The object of that name.

        Raises ConfigError if the name is unknown, if two installed packages define it, or if the
        package that defines it cannot be imported.
        """
        if name in self._table:
            module, attribute = self._table[name].split(":")
            return getattr(import_module(module), attribute)
        points = [point for point in self._points if point.name == name]
        if not points:
            raise ConfigError(unknown_name(self.kind, name, self.names()))
        if len(points) > 1:
            packages = " and ".join(sorted(point.dist.name for point in points if point.dist))
            raise ConfigError(
                f"{self.kind} {name!r} is in the packages {packages}; uninstall one of them"
            )
        return _load(self.kind, points[0])

    @cached_property
    def _points(self) -> tuple[EntryPoint, ...]:
        """Found once: the search opens a file of every installed package."""
        return tuple(entry_points(group=self.group))


def _load(kind: str, point: EntryPoint) -> Any:
    try:
        return point.load()
    except Exception as error:  # code of another package, which may raise anything
        package = point.dist.name if point.dist else point.value
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ConfigError(
            f"{kind} {point.name!r} of the package {package} cannot be imported ({reason[:200]}); correct "
            "or uninstall the package"
        ) from error
