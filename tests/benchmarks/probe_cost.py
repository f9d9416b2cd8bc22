"""Number of fits and CPU seconds that a default `vsp probe` takes for one layer.

    python tests/benchmarks/probe_cost.py
    python tests/benchmarks/probe_cost.py --rows 10000 --hidden 4096 --repeats 3

The layer is fitted by `fit_layer`, as in `vsp probe`, with the default settings: once with a split
of the dataset, which tests one row in five, and once with folds. The states are drawn. The time is
CPU time of one core; the shortest of the repeats counts.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.solver_speed import STATES

from vsp.evaluation import probe_work
from vsp.evaluation.configured_probe import configured_probe
from vsp.evaluation.parallel_fits import fit_layer
from vsp.evaluation.probe_settings import ProbeSettings
from vsp.evaluation.probed_rows import ProbedRows
from vsp.probes import PROBES

_NAMES = 12  # of subjects and of references; their pairs recur
_TESTED = 5  # with a split, one row in this many is tested


def layer_work(labels: NDArray[np.int64], own_split: bool) -> Any:
    """What `fit_layer` needs of a run with these labels; every row is a group of its own."""
    settings, n, rng = ProbeSettings(), len(labels), np.random.default_rng(0)
    number = np.arange(n)
    names = np.char.mod("r%06d", number)
    split = np.where(number % _TESTED, "train", "test") if own_split else np.full(n, "")
    subject, reference = (np.char.mod("n%d", rng.integers(_NAMES, size=n)) for _ in range(2))
    prompt = np.char.add(np.char.add(subject, " "), reference)
    boxes = [rng.random((n, 4)) for _ in range(2)]
    rows = ProbedRows(
        number, names, labels.astype(str), names, prompt, split, subject, reference, *boxes
    )
    tasks, _, _ = probe_work._layer_tasks(rows, settings, PROBES.load(settings.probe)())
    probe = configured_probe(settings, tasks.metric)
    return SimpleNamespace(rows=rows, tasks=tasks, probe=probe, settings=settings)


def cost(states: NDArray[np.float16], labels: NDArray[np.int64], own_split: bool) -> dict[str, Any]:
    """Fits, CPU seconds and the largest gap of one layer."""
    work = layer_work(labels, own_split)
    store: Any = SimpleNamespace(layer=lambda _: states)
    started = time.process_time()
    arrays = fit_layer(store, 0, work)
    seconds = time.process_time() - started
    return {"n_fits": arrays["gap"].size, "seconds": seconds, "gap": float(arrays["gap"].max())}


def main(argv: Sequence[str]) -> int:
    arguments = _parser().parse_args(argv)
    source = STATES[arguments.states](arguments.hidden, arguments.classes, arguments.signal)
    states, labels = source.draw(arguments.rows)
    print(f"{arguments.states} states, {arguments.rows} rows × {arguments.hidden}")
    for own_split, name in ((True, "own split"), (False, "folds")):
        runs = [cost(states, labels, own_split) for _ in range(arguments.repeats)]
        best = min(runs, key=lambda run: run["seconds"])
        print(
            f"{name:<10} {best['n_fits']:>6} fits {best['seconds']:>8.2f} CPU s, "
            f"gaps ≤ {best['gap']:.1g}"
        )
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--rows", type=int, default=2400, metavar="N", help="default: %(default)s")
    add("--hidden", type=int, default=4096, metavar="N", help="default: %(default)s")
    add("--classes", type=int, default=4, metavar="N", help="default: %(default)s")
    add("--signal", type=float, default=0.3, metavar="X", help="default: %(default)s")
    add("--states", choices=tuple(STATES), default="drawn", help="default: %(default)s")
    add("--repeats", type=int, default=1, metavar="N", help="default: %(default)s")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
