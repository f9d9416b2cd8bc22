"""CPU time and accuracy of a logistic probe, compared with scikit-learn.

    python tests/benchmarks/solver_speed.py
    python tests/benchmarks/solver_speed.py --signal 0 0.3 1 --repeats 3 --programme
    python tests/benchmarks/solver_speed.py --states drawn mixed
    python tests/benchmarks/solver_speed.py --run llava15-spatial --layers 0 16 32

Every method fits the same rows of the same layers. The time is measured from the stored states to
the fitted probe, in CPU seconds of one core. The methods alternate, so that other load on the
machine affects them equally, and the shortest time of the repeats counts. The floor is the time of one
product of the states with themselves in float32, which vsp's fits cannot avoid.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.multiclass import OneVsRestClassifier
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.drawn_states import MixedStates

from vsp.errors import ProbeError, VspError
from vsp.probes.base import Task, TaskFit
from vsp.probes.logistic import Logistic
from vsp.probes.treatment import Array, learn
from vsp.storage.run import Run, find_run
from vsp.utils.progress import progress
from vsp.utils.terminal import show

OURS, RESEARCH = "vsp", "scikit-learn, research code"
OURS_SCALED, CAREFUL = "vsp, standardised", "scikit-learn, careful"
_TOLERANCE = 1e-7  # tolerance of vsp's fits and of the careful fit
_REFERENCE_TOLERANCE = 1e-10  # tolerance of the reference fits
_MAX_ITERATIONS = 10_000  # limit of the careful fit
_HELD_OUT = 5  # one row in this many is held out, to compare predictions
_FOLDS = 5
_CONTROLS = 5
_TYPES = 60  # types of rows in a control task; all rows of a type have one label
_PERMUTATIONS = 100

_RANK = 1024  # directions of variance beside the noise
_DECAY = 0.75  # exponent of the power law of their standard deviations
_INFORMATIVE = slice(8, 72)  # directions that differ between classes; not the widest ones
_OUTLIERS = np.array([50, 100, 300, 1000], np.float32)  # scales relative to the median dimension


@dataclass(frozen=True, slots=True)
class SolverBenchRequest:
    """Options of the benchmark. Row count, hidden size, classes and signals are of synthetic states."""

    n_rows: int = 2400
    hidden: int = 4096
    n_classes: int = 4
    signals: tuple[float, ...] = (0.3, 1.0)
    C: float = 1.0
    repeats: int = 1
    programme: bool = False
    seed: int = 0
    states: tuple[str, ...] = ("drawn",)  # names in STATES


@dataclass(frozen=True, slots=True)
class Way:
    """One method on one layer."""

    name: str
    seconds: float
    above: float  # relative excess of the objective over the lowest known, worst class
    gap: float | None  # relative duality gap; None: the method computes none
    converged: bool
    agree: float  # share of held-out rows with the same prediction as the reference fit
    slower: float  # seconds relative to vsp's on the same problem


@dataclass(frozen=True, slots=True)
class ProgrammeTime:
    """All fits that the statistics of a layer need."""

    seconds: float
    n_fits: int
    worst_gap: float
    of_research: float  # seconds relative to one fit of the research code


@dataclass(frozen=True, slots=True)
class LayerBench:
    """All methods on one layer."""

    title: str
    n_rows: int  # training rows
    hidden: int
    n_classes: int
    ways: tuple[Way, ...]
    floor: float  # CPU seconds of the product of the states with themselves
    programme: ProgrammeTime | None = None

    def seconds(self, name: str) -> float:
        return next(way.seconds for way in self.ways if way.name == name)


@dataclass(frozen=True, slots=True)
class SolverBench:
    """All layers."""

    C: float
    repeats: int
    layers: tuple[LayerBench, ...]

    def slower(self, name: str, than: str) -> dict[str, float]:
        """Time ratio of two methods: of the median layer, and of the sums over layers."""
        pairs = [(layer.seconds(name), layer.seconds(than)) for layer in self.layers]
        return _ratios(pairs)

    def of_floor(self, name: str) -> dict[str, float]:
        """Time ratio, as in `slower`, of a method to the floor."""
        return _ratios([(layer.seconds(name), layer.floor) for layer in self.layers])

    def programme(self) -> dict[str, float] | None:
        """Time ratio, as in `slower`, of one fit of the research code to the whole programme."""
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
            "ours_over_floor": self.of_floor(OURS),
            "ours_standardised_over_floor": self.of_floor(OURS_SCALED),
            "research_over_programme": self.programme(),
        }


def main(argv: Sequence[str]) -> int:
    arguments = _parser().parse_args(argv)
    try:
        result = _measure_layers(arguments)
    except VspError as error:
        print(f"solver_speed: {error}", file=sys.stderr)
        return 1
    if arguments.json:
        print(json.dumps(result.as_json()))
    else:
        show(solver_bench_table(result))
    return 0


def _parser() -> argparse.ArgumentParser:
    # fmt: off
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    defaults = SolverBenchRequest()
    add = parser.add_argument
    add("--run", metavar="NAME", help="run in scratch/, or its path (default: synthetic states)")
    add(
        "--states", nargs="+", choices=tuple(STATES), default=list(defaults.states), metavar="KIND",
        help="kinds of synthetic states, of drawn and mixed: mixed has all directions in all "
        "dimensions, and rows of very different scale (default: drawn)",
    )
    add(
        "--layers", type=_integer, nargs="+", metavar="N",
        help="layers of the run (default: the first, the middle and the last)",
    )
    add(
        "--rows", type=partial(_integer, least=1), default=defaults.n_rows, metavar="N",
        help="rows of synthetic states (default: %(default)s)",
    )
    add(
        "--hidden", type=partial(_integer, least=1), default=defaults.hidden, metavar="N",
        help="dimensions of synthetic states (default: %(default)s)",
    )
    add(
        "--classes", type=partial(_integer, least=2), default=defaults.n_classes, metavar="N",
        help="classes of synthetic states (default: %(default)s)",
    )
    add(
        "--signal", type=_number, nargs="+", default=list(defaults.signals), metavar="X",
        help="class separation of synthetic states, one layer for each value (default: 0.3 1)",
    )
    add(
        "--C", type=partial(_number, zero=False), default=defaults.C, metavar="X",
        help="inverse strength of the L2 penalty (default: %(default)g)",
    )
    add(
        "--repeats", type=partial(_integer, least=1), default=defaults.repeats, metavar="N",
        help="how often each fit is timed; the shortest time counts (default: %(default)s)",
    )
    add(
        "--programme", action="store_true",
        help="also time all fits that the statistics of a layer need: 5 values of C, 5 folds, "
        "5 control tasks, 100 permutations",
    )
    add("--seed", type=_integer, default=0, metavar="N", help="random seed (default: 0)")
    add("--json", action="store_true", help="print JSON")
    # fmt: on
    return parser


def _integer(text: str, least: int = 0) -> int:
    if not text.isdecimal() or int(text) < least:
        raise argparse.ArgumentTypeError(f"{text!r} must be an integer ≥ {least}")
    return int(text)


def _number(text: str, zero: bool = True) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf") or (value == 0 and not zero):
        raise argparse.ArgumentTypeError(f"{text!r} must be a number {'≥' if zero else '>'} 0")
    return value


def _measure_layers(arguments: argparse.Namespace) -> SolverBench:
    request = SolverBenchRequest(
        n_rows=arguments.rows,
        hidden=arguments.hidden,
        n_classes=arguments.classes,
        signals=tuple(arguments.signal),
        C=arguments.C,
        repeats=arguments.repeats,
        programme=arguments.programme,
        seed=arguments.seed,
        states=tuple(arguments.states),
    )
    if arguments.run is None:
        if arguments.layers is not None:
            raise ProbeError(f"--layers {arguments.layers[0]} needs a run; name it with --run")
        return bench(request, synthetic_layers(request), len(request.states) * len(request.signals))
    run = find_run(arguments.run, Path())
    layers = layers_of(run, arguments.layers)
    return bench(request, run_layers(run, layers, request.seed), len(layers))


def _ratios(pairs: Sequence[tuple[float, float]]) -> dict[str, float]:
    ours, theirs = sum(pair[1] for pair in pairs), sum(pair[0] for pair in pairs)
    ratios = [one / other for one, other in pairs]
    return {
        "least": min(ratios),
        "median": median(ratios),
        "largest": max(ratios),
        "summed": theirs / ours,
    }


class Layer(NamedTuple):
    """States to fit, and held-out rows to compare predictions on."""

    title: str
    states: Array  # [row, hidden] as stored
    labels: NDArray[np.int64]  # [row]
    held_out: Array  # [row, hidden]


def synthetic_layers(request: SolverBenchRequest) -> Iterator[Layer]:
    """One layer for each kind of states and signal. Raises ProbeError if there is one class."""
    n_held_out = -(-request.n_rows // (_HELD_OUT - 1))
    for kind in request.states:
        for signal in request.signals:
            source = STATES[kind](request.hidden, request.n_classes, signal, request.seed)
            states, labels = source.draw(request.n_rows + n_held_out)
            _check_classes(labels[: request.n_rows], f"{request.n_rows} synthetic rows")
            fitted, rest = slice(request.n_rows), slice(request.n_rows, None)
            title = f"{kind}, signal {signal:g}"
            yield Layer(title, states[fitted], labels[fitted], states[rest])


def layers_of(run: Run, layers: Sequence[int] | None) -> list[int]:
    """`layers`, or if None the first, the middle and the last. Raises ProbeError."""
    last = run.plan.n_layers - 1
    if layers is None:
        return sorted({0, (last + 1) // 2, last})
    if wrong := [layer for layer in layers if not 0 <= layer <= last]:
        raise ProbeError(f"layer {wrong[0]}: run {run.name} has layers 0 to {last}")
    return sorted(set(layers))


def run_layers(run: Run, layers: Sequence[int], seed: int) -> Iterator[Layer]:
    """Layers of a run, with the rows that are extracted. Raises ProbeError if they have one label."""
    done = np.concatenate([ledger.rows_done for ledger in run.ledgers()]).astype(np.intp)
    samples = run.all_samples()
    names = np.array([samples[row].label for row in done.tolist()], dtype=str)
    held_out = np.zeros(len(done), dtype=bool)
    rng = np.random.default_rng(seed)
    held_out[rng.choice(len(done), len(done) // _HELD_OUT, replace=False)] = True
    _check_classes(names[~held_out], f"{len(done)} extracted rows of run {run.name}")
    labels = np.unique(names, return_inverse=True)[1]
    for layer in layers:
        states = run.store.layer(layer)
        fitted, rest = done[~held_out], done[held_out]
        yield Layer(f"layer {layer}", states[fitted], labels[~held_out], states[rest])


def _check_classes(labels: NDArray[Any], what: str) -> None:
    if len(np.unique(labels)) < 2:
        raise ProbeError(f"{what} have fewer than two labels to fit; use more rows")


def bench(request: SolverBenchRequest, layers: Iterator[Layer], n_layers: int) -> SolverBench:
    """Fit and time every method on every layer."""
    results = []
    n_fits = request.repeats * (len(_METHODS) + request.programme)
    with threadpool_limits(1), progress("solver speed", "fits", n_layers * n_fits) as advance:
        for layer in layers:
            results.append(_measure(layer, request, advance))
    return SolverBench(request.C, request.repeats, tuple(results))


class LinearFit(NamedTuple):
    """A fitted probe: one binary problem for each class, or a single one for two classes."""

    coef: Array  # [problem, hidden]
    intercept: Array  # [problem]
    gap: float | None
    converged: bool


class _Timed(NamedTuple):
    seconds: float
    fit: LinearFit


def _measure(
    layer: Layer, request: SolverBenchRequest, advance: Callable[[int], None]
) -> LayerBench:
    timed: dict[str, _Timed] = {}
    programme: tuple[float, ProgrammeFits] | None = None
    floor = float("inf")
    for _ in range(request.repeats):
        floor = min(floor, _floor(layer.states))
        for name, method in _METHODS.items():
            seconds, fit = _time(partial(method, layer, request.C))
            if name not in timed or seconds < timed[name].seconds:
                timed[name] = _Timed(seconds, fit)
            advance(1)
        if request.programme:
            seconds, fits = _time(partial(run_programme, layer, request.seed))
            if programme is None or seconds < programme[0]:
                programme = seconds, fits
            advance(1)
    return LayerBench(
        layer.title,
        len(layer.states),
        layer.states.shape[1],
        len(np.unique(layer.labels)),
        _compare(layer, timed, request.C),
        floor,
        programme and _programme_time(*programme, timed[RESEARCH].seconds),
    )


def _time(run: Callable[[], Any]) -> tuple[float, Any]:
    started = time.process_time()
    result = run()
    return time.process_time() - started, result


def _floor(states: Array) -> float:
    """CPU seconds of the smaller product of the states with themselves, in float32."""
    converted = states.astype(np.float32)
    narrow = converted if len(states) <= states.shape[1] else converted.T
    seconds, _ = _time(lambda: narrow @ narrow.T)
    return seconds


def _programme_time(seconds: float, fits: ProgrammeFits, research: float) -> ProgrammeTime:
    return ProgrammeTime(seconds, fits.n_fits, fits.worst_gap, seconds / research)


def _compare(layer: Layer, timed: dict[str, _Timed], C: float) -> tuple[Way, ...]:
    """Accuracy and relative time of each method. A fit of vsp to 1e-10 is the reference."""
    ways = []
    for treatment, names in _PROBLEMS.items():
        learned = learn(treatment, layer.states)
        treated, held_out = learned.apply(layer.states), learned.apply(layer.held_out)
        reference = _fit_vsp(layer, C, treatment, _REFERENCE_TOLERANCE)
        values = {name: objective(timed[name].fit, treated, layer.labels, C) for name in names}
        lowest = np.minimum.reduce(
            [objective(reference, treated, layer.labels, C), *values.values()]
        )
        expected = _predict(reference, held_out)
        for name in names:
            seconds, fit = timed[name]
            same = _predict(fit, held_out) == expected
            ways.append(
                Way(
                    name,
                    seconds,
                    float((values[name] / lowest - 1).max()),
                    fit.gap,
                    fit.converged,
                    float(same.mean()) if len(held_out) else 1.0,
                    seconds / timed[names[0]].seconds,
                )
            )
    return tuple(ways)


def objective(fit: LinearFit, treated: Array, labels: NDArray[np.int64], C: float) -> Array:
    """½‖w‖² + C Σ log(1 + exp(−y f)) of each problem, in float64, computed from the definition."""
    targets = np.where(labels == _positive_classes(labels)[:, None], 1.0, -1.0)
    scores = fit.coef @ treated.T + fit.intercept[:, None]
    losses = np.logaddexp(0, -targets * scores).sum(axis=1)
    values: Array = 0.5 * (fit.coef**2).sum(axis=1) + C * losses
    return values


def _positive_classes(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """The positive class of each problem. Two classes have one problem: the second class."""
    classes = np.unique(labels)
    return classes[1:] if len(classes) == 2 else classes


def _predict(fit: LinearFit, treated: Array) -> NDArray[np.intp]:
    scores = fit.coef @ treated.T + fit.intercept[:, None]
    best: NDArray[np.intp] = scores.argmax(axis=0)
    return (scores[0] > 0).astype(np.intp) if len(scores) == 1 else best


def _fit_vsp(layer: Layer, C: float, treatment: str, tolerance: float = _TOLERANCE) -> LinearFit:
    probe = Logistic(C=C, treatment=treatment, tol=tolerance)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # `gap` says whether it converged
        probe.fit(layer.states, layer.labels)
    problems = slice(1 if len(probe.classes_) == 2 else 0, None)
    coef, intercept = probe.coef_[problems], probe.intercept_[problems]
    gap = float(probe.gap_.max())
    return LinearFit(coef, intercept, gap, gap <= tolerance)


def _fit_research(layer: Layer, C: float) -> LinearFit:
    """Scikit-learn as the research code uses it: unscaled states, default tolerance."""
    states = layer.states.astype(np.float64)
    model = LogisticRegression(C=C, solver="lbfgs", max_iter=1000)
    return _fit_sklearn(model, states, layer.labels)


def _fit_careful(layer: Layer, C: float) -> LinearFit:
    """Scikit-learn used carefully: standardised states, small tolerance, enough iterations."""
    states = StandardScaler().fit_transform(layer.states.astype(np.float64))
    model = LogisticRegression(C=C, solver="lbfgs", tol=_TOLERANCE, max_iter=_MAX_ITERATIONS)
    return _fit_sklearn(model, states, layer.labels)


def _fit_sklearn(model: LogisticRegression, states: Array, labels: NDArray[np.int64]) -> LinearFit:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        one_vs_rest = OneVsRestClassifier(model).fit(states, labels)
    converged = not any(issubclass(w.category, ConvergenceWarning) for w in caught)
    return LinearFit(
        np.concatenate([binary.coef_ for binary in one_vs_rest.estimators_]),
        np.concatenate([binary.intercept_ for binary in one_vs_rest.estimators_]),
        None,
        converged,
    )


@dataclass(frozen=True, slots=True)
class ProgrammeFits:
    """Summary of all fits of a layer."""

    n_fits: int
    worst_gap: float
    chosen: float  # C


def run_programme(layer: Layer, seed: int) -> ProgrammeFits:
    """Choose C by cross-validation, fit control tasks at every C, permuted labels at the chosen C."""
    rng = np.random.default_rng(seed)
    y, probe = layer.labels, Logistic()
    grid, all_rows = probe.default_grid, np.ones(len(y), dtype=bool)
    folds = _fold_masks(y, seed)
    types = rng.integers(_TYPES, size=len(y))
    controls = [rng.permutation(np.resize(np.unique(y), _TYPES))[types] for _ in range(_CONTROLS)]
    tasks = [
        Task(y, all_rows, grid, keep=True),
        *(Task(y, mask, grid) for mask in folds),
        *(Task(control, all_rows, grid) for control in controls),
    ]
    prepared = probe.prepare(layer.states, np.stack([all_rows, *folds]))
    fits = list(probe.fit_prepared(prepared, tasks))
    chosen = grid[int(np.argmax(_n_correct(y, folds, fits[1 : 1 + len(folds)])))]
    permuted = [Task(rng.permutation(y), all_rows, (chosen,)) for _ in range(_PERMUTATIONS)]
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


def _n_correct(
    y: NDArray[np.int64], folds: Sequence[NDArray[np.bool_]], fits: Sequence[TaskFit]
) -> Array:
    """Number of correct out-of-fold predictions [strength]."""
    n_correct = np.zeros(len(fits[0].scores))
    for mask, fit in zip(folds, fits, strict=True):
        n_correct += (fit.scores.argmax(axis=1) == y)[:, ~mask].sum(axis=1)
    return n_correct


_METHODS: dict[str, Callable[[Layer, float], LinearFit]] = {
    OURS: partial(_fit_vsp, treatment="none"),
    RESEARCH: _fit_research,
    OURS_SCALED: partial(_fit_vsp, treatment="standardize"),
    CAREFUL: _fit_careful,
}
# The methods that solve the same problem, vsp's first.
_PROBLEMS = {"none": (OURS, RESEARCH), "standardize": (OURS_SCALED, CAREFUL)}


class RealisticStates:
    """Random hidden states with the properties of those of language models.

    Standard deviations follow a power law, the mean is not 0, dimensions differ in scale, and a
    few of them are 50 to 1000 times as large as the others. Noise is added and the values are
    rounded to float16.
    """

    def __init__(self, hidden: int, n_classes: int, signal: float, seed: int = 0) -> None:
        """`signal` is the class separation. At 0 classes are alike, at 1 most rows are separable."""
        self._rng = rng = np.random.default_rng(seed)
        self._n_classes = n_classes
        rank = min(hidden, _RANK)
        spreads = np.arange(1, rank + 1, dtype=np.float32) ** -_DECAY
        self._centres = np.zeros((n_classes, rank), np.float32)
        shape = self._centres[:, _INFORMATIVE].shape
        self._centres[:, _INFORMATIVE] = signal / 4 * rng.standard_normal(shape, dtype=np.float32)
        mixing = rng.standard_normal((rank, hidden), dtype=np.float32)
        self._mixing = mixing * (spreads / np.linalg.norm(spreads))[:, None]
        self._scale = np.exp(0.4 * rng.standard_normal(hidden)).astype(np.float32)
        self._mean = (1.5 * rng.standard_normal(hidden)).astype(np.float32)
        large = rng.choice(hidden, min(hidden, len(_OUTLIERS)), replace=False)
        self._scale[large] *= 0.3 * _OUTLIERS[: len(large)]
        self._mean[large] *= 0.5 * _OUTLIERS[: len(large)]

    def draw(self, n_rows: int) -> tuple[NDArray[np.float16], NDArray[np.int64]]:
        """States [row, hidden] and labels [row]; each call draws new rows."""
        labels = self._rng.integers(self._n_classes, size=n_rows)
        rank, hidden = self._mixing.shape
        latent = self._rng.standard_normal((n_rows, rank), dtype=np.float32)
        states = (latent + self._centres[labels]) @ self._mixing
        states += np.float32(0.15) * self._rng.standard_normal((n_rows, hidden), dtype=np.float32)
        states *= self._scale
        states += self._mean
        return states.astype(np.float16), labels


# Kinds of synthetic states, by the names of `--states`.
STATES: dict[str, Callable[..., RealisticStates | MixedStates]] = {
    "drawn": RealisticStates,
    "mixed": MixedStates,
}

_NOTE = """\
CPU s      of one core, from the stored states to the fitted probe
above      objective over the lowest known, relative, of the worst class
certified  duality gap, an upper bound of that; stopped: out of iterations
agree      held-out rows predicted as by the reference fit
floor      CPU time of one product of the states with themselves, in float32"""


def solver_bench_table(bench: SolverBench) -> RenderableType:
    """CPU seconds and accuracy of each method, 80 columns wide."""
    parts: list[RenderableType] = []
    for layer in bench.layers:
        size = f"{layer.n_rows:,} rows × {layer.hidden:,}, {layer.n_classes} classes"
        parts += [
            Text(f"{layer.title}: {size}, C = {bench.C:g}", style="bold"),
            _layer_table(layer),
        ]
        if layer.programme is not None:
            parts.append(Text(_programme_line(layer.programme)))
        parts.append(Text())
    return Group(*parts, _ratio_table(bench), Text(), Text(_NOTE))


def _layer_table(layer: LayerBench) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("method")
    for column in ("CPU s", "× vsp", "above", "certified", "agree"):
        table.add_column(column, justify="right")
    for way in layer.ways:
        gap = "" if way.gap is None else f"{way.gap:.1e}"
        if not way.converged:
            gap = gap or "stopped"
        table.add_row(
            way.name,
            f"{way.seconds:,.2f}",
            f"{way.slower:,.1f}",
            f"{way.above:.1e}",
            gap,
            f"{100 * way.agree:.1f} %",
        )
    return table


def _programme_line(timed: ProgrammeTime) -> str:
    return (
        f"all {timed.n_fits} fits of its statistics: {timed.seconds:,.1f} s, "
        f"{timed.of_research:.3g} × one fit of the research code; gaps ≤ {timed.worst_gap:.1g}"
    )


def _ratio_table(bench: SolverBench) -> Table:
    pairs = [
        ("one fit, research code / vsp", bench.slower(RESEARCH, OURS)),
        ("one fit, careful / vsp, standardised", bench.slower(CAREFUL, OURS_SCALED)),
        ("vsp / floor: one product of the states", bench.of_floor(OURS)),
        ("vsp, standardised / floor", bench.of_floor(OURS_SCALED)),
    ]
    if (programme := bench.programme()) is not None:
        pairs.append(("research code's one fit / vsp's programme", programme))
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("CPU time")
    for column in ("least", "median", "largest"):
        table.add_column(column, justify="right")
    for name, ratio in pairs:
        table.add_row(name, *(f"{ratio[of]:,.1f}×" for of in ("least", "median", "largest")))
    return table


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
