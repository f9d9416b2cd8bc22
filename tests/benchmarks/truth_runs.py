"""Runs with given states, for simulations: a real run folder, filled without a model."""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vsp.evaluation.probe_run import probe_run
from vsp.evaluation.probe_settings import ProbeSettings
from vsp.storage.journal import Journal
from vsp.storage.layer_score import LayerScore
from vsp.storage.layout import Layout
from vsp.storage.manifest import Manifest, Sample
from vsp.storage.plan import FORMAT, Plan
from vsp.storage.results import Results
from vsp.storage.run import Run

Found = tuple[dict[str, Any], list[LayerScore]]  # summary and scores of a probed run


@dataclass(frozen=True)
class Rows:
    """Rows of a world. Texts have one item a row, or none where the default is meant."""

    label: Sequence[str]
    group: Sequence[str] = ()  # default: each row is a group
    prompt: Sequence[str] = ()  # default: one prompt for all
    split: Sequence[str] = ()  # default: no own split
    others: dict[str, Sequence[Any]] = field(default_factory=dict)  # further fields of a sample

    def samples(self) -> list[Sample]:
        n = len(self.label)
        group = self.group or [f"g{i:06d}" for i in range(n)]
        prompt, split = self.prompt or ["Where is it?"] * n, self.split or [""] * n
        return [
            Sample(
                f"r{i:06d}", f"/pictures/{group[i]}.png", prompt[i], str(self.label[i]), group[i],
                split[i], f"{i:064x}", 8, 1, **{name: values[i] for name, values in self.others.items()},
            )
            for i in range(n)
        ]  # fmt: skip


@contextmanager
def work_folder() -> Iterator[Path]:
    """A temporary folder, in memory where the host has such a file system: nothing is flushed."""
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(dir=memory, prefix="truth") as folder:
        yield Path(folder)


def made_run(work: Path, states: NDArray[np.floating], rows: Rows, name: str = "run") -> Run:
    """A run in `work/scratch/` whose rows are all extracted; `states` are [layer, row, hidden]."""
    folder, samples = work / "scratch" / name, rows.samples()
    (folder / "journal").mkdir(parents=True)
    n_layers, n_rows, hidden_size = states.shape
    layout = Layout.choose(n_layers, n_rows, hidden_size, "float32", 1)
    manifest = Manifest.write(folder / "manifest.jsonl", samples, (0, n_rows))
    run = Run(folder, _plan(name, sorted({*rows.label}), layout, manifest))
    run.store.create()
    screened = run.store.screen(states)
    with run.store.writing() as writer, Journal(run.journals, run.plan.id, 0) as journal:
        writer.write(range(n_rows), screened)
        journal.mark_done(range(n_rows), screened.checksums)
    return run


def _plan(name: str, labels: Sequence[str], layout: Layout, manifest: Manifest) -> Plan:
    return Plan.model_validate(
        {
            "format": FORMAT,
            "id": uuid.uuid4().hex,
            "name": name,
            "created": "2026-01-01T00:00:00+00:00",
            "vsp": "0",
            "packages": {},
            "dataset": "/data/world",
            "labels": tuple(map(str, labels)),
            "prompt": "dataset",
            "model": {"family": "fake"},
            "checkpoint_files": {},
            "compute_dtype": "float32",
            "image_backend": "pil",
            "manifest_offsets": manifest.offsets,
            "manifest_sha256": manifest.digests,
            "n_samples": layout.n_samples,
            "n_layers": layout.n_layers,
            "hidden_size": layout.hidden_size,
            "dtype": layout.dtype,
            "boundary": layout.boundary,
            "shard_starts": (0,),
            "batch_size": 16,
            "batch_tokens": 128,
            "share": True,
        }
    )


def probed(
    states: NDArray[np.floating], rows: Rows, settings: ProbeSettings, layers: Sequence[int] = ()
) -> Found:
    """Summary and scores that `vsp probe` writes for these states."""
    with work_folder() as work:
        return results_of(work, states, rows, settings, layers=layers).read()


def results_of(
    work: Path,
    states: NDArray[np.floating],
    rows: Rows,
    settings: ProbeSettings,
    name: str = "run",
    layers: Sequence[int] = (),
) -> Results:
    """The results in `work/results/` of a run with these states."""
    run = made_run(work, np.asarray(states, np.float32), rows, name)
    return probe_run(run, settings, 1, layers=layers or None)
