"""Nearest centroid: the class whose mean is nearest, by Euclidean distance of treated states."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vsp.probes.base import LabelProbe
from vsp.probes.closed_form import ClosedForm, class_means
from vsp.probes.linear_probe import Readout
from vsp.probes.treatment import Array


class Centroid(ClosedForm, LabelProbe):
    """Scores are −½ (distance)², up to a constant of the row; they are not probabilities."""

    def __init__(self, treatment: str = "none") -> None:
        self.treatment = treatment

    def solve(
        self, treated: Array, ys: Sequence[NDArray[Any]], strengths: Sequence[float]
    ) -> Iterator[list[Readout]]:
        centre = treated.mean(axis=0)
        for codes in ys:
            coef = class_means(treated, codes)[0] - centre
            yield [Readout(coef, -coef @ centre - np.einsum("ch,ch->c", coef, coef) / 2)]
