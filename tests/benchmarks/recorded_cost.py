"""CPU time of what a run records, over that of states of the last token alone.

    OMP_NUM_THREADS=1 python tests/benchmarks/recorded_cost.py --checkpoint DIR

All ways extract the same rows of the dataset of `vsp bench` in turns, in this process. The CPU time
does not count the time of other processes, unlike the clock of `vsp bench`.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from vsp import models
from vsp.extraction.batches import batches_with
from vsp.extraction.bench_dataset import rows_per_image, write_dataset
from vsp.extraction.extract import extract_shard
from vsp.extraction.plan import PlanRequest, plan_run
from vsp.extraction.preprocess import prepared
from vsp.models.contract import Loaded
from vsp.storage.run import Run
from vsp.utils.allocator import keep_freed_blocks

WAYS = {
    "states of the last token": {"answers": False},
    "answers": {},
    "answers, subject": {"positions": ("last", "subject")},
    "answers, image": {"positions": ("last", "image")},
    "answers, lens": {"lens": True},
}
STATES, ANSWERS = list(WAYS)[:2]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--rows", type=int, default=128)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    model = models.resolve("llava15", checkpoint=given.checkpoint, quantization="none")
    loaded = models.load(model)
    keep_freed_blocks()
    for name, counts in (("own", [1] * given.rows), ("shared", rows_per_image(given.rows))):
        with tempfile.TemporaryDirectory() as folder:
            dataset = Path(folder, name)
            write_dataset(dataset, counts)
            runs = {}
            for way, recorded in WAYS.items():
                request = PlanRequest(
                    dataset, model, n_shards=1, batch_size=given.batch_size, **recorded
                )
                runs[way] = plan_run(request, Path(folder)).run
            print(f"{len(counts)} images, {given.rows} rows")
            show(measure(runs, loaded, given.rounds))


def measure(runs: dict[str, Run], loaded: Loaded, rounds: int) -> dict[str, list[float]]:
    """Seconds of each way in each round; a round before the first is not counted."""
    seconds: dict[str, list[float]] = {way: [] for way in runs}
    for turn in range(rounds + 1):
        for way, run in runs.items():
            took = extract_once(run, loaded)
            if turn:
                seconds[way].append(took)
    return seconds


def extract_once(run: Run, loaded: Loaded) -> float:
    """CPU seconds to extract all rows, from image files to rows in the journal."""
    (shard,) = run.shards
    rows = set(range(shard.start, shard.stop))
    started = time.process_time()
    with prepared(loaded.processor, batches_with([run], shard, rows), 0) as ready:
        extract_shard([run], shard, rows, loaded.model, ready, lambda _: None)
    took = time.process_time() - started
    for journal in run.journals.iterdir():  # otherwise the next round has more to read
        journal.unlink()
    return took


def show(seconds: dict[str, list[float]]) -> None:
    """Medians over the rounds of ratios within a round."""
    for way, times in seconds.items():
        of_states, of_answers = (
            statistics.median(a / b for a, b in zip(times, seconds[other], strict=True))
            for other in (STATES, ANSWERS)
        )
        print(
            f"  {way:26} {of_states:.3f} of states alone, {of_answers:.3f} of answers", flush=True
        )


if __name__ == "__main__":
    main()
