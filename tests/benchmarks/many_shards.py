"""Time and peak memory of `vsp status` and its parts, for runs of millions of rows.

    python tests/benchmarks/many_shards.py

The runs are made without a model: a sparse array that takes no disk space, and the journals of
all tasks.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import numpy as np

from vsp import __version__, models
from vsp.storage.journal import Journal
from vsp.storage.layout import Layout
from vsp.storage.plan import FORMAT, Plan, sealed_plan
from vsp.storage.run import Run
from vsp.utils.files import write_json

BATCH = 16
_ROW_BYTES = 200  # of the manifest


def planned(
    work: Path, n_rows: int, n_shards: int, n_layers: int = 33, hidden_size: int = 4096
) -> Run:
    """A run as `vsp plan` makes it, without its manifest and with a sparse array.

    Raises OSError if the file system does not allow a file of this size.
    """
    layout = Layout.choose(n_layers, n_rows, hidden_size, "float16", n_shards)
    starts = layout.shard_starts(n_shards)
    plan = Plan(
        format=FORMAT,
        id=f"{n_rows:032x}",
        name=f"rows-{n_rows}",
        created="2026-01-01T00:00:00+00:00",
        vsp=__version__,
        packages={"numpy": version("numpy")},
        dataset="/nowhere",
        labels=("a", "b"),
        prompt="dataset",
        model=models.resolve("fake", options={"n_layers": n_layers, "hidden_size": hidden_size}),
        checkpoint_files={},
        compute_dtype="float16",
        image_backend="pil",
        manifest_offsets=tuple(_ROW_BYTES * row for row in (*starts, n_rows)),
        manifest_sha256=("0" * 64,) * len(starts),
        n_samples=n_rows,
        n_layers=n_layers,
        hidden_size=hidden_size,
        dtype="float16",
        boundary=layout.boundary,
        shard_starts=tuple(starts),
        batch_size=BATCH,
        batch_tokens=600 * BATCH,
        share=True,
    )
    run = Run(work / "scratch" / plan.name, plan)
    run.journals.mkdir(parents=True)
    write_json(run.folder / "plan.json", sealed_plan(plan))
    with run.store.path.open("wb") as file:
        file.write(run.store._header)
    os.truncate(run.store.path, layout.n_bytes)
    run.manifest.path.touch()
    os.truncate(run.manifest.path, plan.manifest_offsets[-1])
    run.store.check()
    return run


def journalled(run: Run, unfinished: Collection[int] = ()) -> None:
    """Write the journals of all tasks.

    Tasks of `unfinished` shards were killed twice: before their first batch, and half-way.
    """
    rng = np.random.default_rng(0)
    numbers = [1e-6 * i for i in range(run.plan.n_layers)]
    with _without_flushing():
        for shard in run.shards:
            rows = range(shard.start, shard.stop)
            killed = shard.index in unfinished
            if killed:
                os.close(Journal(run.journals, run.plan.id, shard.index, len(rows))._handle)
            journal = Journal(run.journals, run.plan.id, shard.index, len(rows))
            journal.add_batch_effect(shard.start, numbers, numbers)
            for first in range(0, len(rows) // (1 + killed), BATCH):
                some = rows[first : first + BATCH]
                journal.mark_done(some, rng.integers(0, 2**32, len(some), np.uint32).tolist())
            if killed:
                os.close(journal._handle)
            else:
                journal.__exit__(None, None, None)


@contextmanager
def _without_flushing() -> Iterator[None]:
    """Skip fsync, which would take hours for 100,000 calls."""
    saved = os.fdatasync, os.fsync
    os.fdatasync = os.fsync = lambda _: None
    try:
        yield
    finally:
        os.fdatasync, os.fsync = saved


# Peak memory of this process only; getrusage would start at the peak of the parent.
_PEAK = """
def peak():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) / 1024 for line in file if line.startswith("VmHWM:"))
"""
_PIECE = """
import json, sys, time
from pathlib import Path
from vsp.storage.run import Run
run, base, started = Run.open(Path(sys.argv[1])), peak(), time.perf_counter()
{what}
print(json.dumps([time.perf_counter() - started, peak(), peak() - base]))
"""
_COMMAND = """
import sys
from vsp.cli.main import main
code = main(sys.argv[1:])
print(peak(), file=sys.stderr)
sys.exit(code)
"""


def measured(run: Run, what: str) -> tuple[float, float, float]:
    """Seconds, peak MiB and added MiB of a piece of code in a process of its own."""
    code = _PEAK + _PIECE.format(what=what)
    line = [sys.executable, "-c", code, str(run.folder)]
    answer = subprocess.run(line, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    seconds, most, more = json.loads(answer.stdout.splitlines()[-1])
    return seconds, most, more


def command(run: Run, *words: str) -> tuple[float, float, str]:
    """Seconds, peak MiB and output of a whole `vsp` command."""
    profile = run.folder / "local.yaml"
    profile.write_text("scheduler: local\n")
    where = ["--run", str(run.folder), "--profile", str(profile)]
    line = [sys.executable, "-c", _PEAK + _COMMAND, *words, *where]
    started = time.perf_counter()
    answer = subprocess.run(line, capture_output=True, text=True, cwd=run.folder)
    assert answer.returncode == 0, answer.stderr
    seconds = time.perf_counter() - started
    return seconds, float(answer.stderr.splitlines()[-1]), answer.stdout


PIECES = {
    "read all ledgers": "run.ledgers()",
    "unfinished shards": "from vsp.cluster.submit import unfinished; unfinished(run, False)",
    "status as JSON": (
        "from vsp.cluster.status import run_status; from vsp.cluster.contract import States\n"
        "from vsp.reporting.status_page import status_json\n"
        "json.dumps(status_json(run_status(run, run.ledgers(), States())))"
    ),
    "reads of verify": (
        "from vsp.extraction.verify import cut_pieces\n"
        "[p for i, one in enumerate(run.ledgers()) for p in cut_pieces(i, one, run.store.layout)]"
    ),
    "map and touch a layer": "run.store.layer(run.plan.n_layers - 1)[:: run.plan.n_samples // 99, 0]",
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000, 3_000_000, 10_000_000])
    parser.add_argument("--shards", type=int, default=1000)
    parser.add_argument(
        "--work", type=Path, help="folder on a file system that allows files of terabytes"
    )
    arguments = parser.parse_args()
    work = Path(tempfile.mkdtemp(dir=arguments.work))
    try:
        for n_rows in arguments.rows:
            run, n_layers = _largest(work, n_rows, arguments.shards)
            unfinished = set(range(0, arguments.shards, 10))
            started = time.perf_counter()
            journalled(run, unfinished)
            layout = run.store.layout
            size = sum(path.stat().st_size for path in run.journals.iterdir())
            print(
                f"\n{n_rows:,} rows × {n_layers} layers × {layout.hidden_size} float16 in "
                f"{len(run.shards)} shards: {layout.n_bytes / 1e12:.2f} TB, journals "
                f"{size / 1e6:.0f} MB (written in {time.perf_counter() - started:.0f} s)"
            )
            for words in (("status",), ("status", "--json")):
                seconds, peak, _ = command(run, *words)
                print(f"  {'vsp ' + ' '.join(words):24}{seconds:8.2f} s {peak:7.0f} MiB")
            for name, what in PIECES.items():
                seconds, peak, more = measured(run, what)
                print(f"  {name:24}{seconds:8.2f} s {peak:7.0f} MiB, {more:.0f} of them added")
            shutil.rmtree(run.folder)
    finally:
        shutil.rmtree(work)


def _largest(work: Path, n_rows: int, n_shards: int) -> tuple[Run, int]:
    """A run of 33 layers, or of as many as the largest allowed file can hold."""
    for n_layers in range(33, 0, -1):
        try:
            return planned(work, n_rows, n_shards, n_layers), n_layers
        except OSError as error:
            print(f"{n_layers} layers: {error.strerror}")
            shutil.rmtree(work / "scratch", ignore_errors=True)
    raise SystemExit("not even one layer fits; choose another folder with --work")


if __name__ == "__main__":
    main()
