"""Base classes of probes: scikit-learn estimators that also fit many tasks on the same states.

ProbeBase
├── LabelProbe    reads a label: one score per class, the largest wins
├── NumberProbe   reads a number
└── LinearProbe   scores are linear in the treated states (`linear_probe`)
    └── ClosedForm   solved without iterations (`closed_form`)

A new probe is one file in this folder, and one line in the table of `vsp.probes`:
``"name": "vsp.probes.file:Class"``. Its class

- derives from `LabelProbe` or `NumberProbe`, with `LinearProbe` or `ClosedForm` in front if it is
  linear;
- declares the class attributes of `ProbeBase` that apply (`strength_name`, `default_grid`, `link`,
  `array_meanings`), and all other defaults in its constructor: no other file repeats them;
- has a `treatment` parameter and a constructor that only stores its parameters;
- implements `solve` (closed form), or else `fit`, `scores`, `arrays` and `from_arrays`
  (`LinearProbe` has the last three). `fit` raises ProbeError for bad input.

Parameters called `tol`, `max_iter`, `random_state` and `weighting` are set from `--tolerance`,
`--max-iter`, `--seed` and `--class-weight`. A fit leaves `n_iter_` and `gap_`, if it has them; gap_ is inf where it did not converge.
`tests/probes/test_probe_family.py` checks this contract for every probe in the table.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, clone
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d, validate_data

from vsp.errors import ProbeError
from vsp.probes.links import probabilities
from vsp.probes.treatment import Array, Treatment, row_slices

if TYPE_CHECKING:
    from typing import Self

Arrays = Mapping[str, NDArray[Any]]
_FLOATS = (np.float64, np.float32, np.float16)  # kept as they are; other dtypes become float64
_LARGEST_NUMBER = 1e30  # scores are float32, which ends at 3e38, and losses are squares
_LEAST_SPREAD = 1e-5  # of numbers, as a share of the largest; float32 has 6e-8


@dataclass(frozen=True, slots=True)
class Task:
    """One target to read from the states, for instance one permutation of the labels."""

    y: NDArray[Any]  # [row]: class index, or number
    train: NDArray[np.bool_]  # [row]: values of `y` and states of other rows have no influence
    strengths: tuple[float, ...] = ()  # ascending; empty: the probe's own
    keep: bool = False  # also return the arrays of the fitted probes
    # How often each training row counts [row], as in a bootstrap resample; None: once. Rows that
    # count 0 times are not in `train`.
    counts: NDArray[np.intp] | None = None

    @property
    def n_columns(self) -> int:
        """Scores per row: the number of classes over all rows, or 1 for a number."""
        return 1 if np.issubdtype(self.y.dtype, np.floating) else int(self.y.max()) + 1


@dataclass(frozen=True, slots=True)
class TaskFit:
    """The fits of one task.

    A problem is solved on its own: one class against the rest, two classes, all classes together,
    or a number.
    """

    scores: NDArray[
        np.float32
    ]  # [strength, class, row], all rows; -inf: class without training row
    gap: NDArray[np.float32]  # [strength, problem]: relative duality gap; nan: the probe has none
    iterations: NDArray[np.int32]  # [strength, problem]; 0: closed form
    probes: tuple[Arrays, ...] = ()  # [strength]


class ProbeBase(BaseEstimator):
    """A probe with a `treatment` parameter; its class attributes describe it."""

    target: ClassVar[str] = "label"  # or "number"
    strength_name: ClassVar[str] = ""  # parameter that is chosen within the training rows
    default_grid: ClassVar[tuple[float, ...]] = ()  # values of that parameter, ascending
    code_grid: ClassVar[tuple[float, ...]] = ()  # of the online code; empty: the same as the score
    grid_squared_norm: ClassVar[float] = 0.0  # mean ‖x‖² of rows that these grids suit; 0: any
    may_raise: ClassVar[bool] = False  # fits may raise EstimatorError
    link: str = ""  # turns scores into probabilities: "sigmoid", "softmax" or none
    array_meanings: ClassVar[Mapping[str, str]] = {}  # description of each of `arrays`

    treatment: str

    def configure(
        self,
        treatment: str = "",
        tolerance: float = 0.0,
        max_iter: int = 0,
        seed: int = 0,
        weighting: str = "",
    ) -> Self:
        """Set the parameters that the probe has; an empty or zero value keeps its default."""
        wanted: dict[str, Any] = {"random_state": seed}
        given = {
            "tol": tolerance,
            "max_iter": max_iter,
            "treatment": treatment,
            "weighting": weighting,
        }
        wanted |= {name: value for name, value in given.items() if value}
        known = self.get_params()
        self.set_params(**{name: value for name, value in wanted.items() if name in known})
        return self

    def described_parameters(self) -> dict[str, Any]:
        """The parameters that the card of saved probes lists."""
        return dict(self.get_params())

    def described_code(self) -> dict[str, Any]:
        """What the card says about code of the user; empty for a probe that vsp knows by name."""
        return {}

    @property
    def shares_work(self) -> bool:
        """Whether fits of several tasks share work, so that many take the time of a few."""
        return type(self).fit_prepared is not ProbeBase.fit_prepared

    def n_problems(self, n_classes: int) -> int:
        """The problems that a fit of that many classes solves; each counts as a fit."""
        return 1

    @property
    def tolerance(self) -> float:
        """The `tol` parameter; 0 if the probe has none."""
        return float(self.get_params().get("tol", 0.0))

    def grid_for(self, squared_norm: float) -> tuple[float, ...]:
        """`default_grid`, shifted by whole powers of ten to suit rows of mean ‖x‖² `squared_norm`."""
        return self._shifted(self.default_grid, squared_norm)

    def code_grid_for(self, squared_norm: float) -> tuple[float, ...]:
        """`code_grid`, shifted like `default_grid`."""
        return self._shifted(self.code_grid, squared_norm)

    def without_class_weights(self) -> Self:
        """This probe if it weighs all rows the same, otherwise a copy that does."""
        if self.get_params().get("weighting") != "balanced":
            return self
        plain: Self = clone(self).set_params(weighting="none")
        return plain

    def _shifted(self, grid: tuple[float, ...], squared_norm: float) -> tuple[float, ...]:
        """Shift a grid of strengths to rows of another norm.

        If rows are ten times as long, weights are a tenth and their penalty is a hundredth, so the
        strength must be a hundredth too. Norms differ by orders of magnitude between layers.
        """
        if not (self.grid_squared_norm and 0 < squared_norm < np.inf):
            return grid
        power = round(np.log10(self.grid_squared_norm / squared_norm))
        return tuple(float(f"{strength * 10.0**power:.9g}") for strength in grid)

    def scores(self, states: Array) -> Array:
        """Scores [sample, class] of `states` [sample, hidden]; one column for a number."""
        raise NotImplementedError

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The fitted probe as arrays that can be saved without pickle."""
        raise NotImplementedError

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> Self:
        """The fitted probe whose `arrays` these are."""
        raise NotImplementedError

    def prepare(self, states: Array, train: NDArray[np.bool_]) -> Any:
        """Do the work on `states` [row, hidden] that tasks share; `fit_prepared` takes the result.

        `train` [set, row]: the training rows of all tasks. They alone decide what is shared, and
        not which tasks a call of `fit_prepared` gets.
        """
        return states

    def fit_tasks(self, states: Array, tasks: Sequence[Task]) -> Iterator[TaskFit]:
        """Fit every task on `states` [row, hidden]; fits are in the order of `tasks`.

        Raises ProbeError if the training rows of a task have one class only.
        """
        if tasks:
            masks = np.unique(np.stack([task.train for task in tasks]), axis=0)
            yield from self.fit_prepared(self.prepare(states, masks), tasks)

    def fit_prepared(self, prepared: Any, tasks: Sequence[Task]) -> Iterator[TaskFit]:
        """Like `fit_tasks`, on the result of `prepare`. This default fits one task after another."""
        states: Array = prepared
        for task in tasks:
            fitted = fitted_rows(task)
            rows, y = states[fitted], task.y[fitted]
            probes = [
                clone(self).set_params(**parameters).fit(rows, y)
                for parameters in self._parameter_grid(task.strengths)
            ]
            scores = [
                expand_classes(
                    probe.scores(states).T, getattr(probe, "classes_", None), task.n_columns
                )
                for probe in probes
            ]
            yield TaskFit(
                np.stack(scores),
                np.stack([np.atleast_1d(getattr(p, "gap_", np.nan)) for p in probes]).astype("f4"),
                np.stack([np.atleast_1d(getattr(p, "n_iter_", 0)) for p in probes]).astype("i4"),
                tuple(probe.arrays() for probe in probes) if task.keep else (),
            )

    def _parameter_grid(self, strengths: Sequence[float]) -> list[dict[str, float]]:
        if not (self.strength_name and strengths):
            return [{}]
        return [{self.strength_name: strength} for strength in strengths]

    def check_states(self, states: Any, reset: bool) -> Array:
        """`states` as an array of floats. Raises ProbeError if a value is not finite.

        `reset`: learn the number of features; otherwise it must match.
        """
        checked: Array = validate_data(
            self, states, reset=reset, dtype=_FLOATS, ensure_all_finite=False
        )
        for rows in row_slices(checked):
            finite = np.isfinite(checked[rows])
            if not finite.all():
                row, dimension = np.argwhere(~finite)[0]
                raise ProbeError(
                    f"NaN or inf in row {rows.start + row}, dimension {dimension} of the states; "
                    "leave such rows out"
                )
        return checked


