"""The solver benchmark: every method fits the same rows, times are fair, objectives are correct."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from benchmarks import probe_cost, solver_speed
from benchmarks.drawn_states import MixedStates
from benchmarks.solver_speed import (
    CAREFUL,
    OURS,
    OURS_SCALED,
    RESEARCH,
    Layer,
    LinearFit,
    RealisticStates,
    SolverBenchRequest,
    bench,
    objective,
    run_programme,
    solver_bench_table,
    synthetic_layers,
)
from helpers.commands import run_here
from rich.console import Console
from sklearn.linear_model import LogisticRegression

from vsp.errors import ProbeError

_SMALL = SolverBenchRequest(n_rows=80, hidden=48, n_classes=3, signals=(0.3, 1.0), programme=True)


@pytest.fixture(scope="module")
def benchmark():
    return bench(_SMALL, synthetic_layers(_SMALL), 2)


def test_every_way_is_measured_on_every_layer(benchmark):
    assert [layer.title for layer in benchmark.layers] == ["drawn, signal 0.3", "drawn, signal 1"]
    for layer in benchmark.layers:
        assert (layer.n_rows, layer.hidden, layer.n_classes) == (80, 48, 3)
        assert [way.name for way in layer.ways] == [OURS, RESEARCH, OURS_SCALED, CAREFUL]
        for way in layer.ways:
            assert way.seconds > 0 and way.above >= 0 and 0 <= way.agree <= 1
        assert [way.gap is not None for way in layer.ways] == [True, False, True, False]


def test_ours_is_as_near_the_optimum_as_it_certifies(benchmark):
    for layer in benchmark.layers:
        for way in layer.ways[::2]:
            assert way.converged and way.gap <= 1e-7
            assert way.above <= way.gap
            assert way.agree == 1


def test_ratios_are_those_of_the_seconds(benchmark):
    for layer in benchmark.layers:
        raw, research, scaled, careful = layer.ways
        assert raw.slower == scaled.slower == 1
        assert research.slower == pytest.approx(research.seconds / raw.seconds)
        assert careful.slower == pytest.approx(careful.seconds / scaled.seconds)
        assert layer.programme.of_research == pytest.approx(
            layer.programme.seconds / research.seconds
        )
    whole = [sum(layer.seconds(name) for layer in benchmark.layers) for name in (RESEARCH, OURS)]
    assert benchmark.slower(RESEARCH, OURS)["summed"] == pytest.approx(whole[0] / whole[1])
    floors = [layer.seconds(OURS) / layer.floor for layer in benchmark.layers]
    assert benchmark.of_floor(OURS)["least"] == pytest.approx(min(floors))
    assert benchmark.of_floor(OURS)["largest"] == pytest.approx(max(floors))
    each = [layer.seconds(RESEARCH) / layer.programme.seconds for layer in benchmark.layers]
    assert benchmark.programme()["median"] == pytest.approx(np.median(each))


def test_the_objective_is_scikit_learns():
    rng = np.random.default_rng(0)
    states, labels = rng.standard_normal((60, 5)), rng.integers(3, size=60)
    coef, intercept = rng.standard_normal((3, 5)), rng.standard_normal(3)
    values = objective(LinearFit(coef, intercept, None, True), states, labels, C=0.7)
    for k, value in enumerate(values):
        expected = 0.5 * coef[k] @ coef[k]
        for x, label in zip(states, labels, strict=True):
            y = 1 if label == k else -1
            expected += 0.7 * np.log1p(np.exp(-y * (coef[k] @ x + intercept[k])))
        assert value == pytest.approx(expected, rel=1e-12)
        best = LogisticRegression(C=0.7, tol=1e-8).fit(states, labels == k)
        least = objective(
            LinearFit(np.tile(best.coef_, (3, 1)), np.tile(best.intercept_, 3), None, True),
            states, labels, C=0.7,
        )[k]  # fmt: skip
        off = LinearFit(np.tile(best.coef_ + 0.01, (3, 1)), np.tile(best.intercept_, 3), None, True)
        assert least < objective(off, states, labels, C=0.7)[k]


def test_a_worse_probe_is_seen_to_be_worse():
    layer = next(synthetic_layers(_SMALL))
    fine = solver_speed._fit_vsp(layer, 1.0, "none")
    worse = LinearFit(1.1 * fine.coef, fine.intercept, None, True)
    others = {name: solver_speed._Timed(1.0, fine) for name in (OURS, OURS_SCALED, CAREFUL)}
    others[OURS_SCALED] = others[CAREFUL] = solver_speed._Timed(
        1.0, solver_speed._fit_vsp(layer, 1.0, "standardize")
    )
    ways = solver_speed._compare(layer, {**others, RESEARCH: solver_speed._Timed(3.0, worse)}, 1.0)
    research = next(way for way in ways if way.name == RESEARCH)
    treated = layer.states.astype(float)
    values = [objective(line, treated, layer.labels, 1.0) for line in (fine, worse)]
    assert research.above == pytest.approx((values[1] / values[0] - 1).max(), rel=1e-3)
    assert research.slower == 3


def test_ways_take_turns_and_the_least_time_counts(monkeypatch):
    turns, clock = [], iter([0.5, 5.0, 1.0, 2.0, 9.0, 0.4, 3.0, 4.0, 1.0, 8.0])
    fine = solver_speed._fit_vsp(next(synthetic_layers(_SMALL)), 1.0, "none")

    def noted(name):
        return lambda layer, C: turns.append(name) or fine

    ways = {name: noted(name) for name in solver_speed._METHODS}
    monkeypatch.setattr(solver_speed, "_METHODS", ways)
    monkeypatch.setattr(solver_speed, "_time", lambda run: (next(clock), run()))
    request = SolverBenchRequest(n_rows=80, hidden=48, n_classes=3, signals=(0.3,), repeats=2)
    (layer,) = bench(request, synthetic_layers(request), 1).layers
    assert turns == [*ways, *ways]
    assert [way.seconds for way in layer.ways] == [3.0, 1.0, 1.0, 8.0]
    assert layer.floor == 0.4


@pytest.mark.parametrize(("n_rows", "hidden"), [(80, 96), (120, 64)])  # kernel form, primal form
def test_the_programme_is_620_fits_of_four_classes_all_certified(n_rows, hidden):
    request = SolverBenchRequest(n_rows=n_rows, hidden=hidden, n_classes=4, signals=(1.0,))
    done = run_programme(next(synthetic_layers(request)), seed=0)
    assert done.n_fits == 620
    assert done.worst_gap <= 1e-6
    assert done.chosen in (1e-4, 1e-3, 1e-2, 1e-1, 1.0)


def test_two_classes_have_one_problem():
    request = SolverBenchRequest(n_rows=60, hidden=32, n_classes=2, signals=(0.5,))
    (layer,) = bench(request, synthetic_layers(request), 1).layers
    assert all(way.above < 0.1 for way in layer.ways)
    assert layer.ways[0].above <= 1e-7


def test_drawn_states_are_like_those_of_models():
    states, labels = RealisticStates(512, 4, signal=1.0).draw(600)
    assert states.dtype == np.float16 and np.isfinite(states).all()
    spread = states.astype(float).std(axis=0)
    assert 4 <= (spread > 5 * np.median(spread)).sum() <= 12  # outlier dimensions
    assert spread.max() > 100 * np.median(spread)
    assert np.abs(states.astype(float).mean(axis=0)).max() > 50  # far from centred
    assert set(labels) == {0, 1, 2, 3}
    again = RealisticStates(512, 4, signal=1.0).draw(600)[0]
    np.testing.assert_array_equal(states, again)


def test_more_signal_is_easier_to_read():
    right = []
    for signal in (0.0, 0.5, 2.0):
        (layer,) = synthetic_layers(
            SolverBenchRequest(n_rows=200, hidden=64, n_classes=2, signals=(signal,))
        )
        line = solver_speed._fit_vsp(layer, 0.01, "standardize")
        learned = solver_speed.learn("standardize", layer.states)
        predicted = solver_speed._predict(line, learned.apply(layer.states))
        right.append((predicted == layer.labels).mean())
    assert right == sorted(right) and right[-1] > 0.95


def test_mixed_states_differ_in_scale_between_rows_and_have_no_narrow_dimensions():
    states, _ = MixedStates(512, 4, signal=1.0).draw(600)
    assert states.dtype == np.float16 and np.isfinite(states).all()
    centred = states.astype(float) - states.astype(float).mean(axis=0)
    spread = centred.std(axis=0)
    assert (spread > 20 * np.median(spread)).sum() == 4  # massive dimensions
    size = np.linalg.norm(centred / spread, axis=1)
    assert size.max() > 4 * np.median(size)  # heavy tails
    request = SolverBenchRequest(n_rows=80, hidden=48, states=("drawn", "mixed"), signals=(1.0,))
    layers = list(synthetic_layers(request))
    assert [layer.title for layer in layers] == ["drawn, signal 1", "mixed, signal 1"]
    assert (layers[0].states != layers[1].states).any()


@pytest.mark.parametrize("own_split", [True, False])
def test_the_default_probe_of_a_layer_is_counted_and_converges(own_split):
    states, labels = RealisticStates(96, 2, signal=1.0).draw(80)
    done = probe_cost.cost(states, labels, own_split)
    assert done["n_fits"] > (130 if own_split else 600)
    assert done["seconds"] > 0 and done["gap"] <= 1e-6


def test_one_class_is_refused():
    request = SolverBenchRequest(n_rows=1, hidden=8, n_classes=2)
    with pytest.raises(ProbeError, match="fewer than two labels"):
        next(synthetic_layers(request))


def test_the_table_is_80_columns_wide_and_says_what_stopped(benchmark):
    out = io.StringIO()
    Console(file=out, width=80).print(solver_bench_table(benchmark))
    text = out.getvalue()
    assert max(map(len, text.splitlines())) <= 80
    assert "stopped" in text
    assert "all 465 fits" in text
    for name in (OURS, RESEARCH, OURS_SCALED, CAREFUL):
        assert any(line.startswith(name + "  ") for line in text.splitlines())


def _run(*arguments):
    """Run the program in the current folder."""
    return run_here(arguments, Path.cwd(), lambda: solver_speed.main(sys.argv[1:]))


def test_json_has_the_table_and_the_ratios():
    words = ("--rows", "40", "--hidden", "16", "--classes", "2", "--signal", "0.5", "--json")
    command = [sys.executable, solver_speed.__file__, *words]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    (layer,) = answer["layers"]
    assert [way["name"] for way in layer["ways"]] == [OURS, RESEARCH, OURS_SCALED, CAREFUL]
    assert answer["research_over_ours"]["median"] == pytest.approx(layer["ways"][1]["slower"])
    assert answer["research_over_programme"] is None


def test_layers_of_a_run_are_fitted_with_the_rows_that_are_done(vsp, plan_fake):
    run = plan_fake(n_shards=1)
    assert vsp("extract", "--run", run.folder).returncode == 0
    done = _run("--run", run.folder, "--layers", 1, "--json")
    assert done.returncode == 0, done.stderr
    (layer,) = json.loads(done.stdout)["layers"]
    assert (layer["title"], layer["hidden"]) == ("layer 1", run.plan.hidden_size)
    assert layer["n_rows"] == run.plan.n_samples - run.plan.n_samples // 5
    wrong = _run("--run", run.folder, "--layers", 99)
    assert wrong.returncode == 1 and "layer 99: run" in wrong.stderr
    assert "--run" in _run("--layers", 0).stderr


def test_states_of_a_layer_keep_their_type():
    layer = next(synthetic_layers(_SMALL))
    assert isinstance(layer, Layer) and layer.states.dtype == np.float16
    assert len(layer.held_out) == 20
