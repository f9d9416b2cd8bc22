"""Metric, class weights, the order of rows, and intervals over training rows, on whole runs."""

import json
from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, roc_auc_score
from sklearn.multiclass import OneVsRestClassifier

from vsp.errors import ProbeError, RunError
from vsp.evaluation.compare import ComparisonSettings, compare
from vsp.evaluation.design import make_design
from vsp.evaluation.evaluate import EvaluatedRows, EvaluationSettings, evaluate
from vsp.evaluation.layer_scores import _n_at_edge
from vsp.evaluation.metrics import METRICS
from vsp.evaluation.probe_run import probe_run
from vsp.evaluation.probe_settings import ProbeSettings
from vsp.evaluation.resampled_training import group_resamples
from vsp.evaluation.tested_rows import losses_of_labels
from vsp.extraction.extract import extract

QUICK = ProbeSettings(
    permutations=4, controls=2, resamples=200, curve=False, random=False, strengths=(0.1, 1.0)
)


@pytest.fixture
def made_run(plan_fake, write_dataset):
    """Make a run of records with given states [layer, row, hidden]."""

    def make(records, states, name="made"):
        records = [{"image_filename": "all.png", **record} for record in records]
        options = {"n_layers": len(states), "hidden_size": states.shape[-1]}
        run = plan_fake(write_dataset(records, name), options=options, name=name)
        extract(run, run.shards)
        np.load(run.store.path, mmap_mode="r+")[:, : len(records)] = states
        return run

    return make


def _rare(n=240, share=0.1, seed=0):
    """Records of two labels, the second of them rare, and states that know them a little."""
    rng = np.random.default_rng(seed)
    y = (np.arange(n) % round(1 / share) == 0).astype(int)
    records = [
        {"id": f"{i:03d}", "label": ["no", "yes"][label], "group": f"g{i:03d}",
         "prompt": f"{'ab'[i % 2]}?", "split": "test" if i % 4 == 0 else "train"}
        for i, label in enumerate(y)
    ]  # fmt: skip
    states = rng.standard_normal((2, n, 8))
    states[1, :, 0] += 1.5 * y
    return records, states, y


def test_a_rare_label_asks_for_balanced_accuracy_and_class_weights(made_run):
    records, states, y = _rare()
    run = made_run(records, states)
    results = probe_run(run, QUICK, 1)
    summary, scores = results.read()
    assert summary["statistic"] == "balanced accuracy" and summary["chance"] == 0.5
    arrays = results.arrays("predictions")
    test = arrays["outer"][0] >= 0
    for score, predicted in zip(scores, arrays["predicted"], strict=True):
        assert score.score == pytest.approx(balanced_accuracy_score(y[test], predicted[0, test]))
    weighted = OneVsRestClassifier(
        LogisticRegression(C=scores[1].strength, class_weight="balanced")
    )
    said = weighted.fit(states[1, ~test], y[~test]).predict(states[1, test])
    assert (said == arrays["predicted"][1, 0, test]).mean() > 0.97
    assert summary["peak"]["recall"]["yes"]["n"] == y[test].sum()
    bounds = summary["peak"]["recall"]["yes"]
    assert bounds["low"] < bounds["score"] < bounds["high"]


def test_labels_that_are_about_as_common_ask_for_accuracy(made_run):
    records, states, _ = _rare(share=0.34)
    assert probe_run(made_run(records, states), QUICK, 1).summary()["statistic"] == "accuracy"


def test_accuracy_of_a_rare_label_hides_what_auc_shows(made_run):
    records, states, y = _rare()
    run = made_run(records, states)
    found = {}
    for metric in ("accuracy", "auc", "log-loss"):
        results = probe_run(run, replace(QUICK, metric=metric), 1)
        found[metric] = results.read()
    arrays = results.arrays("predictions")
    test = arrays["outer"][0] >= 0
    summary, scores = found["auc"]
    plain = LogisticRegression(C=scores[1].strength).fit(states[1, ~test], y[~test])
    auc = roc_auc_score(y[test], plain.decision_function(states[1, test]))
    assert scores[1].score == pytest.approx(auc, abs=0.01) and auc > 0.7
    over = {name: of["peak"]["over_chance"]["low"] for name, (of, _) in found.items()}
    assert over["accuracy"] <= 0 < over["auc"] and found["log-loss"][1][1].score > 0
    assert summary["statistic"] == "AUC" and summary["chance"] == 0.5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"probe": "ridge", "metric": "auc"}, "--metric auc needs labels, not numbers"),
        ({"probe": "lda", "strengths": (), "class_weight": "none"}, "probe lda has no class weights"),
        ({"probe": "centroid", "strengths": (), "metric": "log-loss"}, "has no probabilities"),
        ({"metric": "log-loss", "class_weight": "balanced"}, "balanced changes the probabilities"),
        ({"metric": "auc", "drop": True}, "--metric auc: the test rows have one label, 'no'"),
    ],
)  # fmt: skip
def test_a_metric_or_weight_that_a_probe_does_not_have_is_refused(made_run, changes, message):
    records, states, y = _rare(n=80, share=0.34)
    if changes.get("probe") == "ridge":
        records = [{**one, "label": str(label)} for one, label in zip(records, y, strict=True)]
    if changes.pop("drop", False):
        records = [{**one, "split": "train"} if one["label"] == "yes" else one for one in records]
    run = made_run(records, states)
    with pytest.raises(ProbeError, match=message):
        probe_run(run, replace(QUICK, **changes), 1)


