"""What every probe is: a scikit-learn estimator that also fits many tasks on the same states.

ProbeBase
├── LabelProbe   reads a label: one score for each class, the largest wins
└── NumberProbe  reads a number

A linear probe is a `LinearReadout` besides. One that has a closed form is a `ClosedForm`; it
states its `_solve`, and tasks that are fitted on the same rows share what they can.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, ClassVar, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_expit, softmax
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, clone
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data

from vsp.errors import ProbeError
from vsp.probes.treatment import Array, Treatment, blocks, learn

Arrays = Mapping[str, NDArray[Any]]
_FLOATS = (np.float64, np.float32, np.float16)  # read as they are; anything else becomes the first
_COLUMNS = 512  # scores computed in one pass over the states

_Self = TypeVar("_Self", bound="ProbeBase")


@dataclass(frozen=True, slots=True)
class Task:
    """One thing to be read from the states: for instance the labels of one permutation."""

    y: NDArray[Any]  # [row] class index, or number
    train: NDArray[np.bool_]  # [row]; what `y` and the states are elsewhere has no influence
    strengths: tuple[float, ...] = ()  # ascending; none: the probe's own
    keep: bool = False  # give the fitted probes too

    @property
    def n_columns(self) -> int:
        """Scores of a row: one for each class there is on any row, or one number."""
        return 1 if np.issubdtype(self.y.dtype, np.floating) else int(self.y.max()) + 1


@dataclass(frozen=True, slots=True)
class TaskFit:
    """What came of a task.

    A problem is what is solved on its own: a class against the rest, two classes, all classes
    together, or a number.
    """

    scores: NDArray[np.float32]  # [strength, class, row], all rows; -inf: class of no training row
    gap: NDArray[np.float32]  # [strength, problem] relative duality gap; nan: the probe has none
    iterations: NDArray[np.int32]  # [strength, problem]; 0: closed form
    probes: tuple[Arrays, ...] = ()  # [strength]


class Line(NamedTuple):
    """A linear readout of treated states."""

    coef: Array  # [class, hidden], or [1, hidden] for a number
    intercept: Array  # [class]


class ProbeBase(BaseEstimator):
    """A probe. It has a `treatment` parameter, and attributes of the class say what it is."""

    target: ClassVar[str] = "label"  # or "number"
    grid: ClassVar[str] = ""  # the parameter that is chosen inside the training rows
    default_grid: ClassVar[tuple[float, ...]] = ()  # ascending
    grid_size: ClassVar[float] = 0.0  # mean ‖x‖² of rows that `default_grid` is for; 0: of any
    link: ClassVar[str] = ""  # scores → probabilities: "sigmoid", "softmax" or none
    meaning: ClassVar[Mapping[str, str]] = {}  # of `arrays`

    treatment: str

    def grid_for(self, size: float) -> tuple[float, ...]:
        """`default_grid`, moved by whole powers of ten to rows whose mean ‖x‖² is `size`.

        The loss has a strength to match its penalty: of rows ten times as long weights are a tenth,
        and their squares a hundredth. Layers differ in size by orders of magnitude.
        """
        if not (self.grid_size and 0 < size < np.inf):
            return self.default_grid
        power = round(np.log10(self.grid_size / size))
        return tuple(float(f"{strength * 10.0**power:.9g}") for strength in self.default_grid)

    def scores(self, states: Array) -> Array:
        """Scores [sample, class] of `states` [sample, hidden]; one column for a number."""
        raise NotImplementedError

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All there is to the fitted probe; nothing needs pickle."""
        raise NotImplementedError

    @classmethod
    def from_arrays(cls: type[_Self], arrays: Arrays) -> _Self:
        """The fitted probe that gave `arrays`."""
        raise NotImplementedError

    def prepare(self, states: Array, train: NDArray[np.bool_]) -> Any:
        """What tasks on `states` [row, hidden] share, for `fit_prepared`.

        `train` [set, row]: all training rows there will be. It decides what is shared, so that
        tasks give the same however they are divided into calls of `fit_prepared`.
        """
        return states

    def fit_tasks(self, states: Array, tasks: Sequence[Task]) -> Iterator[TaskFit]:
        """Fit every task on `states` [row, hidden]; what comes of it, in the order of `tasks`.

        Raises ProbeError where a task has one class only.
        """
        if tasks:
            masks = np.unique(np.stack([task.train for task in tasks]), axis=0)
            yield from self.fit_prepared(self.prepare(states, masks), tasks)

    def fit_prepared(self, prepared: Any, tasks: Sequence[Task]) -> Iterator[TaskFit]:
        """As `fit_tasks`, of what was prepared. Here one after another."""
        states: Array = prepared
        for task in tasks:
            rows = states[task.train]
            probes = [
                clone(self).set_params(**one).fit(rows, task.y[task.train])
                for one in self._parameters(task.strengths)
            ]
            yield TaskFit(
                np.stack([_columns(probe.scores(states), probe, task) for probe in probes]),
                np.stack([np.atleast_1d(getattr(p, "gap_", np.nan)) for p in probes]).astype("f4"),
                np.stack([np.atleast_1d(getattr(p, "n_iter_", 0)) for p in probes]).astype("i4"),
                tuple(probe.arrays() for probe in probes) if task.keep else (),
            )

    def _parameters(self, strengths: Sequence[float]) -> list[dict[str, float]]:
        return [{self.grid: one} for one in strengths] if self.grid and strengths else [{}]

    def _checked(self, states: Any, reset: bool) -> Array:
        """`states` as an array of floats that are all finite. Raises ProbeError if one is not."""
        checked: Array = validate_data(
            self, states, reset=reset, dtype=_FLOATS, ensure_all_finite=False
        )
        for rows in blocks(checked):
            finite = np.isfinite(checked[rows])
            if not finite.all():
                row, dimension = np.argwhere(~finite)[0]
                raise ProbeError(
                    f"NaN or inf in row {rows.start + row}, dimension {dimension} of the states; "
                    "leave such rows out"
                )
        return checked


