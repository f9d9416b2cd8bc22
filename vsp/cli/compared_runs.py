"""The runs, positions or settings that `vsp compare` names."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vsp.errors import ConfigError

if TYPE_CHECKING:
    from vsp.storage.results import Results


def compared_runs(arguments: argparse.Namespace) -> list[tuple[str, Results]]:
    """The name and the results of each run, position or setting that is compared.

    Without --probe, all runs have the setting of the first one if they have results of it.
    Raises ConfigError if several are named of more than one of these.
    """
    from vsp.storage.find_results import find_results

    names, probes = arguments.runs, arguments.probe or [None]
    positions = arguments.positions or [None]
    several = {"runs": names, "--positions": positions, "--probe": probes}
    listed = [f"{len(values)} {what}" for what, values in several.items() if len(values) > 1]
    if len(listed) > 1:
        raise ConfigError(f"{' and '.join(listed)}: name several of one kind and one of the other")
    runs = [
        (
            _compared_name(name, position, probe, arguments),
            find_results(name, Path(), position, probe),
        )
        for name in names
        for position in positions
        for probe in probes
    ]
    _require_others(runs)
    return [runs[0], *(_of_setting(runs[0][1], one, arguments) for one in runs[1:])]


def _require_others(runs: Sequence[tuple[str, Results]]) -> None:
    """Raise ConfigError if the same results are named twice."""
    seen: set[Path] = set()
    for name, results in runs:
        if results.folder.resolve() in seen:
            raise ConfigError(f"{name} is named twice; name another run, or a setting with --probe")
        seen.add(results.folder.resolve())


def _of_setting(
    first: Results, other: tuple[str, Results], arguments: argparse.Namespace
) -> tuple[str, Results]:
    """The results with the first run's setting; `other` if there are none, or if --probe chose."""
    from vsp.storage.stored_settings import stored_settings

    name, results = other
    if arguments.probe or len(arguments.runs) == 1:
        return other
    same = [
        one.results for one in stored_settings(results.home) if one.results.setting == first.setting
    ]
    return (name, same[0]) if same else other


def _compared_name(
    name: str, position: str | None, probe: str | None, arguments: argparse.Namespace
) -> str:
    """The run, with the position or the setting if several of them are compared."""
    if len(arguments.positions or ()) > 1:
        return f"{name} at {position}"
    return f"{name} with {probe}" if len(arguments.probe or ()) > 1 else name
