"""Results by the name or path of a run."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from vsp.errors import RunError
from vsp.storage.results import Results
from vsp.storage.run import Run, close_names, find_run, newest
from vsp.storage.sealed_summary import SUMMARY
from vsp.storage.stored_settings import choose_setting, stored_settings
from vsp.utils.looked_in import nothing_in


def find_results(
    name: str | None, work: Path, position: str | None = None, probe: str | None = None
) -> Results:
    """Results by name or path of a run, by default of the newest, for one setting of the probe.

    A name is a folder in `results/`, or a run in `scratch/` that was not probed yet; a path (it has
    a slash) is a folder of results or of a run, or the folder of one setting. The default is the
    results of the newest run in `scratch/`; without any run, as on a computer to which results were
    copied, it is the newest folder in `results/`. `choose_setting` says how `position` and `probe`
    choose among the settings; the newest is the default.

    Raises RunError if there is no such run and no such folder of results.
    """
    if name is None:
        return choose_setting(_newest_home(work), position, probe)
    places = [Path(name)]
    if "/" not in name and name not in (".", ".."):
        places = [work / "results" / name, work / "scratch" / name]
    for place in places:
        with suppress(OSError, ValueError):  # such a path is refused below
            if (place / "plan.json").exists():
                run = Run.open(place)
                run.require_states()
                return choose_setting(run.results, position, probe)
            if stored_settings(place):
                return choose_setting(place, position, probe)
    raise RunError(_no_such(name, places))


def _no_such(name: str, places: Sequence[Path]) -> str:
    """The message for a name or path without results; it lists similar names."""
    if len(places) == 1:
        return f"{name}: is neither a run nor a folder of results; name one of them"
    known = {path.name for place in places for path in _marked(place.parent)}
    folders = " and ".join(f"{place.parent}/" for place in places)
    if not known:
        return f"{name}: {nothing_in(places[0].parent, 'results', 'make a run with `vsp plan`')}"
    return f"{name}: no such run or results in {folders}; {close_names(name, known)}"


def _marked(folder: Path) -> list[Path]:
    """The folders in `folder` that hold a plan or results."""
    plans = [path.parent for path in folder.glob("*/plan.json")]
    return [*plans, *{path for path in folder.glob("*/") if _summaries(path)}]


def _summaries(home: Path) -> list[Path]:
    return [one.results.folder / SUMMARY for one in stored_settings(home)]


def _newest_home(work: Path) -> Path:
    if any((work / "scratch").glob("*/plan.json")):
        return find_run(None, work).results
    summaries = {path: home for home in (work / "results").glob("*/") for path in _summaries(home)}
    if not summaries:
        raise RunError(
            nothing_in(
                work / "results",
                "results",
                "name a folder of results with --run, or make them with `vsp plan`, `vsp extract` and "
                "`vsp probe`",
            )
        )
    return summaries[newest(list(summaries))]
