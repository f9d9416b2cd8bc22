"""Any classifier or regressor with `fit` and `predict` as a probe: `--probe file.py:Class`.

The adapter supplies what a probe needs besides. A new estimator is made from its class and options
for every fit. Labels are numbers 0, 1, … in alphabetical order of their names. Scores are the
logarithms of `predict_proba`, or else the values of `decision_function`, or else 1 for the predicted
label and 0 for the others.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import is_classifier, is_regressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted

from vsp.errors import ConfigError, EstimatorError, VspError
from vsp.probes.base import Arrays, LabelProbe, NumberProbe, ProbeBase
from vsp.probes.linear_probe import LinearProbe, Readout, readout_arrays
from vsp.probes.own_code import (
    Options,
    check_options,
    constructor_names,
    described,
    load_code,
    own_traceback,
    probe_title,
)
from vsp.probes.saved_readout import linear_readout
from vsp.probes.treatment import Array, Treatment, learn

if TYPE_CHECKING:
    from typing import Self

_ROW_VALUES = 1 << 24  # values of states that are scored at once: 128 MB as float64
_CHECKED_ROWS = 512  # training rows on which a linear readout must predict the same
_TINY = float(np.finfo(np.float32).tiny)  # in place of a probability of 0
_SHOWN: set[tuple[type[Warning], str]] = (
    set()
)  # warnings of estimators that this process has printed


class OwnEstimator(ProbeBase):
    """The common part of `OwnLabels` and `OwnNumbers`; `own_probe` makes one of them.

    gap_ is inf after a fit with a ConvergenceWarning, else nan: there is no certificate.
    """

    may_raise = True
    array_meanings = LinearProbe.array_meanings
    treatment_: Treatment
    estimator_: Any

    def __init__(
        self,
        code: str,
        version: str = "",
        options: Options = (),
        treatment: str = "none",
        weighting: str = "none",
        random_state: int = 0,
        link: str = "",
        trust_scores: bool = False,
    ) -> None:
        """`code` and `version`: those of `own_code`. `weighting`: none, or balanced class weights.

        `trust_scores`: scores are those of the estimator, also where `predict` gives another label
        than the highest score, as estimators with a tuned threshold do. Otherwise the predicted
        label has the highest score.
        """
        self.code = code
        self.version = version
        self.options = options
        self.treatment = treatment
        self.weighting = weighting
        self.random_state = random_state
        self.link = link
        self.trust_scores = trust_scores

    @property
    def title(self) -> str:
        """`file.py:Class`, without folders."""
        return probe_title(self.code)

    def described_parameters(self) -> dict[str, Any]:
        names = ("treatment", "weighting", "random_state")
        return {name: getattr(self, name) for name in names}

    def described_code(self) -> dict[str, Any]:
        return {
            "own_code": {
                "class": self.title,
                "version": self.version,
                "options": dict(self.options),
            }
        }

    def make(self) -> Any:
        """A new estimator that is not fitted. Raises EstimatorError if its constructor raises."""
        made, options = load_code(self.code, self.version), dict(self.options)
        settings: dict[str, Any] = {"random_state": self.random_state}
        if self.weighting == "balanced":
            settings["class_weight"] = "balanced"
        settings = {name: value for name, value in settings.items() if name not in options}
        with self._blamed("making it"):
            known = constructor_names(made)
            now = {name: value for name, value in settings.items() if name in known}
            estimator = made(**options, **now)
            later = {
                name: settings[name] for name in settings.keys() - now if takes(estimator, name)
            }
            return estimator.set_params(**later) if later else estimator

    def without_class_weights(self) -> Self:
        plain = super().without_class_weights()
        if plain is not self:
            kept = tuple(one for one in self.options if one[0] != "class_weight")
            plain.set_params(options=kept)
        return plain

    def _fit_estimator(self, states: Array, y: NDArray[Any]) -> None:
        """Learn the treatment and fit a new estimator; keep whether it converged."""
        self.treatment_ = learn(self.treatment, states)
        treated = self.treatment_.apply(states)
        estimator = self.make()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            with self._blamed("fit"):
                fitted = estimator.fit(treated, y)
        self.estimator_ = estimator if fitted is None else fitted
        self.gap_ = np.inf if _did_not_converge(caught) else np.nan
        self.n_iter_ = _iterations(self.estimator_)
        self._checked = treated[:: -(-len(treated) // _CHECKED_ROWS)].copy()

    def scores(self, states: Array) -> Array:
        check_is_fitted(self, "estimator_")
        states = self.check_states(states, reset=False)
        step = max(1, _ROW_VALUES // max(1, states.shape[1]))
        parts = [
            self._scores(self.treatment_.apply(states[start : start + step]))
            for start in range(0, max(1, len(states)), step)
        ]
        return np.concatenate(parts)

    def _scores(self, treated: Array) -> Array:
        """Scores [row, class] of treated states."""
        raise NotImplementedError

    def _called(self, method: str, treated: Array) -> NDArray[Any]:
        """What a method of the estimator returns for these rows. Raises EstimatorError."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            with self._blamed(method):
                values = np.asarray(getattr(self.estimator_, method)(treated))
        _did_not_converge(caught)  # prints the others
        return values

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The arrays of a linear estimator; empty for others, which are not saved."""
        check_is_fitted(self, "estimator_")
        classes = getattr(self, "classes_", None)
        readout = linear_readout(self.estimator_, None if classes is None else len(classes))
        if readout is None or not self._agrees(readout):
            return {}
        return readout_arrays(classes, self.treatment_, readout, None)

    def _agrees(self, readout: Readout) -> bool:
        """Whether a linear readout gives the scores of the estimator on training rows."""
        raise NotImplementedError

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> Self:
        raise NotImplementedError("saved arrays are those of a SavedReadout")

    @contextmanager
    def _blamed(self, what: str) -> Iterator[None]:
        """Turn any error of the user's code into one that names it, with its traceback."""
        try:
            yield
        except VspError:
            raise
        except Exception as error:  # code of the user, which may raise anything
            raise EstimatorError(
                f"{self.title}: {what} raised {described(error)}", own_traceback(error)
            ) from error

    def _wrong(self, what: str) -> EstimatorError:
        return EstimatorError(f"{self.title}: {what}")