class LabelProbe(ClassifierMixin, ProbeBase):
    """Reads a label. `classes_` are sorted; scores have a column for each, also for two."""

    classes_: NDArray[Any]

    def decision_function(self, states: Array) -> Array:
        """`scores`, but scikit-learn's way for two classes: [sample], above 0 for the second."""
        scores = self.scores(states)
        if len(self.classes_) > 2:
            return scores
        return scores[:, 1] if self.link == "sigmoid" else scores[:, 1] - scores[:, 0]

    def predict(self, states: Array) -> NDArray[Any]:
        """The class of the largest score (of equals the first) for each row [sample, hidden]."""
        best = self.scores(states).argmax(axis=1)
        names: NDArray[Any] = self.classes_[best]
        return names

    @available_if(lambda probe: bool(probe.link))  # type: ignore[untyped-decorator]
    def predict_proba(self, states: Array) -> Array:
        """Probabilities [sample, class] of `states` [sample, hidden]."""
        return probabilities(self.scores(states), self.link)

    def _coded(self, labels: Any, n_rows: int) -> NDArray[np.intp]:
        """Learn `classes_`; class indices [row]. Raises ProbeError if there is one class only."""
        labels = column_or_1d(labels, warn=True)
        _check_finite(labels, "label")
        check_classification_targets(labels)
        if len(labels) != n_rows:
            raise ProbeError(f"{n_rows} rows of states and {len(labels)} labels; they must agree")
        self.classes_, codes = _codes(labels)
        return codes


class NumberProbe(RegressorMixin, ProbeBase):
    """Reads a number."""

    target = "number"

    def predict(self, states: Array) -> Array:
        """The number [sample] read from `states` [sample, hidden]."""
        return self.scores(states)[:, 0]

    def _numbers(self, numbers: Any, n_rows: int) -> Array:
        """`numbers` [row] as float64. Raises ProbeError if one is not finite."""
        numbers = column_or_1d(numbers, warn=True, dtype=np.float64)
        _check_finite(numbers, "number")
        if len(numbers) != n_rows:
            raise ProbeError(f"{n_rows} rows of states and {len(numbers)} numbers; they must agree")
        return np.asarray(numbers)


