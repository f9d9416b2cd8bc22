"""`vsp import states`: a read-only run made of states that other programs stored.

The run has a plan, a manifest, `states.npy` and a journal like any other, so `vsp verify`, `vsp probe`
and `vsp report` work. `sources.txt` lists the files with their SHA-256, as `sha256sum -c` reads them.
The run is built under a temporary name and renamed when it is complete.
"""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hashlib import sha256 as digest_of
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np

from vsp import __version__
from vsp.config import NAME_PATTERN, ModelConfig, parse
from vsp.errors import ConfigError, RunError, StoreError
from vsp.storage.imported import Imported, SplitSource
from vsp.storage.journal import Journal
from vsp.storage.layout import Layout
from vsp.storage.manifest import Manifest, Sample
from vsp.storage.plan import FORMAT, Plan, sealed_plan
from vsp.storage.run import Run
from vsp.storage.state_rows import StateRows
from vsp.storage.state_splits import research_split, split_of_files
from vsp.storage.stored_states import StateFile
from vsp.utils.files import (
    disk_errors,
    sha256,
    sync_folder,
    temporary_folder,
    write_json,
    write_text,
)
from vsp.utils.progress import progress
from vsp.utils.reading import open_regular, unreadable
from vsp.utils.text import format_count

SOURCES = "sources.txt"
FAMILY = "imported"  # of the model, if the file does not say which it was


@dataclass(frozen=True, slots=True)
class ImportedRun:
    """The run, and what a user should know about it."""

    run: Run
    fresh: bool  # False: a run of the same states was there already
    n_failed: int  # rows whose states are not finite
    notes: tuple[str, ...]


def import_states(
    source: StateFile,
    out: Path,
    split: Literal["research"] | None = None,
    split_files: Sequence[Path] = (),
    hold: Callable[[], None] = lambda: None,
) -> ImportedRun:
    """Make the run `out` of the states. Raises a VspError if it cannot, and then leaves nothing behind.

    `split` and `split_files` (train, val) replace the splits of the file. `hold` is called before the
    run gets its name, as in `plan_run`.
    """
    _check_name(out)
    rows, origin, notes = _split_rows(source, split, split_files)
    scratch = out.parent
    with disk_errors(scratch):
        scratch.mkdir(parents=True, exist_ok=True)
        with temporary_folder(scratch, f".{out.name}.") as aside:
            folder = aside / out.name
            folder.mkdir()
            plan = _write_plan(source, rows, origin, folder)
            if os.path.lexists(out):
                return ImportedRun(_existing(out, plan), False, 0, tuple(notes))
            n_failed = _write_states(source, Run(folder, plan), out)
            write_json(folder / "plan.json", sealed_plan(plan))
            hold()
            folder.rename(out)
            sync_folder(scratch)
    return ImportedRun(Run(out, plan), True, n_failed, tuple(notes))


def _check_name(out: Path) -> None:
    if not re.fullmatch(NAME_PATTERN, out.name) or out.absolute().parent.name != "scratch":
        raise ConfigError(
            f"--out {out}: is not a run of a folder scratch/; write scratch/NAME with letters, digits, "
            "'.', '_' and '-' in NAME"
        )


def _split_rows(
    source: StateFile, split: str | None, split_files: Sequence[Path]
) -> tuple[StateRows, SplitSource, list[str]]:
    """The rows with the split that was asked for, where it is from, and notes."""
    notes = list(source.notes)
    has_split = bool((source.split != "").any())
    if has_split and (split or split_files):
        notes.append("the splits of the file are replaced")
    if split == "research":
        rows, more = research_split(source.rows)
        return rows, "research", notes + more
    if split_files:
        rows, more = split_of_files(source.rows, split_files)
        return rows, "files", notes + more
    return source.rows, "file" if has_split else "none", notes


