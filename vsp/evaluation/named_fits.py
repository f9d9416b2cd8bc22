"""Says in which layer and fold an estimator of the user raised an error."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from vsp.errors import EstimatorError
from vsp.evaluation.design import Design


@contextmanager
def named(where: Callable[[], str]) -> Iterator[None]:
    """Begin the message of an EstimatorError with a place; other errors pass as they are."""
    try:
        yield
    except EstimatorError as error:
        raise EstimatorError(f"{where()}, {error}", error.details) from None


def name_of_rows(design: Design, train: NDArray[np.bool_]) -> str:
    """What a mask [row] of training rows is: a fold, an inner fold of it, or other rows."""
    same = np.flatnonzero((design.train_sets == train).all(axis=1))
    for i, outer in enumerate(design.outer):
        fold = f"fold {i % design.n_folds + 1} of {design.n_folds}"
        if design.n_repeats > 1:
            fold += f" in repeat {outer.repeat + 1}"
        if design.n_folds == 1:
            fold = "training rows"
        if outer.train_set in same:
            return fold
        for j, inner in enumerate(outer.inner):
            if inner.train_set in same:
                return f"inner fold {j + 1} of {len(outer.inner)} in {fold}"
    return "all rows" if design.final in same else "some of the training rows"
