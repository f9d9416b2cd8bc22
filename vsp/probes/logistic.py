"""L2-regularised logistic regression, one class against the rest, on standardised states."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.preprocessing import StandardScaler


class OneVsRestLogistic(ClassifierMixin, BaseEstimator):
    """Scaling is learned from the rows given to `fit`, so that no fold sees another's."""

    def __init__(self, C: float = 1.0, max_iter: int = 1000) -> None:
        self.C = C
        self.max_iter = max_iter

    def fit(self, states: NDArray[np.floating], labels: NDArray[np.str_]) -> OneVsRestLogistic:
        """Fit on `states` [sample, hidden]; n_not_converged_ counts fits that stopped early."""
        scaler = StandardScaler().fit(np.asarray(states, dtype=np.float64))
        scaled = scaler.transform(np.asarray(states, dtype=np.float64))
        rest = OneVsRestClassifier(LogisticRegression(C=self.C, max_iter=self.max_iter))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            rest.fit(scaled, labels)
        self.n_not_converged_ = 0
        for warning in caught:
            if issubclass(warning.category, ConvergenceWarning):
                self.n_not_converged_ += 1
            else:
                warnings.warn_explicit(
                    warning.message, warning.category, warning.filename, warning.lineno
                )
        coef = np.vstack([estimator.coef_ for estimator in rest.estimators_])
        intercept = np.concatenate([estimator.intercept_ for estimator in rest.estimators_])
        if len(coef) == 1:  # of two classes scikit-learn fits the second alone
            coef, intercept = np.vstack([-coef, coef]), np.concatenate([-intercept, intercept])
        self.classes_ = rest.classes_
        self.mean_, self.scale_ = scaler.mean_, scaler.scale_
        self.coef_, self.intercept_ = coef, intercept
        self.n_features_in_ = scaled.shape[1]
        return self

    def decision_function(self, states: NDArray[np.floating]) -> NDArray[np.floating]:
        """Scores [sample, class] of `states` [sample, hidden]."""
        scaled = (np.asarray(states, dtype=np.float64) - self.mean_) / self.scale_
        scores: NDArray[np.floating] = scaled @ self.coef_.T + self.intercept_
        return scores

    def predict(self, states: NDArray[np.floating]) -> NDArray[np.str_]:
        """The class with the largest score for each row of `states` [sample, hidden]."""
        best: NDArray[np.str_] = self.classes_[self.decision_function(states).argmax(axis=1)]
        return best