def test_results_do_not_depend_on_the_order_of_rows(made_run):
    """Folds, permutations, control labels and portions are drawn in the order of ids."""
    rng = np.random.default_rng(0)
    records, states, _ = _rare(n=150)
    for i, one in enumerate(records):
        one |= {"group": f"g{i // 3}", "prompt": f"{i % 12}?", "label": "ab"[rng.integers(2)]}
        del one["split"]
    order = np.random.default_rng(1).permutation(len(records))
    settings = replace(QUICK, curve=True, random=False)
    one = probe_run(made_run(records, states, "one"), settings, 1)
    mixed = made_run([records[i] for i in order], states[:, order], "mixed")
    other = probe_run(mixed, settings, 1)
    for name in ("null", "within"):
        drawn = [results.arrays("estimates")[name] for results in (one, other)]
        assert drawn[0] == pytest.approx(drawn[1], abs=0.02)
    for first, second in zip(one.read()[1], other.read()[1], strict=True):
        assert first.controls
        for name in ("score", "low", "p", "p_within", "capacity", "strengths", "code_bits"):
            assert getattr(first, name) == pytest.approx(getattr(second, name), abs=1e-3), name
        assert np.array(first.curve) == pytest.approx(np.array(second.curve), abs=1e-3)
        for name, control in first.controls.items():
            expected = pytest.approx(second.controls[name]["selectivity"], abs=1e-3)
            assert control["selectivity"] == expected
    arrays = one.arrays("predictions"), other.arrays("predictions")
    assert (arrays[0]["outer"][:, order] == arrays[1]["outer"]).all()
    assert (arrays[0]["predicted"][..., order] == arrays[1]["predicted"]).mean() > 0.99


def test_resamples_take_whole_groups_of_training_rows():
    group = np.repeat([f"g{i}" for i in range(10)], 3)
    train = np.arange(30) < 24
    y = np.arange(30) % 2
    counts = group_resamples(y, group, train, 50, 0)
    assert (counts[:, 24:] == 0).all() and (counts.sum(axis=1) == 24).all()
    of_group = counts[:, :24].reshape(50, 8, 3)
    assert (of_group == of_group[:, :, :1]).all() and len(np.unique(counts, axis=0)) > 45
    order = np.random.default_rng(0).permutation(30)
    again = group_resamples(y[order], group[order], train[order], 50, 0)
    assert (again == counts[:, order]).all()


def test_resamples_have_every_label_or_are_refused():
    group = np.arange(24).astype(str)
    y, train = np.arange(24) // 22, np.ones(24, dtype=bool)  # two groups have the rare label
    counts = group_resamples(y, group, train, 100, 0)
    assert ((counts > 0) @ y > 0).all()
    assert not (counts == counts[0]).all()
    numbers = (np.arange(24) == 0).astype(float)
    assert all((numbers @ (one > 0)) > 0 for one in group_resamples(numbers, group, train, 100, 0))
    with pytest.raises(ProbeError, match="resamples of the 24 training groups have every label"):
        group_resamples(np.arange(24), group, train, 100, 0)


def test_intervals_over_training_are_wider_if_there_are_few_training_rows(made_run):
    records, states, _ = _rare(n=300, share=0.5)
    few = [{**one, "split": "train" if i < 24 else "test"} for i, one in enumerate(records)]
    run = made_run(few, states)
    results = probe_run(run, replace(QUICK, over_training=True), 1)
    summary, scores = results.read()
    assert results.arrays("estimates")["refit"].shape == (2, 100)
    for score in scores:
        width = score.over_training["high"] - score.over_training["low"]
        assert width > (1.3 if score.layer else 1.05) * (score.high - score.low)
    assert summary["peak"]["over_training"] == scores[summary["best_layer"]].over_training
    assert probe_run(run, QUICK, 1).summary()["peak"]["over_training"] is None


def test_runs_that_are_trained_on_few_rows_differ_less_surely_over_training(made_run):
    records, states, _ = _rare(n=300, share=0.5)
    few = [{**one, "split": "train" if i < 24 else "test"} for i, one in enumerate(records)]
    runs = []
    for seed, name in enumerate("ab"):
        states = _rare(n=300, share=0.5, seed=seed)[1]
        run = made_run(few, states, name)
        runs.append((name, probe_run(run, replace(QUICK, over_training=True), 1)))
    fixed, over = (compare(runs, ComparisonSettings(over_training=one))[0] for one in (False, True))
    assert not fixed.over_training and over.over_training
    for one, other in zip(fixed.layers, over.layers, strict=True):
        assert other.high - other.low > 1.2 * (one.high - one.low) and other.p >= one.p
        assert one.difference == other.difference
    without = [(name, probe_run(made_run(few, states, f"{name}2"), QUICK, 1)) for name in "ab"]
    with pytest.raises(RunError, match="has no refits on resampled training rows"):
        compare(without, ComparisonSettings(over_training=True))


