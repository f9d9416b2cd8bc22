"""Linear probes: scores are the product of treated states and coefficients, plus an intercept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from vsp.probes.base import Arrays, ProbeBase, common_arrays, restore_common
from vsp.probes.treatment import Array, Treatment

if TYPE_CHECKING:
    from typing import Self


class Readout(NamedTuple):
    """A linear map of treated states."""

    coef: Array  # [class, hidden], or [1, hidden] for a number
    intercept: Array  # [class]


class LinearProbe(ProbeBase):
    """A probe whose scores are linear in the treated states."""

    array_meanings: ClassVar[Mapping[str, str]] = {
        "classes": "[class] in the order of scores; absent where a number is read",
        "treatment": "what is done to states first: none, center, standardize or unit-norm",
        "mean": "[hidden] taken from each row by center and standardize",
        "scale": "[hidden] each row is divided by, by standardize",
        "coef": "[class, hidden] of treated states; one row where a number is read",
        "intercept": "[class] added",
        "strength": "the parameter chosen from a grid, where the probe has one",
    }
    treatment_: Treatment
    coef_: Array  # [class, hidden]: two rows for two classes, one for a number
    intercept_: Array  # [class]

    def scores(self, states: Array) -> Array:
        check_is_fitted(self)
        readout = Readout(self.coef_, self.intercept_)
        return linear_scores(self.check_states(states, reset=False), self.treatment_, readout)

    def arrays(self) -> dict[str, NDArray[Any]]:
        strength = getattr(self, self.strength_name) if self.strength_name else None
        classes = getattr(self, "classes_", None)
        readout = Readout(self.coef_, self.intercept_)
        return readout_arrays(classes, self.treatment_, readout, strength)

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> Self:
        probe = cls()
        restore_common(probe, arrays)
        probe.coef_, probe.intercept_ = arrays["coef"], arrays["intercept"]
        return probe


def linear_scores(states: Array, treatment: Treatment, readout: Readout) -> Array:
    """Scores [row, class] of `states` [row, hidden], computed block by block."""
    scores = np.empty((len(states), len(readout.coef)))
    for rows, block in treatment.blocks(states):
        scores[rows] = block @ readout.coef.T + readout.intercept
    return scores


def readout_arrays(
    classes: NDArray[Any] | None, treatment: Treatment, readout: Readout, strength: float | None
) -> dict[str, NDArray[Any]]:
    """The arrays of a fitted linear probe; see `LinearProbe.array_meanings`."""
    arrays = common_arrays(classes, treatment)
    arrays |= {"coef": readout.coef, "intercept": readout.intercept}
    return arrays if strength is None else {**arrays, "strength": np.array(float(strength))}
