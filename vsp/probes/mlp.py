"""A perceptron with one hidden layer: a nonlinear probe to compare linear probes with.

Compare it above all by selectivity (Hewitt & Liang 2019): a probe with enough capacity learns the
control task as well. scikit-learn's MLPClassifier fits the weights; they are saved and used here
as plain arrays.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier
from sklearn.utils.validation import check_is_fitted

from vsp.probes.base import Arrays, LabelProbe, common_arrays, restore_common
from vsp.probes.treatment import Array, Treatment, learn

if TYPE_CHECKING:
    from typing import Self


class MLP(LabelProbe):
    """`width` is the number of rectified units, `alpha` the L2 penalty. Adam fits the weights; the
    same seed gives the same result.

    It has no optimum to certify: gap_ is inf after a fit that stopped at `max_iter`, else nan.
    """

    strength_name = "alpha"
    link = "softmax"
    default_grid = (1e-2, 1.0)
    array_meanings: ClassVar[Mapping[str, str]] = {
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

    def fit(self, states: Array, y: NDArray[Any]) -> Self:
        """Fit on `states` [sample, hidden] and labels `y` [sample].

        Raises ProbeError if there is one class only or a value is not finite.
        """
        states = self.check_states(states, reset=True)
        codes = self.check_labels(y, len(states))
        self.treatment_ = learn(self.treatment, states)
        network = MLPClassifier(
            (self.width,),
            alpha=self.alpha,
            max_iter=self.max_iter,
            tol=self.tol,
            random_state=self.random_state,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            network.fit(self.treatment_.apply(states).astype(np.float32), codes)
        self.n_iter_ = network.n_iter_
        self.gap_ = np.inf if network.n_iter_ >= self.max_iter else np.nan
        self._set_weights([w.T for w in network.coefs_], network.intercepts_)
        return self

    def scores(self, states: Array) -> Array:
        """Scores [sample, class]: logarithms of probabilities, up to a constant of the row."""
        check_is_fitted(self)
        states = self.check_states(states, reset=False)
        scores = np.empty((len(states), len(self.coef_)))
        for rows, block in self.treatment_.blocks(states):
            units = np.maximum(block @ self.unit_coef_.T + self.unit_intercept_, 0)
            scores[rows] = units @ self.coef_.T + self.intercept_
        return scores

    def arrays(self) -> dict[str, NDArray[Any]]:
        return common_arrays(self.classes_, self.treatment_) | {
            "unit_coef": self.unit_coef_,
            "unit_intercept": self.unit_intercept_,
            "coef": self.coef_,
            "intercept": self.intercept_,
            "strength": np.array(float(self.alpha)),
        }

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> Self:
        probe = cls(width=len(arrays["unit_coef"]))
        restore_common(probe, arrays)
        probe.unit_coef_, probe.unit_intercept_ = arrays["unit_coef"], arrays["unit_intercept"]
        probe.coef_, probe.intercept_ = arrays["coef"], arrays["intercept"]
        return probe

    def _set_weights(self, coefs: list[Array], intercepts: list[Array]) -> None:
        """Store weights. For two classes scikit-learn has one output: half of it goes to each class."""
        (self.unit_coef_, coef), (self.unit_intercept_, intercept) = coefs, intercepts
        if len(coef) == 1:
            coef, intercept = (
                np.vstack([-coef, coef]) / 2,
                np.concatenate([-intercept, intercept]) / 2,
            )
        self.coef_, self.intercept_ = coef, intercept
