"""Links: how the scores of a probe become probabilities. This module imports no scikit-learn."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_expit, softmax

Array = NDArray[np.floating]


def probabilities(scores: Array, link: str, axis: int = -1) -> Array:
    """Probabilities of the classes along `axis`.

    softmax: all classes together. sigmoid: each class against the rest, divided by their sum, as
    in scikit-learn's OneVsRestClassifier; logarithms keep the sum at 1 even if all are tiny.
    """
    if link == "sigmoid":
        scores = log_expit(scores)
    share: Array = softmax(scores, axis=axis)
    return share
