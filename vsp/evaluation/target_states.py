"""States that the probes of a run are judged on: those of another run, or of a file."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vsp.choices import LAST
from vsp.errors import ConfigError, RunError
from vsp.evaluation.row_identity import RowIdentity
from vsp.storage.convention import LayerConvention
from vsp.storage.run import Run, find_run
from vsp.storage.state_files import open_state_file

_SUFFIXES = (".npz", ".safetensors", ".parquet", ".pt")
States = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class TargetStates:
    """States at one position, and the rows that they belong to."""

    name: str
    position: str
    id: NDArray[np.str_]  # [row]
    label: NDArray[np.str_]  # [row]
    group: NDArray[np.str_]  # [row]
    identity: RowIdentity
    convention: LayerConvention
    hidden_size: int
    read_layer: Callable[[int], States]  # entry of the layer axis → states [row, hidden]
    n_missing: int = 0  # rows without states, which are not among the rows above
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.id)


def open_target(name: str, work: Path, position: str = LAST, partial: bool = False) -> TargetStates:
    """The states of a run by its name or path, or of a file or folder of states.

    Raises RunError or StoreError if there are none, or if a run is not complete and `partial` is
    false, ConfigError for a position of a file.
    """
    if is_file_of_states(name):
        if position != LAST:
            raise ConfigError(f"position {position}: {name} is no run, so it has no positions")
        if name.endswith(".parquet"):
            raise ConfigError(
                f"{name}: Parquet files of states are not read; export as .npz or .safetensors"
            )
        return _of_file(name, Path(name))
    if name.endswith(_SUFFIXES):
        raise ConfigError(f"{name}: no such file; name a run, or a file of states that exists")
    return _of_run(find_run(name, work), position, partial)


def is_file_of_states(name: str) -> bool:
    """Whether the name is a file, or the path (with a slash) of a folder of files, and not a run."""
    path = Path(name)
    with suppress(OSError, ValueError):  # such a name is refused as that of a run
        is_folder = "/" in name and path.is_dir() and not (path / "plan.json").exists()
        return path.is_file() or is_folder
    return False


def _of_run(run: Run, position: str, partial: bool) -> TargetStates:
    store = run.states(position)
    store.check()
    rows = np.concatenate([ledger.rows_done for ledger in run.ledgers()])
    n_missing = run.plan.n_samples - len(rows)
    if not len(rows) or (n_missing and not partial):
        raise RunError(
            f"run {run.name}: {n_missing:,} of {run.plan.n_samples:,} rows have no states; "
            f"`vsp extract --run {shlex.quote(run.name)}` extracts them, or leave them out with --partial"
        )
    samples = run.all_samples()
    done = [samples[row] for row in rows.tolist()]

    def read_layer(layer: int) -> States:
        states = store.layer(layer)
        return states if len(rows) == len(states) else states[rows]

    return TargetStates(
        name=run.name,
        position=position,
        id=np.array([one.id for one in done]),
        label=np.array([one.label for one in done]),
        group=np.array([one.group for one in done]),
        identity=RowIdentity.of(done),
        convention=run.plan.convention(position),
        hidden_size=store.layout.hidden_size,
        read_layer=read_layer,
        n_missing=n_missing,
    )


def _of_file(name: str, path: Path) -> TargetStates:
    file = open_state_file(path)
    rows = file.rows
    columns = (rows.id, rows.subject, rows.reference, rows.group, rows.image, rows.image_sha256)

    def read_layer(layer: int) -> States:
        states = file.layer(layer)
        bad = np.flatnonzero(~np.isfinite(states).all(axis=1))
        if len(bad):
            raise RunError(
                f"{name}: {len(bad):,} of {len(rows):,} rows have values that are not finite, first id "
                f"{str(rows.id[bad[0]])[:100]!r}; make a run of the file with `vsp import states`, and "
                "evaluate on it with --partial"
            )
        return states

    return TargetStates(
        name=name,
        position=LAST,
        id=rows.id,
        label=rows.label,
        group=rows.group,
        identity=RowIdentity.of_texts(list(zip(*(one.tolist() for one in columns), strict=True))),
        convention=file.convention,
        hidden_size=file.hidden_size,
        read_layer=read_layer,
        notes=file.notes,
    )
