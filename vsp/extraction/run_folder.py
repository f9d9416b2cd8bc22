"""Writes the folder of a new run and its batch script."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vsp.cluster.contract import After
from vsp.cluster.jobs import extract_job, scheduler_of, script_path
from vsp.cluster.shell import write_script
from vsp.config import Profile, parse
from vsp.errors import RunError
from vsp.extraction.plan_request import RECORD
from vsp.storage.manifest import Manifest, Sample
from vsp.storage.plan import Plan, sealed_plan
from vsp.storage.run import Run
from vsp.utils.files import sync_folder, temporary_folder, write_json
from vsp.utils.garbage import garbage_collection_paused

SCRIPT = Path("jobs/extract_array.sh")


@garbage_collection_paused()
def write_run(
    values: Mapping[str, Any],
    samples: Sequence[Sample],
    profile: Profile,
    work: Path,
    hold: Callable[[], None],
    key: str | None,
    write_more: Callable[[Path], Mapping[str, Any]] = lambda _: {},
) -> tuple[Run, list[str]]:
    """Write the run's folder and its batch script. Returns the run and the submit commands.

    `values` are the fields of the plan but those of the manifest. `write_more` writes further files
    into the folder, and returns the fields of the plan that are about them. `key` is kept to find the
    run by the options of its plan; None: it cannot be found so. `hold` is called when everything is
    written, before the folder gets its name.
    """
    scratch, name = work / "scratch", values["name"]
    scratch.mkdir(parents=True, exist_ok=True)
    with temporary_folder(scratch, f".{name}.") as aside:
        folder = aside / name
        for part in (folder, folder / "journal", folder / "logs"):
            part.mkdir()
        starts = (*values["shard_starts"], len(samples))
        manifest = Manifest.write(folder / "manifest.jsonl", samples, starts)
        written = {"manifest_offsets": manifest.offsets, "manifest_sha256": manifest.digests}
        plan = parse(Plan, {**values, **written, **write_more(folder)}, "plan")
        run = Run(scratch / name, plan)
        for store in Run(folder, plan).stores.values():
            store.create()
        job, scheduler = extract_job(run, profile), scheduler_of(profile)
        script = scheduler.script(job)
        write_script(script_path(Run(folder, plan), job.stage), script)
        write_json(folder / "plan.json", sealed_plan(plan))
        if key is not None:
            write_json(folder / RECORD, {"sha256": key})
        hold()
        try:
            folder.rename(run.folder)
            sync_folder(scratch)
        except OSError as error:
            raise RunError(f"{run.folder}: {error.strerror}; choose another --run") from None
    try:
        job.logs.mkdir(parents=True, exist_ok=True)
        write_script(work / SCRIPT, script)
    except BaseException:
        shutil.rmtree(run.folder)
        raise
    return run, [scheduler.line(call, After()) for call in scheduler.calls(job, SCRIPT)]
