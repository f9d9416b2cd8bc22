"""Nearest centroid: the class whose mean is nearest, by Euclidean distance of treated states."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vsp.probes.base import ClosedForm, LabelProbe, Line, class_means
from vsp.probes.treatment import Array


class Centroid(ClosedForm, LabelProbe):
    """Scores are −½ (distance)², less what all classes have in common; not probabilities."""

    def __init__(self, treatment: str = "none") -> None:
        self.treatment = treatment

    def _solve(
        self, treated: Array, ys: Sequence[NDArray[Any]], strengths: Sequence[float]
    ) -> Iterator[list[Line]]:
        middle = treated.mean(axis=0)
        for codes in ys:
            coef = class_means(treated, codes)[0] - middle
            yield [Line(coef, -coef @ middle - np.einsum("ch,ch->c", coef, coef) / 2)]
