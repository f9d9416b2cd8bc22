"""scikit-learn's own L2 logistic regression, one class against the rest: the reference."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier

from vsp.probes.base import LabelProbe
from vsp.probes.linear_probe import LinearProbe
from vsp.probes.logistic import Logistic
from vsp.probes.treatment import Array, learn

if TYPE_CHECKING:
    from typing import Self


class SklearnLogistic(LinearProbe, LabelProbe):
    """OneVsRestClassifier(LogisticRegression(C, max_iter, tol)) on treated states.

    gap_ [problem] is inf for a fit that stopped before `tol`, else nan.
    """

    strength_name = Logistic.strength_name
    link = Logistic.link
    default_grid = Logistic.default_grid
    code_grid = Logistic.code_grid
    grid_squared_norm = Logistic.grid_squared_norm

    def __init__(
        self,
        C: float = 1.0,
        max_iter: int = 1000,
        tol: float = 1e-4,
        treatment: str = "standardize",
        weighting: str = "none",
    ) -> None:
        self.C = C
        self.max_iter = max_iter
        self.tol = tol
        self.treatment = treatment
        self.weighting = weighting

    def fit(self, states: Array, y: NDArray[Any]) -> Self:
        """Fit on `states` [sample, hidden] and labels `y` [sample].

        Raises ProbeError if there is one class only or a value is not finite.
        """
        states = self.check_states(states, reset=True)
        codes = self.check_labels(y, len(states))
        self.treatment_ = learn(self.treatment, states)
        weight = "balanced" if self.weighting == "balanced" else None
        binary = _BinaryLogistic(
            C=self.C, max_iter=self.max_iter, tol=self.tol, class_weight=weight
        )
        fits = OneVsRestClassifier(binary).fit(self.treatment_.apply(states), codes).estimators_
        coef = np.concatenate([fit.coef_ for fit in fits])
        intercept = np.concatenate([fit.intercept_ for fit in fits])
        if len(fits) == 1:  # for two classes scikit-learn fits only the second
            coef, intercept = np.vstack([-coef, coef]), np.concatenate([-intercept, intercept])
        self.coef_, self.intercept_ = coef, intercept
        converged = np.array([fit.converged_ for fit in fits])
        self.gap_ = np.where(converged, np.nan, np.inf)  # scikit-learn has no certificate
        self.n_iter_ = np.concatenate([fit.n_iter_ for fit in fits])
        return self

    def n_problems(self, n_classes: int) -> int:
        return 1 if n_classes <= 2 else n_classes


class _BinaryLogistic(LogisticRegression):
    """Records convergence as `converged_` in place of scikit-learn's warning."""

    def fit(self, X: Array, y: NDArray[Any]) -> Self:
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
