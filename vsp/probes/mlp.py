"""A small perceptron with one hidden layer: what a probe that is not linear could read besides.

It is there to be compared, above all by selectivity (Hewitt & Liang 2019): a probe with room for it
learns the control task as well. scikit-learn's MLPClassifier finds the weights; they are kept and
used here as plain arrays.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier
from sklearn.utils.validation import check_is_fitted

from vsp.probes.base import Arrays, LabelProbe, readable, treatment_of
from vsp.probes.treatment import Array, Treatment, learn


class MLP(LabelProbe):
    """`width` rectified units; `alpha` is the L2 penalty. Adam, the same for the same seed.

    There is no optimum to certify: a fit that stops at `max_iter` is counted in n_not_converged_,
    and its gap_ is infinite.
    """

    grid, link = "alpha", "softmax"
    default_grid = (1e-2, 1.0)
    meaning: ClassVar[Mapping[str, str]] = {
        "classes": "[class] in the order of scores",
        "treatment": "what is done to states first: none, center, standardize or unit-norm",
        "mean": "[hidden] taken from each row by center and standardize",
        "scale": "[hidden] each row is divided by, by standardize",
        "unit_coef": "[unit, hidden] of treated states; negative sums become 0",
        "unit_intercept": "[unit] added before that",
        "coef": "[class, unit]",
        "intercept": "[class] added",
        "strength": "alpha",
    }

    treatment_: Treatment
    unit_coef_: Array
    unit_intercept_: Array
    coef_: Array
    intercept_: Array

    def __init__(
        self,
        width: int = 64,
        alpha: float = 1e-2,
        max_iter: int = 200,
        tol: float = 1e-4,
        random_state: int = 0,
        treatment: str = "standardize",
    ) -> None:
        self.width = width
        self.alpha = alpha
        self.max_iter = max_iter
        self.tol = tol
        self.random_state = random_state
        self.treatment = treatment

    def fit(self, states: Array, y: NDArray[Any]) -> MLP:
        """Fit on `states` [sample, hidden]. Raises ProbeError as every probe does."""
        states = self._checked(states, reset=True)
        codes = self._coded(y, len(states))
        self.treatment_ = learn(self.treatment, states)
        found = MLPClassifier(
            (self.width,),
            alpha=self.alpha,
            max_iter=self.max_iter,
            tol=self.tol,
            random_state=self.random_state,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            found.fit(self.treatment_.apply(states).astype(np.float32), codes)
        self.n_iter_ = found.n_iter_
        self.n_not_converged_ = int(found.n_iter_ >= self.max_iter)
        self.gap_ = np.inf if self.n_not_converged_ else np.nan  # there is no certificate
        self._keep([w.T for w in found.coefs_], found.intercepts_)
        return self

    def scores(self, states: Array) -> Array:
        """Scores [sample, class]: logarithms of probabilities, but for a constant of the row."""
        check_is_fitted(self)
        states = self._checked(states, reset=False)
        scores = np.empty((len(states), len(self.coef_)))
        for rows, block in self.treatment_.blocks(states):
            units = np.maximum(block @ self.unit_coef_.T + self.unit_intercept_, 0)
            scores[rows] = units @ self.coef_.T + self.intercept_
        return scores

    def arrays(self) -> dict[str, NDArray[Any]]:
        return {
            "classes": readable(self.classes_),
            "treatment": np.array(self.treatment_.name),
            "mean": self.treatment_.mean,
            "scale": self.treatment_.scale,
            "unit_coef": self.unit_coef_,
            "unit_intercept": self.unit_intercept_,
            "coef": self.coef_,
            "intercept": self.intercept_,
            "strength": np.array(float(self.alpha)),
        }

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> MLP:
        probe = cls(len(arrays["unit_coef"]), float(arrays["strength"]))
        probe.treatment = str(arrays["treatment"])
        probe.treatment_, probe.classes_ = treatment_of(arrays), arrays["classes"]
        probe.unit_coef_, probe.unit_intercept_ = arrays["unit_coef"], arrays["unit_intercept"]
        probe.coef_, probe.intercept_ = arrays["coef"], arrays["intercept"]
        probe.n_features_in_ = arrays["unit_coef"].shape[1]
        return probe

    def _keep(self, coefs: list[Array], intercepts: list[Array]) -> None:
        """Two classes have one output, of the second against the first: it is shared between them."""
        (self.unit_coef_, coef), (self.unit_intercept_, intercept) = coefs, intercepts
        if len(coef) == 1:
            coef, intercept = (
                np.vstack([-coef, coef]) / 2,
                np.concatenate([-intercept, intercept]) / 2,
            )
        self.coef_, self.intercept_ = coef, intercept