class LinearReadout(ProbeBase):
    """Treat, multiply, add: all that is left of a linear probe once it is fitted."""

    meaning: ClassVar[Mapping[str, str]] = {
        "classes": "[class] in the order of scores; absent where a number is read",
        "treatment": "what is done to states first: none, center, standardize or unit-norm",
        "mean": "[hidden] taken from each row by center and standardize",
        "scale": "[hidden] each row is divided by, by standardize",
        "coef": "[class, hidden] of treated states; one row where a number is read",
        "intercept": "[class] added",
        "strength": "the parameter chosen from a grid, where the probe has one",
    }
    treatment_: Treatment
    coef_: Array  # [class, hidden], two rows for two classes, one for a number
    intercept_: Array  # [class]

    def scores(self, states: Array) -> Array:
        check_is_fitted(self)
        line = Line(self.coef_, self.intercept_)
        return linear_scores(self._checked(states, reset=False), self.treatment_, line)

    def arrays(self) -> dict[str, NDArray[Any]]:
        line = Line(self.coef_, self.intercept_)
        strength = getattr(self, self.grid) if self.grid else None
        return _line_arrays(getattr(self, "classes_", None), self.treatment_, line, strength)

    @classmethod
    def from_arrays(cls: type[_Self], arrays: Arrays) -> _Self:
        probe: Any = cls()
        probe.treatment_ = treatment_of(arrays)
        probe.treatment = probe.treatment_.name
        probe.coef_, probe.intercept_ = arrays["coef"], arrays["intercept"]
        probe.n_features_in_ = probe.coef_.shape[1]
        if "classes" in arrays:
            probe.classes_ = arrays["classes"]
        if "strength" in arrays:
            probe.set_params(**{cls.grid: float(arrays["strength"])})
        fitted: _Self = probe
        return fitted


class ClosedForm(LinearReadout):
    """A linear probe that is solved, not searched for."""

    def fit(self: _Self, states: Array, y: NDArray[Any]) -> _Self:
        """Fit on `states` [sample, hidden] and `y` [sample].

        Raises ProbeError if there is one class only or a value is not finite.
        """
        probe: Any = self
        states = probe._checked(states, reset=True)
        of_label = self.target == "label"
        y = probe._coded(y, len(states)) if of_label else probe._numbers(y, len(states))
        probe.treatment_ = learn(self.treatment, states)
        strengths = (getattr(self, self.grid),) if self.grid else ()
        (lines,) = probe._solve(probe.treatment_.apply(states), [y], strengths)
        probe.coef_, probe.intercept_ = lines[0]
        return self

    def fit_prepared(self, prepared: Any, tasks: Sequence[Task]) -> Iterator[TaskFit]:
        """As ProbeBase's; tasks that follow each other with the same training rows share work."""
        states: Array = prepared
        for (_, strengths), same in groupby(
            tasks, key=lambda task: (task.train.tobytes(), task.strengths)
        ):
            yield from self._fit_same(states, list(same), strengths)

    def _solve(
        self, treated: Array, ys: Sequence[NDArray[Any]], strengths: Sequence[float]
    ) -> Iterator[list[Line]]:
        """The readouts [strength] for each of `ys`: class indices without a hole, or numbers.

        `treated` [row, hidden] may be written to. Without strengths, the probe's own.
        """
        raise NotImplementedError

    def _fit_same(
        self, states: Array, tasks: Sequence[Task], strengths: Sequence[float]
    ) -> Iterator[TaskFit]:
        train = tasks[0].train
        rows = states[train]
        treatment = learn(self.treatment, rows)
        kinds = [_coded_task(task) for task in tasks]
        strengths = (strengths or (getattr(self, self.grid),)) if self.grid else ()
        solved = self._solve(treatment.apply(rows), [y for _, y in kinds], strengths)
        together = max(1, _COLUMNS // (max(1, len(strengths)) * max(t.n_columns for t in tasks)))
        for start in range(0, len(tasks), together):
            some = slice(start, start + together)
            lines = [next(solved) for _ in tasks[some]]
            yield from _scored(states, treatment, tasks[some], kinds[some], lines, strengths)


def probabilities(scores: Array, link: str, axis: int = -1) -> Array:
    """Probabilities of classes along `axis` from their scores.

    softmax: of all together. sigmoid: of each against the rest, then made to sum to 1, as
    scikit-learn's OneVsRestClassifier does; in logarithms, so that they do where all are tiny.
    """
    if link == "sigmoid":
        scores = log_expit(scores)
    share: Array = softmax(scores, axis=axis)
    return share


def linear_scores(states: Array, treatment: Treatment, line: Line) -> Array:
    """Scores [row, class] of `states` [row, hidden], a few rows at a time."""
    scores = np.empty((len(states), len(line.coef)))
    for rows, block in treatment.blocks(states):
        scores[rows] = block @ line.coef.T + line.intercept
    return scores


def treatment_of(arrays: Arrays) -> Treatment:
    return Treatment(str(arrays["treatment"]), arrays["mean"], arrays["scale"])


def class_means(treated: Array, codes: NDArray[np.intp]) -> tuple[Array, NDArray[np.intp]]:
    """Mean [class, hidden] of the rows of each class, and how many they are [class]."""
    counts = np.bincount(codes)
    member = (codes == np.arange(len(counts))[:, None]).astype(np.float64)
    return member @ treated / counts[:, None], counts


def readable(classes: NDArray[Any]) -> NDArray[Any]:
    """Class names as an array that can be saved without pickle."""
    return classes.astype(str) if classes.dtype == object else classes


def _check_finite(y: NDArray[Any], what: str) -> None:
    if y.dtype.kind == "f" and not np.isfinite(y).all():
        row = int(np.flatnonzero(~np.isfinite(y))[0])
        raise ProbeError(f"NaN or inf as the {what} of row {row}; leave such rows out")


def _codes(labels: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.intp]]:
    classes, codes = np.unique(labels, return_inverse=True)
    if len(classes) < 2:
        names = ", ".join(repr(str(one)) for one in classes)
        raise ProbeError(f"one class, {names}, on {len(labels)} rows; a probe needs two")
    return classes, codes