class LabelProbe(ClassifierMixin, ProbeBase):
    """Reads a label. `classes_` are sorted; scores have one column per class, also for two."""

    classes_: NDArray[Any]

    def decision_function(self, states: Array) -> Array:
        """`scores`; for two classes [sample], positive for the second, as in scikit-learn."""
        scores = self.scores(states)
        if len(self.classes_) > 2:
            return scores
        return scores[:, 1] if self.link == "sigmoid" else scores[:, 1] - scores[:, 0]

    def predict(self, states: Array) -> NDArray[Any]:
        """The class with the largest score [sample]; ties go to the first class."""
        best = self.scores(states).argmax(axis=1)
        names: NDArray[Any] = self.classes_[best]
        return names

    @available_if(lambda probe: bool(probe.link))  # type: ignore[untyped-decorator]
    def predict_proba(self, states: Array) -> Array:
        """Probabilities [sample, class] of `states` [sample, hidden]."""
        return probabilities(self.scores(states), self.link)

    def check_labels(self, labels: Any, n_rows: int) -> NDArray[np.intp]:
        """Learn `classes_`; class indices [row]. Raises ProbeError if there is one class only."""
        labels = column_or_1d(labels, warn=True)
        _check_finite(labels, "label")
        check_classification_targets(labels)
        if len(labels) != n_rows:
            raise ProbeError(f"{n_rows} rows of states and {len(labels)} labels; they must agree")
        self.classes_, codes = encode_classes(labels)
        return codes


