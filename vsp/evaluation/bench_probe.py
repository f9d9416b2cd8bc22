"""`vsp bench probe`: what an exact probe costs here, and what scikit-learn takes and finds.

Every way fits the same rows of the same layers and is timed from the states as they are stored to
the fitted probe, in CPU seconds of one core. The ways take turns, so that a busy neighbour slows
all of them, and the least of the repeats counts.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from statistics import median
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.multiclass import OneVsRestClassifier
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from vsp.errors import ProbeError
from vsp.probes.base import Task, TaskFit
from vsp.probes.logistic import Logistic
from vsp.probes.treatment import Array, learn
from vsp.storage.run import Run
from vsp.utils.progress import progress

OURS, RESEARCH = "vsp", "scikit-learn, research code"
OURS_SCALED, CAREFUL = "vsp, standardised", "scikit-learn, careful"
_TOLERANCE = 1e-7  # of ours and the careful fit
_EXACT = 1e-10  # of the fits that the others are held against
_PATIENCE = 10_000  # iterations that the careful user allows
_KEPT_BACK = 5  # one row of so many is not fitted: predictions are compared there
_FOLDS = 5
_CONTROLS = 5
_TYPES = 60  # of rows, each with one label in a control task
_PERMUTATIONS = 100

_RANK = 1024  # directions that the states vary along, beside noise
_DECAY = 0.75  # of the power law that their spreads follow
_READABLE = slice(8, 72)  # directions that know the label: not the widest
_OUTLIERS = np.array([50, 100, 300, 1000], np.float32)  # times the median dimension


@dataclass(frozen=True, slots=True)
class Asked:
    """What `vsp bench probe` is asked for."""

    n_rows: int = 2400  # of drawn states
    hidden: int = 4096
    n_classes: int = 4
    signals: tuple[float, ...] = (0.3, 1.0)
    C: float = 1.0
    repeats: int = 1
    programme: bool = False
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Way:
    """One way to a probe of a layer."""

    name: str
    seconds: float
    above: float  # worst class: objective over the least that is known, relative
    gap: float | None  # that it certifies for itself; None: it has no certificate
    converged: bool
    agree: float  # share of rows kept back that it puts where the exact probe puts them
    slower: float  # seconds over those of ours on the same problem


@dataclass(frozen=True, slots=True)
class ProgrammeTime:
    """All fits that a layer's statistics need."""

    seconds: float
    n_fits: int
    worst_gap: float
    of_research: float  # seconds over those of the research code's single fit


@dataclass(frozen=True, slots=True)
class LayerBench:
    """All ways on one layer."""

    title: str
    n_rows: int  # fitted
    hidden: int
    n_classes: int
    ways: tuple[Way, ...]
    programme: ProgrammeTime | None = None

    def seconds(self, name: str) -> float:
        return next(way.seconds for way in self.ways if way.name == name)


@dataclass(frozen=True, slots=True)
class ProbeBench:
    """All layers."""

    C: float
    repeats: int
    layers: tuple[LayerBench, ...]

    def slower(self, name: str, than: str) -> dict[str, float]:
        """Seconds of one way over those of another: the median layer, and summed over layers."""
        pairs = [(layer.seconds(name), layer.seconds(than)) for layer in self.layers]
        return _ratios(pairs)

    def programme(self) -> dict[str, float] | None:
        """As `slower`, of the research code's single fit over the whole programme."""
        timed = [layer.programme for layer in self.layers if layer.programme is not None]
        if not timed:
            return None
        singles = [layer.seconds(RESEARCH) for layer in self.layers]
        return _ratios([(s, p.seconds) for s, p in zip(singles, timed, strict=True)])

    def as_json(self) -> dict[str, Any]:
        return {
            **asdict(self),
            "research_over_ours": self.slower(RESEARCH, OURS),
            "careful_over_ours": self.slower(CAREFUL, OURS_SCALED),
            "research_over_programme": self.programme(),
        }


def _ratios(pairs: Sequence[tuple[float, float]]) -> dict[str, float]:
    ours, theirs = sum(pair[1] for pair in pairs), sum(pair[0] for pair in pairs)
    return {"median": median(one / other for one, other in pairs), "summed": theirs / ours}


