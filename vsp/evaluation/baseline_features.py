"""Features of rows other than states. Baselines are probes that are fitted on them as on a layer.

A new baseline is two functions here and one line in `FEATURES`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vsp.evaluation.probed_rows import ProbedRows

_MAX_BYTES = 1 << 30  # of random features; larger runs omit this baseline


@dataclass(frozen=True, slots=True)
class Features:
    """How the features of a baseline are made from rows, the hidden size and a seed."""

    exist: Callable[[ProbedRows, int], bool]  # whether the rows have what it needs
    make: Callable[[ProbedRows, int, int], NDArray[np.float32]]  # [row, feature]


def _fit_in_memory(rows: ProbedRows, hidden_size: int) -> bool:
    return 4 * len(rows.row) * hidden_size <= _MAX_BYTES


def _random_numbers(rows: ProbedRows, hidden_size: int, seed: int) -> NDArray[np.float32]:
    """Normal random numbers, as many as a state has."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal((len(rows.row), hidden_size), dtype=np.float32)


FEATURES = {"random features": Features(_fit_in_memory, _random_numbers)}
