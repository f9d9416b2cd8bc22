"""Read the options of `vsp import` that choose one of several words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vsp.errors import ConfigError


def chosen(options: Mapping[str, str], name: str, known: Sequence[str]) -> str:
    """The value of an option; the first known one by default. Raises ConfigError for another."""
    value = options.get(name, known[0])
    if value not in known:
        raise ConfigError(
            f"option {name}={value} is not known; use one of {', '.join(filter(None, known))}"
        )
    return value
