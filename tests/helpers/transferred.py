"""Runs of states that were drawn, their probes, and the scores of these on other states."""

from __future__ import annotations

import hashlib
from contextlib import chdir
from pathlib import Path
from typing import Any

import numpy as np
from helpers.made_once import copy_of
from numpy.typing import NDArray

from vsp.datasets.relations import read_relations
from vsp.evaluation.matched_labels import TABLES
from vsp.evaluation.probe_run import probe_run
from vsp.evaluation.probe_settings import ProbeSettings
from vsp.evaluation.target_states import open_target
from vsp.evaluation.trained_probes import TrainedProbes, read_trained
from vsp.evaluation.transfer import Transfer, TransferSettings, transfer
from vsp.storage.imported_run import import_states
from vsp.storage.results import Results
from vsp.storage.run import Run
from vsp.storage.state_files import open_state_file
from vsp.storage.stored_settings import choose_setting

LABELS = np.array(["above", "below", "left_of", "right_of"])
N_LAYERS, HIDDEN = 3, 6
Columns = dict[str, NDArray[Any]]


def columns(n_groups: int = 40, per_group: int = 2, seed: int = 0, first: int = 0) -> Columns:
    """Rows and their states [row, layer, hidden], as in a file of `vsp export`; groups from `first`.

    Later layers show the label, of which each has a direction that is the same for every seed.
    """
    rng = np.random.default_rng([seed, first])
    group = np.repeat(np.arange(first, first + n_groups), per_group)
    label = rng.integers(4, size=len(group))
    shown = np.random.default_rng(7).normal(size=(4, 1, HIDDEN))[label]
    states = rng.normal(size=(len(group), N_LAYERS, HIDDEN))
    states += np.linspace(0, 1, N_LAYERS)[:, None] * shown
    ids = np.array([f"row{first * per_group + i}" for i in range(len(group))])
    images = [f"image{i}" for i in group]
    return {
        "representations": states.astype("f4"),
        "labels": LABELS[label],
        "image_ids": np.array(images),
        "ids": ids,
        "groups": np.array(images),
        "subjects": np.array([f"name{i}" for i in rng.integers(8, size=len(group))]),
        "references": np.array([f"name{i}" for i in rng.integers(8, size=len(group))]),
        "image_sha256": np.array([hashlib.sha256(one.encode()).hexdigest() for one in images]),
    }


def take(rows: Columns, which: Any) -> Columns:
    """The rows of this index or mask."""
    return {name: column[which] for name, column in rows.items()}


def rare(rows: Columns) -> Columns:
    """The same rows, of which at most eight are `above`."""
    changed = np.flatnonzero(rows["labels"] == "above")[8:]
    return {**rows, "labels": replaced(rows["labels"], changed, "below")}


def replaced(column: NDArray[Any], which: Any, value: str) -> NDArray[Any]:
    """The texts with another one in these places."""
    column = column.astype("U100")
    column[which] = value
    return column


def write(name: str, rows: Columns) -> Path:
    """Write `NAME.npz` in this folder."""
    path = Path(f"{name}.npz")
    np.savez(path, **rows)
    return path


def make_run(name: str, rows: Columns, **how: Any) -> Run:
    """The run `scratch/NAME` of such rows."""
    return import_states(open_state_file(write(name, rows), **how), Path("scratch", name)).run


def make_probes(run: Run, partial: bool = False, **changes: Any) -> Results:
    """Probe the run in the cheapest way."""
    cheap = {"permutations": 0, "controls": 0, "curve": False, "random": False, "words": False}
    cheap |= {"strengths": (0.1, 1.0), "resamples": 100}
    if changes.get("probe") in ("mass-mean", "centroid"):
        cheap["strengths"] = ()
    return probe_run(run, ProbeSettings(**{**cheap, **changes}), 1, partial)


def made_probes(name: str, rows: Columns, **changes: Any) -> Results:
    """As `make_probes(make_run(name, rows), ...)`; the same rows and changes are a copy."""

    def make(folder: Path) -> None:
        with chdir(folder):
            make_probes(make_run(name, rows), **changes)

    copy_of(Path.cwd(), make, rows, name, sorted(changes.items()))
    return choose_setting(Path("results", name))


def read_probes(name: str, metric: str = "") -> TrainedProbes:
    return read_trained(name, choose_setting(Path("results", name)), metric)


def judge(
    name: str, target: str, metric: str = "", partial: bool = False, **settings: Any
) -> Transfer:
    """`vsp evaluate NAME --on TARGET`."""
    tables = [read_relations(one, Path()) for one in TABLES]
    return transfer(
        read_probes(name, metric),
        open_target(target, Path(), partial=partial),
        lambda: tables,
        TransferSettings(**{"resamples": 200, **settings}),
    )
