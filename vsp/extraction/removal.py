"""What `vsp rm` would free, and what of it can be made again."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from vsp.errors import VspError
from vsp.models.fingerprint import fingerprint
from vsp.storage.effects import Effects
from vsp.storage.plan import Plan
from vsp.storage.run_list import ListedRun
from vsp.utils.text import format_bytes, format_count

_METADATA = "metadata.json"


@dataclass(frozen=True, slots=True)
class Removal:
    """The folders of one run that would be removed, and what that means."""

    name: str
    folders: tuple[Path, ...]
    n_bytes: int
    freed: str  # a line
    kept: str  # a line; "": nothing is kept
    again: tuple[str, ...]  # what can be made again, and how
    lost: tuple[str, ...]  # what cannot, and why

    @property
    def lines(self) -> list[str]:
        """The lines that are shown before the question."""
        lines = [f"run {self.name}: {self.freed}"]
        lines += [f"  {self.kept}"] if self.kept else []
        lines += [f"  can be made again: {one}" for one in self.again]
        return lines + [f"  cannot be made again: {one}" for one in self.lost]


def plan_removal(listed: ListedRun, work: Path, with_results: bool) -> Removal | None:
    """The removal of a run's states, and of its results if wanted; None if nothing is to remove."""
    folders, parts, n_bytes = [], [], 0
    kinds = {"scratch": listed.scratch, "results": listed.results if with_results else None}
    for part, use in kinds.items():
        if use is not None:
            folders.append(work / part / listed.name)
            parts.append(f"{part}/{listed.name} ({format_bytes(use.n_bytes)})")
            n_bytes += use.n_bytes
    if not folders:
        return None
    again, lost = _states(listed, work) if listed.scratch is not None else ([], [])
    if with_results and listed.results is not None:
        again, lost = _with_results(listed, again, lost)
    links = [f"{one} is a link; its target is kept" for one in folders if one.is_symlink()]
    keeps = "" if with_results else _kept(listed)
    return Removal(
        name=listed.name,
        folders=tuple(folders),
        n_bytes=n_bytes,
        freed=f"removes {' and '.join(parts)}, frees {format_bytes(n_bytes)}",
        kept="; ".join(filter(None, [keeps, *links])),
        again=tuple(again),
        lost=tuple(lost),
    )


def _kept(listed: ListedRun) -> str:
    if listed.results is None:
        return "it has no results, so nothing of it is kept"
    return (
        f"its results stay in results/{listed.name}, so `vsp report` and `vsp compare` still work"
    )


def _states(listed: ListedRun, work: Path) -> tuple[list[str], list[str]]:
    """What of the states can be made again, and what cannot."""
    if listed.run is None or listed.plan is None:
        return [], ["the run cannot be read, so it is not known how it was made"]
    n_rows = format_count(listed.n_done, "extracted row")
    why = why_not_again(listed.plan)
    if listed.plan.imported is not None:
        source = shlex.quote(listed.plan.dataset)
        if why:
            return [], [f"the states were imported, not computed, and {why}"]
        return [f"the states, by `vsp import states {source}`, which does not compute them"], []
    if not listed.n_done:
        return ["the plan; no row is extracted yet"] if not why else [], [why] if why else []
    effects = listed.plan.effects
    if effects is not None and not why:
        why = _why_not_planned_again(work, effects)
    what = "states" if effects is None else "effects"
    if why:
        return [], [f"the {what} of {n_rows}: {why}"]
    if effects is not None:
        return [f"the effects of {n_rows}, by `vsp {effects.command}` and `vsp extract`"], []
    return [
        f"the states of {n_rows}, by `vsp plan` and `vsp extract`: dataset {listed.plan.dataset} is there"
        f"{_checkpoint_words(listed.plan)}"
    ], []


def _why_not_planned_again(work: Path, effects: Effects) -> str:
    """Why a run of effects cannot be planned again; empty if its runs are there."""
    for name in filter(None, (effects.run, effects.variant)):
        if not (work / "scratch" / name / "plan.json").exists():
            return f"run {name}, which it changes, is gone"
    return ""


def _checkpoint_words(plan: Plan) -> str:
    if plan.model.checkpoint is None:
        return ""
    return f", and checkpoint {plan.model.checkpoint} is as it was"


def _with_results(
    listed: ListedRun, again: list[str], lost: list[str]
) -> tuple[list[str], list[str]]:
    """The same lists with a line about the results."""
    n_probes = format_count(len(listed.peaks), "fitted probe")
    if lost or (listed.scratch is None and (listed.plan is None or why_not_again(listed.plan))):
        why = (
            ""
            if listed.scratch is not None
            else ": its states are gone and cannot be computed again"
        )
        return again, [*lost, f"its results ({n_probes}){why}"]
    return [*again, f"its results ({n_probes}), once the states are there, by `vsp probe`"], lost


def why_not_again(plan: Plan) -> str:
    """Why states cannot be computed or imported again; empty if nothing is known against it."""
    if plan.imported is not None:
        return "" if Path(plan.dataset).exists() else f"the file {plan.dataset} is gone"
    if not (Path(plan.dataset) / _METADATA).is_file():
        return f"the dataset {plan.dataset} is gone"
    try:
        files = fingerprint(plan.model)
    except (VspError, OSError) as error:
        return f"the checkpoint {plan.model.checkpoint} cannot be read ({error})"
    if files == plan.checkpoint_files:
        return ""
    what = "was changed" if files else "is gone"
    return f"the checkpoint {plan.model.checkpoint} {what} since the plan"