def test_scores_of_other_rows_are_not_compared_by_a_metric_of_all_rows(made_run):
    records, states, _ = _rare()
    kept = [i for i in range(240) if i % 8]
    one = probe_run(made_run(records, states, "one"), QUICK, 1)
    part = made_run([records[i] for i in kept], states[:, kept], "part")
    with pytest.raises(RunError, match="is compared on the same rows only"):
        compare([("one", one), ("part", probe_run(part, QUICK, 1))], ComparisonSettings())


@pytest.mark.parametrize(
    ("inner", "chosen", "n"),
    [
        ([[0.5, 0.6, 0.7]], [2], 1),
        ([[0.7, 0.6, 0.5]], [0], 1),
        ([[0.5, 0.7, 0.7]], [1], 0),
        ([[0.7, 0.7, 0.5]], [0], 0),  # a tie: the smallest of equally good strengths
        ([[0.7, 0.695, 0.5]], [0], 0),
        ([[0.5]], [0], 0),
        ([[0.5, 0.6, 0.7], [0.5, 0.7, 0.6]], [2, 1], 1),
    ],
)
def test_only_choices_that_a_wider_grid_could_improve_are_counted(inner, chosen, n):
    assert _n_at_edge(np.array(inner), np.array(chosen)) == n


def test_the_report_of_any_metric_is_printed(made_run, vsp):
    records, states, _ = _rare()
    run = made_run(records, states)
    for metric in ("balanced", "auc", "log-loss"):
        probe_run(run, replace(QUICK, metric=metric, over_training=True), 1)
        answer = vsp("report", "--run", run.name)
        assert answer.returncode == 0, answer.stderr
        assert "also about other training rows" in " ".join(answer.stdout.split())
        assert json.loads(vsp("report", "--run", run.name, "--json").stdout)["peak"]["recall"]


def test_options_that_the_splits_do_not_use_are_said(made_run, vsp):
    records, states, _ = _rare(n=120, share=0.34)
    quick = ["--permutations", 0, "--controls", 0, "--no-curve", "--no-random", "--no-words", "--n-jobs", 1, "--grid", "0.01", 1]  # fmt: skip
    made_run(records, states, "own")
    said = vsp("probe", "--run", "own", "--repeats", 3, "--folds", 4, *quick).stderr
    assert "--repeats is not used: the dataset has its own split" in said
    assert "--folds is not used" not in said
    three = [{**one, "split": ("train", "val", "test")[i // 40]} for i, one in enumerate(records)]
    made_run(three, states, "three")
    said = vsp("probe", "--run", "three", "--folds", 4, *quick).stderr
    assert "--folds is not used: the val rows choose strength and layer" in said
    without = [{k: v for k, v in one.items() if k != "split"} for one in records]
    run = made_run(without, states, "folds")
    said = vsp("probe", "--run", "folds", "--over", "training", *quick).stderr
    assert "--over training is not used: intervals of folds" in said and "not used" in said
    assert len(list((run.folder / "probe").iterdir())) == 1
    vsp("probe", "--run", "folds", *quick)
    assert len(list((run.folder / "probe").iterdir())) == 1  # the same fits


def test_balanced_accuracy_of_the_peak_is_that_of_its_predictions():
    """Folds choose different layers, whose labels are unevenly predicted."""
    rng = np.random.default_rng(0)
    y = (rng.random(90) < 0.3).astype(int)
    design = make_design(y, np.arange(90).astype(str), np.full(90, ""), repeats=1)
    fits = []
    for k in range(2):
        predicted = np.where(rng.random((1, 90)) < (0.9 if k else 0.5), k, y).astype(np.int16)
        inner = np.full((5, 1), 0.5)
        inner[k::2] = 0.9
        loss = losses_of_labels(METRICS["balanced"], y, design, predicted)
        fits.append({
            "strengths": np.array([np.nan]), "inner": inner, "chosen": np.zeros(5, int), "loss": loss,
            "predicted": predicted, "gap": np.zeros(1, np.float32), "outer_score": np.zeros(5),
        })  # fmt: skip
    rows = EvaluatedRows(y, np.arange(90).astype(str), design, METRICS["balanced"], ["a", "b"])
    _, facts = evaluate([0, 1], fits, rows, EvaluationSettings(resamples=100))
    peak = facts["peak"]
    assert set(peak["layers"]) == {"0", "1"}
    assert peak["estimate"] == pytest.approx(peak["balanced_accuracy"])
