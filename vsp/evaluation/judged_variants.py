"""Predictions of the original's saved probes on the states of its variants.

`vsp probe` of a variant fits new probes. A verdict also needs what the original's own probes say if
the picture is taken away, mirrored, or the question turned round. They are judged where the states
are, and kept as a small file, so that a report needs `results/` alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vsp.storage.results import Results

JUDGED_ROLES = ("blank", "mirrored", "swapped")


@dataclass(frozen=True, eq=False)
class JudgedVariant:
    """What the original's probes predict on a variant, each row by a probe that did not see it."""

    id: NDArray[np.str_]  # [row]
    label: NDArray[np.str_]  # [row], of the variant
    predicted: NDArray[np.str_]  # [repeat, row]
    n_left_out: int  # rows without a probe that saw neither the row nor its picture
    original: str  # digest of the original's results
    target: str  # digest of the plan of the variant


def judged_variants(
    results: Mapping[str, Results], folder: Path, work: Path
) -> tuple[dict[str, JudgedVariant], dict[str, str]]:
    """The variants of JUDGED_ROLES that can be judged, and why others cannot, by role.

    A file `judged-ROLE.npz` in `folder` is read if it is of these results. Otherwise the states of the
    run in `work`/scratch/ are judged, and the file is written.
    """
    raise NotImplementedError
