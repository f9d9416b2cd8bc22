"""Relation axes of a run and its swapped twin, and the file that keeps them.

`results/RUN/axes/SWAPPED/POSITION.json` holds the figures of all layers, a format number and the
SHA-256 of these values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vsp.choices import LAST, STORED_POSITIONS
from vsp.storage.sealed_json import listed, read_sealed, write_sealed

FORMAT = 1  # of the file; another one is not read
FOLDER = "axes"
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Axis:
    """Two relations that are each other's inverse, and the pairs of rows that have them."""

    first: str  # a row of this label counts with sign +1
    second: str  # with sign -1
    n_first: int  # pairs of rows whose label in the run is `first`
    n_second: int
    n_groups: int

    @property
    def name(self) -> str:
        return f"{self.first}/{self.second}"


@dataclass(frozen=True)
class Axes:
    """Coherence of each axis and cosines between axes, by layer; NaN where undefined."""

    run: str
    swapped: str
    position: str
    identity: str  # of the plan of `run`
    rows_sha256: str  # of the pairs of rows and their states
    axes: tuple[Axis, ...]
    layers: tuple[int, ...]  # of the model
    n_rows: int  # pairs of rows that count
    n_groups: int
    left_out: Mapping[str, int]  # reason → rows
    confidence: float
    resamples: int
    flips_limit: int
    flips: int  # sign vectors: all that there are, at most `flips_limit`
    seed: int
    coherence: Floats  # [layer, axis], mean cosine of signed differences of two groups
    coherence_low: Floats
    coherence_high: Floats
    between_labels: Floats  # [layer, axis], the same, of a row of `first` and one of `second`
    p: Floats  # [layer, axis]
    p_corrected: Floats  # over all layers and axes
    n_equal: NDArray[np.int64]  # [layer, axis], pairs with equal states, which have no direction
    cosine: Floats  # [layer, axis, axis], of the mean directions
    cosine_low: Floats
    cosine_high: Floats

    def index(self, first: str) -> int | None:
        """The place of the axis that begins with a label; None if there is none."""
        return next((i for i, axis in enumerate(self.axes) if axis.first == first), None)


_ARRAYS = (
    "coherence", "coherence_low", "coherence_high", "between_labels", "p", "p_corrected", "cosine",
    "cosine_low", "cosine_high",
)  # fmt: skip


def axes_file(home: Path, swapped: str, position: str = LAST) -> Path:
    """The file in `results/RUN/` of the axes of a run and its twin `swapped`."""
    return home / FOLDER / swapped / f"{position}.json"


def stored_axes(home: Path) -> list[tuple[str, str]]:
    """Twin and position of all axes that `results/RUN/` keeps, in the order of names."""
    found = [(path.parent.name, path.stem) for path in home.glob(f"{FOLDER}/*/*.json")]
    return sorted(one for one in found if one[1] in STORED_POSITIONS)


def write_axes(axes: Axes, home: Path) -> Path:
    """Write the axes to `results/RUN/` and return the path."""
    path = axes_file(home, axes.swapped, axes.position)
    write_sealed(path, FORMAT, axes_json(axes))
    return path


def axes_json(axes: Axes) -> dict[str, Any]:
    """All figures as JSON; null where undefined."""
    values = asdict(axes)
    arrays = {name: listed(values[name]) for name in _ARRAYS}
    values |= {"n_equal": axes.n_equal.tolist(), "left_out": dict(axes.left_out), **arrays}
    return {
        key: list(value) if isinstance(value, tuple) else value for key, value in values.items()
    }


def read_axes(home: Path, swapped: str, position: str = LAST) -> Axes | None:
    """The stored axes of a run and its twin; None if there are none.

    Raises RunError if the file cannot be read or was edited.
    """
    path = axes_file(home, swapped, position)
    again = "run `vsp axes` again"
    return read_sealed(path, FORMAT, "relation axes", again, _of_json)


def _of_json(values: dict[str, Any]) -> Axes:
    """The axes. Raises an error that `read_sealed` catches if the values are others."""
    arrays = {name: np.array(values[name], np.float64) for name in _ARRAYS}
    axes = Axes(
        **{
            **values,
            **arrays,
            "n_equal": np.array(values["n_equal"], np.int64),
            "axes": tuple(Axis(**one) for one in values["axes"]),
            "layers": tuple(values["layers"]),
        }
    )
    shape = len(axes.layers), len(axes.axes)
    for name in (*_ARRAYS, "n_equal"):
        of_pairs = name.startswith("cosine")
        if getattr(axes, name).shape != ((*shape, shape[1]) if of_pairs else shape):
            raise ValueError(name)
    if not all(shape) or not all(isinstance(one, int) for one in axes.layers):
        raise ValueError("layers")
    return axes
