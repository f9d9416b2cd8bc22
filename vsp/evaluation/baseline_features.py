"""Features of rows other than states. Baselines are probes that are fitted on them as on a layer.

The probe and its treatment are those of the layers. A new baseline is two functions here and one
line in `FEATURES`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vsp.evaluation.box_features import box_features, has_boxes
from vsp.evaluation.probed_rows import ProbedRows
from vsp.evaluation.word_features import MAX_BYTES, name_features, prompt_features

RANDOM_FEATURES = "random features"
_MOST = 0.95  # of the rows must have boxes


@dataclass(frozen=True, slots=True)
class Features:
    """How the features of a baseline are made from rows, the hidden size and a seed."""

    exist: Callable[[ProbedRows, int], bool]  # whether the rows have what it needs
    make: Callable[[ProbedRows, int, int], NDArray[np.float32]]  # [row, feature]
    # A few columns hold what these features say, where that of a state is spread over many. They
    # need smaller strengths than states of the same norm: as if ‖x‖² were larger by this factor.
    # Such a baseline has the probe's own grid, also with `--grid`, which is meant for states.
    norm_factor: float = 0.0  # 0: the grid of the layers


def _fit_in_memory(rows: ProbedRows, hidden_size: int) -> bool:
    return 4 * len(rows.row) * hidden_size <= MAX_BYTES


def _random_numbers(rows: ProbedRows, hidden_size: int, seed: int) -> NDArray[np.float32]:
    """Normal random numbers, as many as a state has."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal((len(rows.row), hidden_size), dtype=np.float32)


def _names_differ(rows: ProbedRows, hidden_size: int) -> bool:
    names = rows.names
    return names is not None and bool((names != names[0]).any())


def _prompts_differ(rows: ProbedRows, hidden_size: int) -> bool:
    return bool((rows.prompt != rows.prompt[0]).any())


def _most_have_boxes(rows: ProbedRows, hidden_size: int) -> bool:
    return bool(has_boxes(rows).mean() >= _MOST)


FEATURES = {
    "names": Features(_names_differ, lambda rows, size, seed: name_features(rows), 1e3),
    "words": Features(_prompts_differ, lambda rows, size, seed: prompt_features(rows, seed), 1e3),
    "boxes": Features(_most_have_boxes, lambda rows, size, seed: box_features(rows), 100.0),
    RANDOM_FEATURES: Features(_fit_in_memory, _random_numbers),
}
