"""Results by the name or path of a run."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from vsp.choices import LAST
from vsp.errors import RunError
from vsp.storage.results import Results
from vsp.storage.run import Run, close_names, find_run, newest
from vsp.storage.sealed_summary import SUMMARY
from vsp.utils.looked_in import nothing_in


def find_results(name: str | None, work: Path, position: str = LAST) -> Results:
    """Results at a position, by name or path of a run, by default of the newest.

    A name is a folder in `results/`, or a run in `scratch/` that was not probed yet; a path (it has
    a slash) is a folder of results or of a run. The default is the results of the newest run in
    `scratch/`; without any run, as on a computer to which results were copied, it is the newest
    folder in `results/`.

    Raises RunError if there is no such run and no such folder of results.
    """
    if name is None:
        return _newest_results(work).at(position)
    places = [Path(name)]
    if "/" not in name and name not in (".", ".."):
        places = [work / "results" / name, work / "scratch" / name]
    for place in places:
        with suppress(OSError, ValueError):  # such a path is refused below
            if (place / "plan.json").exists():
                return Results(Run.open(place).results).at(position)
            if (place / SUMMARY).exists() or Results(place).at(position).folder.is_dir():
                return Results(place) if position == LAST else Results(place).at(position)
    raise RunError(_no_such(name, places))


def _no_such(name: str, places: Sequence[Path]) -> str:
    """The message for a name or path without results; it lists similar names."""
    if len(places) == 1:
        return f"{name}: is neither a run nor a folder of results; name one of them"
    known = {path.parent.name for place in places for path in _marked(place.parent)}
    folders = " and ".join(f"{place.parent}/" for place in places)
    if not known:
        return f"{name}: {nothing_in(places[0].parent, 'results', 'make a run with `vsp plan`')}"
    return f"{name}: no such run or results in {folders}; {close_names(name, known)}"


def _marked(folder: Path) -> list[Path]:
    """The plans and summaries in the folders of `folder`."""
    return [*folder.glob("*/plan.json"), *folder.glob(f"*/{SUMMARY}")]


def _newest_results(work: Path) -> Results:
    if any((work / "scratch").glob("*/plan.json")):
        return Results(find_run(None, work).results)
    summaries = list((work / "results").glob(f"*/{SUMMARY}"))
    if not summaries:
        raise RunError(
            nothing_in(
                work / "results",
                "results",
                "name a folder of results with --run, or make them with `vsp plan`, `vsp extract` and "
                "`vsp probe`",
            )
        )
    return Results(newest(summaries).parent)