class OwnLabels(OwnEstimator, LabelProbe):
    """A classifier of the user."""

    def fit(self, states: Array, y: NDArray[Any]) -> Self:
        """Fit on `states` [sample, hidden] and labels `y` [sample].

        Raises ProbeError if there is one class only or a value is not finite, EstimatorError if the
        estimator raises.
        """
        states = self.check_states(states, reset=True)
        codes = self.check_labels(y, len(states))
        self._fit_estimator(states, codes)
        own = np.asarray(getattr(self.estimator_, "classes_", np.arange(len(self.classes_))))
        self._order = np.argsort(own, kind="stable")
        if own[self._order].tolist() != list(range(len(self.classes_))):
            raise self._wrong(f"classes_ after fit are {own.tolist()[:5]}, not those of its labels")
        return self

    def _scores(self, treated: Array) -> Array:
        scores, predicted = self._said(treated)
        scores = scores.astype(np.float32)  # as they are kept
        if not np.isfinite(scores).all():
            raise self._wrong(f"{self._method} gives values beyond 3e38")
        if predicted is not None:
            lift_predicted(scores, predicted)
        return scores

    def _said(self, treated: Array) -> tuple[Array, NDArray[np.intp] | None]:
        """The estimator's scores [row, class], and the labels [row] that it predicts."""
        predicted = None if self.trust_scores and self._method else self._predicted(treated)
        if not self._method:
            assert predicted is not None
            return np.eye(len(self.classes_))[predicted], None
        values = self._called(self._method, treated)
        n_classes = len(self.classes_)
        if self._method == "decision_function" and values.shape == (len(treated),):
            values = np.stack([-values, values], axis=1) / 2
        if values.shape != (len(treated), n_classes) or not np.isfinite(values).all():
            if self._method == "decision_function" and np.isfinite(values).all():
                return np.eye(n_classes)[self._predicted(treated)], None  # one column for each pair
            raise self._wrong(
                f"{self._method} gives {values.shape} values or NaN for {len(treated)} rows and "
                f"{n_classes} labels"
            )
        values = values[:, self._order].astype(np.float64)
        if self._method == "predict_proba":
            values = np.log(np.maximum(values, _TINY))
        return values, predicted

    @property
    def _method(self) -> str:
        """The method whose values are scores; empty if `predict` alone is there."""
        for name in ("predict_proba", "decision_function"):
            if (name != "predict_proba" or self.link) and hasattr(self.estimator_, name):
                return name
        return ""

    def _predicted(self, treated: Array) -> NDArray[np.intp]:
        predicted = self._called("predict", treated)
        if predicted.shape != (len(treated),) or not np.isin(predicted, self._known).all():
            raise self._wrong(
                f"predict gives {predicted.shape} values for {len(treated)} rows, or labels that it "
                "was not fitted on"
            )
        return predicted.astype(np.intp)

    @property
    def _known(self) -> NDArray[np.intp]:
        return np.arange(len(self.classes_))

    def _agrees(self, readout: Readout) -> bool:
        linear = self._checked @ readout.coef.T + readout.intercept
        said = self._scores(self._checked)
        if (linear.argmax(axis=1) != said.argmax(axis=1)).any():
            return False
        if not self.link:
            return True
        shifted = linear - linear.max(axis=1, keepdims=True)
        log_sum = np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        return bool(np.allclose(np.exp(shifted - log_sum), np.exp(said), atol=1e-4))


