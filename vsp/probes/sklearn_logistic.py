"""scikit-learn's own L2 logistic regression, one class against the rest: the reference."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier

from vsp.probes.base import LabelProbe, LinearReadout
from vsp.probes.treatment import Array, learn


class SklearnLogistic(LinearReadout, LabelProbe):
    """OneVsRestClassifier(LogisticRegression(C, max_iter, tol)) on treated states.

    A fit that stops before `tol` is counted in n_not_converged_, and its gap_ is infinite.
    """

    grid, link = "C", "sigmoid"
    default_grid = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
    grid_size = 1e5

    def __init__(
        self,
        C: float = 1.0,
        max_iter: int = 1000,
        tol: float = 1e-4,
        treatment: str = "standardize",
    ) -> None:
        self.C = C
        self.max_iter = max_iter
        self.tol = tol
        self.treatment = treatment

    def fit(self, states: Array, y: NDArray[Any]) -> SklearnLogistic:
        """Fit on `states` [sample, hidden]. Raises ProbeError as every probe does."""
        states = self._checked(states, reset=True)
        codes = self._coded(y, len(states))
        self.treatment_ = learn(self.treatment, states)
        binary = _Counted(C=self.C, max_iter=self.max_iter, tol=self.tol)
        fits = OneVsRestClassifier(binary).fit(self.treatment_.apply(states), codes).estimators_
        coef = np.concatenate([fit.coef_ for fit in fits])
        intercept = np.concatenate([fit.intercept_ for fit in fits])
        if len(fits) == 1:  # of two classes scikit-learn fits the second alone
            coef, intercept = np.vstack([-coef, coef]), np.concatenate([-intercept, intercept])
        self.coef_, self.intercept_ = coef, intercept
        converged = np.array([fit.converged_ for fit in fits])
        self.gap_ = np.where(converged, np.nan, np.inf)  # there is no certificate
        self.n_iter_ = np.concatenate([fit.n_iter_ for fit in fits])
        self.n_not_converged_ = int((~converged).sum())
        return self


class _Counted(LogisticRegression):
    """Keeps as `converged_` what scikit-learn only warns about."""

    def fit(self, X: Array, y: NDArray[Any]) -> _Counted:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            super().fit(X, y)
        self.converged_ = True
        for warning in caught:
            if issubclass(warning.category, ConvergenceWarning):
                self.converged_ = False
            else:
                warnings.warn_explicit(
                    warning.message, warning.category, warning.filename, warning.lineno
                )
        return self
