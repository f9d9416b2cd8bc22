"""The facts of every run in a project folder: what was planned, extracted and found, and its size.

A run is listed if it has a folder in `scratch/`, in `results/`, or in both. A folder that cannot be
read is listed with the reason. Nothing is computed, and no array is opened.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from vsp.choices import LAST
from vsp.config import parse
from vsp.errors import VspError
from vsp.storage.plan import Plan
from vsp.storage.results import FREE_ANSWERS
from vsp.storage.run import Run
from vsp.storage.sealed_summary import SUMMARY
from vsp.storage.stored_settings import stored_settings

SCRATCH, RESULTS = "scratch", "results"


@dataclass(frozen=True, slots=True)
class FoundPeak:
    """What one probe of a run found: the layer selected on training rows, on test rows."""

    position: str
    probe: str
    statistic: str  # accuracy, R², …
    layer: int | None  # the one that most splits selected
    estimate: float | None
    low: float | None
    high: float | None
    chance: float | None
    folder: Path
    written: float  # seconds since 1970


@dataclass(frozen=True, slots=True)
class DiskUse:
    """What a folder takes up; links are counted, not followed."""

    n_bytes: int = 0  # allocated on the disk
    written: float = 0.0  # newest change of a file, in seconds since 1970

    def __add__(self, other: DiskUse) -> DiskUse:
        return DiskUse(self.n_bytes + other.n_bytes, max(self.written, other.written))


@dataclass(frozen=True, slots=True)
class ListedRun:
    """A run as `vsp runs` lists it."""

    name: str
    plan: Plan | None = None  # that of the run, or else that of its results
    run: Run | None = None  # None: its states are not here, or cannot be read
    n_done: int = 0
    n_failed: int = 0
    lives: tuple[bool | None, ...] = ()  # journals without an end: True it runs, None perhaps
    peaks: tuple[FoundPeak, ...] = ()  # the last token first, the newest probe first
    scratch: DiskUse | None = None  # None: no such folder
    results: DiskUse | None = None
    problems: tuple[str, ...] = ()  # why a part of it cannot be read

    @property
    def n_bytes(self) -> int:
        return sum(use.n_bytes for use in (self.scratch, self.results) if use is not None)

    @property
    def written(self) -> float:
        """The newest change of any of its files, in seconds since 1970."""
        return max((use.written for use in (self.scratch, self.results) if use), default=0.0)

    def of_probe(self, name: str) -> ListedRun:
        """The run with the peaks of this setting alone, or else of this probe."""
        of_setting = tuple(one for one in self.peaks if one.folder.name == name)
        of_probe = tuple(one for one in self.peaks if one.probe == name)
        return replace(self, peaks=of_setting or of_probe)


def list_runs(work: Path, names: Sequence[str] | None = None) -> list[ListedRun]:
    """The runs of that names, by default all, the newest first; unreadable ones come last."""
    every = run_names(work) if names is None else names
    return sorted((listed_run(work, name) for name in every), key=_age)


def run_names(work: Path) -> list[str]:
    """The names of all folders in `scratch/`, and of those in `results/` that vsp wrote for a run.

    Hidden folders are left out, and so are folders of the user's own files in `results/`.
    """
    found = [one for one in _folders(work / RESULTS) if _is_of_run(one)]
    return sorted({one.name for one in (*_folders(work / SCRATCH), *found)})


def _is_of_run(folder: Path) -> bool:
    """Whether a folder in `results/` has results, fitted layers or answers of a run."""
    others = ("probe", FREE_ANSWERS)
    return bool(stored_settings(folder)) or any((folder / name).exists() for name in others)


def leftovers(work: Path) -> list[Path]:
    """Hidden folders of plans and removals that did not end; their files take up disk space."""
    hidden = (one for part in (SCRATCH, RESULTS) for one in _entries(work / part))
    return sorted(one for one in hidden if one.name.startswith(".") and "." in one.name[1:]
                  and one.is_dir() and not one.is_symlink())  # fmt: skip


def listed_run(work: Path, name: str) -> ListedRun:
    """The facts of one run; nothing is raised for files that cannot be read."""
    scratch, results = work / SCRATCH / name, work / RESULTS / name
    listed = ListedRun(name)
    if os.path.lexists(scratch):
        listed = _with_states(replace(listed, scratch=disk_use(scratch)), scratch)
    if os.path.lexists(results):
        listed = _with_results(replace(listed, results=disk_use(results)), results)
    return listed


def disk_use(folder: Path) -> DiskUse:
    """What a folder takes up on the disk. What cannot be read counts as nothing."""
    total = DiskUse()
    for path in (str(folder), *_below(folder)):
        try:
            found = os.lstat(path)
        except OSError:  # removed meanwhile
            continue
        # The time of a folder also changes when the hidden file of a listing comes and goes.
        changed = found.st_mtime if stat.S_ISREG(found.st_mode) else 0.0
        total += DiskUse(found.st_blocks * 512, changed)
    return total


def _below(folder: Path) -> Iterator[str]:
    if folder.is_symlink():  # its target may be anything
        return
    for parent, folders, files in os.walk(folder):
        yield from (os.path.join(parent, name) for name in (*folders, *files))  # noqa: PTH118


def _folders(folder: Path) -> list[Path]:
    return [one for one in _entries(folder) if not one.name.startswith(".") and one.is_dir()]


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _with_states(listed: ListedRun, folder: Path) -> ListedRun:
    try:
        run = Run.open(folder)
    except VspError as error:
        return replace(listed, problems=(*listed.problems, str(error)))
    listed = replace(listed, run=run, plan=run.plan)
    try:
        ledgers = run.ledgers()
    except VspError as error:
        return replace(listed, problems=(*listed.problems, str(error)))
    lives = [life.running for ledger in ledgers for life in ledger.lives]
    return replace(
        listed,
        n_done=sum(ledger.n_done for ledger in ledgers),
        n_failed=sum(ledger.n_failed for ledger in ledgers),
        lives=tuple(running for running in lives if running is not False),
    )


def _with_results(listed: ListedRun, folder: Path) -> ListedRun:
    peaks, problems, plan = [], list(listed.problems), listed.plan
    for one in stored_settings(folder):
        path = one.results.folder / SUMMARY
        try:
            summary = one.results.summary()
            peaks.append(_peak(summary, path))
            plan = plan or parse(Plan, summary.get("plan"), str(path))
        except VspError as error:
            problems.append(str(error))
        except (KeyError, TypeError, ValueError, AttributeError):
            problems.append(f"{path}: does not hold what vsp writes; run `vsp probe` again")
    peaks.sort(key=lambda peak: (peak.position != LAST, peak.position, -peak.written))
    return replace(listed, peaks=tuple(peaks), plan=plan, problems=tuple(problems))


def _peak(summary: dict[str, Any], path: Path) -> FoundPeak:
    peak = summary["peak"]
    layers = sorted(peak["layers"].items(), key=lambda one: (-one[1], int(one[0])))
    return FoundPeak(
        position=str(summary["position"]),
        probe=str(summary["probe"]["probe"]),
        statistic=str(summary["statistic"]),
        layer=int(layers[0][0]) if layers else None,
        estimate=_figure(peak["estimate"]),
        low=_figure(peak["low"]),
        high=_figure(peak["high"]),
        chance=_figure(summary["chance"]),
        folder=path.parent,
        written=path.stat().st_mtime,
    )


def _figure(value: Any) -> float | None:
    return None if value is None else float(value)


def _age(listed: ListedRun) -> tuple[bool, float, str]:
    if listed.plan is None:
        return True, -listed.written, listed.name
    return False, -datetime.fromisoformat(listed.plan.created).timestamp(), listed.name
