"""The settings of the probe of which a run has results: a folder each in `results/RUN/`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vsp.choices import DEFAULT_PROBE, LAST
from vsp.errors import RunError
from vsp.storage.ledger import failure_of_all
from vsp.storage.plan import Plan
from vsp.storage.results import Results, run_beside
from vsp.storage.run import Run
from vsp.storage.sealed_summary import SUMMARY, identity_of
from vsp.utils.reading import read_json


@dataclass(frozen=True, slots=True)
class StoredSetting:
    """Results of one setting, and their summary as it was read before its seal is checked."""

    results: Results
    values: Mapping[str, Any]  # empty if the summary cannot be read

    @property
    def probe(self) -> str:
        """The name of the probe; empty if the summary does not say."""
        card = self.values.get("probe")
        return str(card.get("probe", "")) if isinstance(card, dict) else ""

    @property
    def position(self) -> str:
        return str(self.values.get("position", LAST))

    @property
    def name(self) -> str:
        """The setting as `--probe` takes it; results before format 7 have the name of the probe."""
        return self.results.setting or self.probe


def stored_settings(home: Path) -> list[StoredSetting]:
    """The settings that have results in `results/RUN/`; the one written last comes first.

    Results before format 7, which lie in this folder itself, are among them. `home` may also be the
    folder of one setting.
    """
    dated = []
    for folder in (home, *home.glob("positions/*/"), *home.glob("*/")):
        with suppress(OSError, ValueError):  # such a path is refused when it is opened
            dated.append(((folder / SUMMARY).stat().st_mtime_ns, str(folder), folder))
    settings = [_stored(folder) for *_, folder in sorted(dated, reverse=True)]
    return [one for one in settings if _belongs(one.results, home)]


def _stored(folder: Path) -> StoredSetting:
    with suppress(OSError, ValueError, RecursionError):
        values: Any = read_json(folder / SUMMARY)
        if isinstance(values, dict):
            return StoredSetting(Results.of_format(folder, values.get("format")), values)
    return StoredSetting(Results.of_format(folder, None), {})


def _belongs(results: Results, home: Path) -> bool:
    """Whether results that lie below `home` are of it, and not of another run before format 7."""
    return home.absolute() in (results.home.absolute(), results.folder.absolute())


def choose_setting(home: Path, position: str | None = None, probe: str | None = None) -> Results:
    """The results of a run at a position, of a probe or a setting, the newest of several.

    `home` is `results/RUN/`, or the folder of one setting, which is then chosen. `probe` is the name
    of a setting (a folder of `home`) or of a probe. Without `position`, a setting that is named may
    be at any position; otherwise it is the last token.

    Raises RunError if there are none; the message lists what there is.
    """
    settings = stored_settings(home)
    if settings and settings[0].results.folder == home and settings[0].results.setting:
        return _that_setting(settings[0], position, probe)
    named = [one for one in settings if probe is not None and one.name == probe]
    if named and position is None:
        return named[0].results
    at = position or LAST
    found = [one for one in settings if one.position == at and probe in (None, one.probe, one.name)]
    if not found:
        raise RunError(_no_results(home, at, probe, settings))
    return found[0].results


def _that_setting(one: StoredSetting, position: str | None, probe: str | None) -> Results:
    """The results at the path of a setting. Raises RunError if other ones are asked for."""
    if position not in (None, one.position) or probe not in (None, one.probe, one.name):
        raise RunError(
            f"{one.results.folder}: holds results of {one.probe} at {one.position}; name the run to "
            "choose another"
        )
    return one.results


def check_owner(home: Path, plan: Plan) -> None:
    """Raise RunError if `results/RUN/` has results of another plan, or of an unknown one."""
    for one in stored_settings(home):
        one.results.check_owner(plan)


def choice_options(chosen: Results, position: str) -> str:
    """The options with which `vsp report` shows these results, such as ` --position subject`.

    `chosen` are the newest results of the run, so the default setting needs no option.
    """
    if position != LAST:
        return f" --position {position}"
    return "" if chosen.setting in ("", DEFAULT_PROBE) else f" --probe {chosen.setting}"


def why_stale(results: Results, rows: dict[str, int]) -> str:
    """Why results are of an older state of the run; empty if they are not, or the run is not here.

    `rows` are the numbers of rows in the summary of the results.
    """
    run = run_beside(results.home)
    if run is None:
        return ""
    with suppress(RunError):
        n_done = sum(ledger.n_done for ledger in run.ledgers())
        if n_done != rows["done"]:
            return f"the run has {n_done:,} extracted rows now, and had {rows['done']:,} when it was probed"
    return ""


def _no_results(
    home: Path, position: str, probe: str | None, settings: Sequence[StoredSetting]
) -> str:
    """The message for a run without the results that were asked for."""
    asked = f" of {probe}" if probe else ""
    asked += "" if position == LAST else f" at {position}"
    options = "" if position == LAST else f" --position {position}"
    command = f"run `vsp probe --run {home.absolute().name}{options}`"
    if settings:
        listed = ", ".join(
            f"{one.name or 'unreadable'}"
            + ("" if one.position == LAST else f" (at {one.position})")
            for one in settings
        )
        return f"{home}: holds no results{asked}; it has {listed}: name one of them, or {command} first"
    run = run_beside(home)
    if run is None:
        return f"{home}: holds no results{asked}; {command} first"
    failure = failure_of_all(run.ledgers())
    if failure:
        return f"{home}: holds no results; run {run.name}: {failure}"
    copied = _results_of_plan(home, run)
    advice = (
        f"{copied} holds results of the same plan: copy that folder to {home}, or "
        if copied
        else ""
    )
    return f"{home}: holds no results{asked}; {advice}{command}" + ("" if copied else " first")


def _results_of_plan(home: Path, run: Run) -> Path | None:
    """The folder of results under the name that the run had, if they are of the same plan."""
    other = home.parent / run.plan.name
    found = (identity_of(one.values) for one in stored_settings(other))
    return other if run.plan.identity() in found else None
