"""Writes the folder of a new run and its batch script."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vsp.cluster.contract import After
from vsp.cluster.jobs import extract_job, scheduler_of, script_path
from vsp.cluster.shell import write_script
from vsp.config import Profile, parse
from vsp.errors import RunError
from vsp.extraction.plan_request import RECORD
from vsp.storage.manifest import Manifest, Sample
from vsp.storage.plan import Member, Plan, sealed_plan
from vsp.storage.run import Run
from vsp.storage.together import plans_together
from vsp.utils.files import sync_folder, temporary_folder, write_json
from vsp.utils.garbage import garbage_collection_paused

SCRIPT = Path("jobs/extract_array.sh")


@dataclass(frozen=True, slots=True)
class NewRun:
    """What the folder of a new run is written of."""

    values: Mapping[str, Any]  # fields of the plan but those of the manifest
    samples: Sequence[Sample]
    profile: Profile
    key: str | None  # kept to find the run by the options of its plan; None: it cannot be found so
    # Writes further files into the folder, and returns the fields of the plan that are about them.
    write_more: Callable[[Path], Mapping[str, Any]] = lambda _: {}


@garbage_collection_paused()
def write_folders(
    new: Sequence[NewRun],
    work: Path,
    hold: Callable[[], None],
    members: Sequence[Member] = (),
) -> list[tuple[Run, list[str]]]:
    """Write the folders of runs and their batch scripts: each run and its submit commands.

    Several runs are extracted together. With `members`, the runs were planned before, are lost, and get
    their old places among these. `hold` is called when everything is written, before the folders get
    their names.
    """
    scratch = work / "scratch"
    scratch.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        names = [one.values["name"] for one in new]
        folders = [
            stack.enter_context(temporary_folder(scratch, f".{name}.")) / name for name in names
        ]
        alone = [_write_rows(*one) for one in zip(folders, new, strict=True)]
        runs = [Run(scratch / plan.name, plan) for plan in plans_together(alone, members)]
        for folder, run, one in zip(folders, runs, new, strict=True):
            _fill(folder, run, one)
        hold()
        _rename(folders, runs)
    try:
        return [
            (run, _write_script(run, one.profile, work)) for run, one in zip(runs, new, strict=True)
        ]
    except BaseException:
        for run in runs:
            shutil.rmtree(run.folder)
        raise


def _write_rows(folder: Path, new: NewRun) -> Plan:
    """Write the manifest into the new folder of a run. Returns its plan, as that of a run alone."""
    for part in (folder, folder / "journal", folder / "logs"):
        part.mkdir()
    starts = (*new.values["shard_starts"], len(new.samples))
    manifest = Manifest.write(folder / "manifest.jsonl", new.samples, starts)
    written = {"manifest_offsets": manifest.offsets, "manifest_sha256": manifest.digests}
    return parse(Plan, {**new.values, **written, **new.write_more(folder)}, "plan")


def _fill(folder: Path, run: Run, new: NewRun) -> None:
    """Write the other files of a run into its folder, which is not at its place yet."""
    for store in Run(folder, run.plan).stores.values():
        store.create()
    job = extract_job(run, new.profile)
    script = scheduler_of(new.profile).script(job)
    write_script(script_path(Run(folder, run.plan), job.stage), script)
    write_json(folder / "plan.json", sealed_plan(run.plan))
    if new.key is not None:
        write_json(folder / RECORD, {"sha256": new.key})


def _rename(folders: Sequence[Path], runs: Sequence[Run]) -> None:
    """Give the folders their names: all of them, or none. Raises RunError if a name is taken."""
    named: list[Run] = []
    for folder, run in zip(folders, runs, strict=True):
        try:
            folder.rename(run.folder)
        except OSError as error:
            for one in named:
                shutil.rmtree(one.folder)
            raise RunError(f"{run.folder}: {error.strerror}; choose another --run") from None
        named.append(run)
    sync_folder(runs[0].folder.parent)


def _write_script(run: Run, profile: Profile, work: Path) -> list[str]:
    """Write the batch script where users look for it. Returns the commands that submit it."""
    job, scheduler = extract_job(run, profile), scheduler_of(profile)
    job.logs.mkdir(parents=True, exist_ok=True)
    write_script(work / SCRIPT, scheduler.script(job))
    return [scheduler.line(call, After()) for call in scheduler.calls(job, SCRIPT)]