def _coded_task(task: Task) -> tuple[NDArray[Any] | None, NDArray[Any]]:
    """Classes on the training rows and indices into them; none and numbers for a number."""
    y = task.y[task.train]
    return (None, y) if np.issubdtype(y.dtype, np.floating) else _codes(y)


def _columns(scores: Array, probe: ProbeBase, task: Task) -> NDArray[np.float32]:
    return _spread(scores.T, getattr(probe, "classes_", None), task.n_columns)


def _spread(scores: Array, classes: NDArray[Any] | None, n_columns: int) -> NDArray[np.float32]:
    """`scores` [class of a training row, row] as [class, row], -inf for classes without one."""
    if classes is None:
        return scores.astype(np.float32)
    spread = np.full((n_columns, scores.shape[1]), -np.inf, dtype=np.float32)
    spread[classes] = scores
    return spread


def _line_arrays(
    classes: NDArray[Any] | None, treatment: Treatment, line: Line, strength: float | None
) -> dict[str, NDArray[Any]]:
    arrays = {} if classes is None else {"classes": readable(classes)}
    arrays |= {
        "treatment": np.array(treatment.name),
        "mean": treatment.mean,
        "scale": treatment.scale,
        "coef": line.coef,
        "intercept": line.intercept,
    }
    return arrays if strength is None else {**arrays, "strength": np.array(float(strength))}


def _scored(
    states: Array,
    treatment: Treatment,
    tasks: Sequence[Task],
    kinds: Sequence[tuple[NDArray[Any] | None, NDArray[Any]]],
    lines: Sequence[Sequence[Line]],
    strengths: Sequence[float],
) -> Iterator[TaskFit]:
    """The fits of tasks that share training rows, all scored in one pass over `states`."""
    every = [line for of_task in lines for line in of_task]
    stacked = Line(
        np.concatenate([line.coef for line in every]),
        np.concatenate([line.intercept for line in every]),
    )
    scores = linear_scores(states, treatment, stacked).T
    recorded: Sequence[float | None] = strengths or [None]
    start = 0
    for task, (classes, _), of_task in zip(tasks, kinds, lines, strict=True):
        shape = (len(of_task), len(of_task[0].coef), len(states))
        stop = start + shape[0] * shape[1]
        each = scores[start:stop].reshape(shape)
        start = stop
        yield TaskFit(
            np.stack([_spread(one, classes, task.n_columns) for one in each]),
            np.full((len(of_task), 1), np.nan, dtype=np.float32),
            np.zeros((len(of_task), 1), dtype=np.int32),
            tuple(
                _line_arrays(classes, treatment, line, strength)
                for line, strength in zip(of_task, recorded, strict=True)
            )
            if task.keep
            else (),
        )
