"""Coverage of the intervals of `vsp evaluate`, on random states whose true scores are known.

    python tests/benchmarks/transfer_simulation.py 400

The argument is the number of experiments. Each draws rows with a split, fits a probe, and evaluates it
on other rows (a shifted world) and on a variant of its test rows. The truth is the score of the same
probe on 20,000 more rows. 95 % intervals should cover it in about 95 % of the experiments: those of the
score, and those of the difference to the own test rows, unpaired and paired.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import chdir, contextmanager, redirect_stderr
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[1]))

from helpers.stored_runs import Rows, probed, write_file

from vsp import probes
from vsp.evaluation.target_states import open_target
from vsp.evaluation.trained_probes import read_trained
from vsp.evaluation.transfer import TransferSettings, transfer
from vsp.storage.results import Results

_NAMES, _HIDDEN, _MANY = np.array(["above", "below"]), 12, 20_000
_N_TRAIN, _N_TEST, _PER_GROUP = 120, 120, 3


@dataclass(frozen=True)
class World:
    """A normal distribution of states for each label, with noise that rows of a group share."""

    name: str
    signal: float
    turned: float = 0.0  # share of another direction

    def draw(self, rng: np.random.Generator, n_rows: int) -> Rows:
        group = np.arange(n_rows) // _PER_GROUP
        y = rng.integers(2, size=n_rows)
        noise = rng.normal(size=(n_rows, _HIDDEN))
        shared = rng.normal(size=(group.max() + 1, _HIDDEN))[group]
        states = noise + shared
        states[:, 0] += self.signal * (1 - self.turned) * (2 * y - 1)
        states[:, 1] += self.signal * self.turned * (2 * y - 1)
        return {
            "states": states[None],
            "label": _NAMES[y],
            "group": np.char.add(self.name, group.astype(str)),
        }


OWN, OTHER = World("own", 1.0), World("other", 1.0, 0.4)
_TURN = np.eye(_HIDDEN)[[1, 0, *range(2, _HIDDEN)]] * 0.4 + np.eye(_HIDDEN) * 0.6


def simulate(n: int, seed: int = 0, resamples: int = 400) -> dict[str, float]:
    """The coverage of each kind of interval over n experiments."""
    covered: Counter[str] = Counter()
    for experiment in range(n):
        with tempfile.TemporaryDirectory() as folder, chdir(folder), _quiet():
            rng = np.random.default_rng([seed, experiment])
            covered.update(_experiment(Path(folder), rng, resamples))
    return {kind: covered[kind] / n for kind in sorted(covered)}


def _experiment(work: Path, rng: np.random.Generator, resamples: int) -> dict[str, bool]:
    rows = OWN.draw(rng, _N_TRAIN + _N_TEST)
    split = np.where(np.arange(_N_TRAIN + _N_TEST) < _N_TRAIN, "train", "test")
    results = probed(work, "own", {**rows, "split": split}, probe="centroid")
    variant = {**rows, "states": rows["states"] @ _TURN}
    other = OTHER.draw(rng, _N_TEST)
    many = OWN.draw(rng, _MANY)
    truth = {
        "own": _accuracy(results, many),
        "variant": _accuracy(results, {**many, "states": many["states"] @ _TURN}),
        "other": _accuracy(results, OTHER.draw(rng, _MANY)),
    }
    found: dict[str, bool] = {}
    for name, target in (("variant", variant), ("other", other)):
        write_file(work / f"{name}.npz", target)
        one = transfer(
            read_trained("own", results, "accuracy"), open_target(f"{name}.npz", work), lambda: (),
            TransferSettings(resamples=resamples),
        )  # fmt: skip
        (figures,), kind = one.layers, "paired" if one.paired else "unpaired"
        assert one.n_rows == _N_TEST and (kind == "paired") == (name == "variant")
        assert figures.difference_low is not None and figures.difference_high is not None
        difference = truth[name] - truth["own"]
        found[f"score, {name}"] = figures.low <= truth[name] <= figures.high
        found[f"difference, {kind}"] = (
            figures.difference_low <= difference <= figures.difference_high
        )
    return found


def _accuracy(results: Results, rows: Rows) -> float:
    said: NDArray[np.str_] = probes.load(results.folder, 0).predict(rows["states"][0].astype("f4"))
    return float((said == rows["label"]).mean())


@contextmanager
def _quiet() -> Iterator[None]:
    """Without progress."""
    with Path(os.devnull).open("w") as nowhere, redirect_stderr(nowhere):
        yield


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("experiments", type=int)
    logging.disable()
    for kind, share in simulate(parser.parse_args().experiments).items():
        print(f"{kind:22} {share:.3f}")


if __name__ == "__main__":
    main()