def _write_plan(source: StateFile, rows: StateRows, origin: SplitSource, folder: Path) -> Plan:
    """Write manifest and sources, and return the plan."""
    n_rows = len(rows)
    sources = _sources(source)
    write_text(folder / SOURCES, sources)
    manifest = Manifest.write(folder / "manifest.jsonl", _samples(rows), (0, n_rows))
    layout = Layout.choose(source.n_layers, n_rows, source.hidden_size, source.dtype, 1)
    imported = Imported(
        kind=source.kind,
        sources_sha256=digest_of(sources.encode()).hexdigest(),
        layers=source.convention.layers,
        last_layer=source.convention.last,
        assumed=source.convention.assumed,
        split=origin,
        card=None if source.card is None else dict(source.card),
    )
    values = {
        "format": FORMAT,
        "id": uuid.uuid4().hex,
        "name": folder.name,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "vsp": __version__,
        "packages": {"numpy": version("numpy")},
        "dataset": os.path.abspath(source.path),  # noqa: PTH100 - links stay links
        "labels": tuple(np.unique(rows.label).tolist()),
        "compute_dtype": source.stored_dtype,
        "image_backend": "pil",
        "manifest_offsets": manifest.offsets,
        "manifest_sha256": manifest.digests,
        "n_samples": n_rows,
        "n_layers": source.n_layers,
        "hidden_size": source.hidden_size,
        "dtype": source.dtype,
        "boundary": layout.boundary,
        "shard_starts": (0,),
        "batch_size": 1,
        "batch_tokens": 1,
        "share": False,
        "imported": imported,
        **_of_card(source),
    }
    try:
        return parse(Plan, values, str(source.path))
    except ConfigError as error:
        raise StoreError(f"{error}; vsp cannot make a run of this file") from None


def _of_card(source: StateFile) -> dict[str, Any]:
    """The fields of the plan that describe the model, from the card of an exported file."""
    card = source.card or {}
    values: dict[str, Any] = {
        "model": ModelConfig(family=FAMILY),
        "checkpoint_files": {},
        "prompt": FAMILY,
    }
    return values | {key: card[key] for key in (*values, "variants") if key in card}


def _samples(rows: StateRows) -> Iterator[Sample]:
    columns = (
        rows.id,
        rows.image,
        rows.prompt,
        rows.label,
        rows.group,
        rows.split,
        rows.image_sha256,
    )
    names = rows.subject.tolist(), rows.reference.tolist()
    for texts, subject, reference in zip(
        zip(*(column.tolist() for column in columns), strict=True), *names, strict=True
    ):
        yield replace(Sample(*texts), subject=subject, reference=reference)


def _sources(source: StateFile) -> str:
    """A line with the SHA-256 and the name of each file, as `sha256sum` writes it."""
    lines = []
    with progress("checksums", "files", len(source.files)) as advance:
        for path in source.files:
            try:
                with open_regular(path) as file:
                    digest = sha256(file)
            except OSError as error:
                raise StoreError(f"{path}: {unreadable(error)}; import it again") from None
            name = path.name.replace("\\", "\\\\").replace("\n", "\\n")
            escaped = "" if name == path.name else "\\"
            lines.append(f"{escaped}{digest}  {name}\n")
            advance(1)
    return "".join(lines)


def _write_states(source: StateFile, run: Run, out: Path) -> int:
    """Write and mark all rows. Returns the number of failed ones.

    Raises StoreError if all rows fail.
    """
    store, n_rows = run.store, len(source)
    store.create()
    failed: dict[int, str] = {}
    done = 0
    with (
        store.writing() as writer,
        Journal(run.journals, run.plan.id, 0, n_rows) as journal,
        progress(f"import {out.name}", "rows", n_rows) as advance,
    ):
        for block in source.blocks():
            screened = store.screen(block.swapaxes(0, 1))
            good = [column for column in range(len(block)) if column not in screened.reasons]
            rows = [done + column for column in good]
            if rows:
                finite = screened.take(good)
                writer.write(rows, finite)
                writer.flush()
                journal.mark_done(rows, finite.checksums)
            for column, reason in screened.reasons.items():
                failed[done + column] = reason
                journal.mark_failed(done + column, reason)
            done += len(block)
            advance(len(block))
    if done != n_rows:
        raise StoreError(f"{source.path}: gave {done:,} rows of {n_rows:,}; import it again")
    if len(failed) == n_rows:
        raise StoreError(f"{source.path}: all {format_count(n_rows, 'row')} fail: {failed[0]}")
    return len(failed)


def _existing(out: Path, plan: Plan) -> Run:
    """The run that is there already. Raises RunError unless it has the same plan."""
    run = Run.open(out)
    if run.plan.identity() != plan.identity():
        raise RunError(
            f"{out}: exists already with other states or rows; remove it or choose another --out"
        )
    return run
