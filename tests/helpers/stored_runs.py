"""Runs of given states, written as a file of states and imported, without a model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from helpers.made_once import copy_of
from numpy.typing import NDArray

from vsp.evaluation.probe_run import probe_run
from vsp.evaluation.probe_settings import ProbeSettings, setting_name
from vsp.storage.imported_run import import_states
from vsp.storage.npz_states import KEYS, STATES
from vsp.storage.results import Results
from vsp.storage.run import Run
from vsp.storage.state_files import open_state_file

Rows = dict[str, NDArray[Any]]  # states [layer, row, hidden] and columns of the rows [row]
NAMES = ("above", "below", "left_of", "right_of")
LIGHT: dict[str, Any] = {
    "permutations": 0, "controls": 0, "curve": False, "random": False, "words": False, "folds": 3,
    "resamples": 100,
}  # fmt: skip


def rows(
    n_rows: int = 120,
    n_layers: int = 3,
    hidden_size: int = 6,
    signal: float = 0.7,
    seed: int = 0,
    per_group: int = 2,
    names: Sequence[str] = NAMES,
) -> Rows:
    """Rows whose deeper layers have more of the label, in the same directions for every seed."""
    rng = np.random.default_rng([1, seed])
    of_class = np.random.default_rng(0).normal(size=(len(names), hidden_size))
    group = np.arange(n_rows) // per_group
    code = group % len(names)
    depth = signal * np.arange(n_layers)[:, None, None]
    return {
        "states": rng.normal(size=(n_layers, n_rows, hidden_size)) + depth * of_class[code],
        "label": np.array(names)[code],
        "id": np.array([f"row{seed}_{i}" for i in range(n_rows)]),
        "group": np.array([f"image{seed}_{i}" for i in group]),
        "image": np.array([f"image{seed}_{i}" for i in group]),
    }


def write_file(path: Path, of_rows: Rows) -> Path:
    """Write a file as `vsp export` does, in float32."""
    columns = {KEYS[name]: column for name, column in of_rows.items() if name != "states"}
    states = np.asarray(of_rows["states"], np.float32).swapaxes(0, 1)
    np.savez(path, **{STATES: states, **columns})
    return path


def run_of(work: Path, name: str, of_rows: Rows) -> Run:
    """Import the rows as `scratch/NAME`; the file stays as `NAME.npz`."""
    source = open_state_file(write_file(work / f"{name}.npz", of_rows))
    return import_states(source, work / "scratch" / name).run


def probed(work: Path, name: str, of_rows: Rows, **settings: Any) -> Results:
    """Import and probe the rows with few fits; the same rows and settings are a copy."""
    of_probe = ProbeSettings(**{**LIGHT, **settings})

    def make(folder: Path) -> None:
        probe_run(run_of(folder, name, of_rows), of_probe, n_jobs=1, partial=True)

    copy_of(work, make, of_rows, name, of_probe)
    home = work / "results" / name
    return Results(home / setting_name(of_probe), home)
