"""Name → object, from a table of "module:attribute" strings that are imported only when used."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from vsp.errors import ConfigError


class Registry:
    """A family that grows by one file and one line of its table."""

    def __init__(self, kind: str, table: Mapping[str, str]) -> None:
        self.kind = kind
        self._table = dict(table)

    def names(self) -> list[str]:
        return sorted(self._table)

    def load(self, name: str) -> Any:
        """The object of that name. Raises ConfigError, listing the known names, if there is none."""
        if name not in self._table:
            known = ", ".join(self.names())
            raise ConfigError(f"{self.kind} {name!r} is not known; known: {known}")
        module, attribute = self._table[name].split(":")
        return getattr(import_module(module), attribute)