class States(NamedTuple):
    """A layer to fit, and rows to compare predictions on."""

    title: str
    states: Array  # [row, hidden] as stored
    labels: NDArray[np.int64]
    others: Array  # [row, hidden] kept back


def drawn(asked: Asked) -> Iterator[States]:
    """A layer of realistic states for each signal."""
    for signal in asked.signals:
        n_others = -(-asked.n_rows // (_KEPT_BACK - 1))
        source = Realistic(asked.hidden, asked.n_classes, signal, asked.seed)
        states, labels = source.draw(asked.n_rows + n_others)
        _check_classes(labels[: asked.n_rows], f"{asked.n_rows} drawn rows")
        fitted = slice(asked.n_rows)
        yield States(f"signal {signal:g}", states[fitted], labels[fitted], states[asked.n_rows :])


def some_layers(run: Run, layers: Sequence[int] | None) -> list[int]:
    """Those asked for (None: the first, the middle and the last). Raises ProbeError."""
    last = run.plan.n_layers - 1
    if layers is None:
        return sorted({0, (last + 1) // 2, last})
    if wrong := [layer for layer in layers if not 0 <= layer <= last]:
        raise ProbeError(f"layer {wrong[0]}: run {run.name} has layers 0 to {last}")
    return sorted(set(layers))


def stored(run: Run, layers: Sequence[int], seed: int) -> Iterator[States]:
    """Layers of a run, with the rows that are done."""
    done = np.concatenate([ledger.rows_done for ledger in run.ledgers()]).astype(np.intp)
    samples = run.all_samples()
    names = np.array([samples[row].label for row in done.tolist()], dtype=str)
    back = np.zeros(len(done), dtype=bool)
    rng = np.random.default_rng(seed)
    back[rng.choice(len(done), len(done) // _KEPT_BACK, replace=False)] = True
    _check_classes(names[~back], f"{len(done)} rows of run {run.name} that are done")
    labels = np.unique(names, return_inverse=True)[1]
    for layer in layers:
        states = run.store.layer(layer)
        yield States(f"layer {layer}", states[done[~back]], labels[~back], states[done[back]])


def _check_classes(labels: NDArray[Any], what: str) -> None:
    if len(np.unique(labels)) < 2:
        raise ProbeError(f"{what} have fewer than two labels to fit; take more rows")


def bench(asked: Asked, layers: Iterator[States], n_layers: int) -> ProbeBench:
    """Fit and time every way on every layer."""
    found = []
    n_fits = asked.repeats * (len(_WAYS) + asked.programme)
    with threadpool_limits(1), progress("bench probe", "fits", n_layers * n_fits) as advance:
        for layer in layers:
            found.append(_measure(layer, asked, advance))
    return ProbeBench(asked.C, asked.repeats, tuple(found))


class Line(NamedTuple):
    """What a way found: one problem a class, or one for two classes."""

    coef: Array  # [problem, hidden]
    intercept: Array  # [problem]
    gap: float | None
    converged: bool


class _Timed(NamedTuple):
    seconds: float
    line: Line


def _measure(layer: States, asked: Asked, advance: Callable[[int], None]) -> LayerBench:
    timed: dict[str, _Timed] = {}
    programme: tuple[float, ProgrammeFits] | None = None
    for _ in range(asked.repeats):
        for name, fit in _WAYS.items():
            seconds, line = _clocked(partial(fit, layer, asked.C))
            if name not in timed or seconds < timed[name].seconds:
                timed[name] = _Timed(seconds, line)
            advance(1)
        if asked.programme:
            seconds, done = _clocked(partial(run_programme, layer, asked.seed))
            if programme is None or seconds < programme[0]:
                programme = seconds, done
            advance(1)
    return LayerBench(
        layer.title,
        len(layer.states),
        layer.states.shape[1],
        len(np.unique(layer.labels)),
        _judged(layer, timed, asked.C),
        programme
        and ProgrammeTime(
            programme[0],
            programme[1].n_fits,
            programme[1].worst_gap,
            programme[0] / timed[RESEARCH].seconds,
        ),
    )


def _clocked(run: Callable[[], Any]) -> tuple[float, Any]:
    started = time.process_time()
    made = run()
    return time.process_time() - started, made


def _judged(layer: States, timed: dict[str, _Timed], C: float) -> tuple[Way, ...]:
    """How good each way's probe is, and how much slower than ours it came."""
    ways = []
    for treatment, names in _PROBLEMS.items():
        learned = learn(treatment, layer.states)
        treated, others = learned.apply(layer.states), learned.apply(layer.others)
        exact = _ours(layer, C, treatment, _EXACT)
        values = {name: objective(timed[name].line, treated, layer.labels, C) for name in names}
        least = np.minimum.reduce([objective(exact, treated, layer.labels, C), *values.values()])
        expected = _predicted(exact, others)
        for name in names:
            seconds, line = timed[name]
            ways.append(
                Way(
                    name,
                    seconds,
                    float((values[name] / least - 1).max()),
                    line.gap,
                    line.converged,
                    float((_predicted(line, others) == expected).mean()) if len(others) else 1.0,
                    seconds / timed[names[0]].seconds,
                )
            )
    return tuple(ways)


def objective(line: Line, treated: Array, labels: NDArray[np.int64], C: float) -> Array:
    """½‖w‖² + C Σ log(1 + exp(−y f)) of each problem, in float64 and by the definition."""
    targets = np.where(labels == _classes(labels)[:, None], 1.0, -1.0)
    scores = line.coef @ treated.T + line.intercept[:, None]
    losses = np.logaddexp(0, -targets * scores).sum(axis=1)
    values: Array = 0.5 * (line.coef**2).sum(axis=1) + C * losses
    return values


def _classes(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Those that have a problem of their own: of two classes the second alone."""
    classes = np.unique(labels)
    return classes[1:] if len(classes) == 2 else classes


def _predicted(line: Line, treated: Array) -> NDArray[np.intp]:
    scores = line.coef @ treated.T + line.intercept[:, None]
    best: NDArray[np.intp] = scores.argmax(axis=0)
    return (scores[0] > 0).astype(np.intp) if len(scores) == 1 else best


def _ours(layer: States, C: float, treatment: str, tolerance: float = _TOLERANCE) -> Line:
    probe = Logistic(C=C, treatment=treatment, tol=tolerance)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the gap tells
        probe.fit(layer.states, layer.labels)
    problems = slice(1 if len(probe.classes_) == 2 else 0, None)
    coef, intercept = probe.coef_[problems], probe.intercept_[problems]
    gap = float(probe.gap_.max())
    return Line(coef, intercept, gap, gap <= tolerance)


def _research(layer: States, C: float) -> Line:
    """As the research code does it."""
    states = layer.states.astype(np.float64)
    return _theirs(LogisticRegression(C=C, solver="lbfgs", max_iter=1000), states, layer.labels)


def _careful(layer: States, C: float) -> Line:
    """As someone does it who knows what ails the former."""
    states = StandardScaler().fit_transform(layer.states.astype(np.float64))
    one = LogisticRegression(C=C, solver="lbfgs", tol=_TOLERANCE, max_iter=_PATIENCE)
    return _theirs(one, states, layer.labels)


def _theirs(one: LogisticRegression, states: Array, labels: NDArray[np.int64]) -> Line:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        rest = OneVsRestClassifier(one).fit(states, labels)
    converged = not any(issubclass(w.category, ConvergenceWarning) for w in caught)
    return Line(
        np.concatenate([found.coef_ for found in rest.estimators_]),
        np.concatenate([found.intercept_ for found in rest.estimators_]),
        None,
        converged,
    )


@dataclass(frozen=True, slots=True)
class ProgrammeFits:
    """What came of all fits of a layer."""

    n_fits: int
    worst_gap: float
    chosen: float  # C


def run_programme(layer: States, seed: int) -> ProgrammeFits:
    """C chosen by folds, control tasks at every C, and permuted labels at the chosen one."""
    rng = np.random.default_rng(seed)
    y, probe = layer.labels, Logistic()
    grid, every = probe.default_grid, np.ones(len(y), dtype=bool)
    folds = _fold_masks(y, seed)
    types = rng.integers(_TYPES, size=len(y))
    controls = [rng.permutation(np.resize(np.unique(y), _TYPES))[types] for _ in range(_CONTROLS)]
    tasks = [
        Task(y, every, grid, keep=True),
        *(Task(y, mask, grid) for mask in folds),
        *(Task(one, every, grid) for one in controls),
    ]
    prepared = probe.prepare(layer.states, np.stack([every, *folds]))
    fits = list(probe.fit_prepared(prepared, tasks))
    chosen = grid[int(np.argmax(_right(y, folds, fits[1 : 1 + len(folds)])))]
    permuted = [Task(rng.permutation(y), every, (chosen,)) for _ in range(_PERMUTATIONS)]
    fits += probe.fit_prepared(prepared, permuted)
    return ProgrammeFits(
        sum(fit.gap.size for fit in fits), float(max(fit.gap.max() for fit in fits)), chosen
    )


def _fold_masks(y: NDArray[np.int64], seed: int) -> list[NDArray[np.bool_]]:
    """Training rows [row] of each fold."""
    masks = []
    for train, _ in StratifiedKFold(_FOLDS, shuffle=True, random_state=seed).split(y, y):
        masks.append(np.zeros(len(y), dtype=bool))
        masks[-1][train] = True
    return masks


def _right(
    y: NDArray[np.int64], folds: Sequence[NDArray[np.bool_]], fits: Sequence[TaskFit]
) -> Array:
    """Rows [strength] that are put right by the fold that has not seen them."""
    right = np.zeros(len(fits[0].scores))
    for mask, fit in zip(folds, fits, strict=True):
        right += (fit.scores.argmax(axis=1) == y)[:, ~mask].sum(axis=1)
    return right


_WAYS: dict[str, Callable[[States, float], Line]] = {
    OURS: partial(_ours, treatment="none"),
    RESEARCH: _research,
    OURS_SCALED: partial(_ours, treatment="standardize"),
    CAREFUL: _careful,
}
# The ways to solve each problem, ours first.
_PROBLEMS = {"none": (OURS, RESEARCH), "standardize": (OURS_SCALED, CAREFUL)}


class Realistic:
    """Draws hidden states such as language models have them.

    A power law of spreads, a common mean, dimensions of different scale and among them a few
    that are 50 to 1000 times as large as the others, noise, all rounded to float16.
    """

    def __init__(self, hidden: int, n_classes: int, signal: float, seed: int = 0) -> None:
        """`signal`: how far classes are apart; 0: not at all, 1: most rows can be told."""
        self._rng = rng = np.random.default_rng(seed)
        self._n_classes = n_classes
        rank = min(hidden, _RANK)
        spreads = np.arange(1, rank + 1, dtype=np.float32) ** -_DECAY
        self._centres = np.zeros((n_classes, rank), np.float32)
        shape = self._centres[:, _READABLE].shape
        self._centres[:, _READABLE] = signal / 4 * rng.standard_normal(shape, dtype=np.float32)
        mixing = rng.standard_normal((rank, hidden), dtype=np.float32)
        self._mixing = mixing * (spreads / np.linalg.norm(spreads))[:, None]
        self._scale = np.exp(0.4 * rng.standard_normal(hidden)).astype(np.float32)
        self._mean = (1.5 * rng.standard_normal(hidden)).astype(np.float32)
        large = rng.choice(hidden, min(hidden, len(_OUTLIERS)), replace=False)
        self._scale[large] *= 0.3 * _OUTLIERS[: len(large)]
        self._mean[large] *= 0.5 * _OUTLIERS[: len(large)]

    def draw(self, n_rows: int) -> tuple[NDArray[np.float16], NDArray[np.int64]]:
        """States [row, hidden] and labels [row]; every call draws others."""
        labels = self._rng.integers(self._n_classes, size=n_rows)
        rank, hidden = self._mixing.shape
        latent = self._rng.standard_normal((n_rows, rank), dtype=np.float32)
        states = (latent + self._centres[labels]) @ self._mixing
        states += np.float32(0.15) * self._rng.standard_normal((n_rows, hidden), dtype=np.float32)
        states *= self._scale
        states += self._mean
        return states.astype(np.float16), labels
