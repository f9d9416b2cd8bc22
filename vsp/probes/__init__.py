"""Probes: estimators that read a label from hidden states; one file and one line each."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vsp.registry import Registry

PROBES = Registry("probe", {"logistic": "vsp.probes.logistic:OneVsRestLogistic"})


class LinearProbe(Protocol):
    """A fitted linear probe: standardise, multiply, take the class with the largest score."""

    classes_: NDArray[np.str_]  # [class]
    mean_: NDArray[np.floating]  # [hidden]
    scale_: NDArray[np.floating]  # [hidden]
    coef_: NDArray[np.floating]  # [class, hidden], of standardised states
    intercept_: NDArray[np.floating]  # [class]
    n_not_converged_: int

    def fit(self, states: NDArray[np.floating], labels: NDArray[np.str_]) -> LinearProbe: ...

    def predict(self, states: NDArray[np.floating]) -> NDArray[np.str_]: ...
