"""`vsp bench probe`: the same rows for every way, fair times, and objectives that are right."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from rich.console import Console
from sklearn.linear_model import LogisticRegression

from vsp.errors import ProbeError
from vsp.evaluation import bench_probe
from vsp.evaluation.bench_probe import (
    CAREFUL,
    OURS,
    OURS_SCALED,
    RESEARCH,
    Asked,
    Line,
    Realistic,
    States,
    bench,
    drawn,
    objective,
    run_programme,
)
from vsp.reporting.bench_tables import bench_probe_table

_SMALL = Asked(n_rows=80, hidden=48, n_classes=3, signals=(0.3, 1.0), programme=True)


@pytest.fixture(scope="module")
def found():
    return bench(_SMALL, drawn(_SMALL), 2)


def test_every_way_is_measured_on_every_layer(found):
    assert [layer.title for layer in found.layers] == ["signal 0.3", "signal 1"]
    for layer in found.layers:
        assert (layer.n_rows, layer.hidden, layer.n_classes) == (80, 48, 3)
        assert [way.name for way in layer.ways] == [OURS, RESEARCH, OURS_SCALED, CAREFUL]
        for way in layer.ways:
            assert way.seconds > 0 and way.above >= 0 and 0 <= way.agree <= 1
        assert [way.gap is not None for way in layer.ways] == [True, False, True, False]


def test_ours_is_as_near_the_optimum_as_it_certifies(found):
    for layer in found.layers:
        for way in layer.ways[::2]:
            assert way.converged and way.gap <= 1e-7
            assert way.above <= way.gap
            assert way.agree == 1


def test_ratios_are_those_of_the_seconds(found):
    for layer in found.layers:
        raw, research, scaled, careful = layer.ways
        assert raw.slower == scaled.slower == 1
        assert research.slower == pytest.approx(research.seconds / raw.seconds)
        assert careful.slower == pytest.approx(careful.seconds / scaled.seconds)
        assert layer.programme.of_research == pytest.approx(
            layer.programme.seconds / research.seconds
        )
    whole = [sum(layer.seconds(name) for layer in found.layers) for name in (RESEARCH, OURS)]
    assert found.slower(RESEARCH, OURS)["summed"] == pytest.approx(whole[0] / whole[1])
    each = [layer.seconds(RESEARCH) / layer.programme.seconds for layer in found.layers]
    assert found.programme()["median"] == pytest.approx(np.median(each))


def test_the_objective_is_scikit_learns():
    rng = np.random.default_rng(0)
    states, labels = rng.standard_normal((60, 5)), rng.integers(3, size=60)
    coef, intercept = rng.standard_normal((3, 5)), rng.standard_normal(3)
    values = objective(Line(coef, intercept, None, True), states, labels, C=0.7)
    for k, value in enumerate(values):
        expected = 0.5 * coef[k] @ coef[k]
        for x, label in zip(states, labels, strict=True):
            y = 1 if label == k else -1
            expected += 0.7 * np.log1p(np.exp(-y * (coef[k] @ x + intercept[k])))
        assert value == pytest.approx(expected, rel=1e-12)
        best = LogisticRegression(C=0.7, tol=1e-8).fit(states, labels == k)
        least = objective(
            Line(np.tile(best.coef_, (3, 1)), np.tile(best.intercept_, 3), None, True),
            states, labels, C=0.7,
        )[k]  # fmt: skip
        off = Line(np.tile(best.coef_ + 0.01, (3, 1)), np.tile(best.intercept_, 3), None, True)
        assert least < objective(off, states, labels, C=0.7)[k]


def test_a_worse_probe_is_seen_to_be_worse():
    layer = next(drawn(_SMALL))
    fine = bench_probe._ours(layer, 1.0, "none")
    worse = Line(1.1 * fine.coef, fine.intercept, None, True)
    others = {name: bench_probe._Timed(1.0, fine) for name in (OURS, OURS_SCALED, CAREFUL)}
    others[OURS_SCALED] = others[CAREFUL] = bench_probe._Timed(
        1.0, bench_probe._ours(layer, 1.0, "standardize")
    )
    ways = bench_probe._judged(layer, {**others, RESEARCH: bench_probe._Timed(3.0, worse)}, 1.0)
    research = next(way for way in ways if way.name == RESEARCH)
    treated = layer.states.astype(float)
    values = [objective(line, treated, layer.labels, 1.0) for line in (fine, worse)]
    assert research.above == pytest.approx((values[1] / values[0] - 1).max(), rel=1e-3)
    assert research.slower == 3


def test_ways_take_turns_and_the_least_time_counts(monkeypatch):
    turns, clock = [], iter([5.0, 1.0, 2.0, 9.0, 3.0, 4.0, 1.0, 8.0])
    fine = bench_probe._ours(next(drawn(_SMALL)), 1.0, "none")

    def noted(name):
        return lambda layer, C: turns.append(name) or fine

    ways = {name: noted(name) for name in bench_probe._WAYS}
    monkeypatch.setattr(bench_probe, "_WAYS", ways)
    monkeypatch.setattr(bench_probe, "_clocked", lambda run: (next(clock), run()))
    asked = Asked(n_rows=80, hidden=48, n_classes=3, signals=(0.3,), repeats=2)
    (layer,) = bench(asked, drawn(asked), 1).layers
    assert turns == [*ways, *ways]
    assert [way.seconds for way in layer.ways] == [3.0, 1.0, 1.0, 8.0]


@pytest.mark.parametrize(("n_rows", "hidden"), [(80, 96), (120, 64)])  # kernel form, primal form
def test_the_programme_is_620_fits_of_four_classes_all_certified(n_rows, hidden):
    asked = Asked(n_rows=n_rows, hidden=hidden, n_classes=4, signals=(1.0,))
    done = run_programme(next(drawn(asked)), seed=0)
    assert done.n_fits == 620
    assert done.worst_gap <= 1e-6
    assert done.chosen in (1e-4, 1e-3, 1e-2, 1e-1, 1.0)


def test_two_classes_have_one_problem():
    asked = Asked(n_rows=60, hidden=32, n_classes=2, signals=(0.5,))
    (layer,) = bench(asked, drawn(asked), 1).layers
    assert all(way.above < 0.1 for way in layer.ways)
    assert layer.ways[0].above <= 1e-7


def test_drawn_states_are_like_those_of_models():
    states, labels = Realistic(512, 4, signal=1.0).draw(600)
    assert states.dtype == np.float16 and np.isfinite(states).all()
    spread = states.astype(float).std(axis=0)
    assert 4 <= (spread > 5 * np.median(spread)).sum() <= 12  # outlier dimensions
    assert spread.max() > 100 * np.median(spread)
    assert np.abs(states.astype(float).mean(axis=0)).max() > 50  # far from centred
    assert set(labels) == {0, 1, 2, 3}
    again = Realistic(512, 4, signal=1.0).draw(600)[0]
    np.testing.assert_array_equal(states, again)


def test_more_signal_is_easier_to_read():
    right = []
    for signal in (0.0, 0.5, 2.0):
        (layer,) = drawn(Asked(n_rows=200, hidden=64, n_classes=2, signals=(signal,)))
        line = bench_probe._ours(layer, 0.01, "standardize")
        learned = bench_probe.learn("standardize", layer.states)
        found = bench_probe._predicted(line, learned.apply(layer.states))
        right.append((found == layer.labels).mean())
    assert right == sorted(right) and right[-1] > 0.95


def test_one_class_is_refused():
    asked = Asked(n_rows=1, hidden=8, n_classes=2)
    with pytest.raises(ProbeError, match="fewer than two labels"):
        next(drawn(asked))


def test_the_table_is_80_columns_wide_and_says_what_stopped(found):
    out = io.StringIO()
    Console(file=out, width=80).print(bench_probe_table(found))
    text = out.getvalue()
    assert max(map(len, text.splitlines())) <= 80
    assert "stopped" in text
    assert "all 465 fits" in text
    for name in (OURS, RESEARCH, OURS_SCALED, CAREFUL):
        assert any(line.startswith(name + "  ") for line in text.splitlines())


def test_json_has_the_table_and_the_ratios(vsp):
    done = vsp("bench", "probe", "--rows", 40, "--hidden", 16, "--classes", 2, "--signal", 0.5,
               "--json")  # fmt: skip
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    (layer,) = answer["layers"]
    assert [way["name"] for way in layer["ways"]] == [OURS, RESEARCH, OURS_SCALED, CAREFUL]
    assert answer["research_over_ours"]["median"] == pytest.approx(layer["ways"][1]["slower"])
    assert answer["research_over_programme"] is None


def test_layers_of_a_run_are_fitted_with_the_rows_that_are_done(vsp, plan_fake):
    run = plan_fake(n_shards=1)
    assert vsp("extract", "--run", run.folder).returncode == 0
    done = vsp("bench", "probe", "--run", run.folder, "--layers", 1, "--json")
    assert done.returncode == 0, done.stderr
    (layer,) = json.loads(done.stdout)["layers"]
    assert (layer["title"], layer["hidden"]) == ("layer 1", run.plan.hidden_size)
    assert layer["n_rows"] == run.plan.n_samples - run.plan.n_samples // 5
    wrong = vsp("bench", "probe", "--run", run.folder, "--layers", 99)
    assert wrong.returncode == 1 and "layer 99: run" in wrong.stderr
    assert "--run" in vsp("bench", "probe", "--layers", 0).stderr


def test_bench_alone_is_what_it_was(vsp, work):
    done = vsp("bench", "--rows", 4)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr and "run" in done.stderr


def test_states_of_a_layer_keep_their_type():
    layer = next(drawn(_SMALL))
    assert isinstance(layer, States) and layer.states.dtype == np.float16
    assert len(layer.others) == 20