class OwnNumbers(OwnEstimator, NumberProbe):
    """A regressor of the user."""

    def fit(self, states: Array, y: NDArray[Any]) -> Self:
        """Fit on `states` [sample, hidden] and numbers `y` [sample].

        Raises ProbeError if a value is not finite, EstimatorError if the estimator raises.
        """
        states = self.check_states(states, reset=True)
        self._fit_estimator(states, self.check_numbers(y, len(states)))
        return self

    def _scores(self, treated: Array) -> Array:
        said = self._called("predict", treated)
        if said.shape == (len(treated), 1):
            said = said[:, 0]
        if (
            said.shape != (len(treated),)
            or said.dtype.kind not in "fiu"
            or not np.isfinite(said).all()
        ):
            raise self._wrong(
                f"predict gives {said.shape} values or NaN for {len(treated)} rows, not one number each"
            )
        return said.astype(np.float64)[:, None]

    def _agrees(self, readout: Readout) -> bool:
        linear = self._checked @ readout.coef.T + readout.intercept
        said = self._scores(self._checked)
        return bool(np.allclose(linear, said, rtol=1e-5, atol=1e-6 * (1 + np.abs(said).max())))


def own_probe(code: str, version: str, options: Options) -> OwnEstimator:
    """The probe that this code gives. Raises ConfigError if it is no classifier or regressor."""
    title, made = probe_title(code), load_code(code, version)
    check_options(made, options, code)
    estimator = OwnEstimator(code, version, options).make()
    missing = [name for name in ("fit", "predict") if not callable(getattr(estimator, name, None))]
    if missing:
        raise ConfigError(
            f"--probe {title}: has no {' and no '.join(missing)}; name the class of a classifier or "
            "regressor as in scikit-learn"
        )
    if hasattr(estimator, "__sklearn_tags__"):
        if is_regressor(estimator):
            return OwnNumbers(code, version, options)
        if not is_classifier(estimator):
            kind = estimator.__sklearn_tags__().estimator_type or "an estimator of no kind"
            raise ConfigError(
                f"--probe {title}: is {kind}, not a classifier or regressor; name one, or derive the "
                "class from ClassifierMixin or RegressorMixin"
            )
    probe = OwnLabels(code, version, options)
    probe.link = "softmax" if hasattr(estimator, "predict_proba") else ""
    return probe


def takes_class_weight(probe: ProbeBase) -> bool:
    """Whether the class of a probe of `own_probe` has a parameter class_weight."""
    assert isinstance(probe, OwnEstimator)
    made = load_code(probe.code, probe.version)
    return "class_weight" in constructor_names(made) or takes(probe.make(), "class_weight")


def takes(estimator: Any, name: str) -> bool:
    """Whether an estimator has a parameter of this name that can be set."""
    return hasattr(estimator, "get_params") and name in estimator.get_params(deep=False)


def lift_predicted(scores: NDArray[np.float32], predicted: NDArray[np.intp]) -> None:
    """Make the score of the predicted class [row] the highest of its row, where it is not."""
    other = np.flatnonzero(scores.argmax(axis=1) != predicted)
    highest = scores[other].max(axis=1)
    scores[other, predicted[other]] = np.nextafter(highest, np.float32(np.inf))


def _did_not_converge(caught: list[warnings.WarningMessage]) -> bool:
    """Whether a fit warned that it did not converge; print each other warning once."""
    stopped = False
    for one in caught:
        words = one.category, str(one.message)
        if issubclass(one.category, ConvergenceWarning):
            stopped = True
        elif words not in _SHOWN:
            _SHOWN.add(words)
            warnings.warn_explicit(*words[::-1], one.filename, one.lineno)
    return stopped


def _iterations(estimator: Any) -> int:
    """The most iterations that the estimator reports; 0 if it reports none."""
    steps = np.asarray(getattr(estimator, "n_iter_", 0))
    known = steps.dtype.kind in "iuf" and steps.size
    return int(np.nanmax(steps)) if known else 0