class NumberProbe(RegressorMixin, ProbeBase):
    """Reads a number."""

    target = "number"

    def predict(self, states: Array) -> Array:
        """The number [sample] read from `states` [sample, hidden]."""
        return self.scores(states)[:, 0]

    def check_numbers(self, numbers: Any, n_rows: int) -> Array:
        """`numbers` [row] as float64. Raises ProbeError if one is not finite, or as `check_scale`."""
        numbers = column_or_1d(numbers, warn=True, dtype=np.float64)
        _check_finite(numbers, "number")
        check_scale(numbers)
        if len(numbers) != n_rows:
            raise ProbeError(f"{n_rows} rows of states and {len(numbers)} numbers; they must agree")
        return np.asarray(numbers)


def fitted_rows(task: Task) -> NDArray[np.intp]:
    """The training rows of a task, each as often as it counts."""
    rows = np.flatnonzero(task.train)
    return rows if task.counts is None else np.repeat(rows, task.counts[rows])


def encode_classes(labels: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.intp]]:
    """Sorted classes and class indices [row]. Raises ProbeError if there is one class only."""
    classes, codes = np.unique(labels, return_inverse=True)
    if len(classes) < 2:
        names = ", ".join(repr(str(one)) for one in classes)
        raise ProbeError(f"one class, {names}, on {len(labels)} rows; a probe needs two")
    return classes, codes


def expand_classes(
    scores: Array, classes: NDArray[Any] | None, n_columns: int
) -> NDArray[np.float32]:
    """Expand scores [known class, row] to [class, row], with -inf for the other classes.

    `classes`: index of each known class; None for a number.
    """
    if classes is None:
        return scores.astype(np.float32)
    expanded = np.full((n_columns, scores.shape[1]), -np.inf, dtype=np.float32)
    expanded[classes] = scores
    return expanded


def common_arrays(classes: NDArray[Any] | None, treatment: Treatment) -> dict[str, NDArray[Any]]:
    """The arrays that every probe saves; `classes` is None for a number."""
    arrays: dict[str, NDArray[Any]] = {}
    if classes is not None:  # names of objects cannot be saved without pickle
        arrays["classes"] = classes.astype(str) if classes.dtype == object else classes
    return arrays | {
        "treatment": np.array(treatment.name),
        "mean": treatment.mean,
        "scale": treatment.scale,
    }


def restore_common(probe: Any, arrays: Arrays) -> None:
    """Set the attributes of a fitted probe that `common_arrays` saved."""
    probe.treatment_ = Treatment(str(arrays["treatment"]), arrays["mean"], arrays["scale"])
    probe.treatment = probe.treatment_.name
    probe.n_features_in_ = len(arrays["mean"])
    if "classes" in arrays:
        probe.classes_ = arrays["classes"]
    if "strength" in arrays:
        probe.set_params(**{probe.strength_name: float(arrays["strength"])})


def check_scale(numbers: Array) -> None:
    """Raise ProbeError if float32, in which scores are kept, is too coarse for finite numbers."""
    least, largest = float(numbers.min()), float(numbers.max())
    size = max(-least, largest)
    if size > _LARGEST_NUMBER or 0 < size < 1 / _LARGEST_NUMBER:
        raise ProbeError(
            f"numbers from {least:g} to {largest:g}; their size must lie between "
            f"{1 / _LARGEST_NUMBER:g} and {_LARGEST_NUMBER:g}: scale them"
        )
    if 0 < largest - least < _LEAST_SPREAD * size:
        raise ProbeError(
            f"numbers from {least:.17g} to {largest:.17g} differ too little for float32: subtract "
            "their mean"
        )


def _check_finite(y: NDArray[Any], what: str) -> None:
    if y.dtype.kind == "f" and not np.isfinite(y).all():
        row = int(np.flatnonzero(~np.isfinite(y))[0])
        raise ProbeError(f"NaN or inf as the {what} of row {row}; leave such rows out")
