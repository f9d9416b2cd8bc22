import logging
import os
import shutil
import signal
import subprocess
import sys
import time
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.disks import fill, free, read_only, small_disk
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    confusion_matrix,
    f1_score,
    precision_score,
    recall_score,
)
from sklearn.multiclass import OneVsRestClassifier

from vsp import models
from vsp.errors import ConfigError, ProbeError, RunError
from vsp.evaluation.parallel_fits import usable_jobs
from vsp.evaluation.probe_run import part_layers, probe_part, probe_run
from vsp.evaluation.probe_settings import ProbeSettings
from vsp.evaluation.probe_work import ProbedRows, fits_key
from vsp.extraction.extract import extract
from vsp.extraction.plan import PlanRequest, plan_run
from vsp.probes import PROBES, load
from vsp.storage.array import row_checksum
from vsp.storage.journal import Journal
from vsp.storage.run import Run
from vsp.storage.stored_settings import choose_setting
from vsp.utils.workers import worker_pool

# Few fits and resamples, and strengths that are fitted in few steps, so that tests are fast.
ALL = ProbeSettings(permutations=4, controls=2, resamples=100, strengths=(0.01, 1.0))
NONE = replace(ALL, permutations=0, controls=0, curve=False, random=False, words=False)
LIGHT = ["--permutations", "0", "--controls", "0", "--resamples", "100", "--no-curve", "--no-random",
         "--no-words", "--grid", "0.01", "1", "--n-jobs", "1"]  # fmt: skip


def _files(results):
    """Content of every file of the results, by its relative path."""
    files = (path for path in results.folder.rglob("*.*") if path.parts[-2] != "probe")
    return {
        str(path.relative_to(results.folder)): path.read_bytes()
        for path in files
        if "probe" not in path.relative_to(results.folder).parts
    }


def _kept(run):
    """Sorted files of the fitted layers."""
    return sorted((run.folder / "probe").glob("*/*.npz"))


def _forget_fits(run):
    shutil.rmtree(run.folder / "probe")


def _forget(run):
    _forget_fits(run)
    shutil.rmtree(run.results)


@pytest.fixture(autouse=True)
def _log_level(caplog):
    caplog.set_level(logging.INFO, "vsp")


def _stderr_and_log(capfd, caplog):
    """Standard error and log messages since the last call."""
    text = capfd.readouterr().err + caplog.text
    caplog.clear()
    return text


@pytest.fixture(scope="module")
def original(tmp_path_factory, spatial):
    """The folder of the run of `extracted`."""
    folder = tmp_path_factory.mktemp("extracted")
    run = plan_run(PlanRequest(spatial, models.resolve("fake"), n_shards=2), folder).run
    extract(run, run.shards)
    return folder


@pytest.fixture
def extracted(original, work):
    """A run with four labels and a dataset split: 77 training rows and 19 val rows."""
    shutil.copytree(original, work, dirs_exist_ok=True)
    (folder,) = (work / "scratch").iterdir()
    return Run.open(folder)


@pytest.fixture
def own_run(plan_fake, write_dataset):
    """Make a run with given labels, groups, prompts, splits and states [layer, row, hidden]."""

    def make(label, group=None, prompt=None, split=None, states=None, name="own", **changes):
        n_rows = len(label)
        records = [
            {
                "id": str(i),
                "image_filename": "all.png",
                "label": str(label[i]),
                "group": f"g{i // 2}" if group is None else str(group[i]),
                "prompt": f"{'ab'[i // 2 % 2]}?" if prompt is None else prompt[i],
                **({} if split is None else {"split": str(split[i])}),
            }
            for i in range(n_rows)
        ]
        states = _states(label) if states is None else states
        options = {"n_layers": len(states), "hidden_size": states.shape[-1]}
        run = plan_fake(write_dataset(records, name), options=options, name=name, **changes)
        extract(run, run.shards)
        np.load(run.store.path, mmap_mode="r+")[:, :n_rows] = states
        return run

    return make


def _states(label, n_layers=3, hidden_size=6, seed=0):
    """Deeper layers have more information about the label; the first has none."""
    rng = np.random.default_rng(seed)
    classes, codes = np.unique(label, return_inverse=True)
    of_class = rng.normal(size=(len(classes), hidden_size))
    deep = np.arange(n_layers)[:, None, None]
    return rng.normal(size=(n_layers, len(label), hidden_size)) + 0.7 * deep * of_class[codes]


def _labels(n=60, names="ab", rows_per_group=2):
    return [names[i // rows_per_group % len(names)] for i in range(n)]


# Scores and predictions of a run.


def _check_scores_are_of_the_predictions(run, results):
    samples, arrays = list(run.manifest.rows()), results.arrays("predictions")
    for name in ("id", "label", "group"):
        assert [getattr(samples[row], name) for row in arrays["rows"]] == arrays[name].tolist()
    assert arrays["rows"].tolist() == list(range(len(samples)))
    assert arrays["layers"].tolist() == list(range(run.plan.n_layers))
    names, judged = arrays["classes"], arrays["outer"] >= 0
    assert ((arrays["predicted"] >= 0) == judged).all()
    true = np.broadcast_to(arrays["label"], judged.shape)[judged]
    for score, of_layer in zip(results.read()[1], arrays["predicted"], strict=True):
        said = names[of_layer[judged]]
        each = {"labels": names, "average": None, "zero_division": 0.0}
        assert score.score == pytest.approx(accuracy_score(true, said))
        assert score.balanced_accuracy == pytest.approx(balanced_accuracy_score(true, said))
        assert score.macro_f1 == pytest.approx(
            f1_score(true, said, average="macro", zero_division=0.0)
        )
        assert list(score.recall) == list(score.precision) == names.tolist()
        assert [*score.recall.values()] == pytest.approx(recall_score(true, said, **each))
        assert [*score.precision.values()] == pytest.approx(precision_score(true, said, **each))
        assert score.confusion == confusion_matrix(true, said, labels=names).tolist()
    probability = arrays["probability"][:, judged]
    assert probability.sum(axis=-1) == pytest.approx(1, abs=1e-5)
    assert np.isnan(arrays["probability"][:, ~judged]).all()
    return judged


def test_scores_are_scikit_learns_of_the_saved_predictions(extracted):
    results = probe_run(extracted, NONE, n_jobs=1)
    judged = _check_scores_are_of_the_predictions(extracted, results)
    samples = list(extracted.manifest.rows())
    assert judged.shape == (1, 96)
    assert judged[0].tolist() == [sample.split == "val" for sample in samples]
    for score in results.read()[1]:
        assert (score.n_train, score.n_test) == (77, 19)
        assert score.low <= score.score <= score.high and len(score.strengths) == 1
    summary = results.summary()
    assert summary["split"] == "the dataset's own, val held out"
    assert summary["rows"] | {"used": 96, "train": 77, "test": 19} == summary["rows"]


def test_without_a_split_of_its_own_every_row_is_judged_once_a_repeat(own_run):
    run = own_run(_labels(names="abc"))
    results = probe_run(run, NONE, n_jobs=1)
    judged = _check_scores_are_of_the_predictions(run, results)
    assert judged.shape == (2, 60) and judged.all()
    arrays, summary = results.arrays("predictions"), results.summary()
    for outer in np.unique(arrays["outer"]):
        repeat = int(np.flatnonzero((arrays["outer"] == outer).any(axis=1))[0])
        inside = arrays["outer"][repeat] == outer
        assert not set(arrays["group"][inside]) & set(arrays["group"][~inside])
    assert summary["split"] == "5 folds by group, 2 times"
    assert summary["rows"] | {"used": 60, "train": 60, "test": 60} == summary["rows"]
    assert all(len(score.strengths) == 10 for score in results.read()[1])
    assert all(score.n_uncertified == 0 for score in results.read()[1])


def test_the_embedding_output_is_at_chance_and_a_layer_that_sees_is_above(plan_fake, write_dataset):
    """The label is visible in the picture only; prompts do not reveal it."""
    records = [
        {"id": str(i), "image_filename": f"{i}.png", "label": "ab"[i % 2], "prompt": "?"}
        for i in range(120)
    ]
    folder = write_dataset(records)
    from PIL import Image

    rng = np.random.default_rng(0)
    for i in range(120):
        pixels = rng.integers(100 + 20 * (i % 2), 156 + 20 * (i % 2), (12, 12, 3))
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"images/{i}.png")
    run = plan_fake(folder)
    extract(run, run.shards)
    results = probe_run(run, replace(ALL, permutations=9, random=True), n_jobs=1)
    scores, summary = results.read()[1], results.summary()
    assert scores[0].score == scores[0].chance == 0.5 and scores[0].p_corrected > 0.5
    assert all(score.score > 0.9 and score.over_embedding["low"] > 0 for score in scores[1:])
    assert all(score.p == score.p_corrected == 0.1 for score in scores[1:])
    assert summary["peak"]["estimate"] > 0.9 and summary["best_layer"] > 0
    assert abs(summary["baselines"]["random features"]["score"] - 0.5) < 0.15


def test_every_row_planned_is_counted_once_and_failed_rows_by_reason(plan_fake):
    run = plan_fake(n_shards=2)
    extract(run, [run.shards[0]])
    start, stop = run.shards[1].start, run.shards[1].stop
    with Journal(run.journals, run.plan.id, 1) as journal:
        for i, row in enumerate(range(start, stop - 2)):
            journal.mark_failed(row, "seldom" if i < 3 else "often" if i < 10 else f"row {row}")
    summary = probe_run(run, replace(NONE, folds=2), n_jobs=1, partial=True).summary()
    rows = summary["rows"]
    assert rows["planned"] == 96 == rows["done"] + rows["failed"] + rows["missing"]
    assert rows["missing"] == 2 and rows["used"] == rows["done"] == rows["train"] + rows["test"]
    reasons = summary["failed_reasons"]
    assert list(reasons.items())[:2] == [("often", 7), ("seldom", 3)] and len(reasons) == 10
    assert set(list(reasons.values())[2:]) == {1}


def test_unfinished_runs_are_refused_or_counted(plan_fake):
    run = plan_fake(n_shards=2)
    with pytest.raises(RunError, match="96 rows are missing and 0 failed of 96; `vsp extract"):
        probe_run(run, NONE, n_jobs=1)
    with pytest.raises(RunError, match="96 rows are missing"):
        probe_part(run, NONE, n_jobs=1, part=(0, 2))
    with pytest.raises(ProbeError, match="none of 96 rows is extracted; run `vsp extract` first"):
        probe_run(run, NONE, n_jobs=1, partial=True)
    extract(run, run.shards)
    shard = run.shards[0]
    done = run.ledger(shard).done
    lost = [3, 4, 7]
    shutil.rmtree(run.journals)
    extract(run, [run.shards[1]])
    with Journal(run.journals, run.plan.id, 0) as journal:
        kept = [row for row in done if row not in lost]
        journal.mark_done(kept, _checksums(run, kept))
        journal.mark_failed(lost[0], "its image is gone")
    n_missing = len(lost) - 1
    with pytest.raises(RunError, match=f"{n_missing} rows are missing and 1 failed of 96"):
        probe_run(run, NONE, n_jobs=1)
    results = probe_run(run, replace(NONE, folds=3), n_jobs=1, partial=True)
    rows = results.summary()["rows"]
    assert (rows["planned"], rows["failed"], rows["missing"]) == (96, 1, n_missing)
    assert rows["used"] == rows["done"] == 96 - len(lost)
    assert results.summary()["failed_reasons"] == {"its image is gone": 1}
    used = [row for row in range(96) if row not in lost]
    assert results.arrays("predictions")["rows"].tolist() == used
    _check_probes_saw_their_own_training_rows(run, results, without=set(lost))


def test_probes_are_fitted_on_the_training_rows_alone(extracted):
    results = probe_run(extracted, NONE, n_jobs=1)
    _check_probes_saw_their_own_training_rows(extracted, results, without=set())


def _check_probes_saw_their_own_training_rows(run, results, without):
    samples = list(run.manifest.rows())
    train = [i for i, s in enumerate(samples) if s.split == "train" and i not in without]
    labels = np.array([samples[row].label for row in train])
    for score in results.read()[1]:
        plain = OneVsRestClassifier(
            LogisticRegression(C=score.strength, tol=1e-8, max_iter=10_000)
        ).fit(run.store.layer(score.layer)[train].astype(np.float64), labels)
        coef = np.concatenate([one.coef_ for one in plain.estimators_])
        saved = load(results.folder, score.layer)
        assert np.abs(saved.coef_ - coef).max() < 2e-3 * np.abs(coef).max()
        assert saved.classes_.tolist() == plain.classes_.tolist()


def test_states_that_are_not_finite_are_refused_and_what_was_fitted_before_is_kept(extracted):
    np.load(extracted.store.path, mmap_mode="r+")[3, 5, 0] = np.nan
    with pytest.raises(ProbeError, match=r"layer 3 .* not finite.*`vsp verify --repair`"):
        probe_run(extracted, NONE, n_jobs=1)
    assert [path.name for path in _kept(extracted)] == ["000.npz", "001.npz", "002.npz"]
    assert not extracted.results.exists()


def test_a_state_that_is_not_finite_does_not_matter_in_a_row_that_is_left_out(extracted):
    row = 5
    done = dict(extracted.ledger(extracted.shards[0]).done)
    np.load(extracted.store.path, mmap_mode="r+")[3, row, 0] = np.nan
    shutil.rmtree(extracted.journals)
    with Journal(extracted.journals, extracted.plan.id, 0) as journal:
        kept = [one for one in done if one != row]
        journal.mark_done(kept, _checksums(extracted, kept))
    settings = replace(NONE, folds=2)
    assert len(probe_run(extracted, settings, 1, partial=True, layers=[3]).read()[1]) == 1


def test_what_is_switched_off_is_left_out_and_the_report_says_the_rest(own_run, vsp):
    run = own_run(_labels())
    results = probe_run(run, NONE, n_jobs=1)
    assert not {"null", "capacity", "curve", "code_bits"} & results.arrays("estimates").keys()
    for score in results.read()[1]:
        assert score.p is score.p_corrected is score.p_within is score.capacity is None
        assert score.code_bits is score.compression is None
        assert score.curve == [] and score.controls == {}
    assert not {"random features", "words"} & results.summary()["baselines"].keys()
    for arguments in ((), ("--json",)):
        answer = vsp("report", *arguments)
        assert answer.returncode == 0, answer.stderr
    bare = results.read()[1]
    full = probe_run(run, ALL, n_jobs=1)
    estimates = full.arrays("estimates")
    assert estimates["null"].shape == (3, 4) and estimates["capacity"].shape == (3, 2)
    for score, plain in zip(full.read()[1], bare, strict=True):
        assert None not in (score.p, score.capacity, score.code_bits) and len(score.curve) > 1
        assert (score.score, score.strengths) == (plain.score, plain.strengths)
        assert score.n_fits > plain.n_fits
    assert {"random features", "words", "words alone"} < full.summary()["baselines"].keys()
    assert vsp("report").returncode == 0


def test_one_prompt_makes_no_control_task_and_no_baseline_of_words(own_run):
    run = own_run(_labels(), prompt=["?"] * 60)
    results = probe_run(run, replace(ALL, random=False, curve=False), n_jobs=1)
    assert not {"look-up", "words", "words alone"} & results.summary()["baselines"].keys()
    assert all(score.controls == {} and score.p is not None for score in results.read()[1])
    assert results.summary()["n_within"] is None


def test_strengths_at_an_end_of_the_grid_are_counted(own_run):
    label = _labels()
    run = own_run(label, states=3 * _states(label))
    (score,) = probe_run(run, replace(NONE, strengths=(1e-9, 1e-8)), 1, layers=[2]).read()[1]
    assert score.at_edge == 1  # in the other splits both strengths are about as good
    (score,) = probe_run(run, replace(NONE, strengths=(0.01,)), 1, layers=[2]).read()[1]
    assert score.at_edge == 0 and score.strength == 0.01  # a grid with one value has no edge
    (score,) = probe_run(run, replace(NONE, strengths=(0.01, 0.01)), 1, layers=[2]).read()[1]
    assert score.at_edge == 0 and len(score.by_strength) == 1  # duplicates in the grid are removed


@pytest.fixture
def four_workers(monkeypatch):
    """A pool of four workers runs its shares in this process; of two, in processes."""

    def pool(n_jobs, return_as):
        return worker_pool(1 if n_jobs == 4 else n_jobs, return_as)

    monkeypatch.setattr("vsp.evaluation.parallel_fits.worker_pool", pool)


@pytest.mark.parametrize("n_jobs", [1, 4])  # with four workers, layers are divided
def test_the_default_grid_goes_with_the_size_of_a_layers_states(own_run, n_jobs, four_workers):
    label = _labels()
    deep = _states(label)[2]
    run = own_run(label, states=np.stack([deep * scale for scale in (30, 1000, 1)]))
    settings = replace(NONE, strengths=(), folds=3, repeats=1)
    results = probe_run(run, settings, n_jobs)
    of_layer = results.arrays("estimates")["strengths"].astype(np.float64)
    steps = np.log10(of_layer[:, 0] / of_layer[2, 0])
    assert steps == pytest.approx([-3, -6, 0]) and of_layer.shape == (3, 5)
    assert np.log10(of_layer[:, 1:] / of_layer[:, :-1]) == pytest.approx(1)
    large, same = (results.read()[1][i] for i in (1, 2))
    assert large.strength == pytest.approx(same.strength * 1e-6) and large.score == same.score
    assert results.summary()["probe"]["grid"] is None
    given = probe_run(run, replace(NONE, strengths=(0.1, 1.0)), 1, layers=[1, 2])
    assert (given.arrays("estimates")["strengths"] == [0.1, 1.0]).all()


def test_few_rows_give_figures_or_none_never_what_is_no_number(own_run, vsp):
    run = own_run(_labels(12))
    results = probe_run(run, replace(ALL, folds=3), n_jobs=1)
    for name in ("summary.json", "scores.jsonl"):
        assert "NaN" not in (results.folder / name).read_text()
        assert "Infinity" not in (results.folder / name).read_text()
    for score in results.read()[1]:
        assert 0 <= score.low <= score.score <= score.high <= 1
    answer = vsp("report")
    assert answer.returncode == 0 and "nan" not in answer.stdout.lower()


# Numbers as targets.


def _numbers(n=80, seed=0):
    """A number for each group, and states that predict it."""
    rng = np.random.default_rng(seed)
    y = np.repeat(rng.normal(20, 5, n // 2), 2).round(4)
    states = rng.normal(size=(3, n, 6))
    states[1:, :, 2] += (y - 20) / 5 * np.array([1, 3])[:, None]
    return y, states


@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("name", ["ridge", "linear"])
def test_numbers_are_read_by_regression(own_run, name, split, vsp):
    y, states = _numbers()
    sides = ["test" if i % 8 < 2 else "train" for i in range(len(y))] if split else None
    run = own_run(y, split=sides, states=states)
    results = probe_run(run, replace(ALL, probe=name, strengths=()), n_jobs=1)
    arrays, scores, summary = results.arrays("predictions"), results.read()[1], results.summary()
    assert summary["statistic"] == "R²" and "classes" not in arrays
    assert arrays["label"] == pytest.approx(y) and "probability" not in arrays
    judged = arrays["outer"] >= 0
    assert (np.isfinite(arrays["predicted"]) == judged).all()
    for score, said in zip(scores, arrays["predicted"], strict=True):
        lost = (said - y)[judged] ** 2
        assert score.score == pytest.approx(1 - lost.sum() / arrays["base"][judged].sum())
        assert score.rmse == pytest.approx(lost.mean() ** 0.5)
        assert score.confusion is score.ece is None
        assert score.code_bits is None and len(score.curve) >= 1 and score.chance == 0
        assert (score.strength is None) == (name == "linear")
    assert scores[0].score < 0.2 < 0.8 < scores[2].score
    assert vsp("report").returncode == 0
    final = load(results.folder, 2)
    train = np.array([side == "train" for side in sides]) if sides else np.ones(len(y), bool)
    probe = PROBES.load(name)()
    if name == "ridge":
        probe.set_params(alpha=scores[2].strength)
    stored = run.store.layer(2)
    assert final.predict(stored) == pytest.approx(
        probe.fit(stored[train], y[train]).predict(stored)
    )


@pytest.mark.parametrize(
    ("bad", "message"),
    [("left", "label 'left' is not a number, .*--probe logistic"), ("nan", "not finite"),
     ("-inf", "1 of 60 numbers are not finite")],
)  # fmt: skip
def test_labels_that_are_no_numbers_are_refused_by_regression_in_a_line(own_run, bad, message):
    run = own_run([*map(str, range(59)), bad], states=np.ones((2, 60, 4)))
    with pytest.raises(ProbeError, match=message) as caught:
        probe_run(run, replace(NONE, probe="ridge"), 1)
    assert "\n" not in str(caught.value) and not run.results.exists()


# Test rows choose nothing.


def test_labels_of_test_rows_choose_neither_a_strength_nor_a_layer(own_run):
    label, split = _labels(names="abc"), ["test" if i < 18 else "train" for i in range(60)]
    other = ["c" if i < 18 and one == "a" else "a" if i < 18 and one == "c" else one
             for i, one in enumerate(label)]  # fmt: skip
    states = _states(label, n_layers=4)
    one = probe_run(own_run(label, split=split, states=states), NONE, 1)
    two = probe_run(own_run(other, split=split, states=states, name="other"), NONE, 1)
    first, second = one.arrays("estimates"), two.arrays("estimates")
    for name in ("inner", "chosen", "final_strength"):
        assert first[name].tobytes() == second[name].tobytes()
    said = [results.arrays("predictions")["predicted"] for results in (one, two)]
    assert said[0].tobytes() == said[1].tobytes()
    summaries = [results.summary() for results in (one, two)]
    assert summaries[0]["best_layer"] == summaries[1]["best_layer"]
    assert summaries[0]["peak"]["layers"] == summaries[1]["peak"]["layers"]
    assert summaries[0]["peak"]["estimate"] > summaries[1]["peak"]["estimate"]
    assert [s.score for s in one.read()[1]] != [s.score for s in two.read()[1]]


def test_the_best_of_layers_that_know_nothing_is_estimated_without_the_luck_of_the_best(own_run):
    """With ten layers of noise the best score exceeds chance; the nested estimate does not."""
    label, differences = _labels(40), []
    for seed in range(3):
        states = np.random.default_rng(seed).normal(size=(10, 40, 4))
        run = own_run(label, states=states, name=f"noise{seed}")
        peak = probe_run(run, replace(NONE, folds=4, strengths=(0.1,)), 1).summary()["peak"]
        assert sum(peak["layers"].values()) == 8
        differences.append((peak["naive"] - 0.5, peak["naive"] - peak["estimate"]))
    naive, luck = np.mean(differences, axis=0)
    assert naive > 0.05 and luck > 0.05


@pytest.mark.parametrize("name", [n for n in PROBES.names() if PROBES.load(n).target == "label"])
def test_a_saved_probe_predicts_what_it_predicted_and_what_a_direct_fit_does(extracted, name):
    """With a dataset split, the saved probe is the tested probe."""
    cls = PROBES.load(name)
    # One strength: with a grid, probabilities are those of the strength with the best log loss.
    settings = replace(
        NONE, probe=name, folds=2, seed=3, strengths=cls.default_grid[:1],
        max_iter=100 if "max_iter" in cls().get_params() else 0,
    )  # fmt: skip
    results = probe_run(extracted, settings, n_jobs=1, layers=[2])
    (score,), arrays = results.read()[1], results.arrays("predictions")
    states, judged = extracted.store.layer(2), arrays["outer"][0] >= 0
    saved = load(results.folder, 2)
    assert (
        saved.predict(states[judged]) == arrays["classes"][arrays["predicted"][0, 0, judged]]
    ).all()
    if "probability" in arrays:
        assert saved.predict_proba(states[judged]) == pytest.approx(
            arrays["probability"][0, 0, judged], abs=1e-4
        )
    assert (score.strength is None) == (not cls.strength_name)
    direct = cls().set_params(**saved.get_params())
    if cls.strength_name:
        assert (
            getattr(saved, cls.strength_name)
            == score.strength
            in results.arrays("estimates")["strengths"]
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        direct.fit(states[~judged], arrays["label"][~judged])
    assert (direct.predict(states) == saved.predict(states)).mean() > 0.98
    with pytest.raises(ProbeError, match="holds no probe of layer 5; it has layers 2"):
        load(results.folder, 5)


@pytest.mark.parametrize("own", [False, True])
def test_the_seed_decides_folds_permutations_control_tasks_and_portions(own_run, own):
    """With a dataset split and one strength, folds do not influence the compared results."""
    sides = ["test" if i < 18 else "train" for i in range(60)] if own else None
    run = own_run(_labels(names="abc"), prompt=[f"{i % 7}?" for i in range(60)], split=sides)
    found = []
    for seed in (0, 0, 1):
        settings = replace(
            ALL, seed=seed, strengths=(0.1,) if own else (0.01, 1.0), random=False, words=False
        )
        results = probe_run(run, settings, 1, layers=[2])
        arrays = {**results.arrays("predictions"), **results.arrays("estimates")}
        found.append([arrays[name].tobytes() for name in ("outer", "null", "capacity", "curve")])
        _forget_fits(run)
    assert found[0] == found[1]
    same = [one == other for one, other in zip(found[0], found[2], strict=True)]
    assert same == [own, False, False, False]


def test_settings_reach_the_probe(extracted):
    settings = replace(NONE, treatment="standardize", tolerance=1e-3, max_iter=77)
    results = probe_run(extracted, settings, 1, layers=[2])
    saved = load(results.folder, 2)
    assert (saved.treatment, saved.tol, saved.max_iter) == ("standardize", 1e-3, 77)
    states = extracted.store.layer(2)
    train = results.arrays("predictions")["outer"][0] < 0
    assert saved.treatment_.scale == pytest.approx(states[train].std(axis=0), rel=1e-5)
    card, _ = results.probe(2)
    assert (card["probe"], card["treatment"], card["target"]) == (
        "logistic",
        "standardize",
        "label",
    )
    assert card["classes"] == sorted({s.label for s in extracted.manifest.rows()})
    assert results.summary()["tolerance"] == 1e-3
    mlp = probe_run(extracted, replace(settings, probe="mlp", folds=2, seed=5), 1, layers=[2])
    assert load(mlp.folder, 2).random_state == 5


def test_a_strength_for_a_probe_that_has_none_and_a_name_that_is_none_are_lines(extracted, vsp):
    with pytest.raises(ProbeError, match="probe lda has no strength to choose; leave out --grid"):
        probe_run(extracted, replace(NONE, probe="lda", strengths=(1.0,)), 1)
    with pytest.raises(
        ConfigError, match="probe 'svm' is not known; known: centroid, lda, linear,"
    ):
        probe_run(extracted, replace(NONE, probe="svm"), 1)
    lines = vsp("probe", extracted.name, "--probe", "svm").stderr.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("vsp: probe 'svm' is not known; known: ")
    assert all(name in lines[0] for name in PROBES.names())


@pytest.mark.parametrize(
    ("label", "changes", "message"),
    [
        (_labels(names="a"), {}, "the rows have one label, 'a'; a probe needs two"),
        (
            _labels(8),
            {},
            "label 'a' has 4 rows in 2 groups, label 'b' has .* too few for 5 folds; add",
        ),
        (_labels(), {"split": ["train"] * 60}, "60 training and 0 test rows"),
        (_labels(), {"split": ["train", "val"] * 30}, "30 groups have rows in train and in val"),
    ],
)
def test_rows_that_cannot_be_split_are_refused(own_run, label, changes, message):
    run = own_run(label, **changes)
    with pytest.raises(ProbeError, match=message):
        probe_run(run, NONE, n_jobs=1)
    assert _kept(run) == [] and not run.results.exists()


def test_rows_of_a_label_can_be_left_out_and_are_counted_and_reported(own_run, vsp):
    run = own_run([*_labels(), "up there", "up there"])
    refused = vsp("probe", *LIGHT).stderr.splitlines()[-1]
    assert refused == (
        "vsp: label 'up there' has 2 rows in 1 group, too few for 5 folds; leave out rows with "
        "--drop-label 'up there' (of `vsp import` or `vsp probe`), or add images"
    )
    answer = vsp("probe", *LIGHT, "--drop-label", "up there")
    assert answer.stdout.startswith("left out 2 rows with label 'up there' (--drop-label)\nwrote ")
    summary = choose_setting(run.results).summary()
    assert summary["dropped_labels"] == {"up there": 2}
    assert summary["settings"]["drop_labels"] == ["up there"]
    assert summary["rows"]["used"] == 60 and summary["rows"]["done"] == 62
    assert choose_setting(run.results).arrays("predictions")["rows"].tolist() == list(range(60))
    report = " ".join(vsp("report").stdout.split())
    assert "62 planned: 62 done, 0 failed, 0 missing; 2 of label 'up there' left out" in report
    assert "failed or missing rows were left out" not in report
    with pytest.raises(
        ProbeError, match="--drop-label up: no row has this label; the labels are a"
    ):
        probe_run(run, replace(NONE, drop_labels=("up",)), 1)
    with pytest.raises(ProbeError, match="--drop-label leaves none of 62 rows"):
        probe_run(run, replace(NONE, drop_labels=("a", "b", "up there")), 1)


def test_fits_without_a_label_are_those_of_a_run_that_never_had_it(own_run):
    label = _labels(names="abc")
    kept = [i for i, one in enumerate(label) if one != "c"]
    states = _states(label)
    run = own_run(label, states=states)
    group = [f"g{i // 2}" for i in kept]
    other = own_run(
        [label[i] for i in kept], group, prompt=[f"{'ab'[i // 2 % 2]}?" for i in kept],
        states=states[:, kept], name="other",
    )  # fmt: skip
    ours = probe_run(run, replace(NONE, drop_labels=("c",)), 1).arrays("predictions")
    theirs = probe_run(other, NONE, 1).arrays("predictions")
    assert ours["rows"].tolist() == kept and ours["classes"].tolist() == ["a", "b"]
    assert (ours["predicted"] == theirs["predicted"]).all()


# Results do not depend on the division of the work.


def test_results_do_not_depend_on_the_number_of_jobs(own_run, capfd, caplog, four_workers):
    """Two layers and random features are divided among 2 and 4 workers."""
    run = own_run(_labels(names="abc"))
    settings = replace(ALL, words=False)
    one = _files(probe_run(run, settings, n_jobs=1, layers=[1, 2]))
    assert set(one) == {
        *("summary.json", "scores.jsonl", "predictions.npz", "estimates.npz"),
        *("probes/card.json", "probes/001.npz", "probes/002.npz"),
        *("probes/001-folds.npz", "probes/002-folds.npz"),
    }
    kept = {path.name: path.read_bytes() for path in _kept(run)}
    assert set(kept) == {"001.npz", "002.npz", "random-features.npz"}
    for n_jobs, n_shares in ((4, 9), (2, 5)):
        _forget(run)
        _stderr_and_log(capfd, caplog)
        assert _files(probe_run(run, settings, n_jobs, layers=[1, 2])) == one
        assert {path.name: path.read_bytes() for path in _kept(run)} == kept
        said = _stderr_and_log(capfd, caplog)
        assert "6/6 searches" in said and f"{n_shares}/{n_shares} shares" in said


@pytest.mark.parametrize("n_parts", [2, 8])
def test_results_do_not_depend_on_how_the_layers_were_divided(extracted, capfd, caplog, n_parts):
    whole = _files(probe_run(extracted, NONE, n_jobs=1))
    _forget(extracted)
    for k in reversed(range(n_parts)):
        probe_part(extracted, NONE, n_jobs=1 + (k == 0), part=(k, n_parts))
        assert not extracted.results.exists()
    _stderr_and_log(capfd, caplog)
    assert _files(probe_run(extracted, NONE, n_jobs=1)) == whole
    said = _stderr_and_log(capfd, caplog)
    assert "5 of 5 layers were fitted before" in said and "/s\n" not in said


def test_a_part_fits_its_own_layers_alone(extracted):
    layers, folder = probe_part(extracted, ALL, n_jobs=1, part=(1, 3))
    assert layers == range(1, 3)
    assert sorted(path.name for path in folder.iterdir()) == ["001.npz", "002.npz"]


@pytest.mark.parametrize("n_layers", [1, 2, 5, 33])
@pytest.mark.parametrize("n_parts", [1, 2, 3, 4, 33, 40])
def test_parts_follow_each_other_and_are_nearly_equal(n_layers, n_parts):
    parts = [part_layers(n_layers, k, n_parts) for k in range(n_parts)]
    assert [layer for part in parts for layer in part] == list(range(n_layers))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_chosen_layers_alone_then_all_and_none_is_fitted_twice(extracted, vsp):
    answer = vsp("probe", "--layers", "3,1-2,3", *LIGHT)
    assert answer.returncode == 0 and "3/3 jobs" in answer.stderr
    results = choose_setting(extracted.results)
    assert [score.layer for score in results.read()[1]] == [1, 2, 3]
    assert results.arrays("predictions")["layers"].tolist() == [1, 2, 3]
    assert results.summary()["best_layer"] in (1, 2, 3) and vsp("report").returncode == 0
    with pytest.raises(ProbeError, match="holds no probe of layer 0"):
        load(results.folder, 0)
    some = {layer: results.probe(layer)[1]["coef"] for layer in (1, 2, 3)}
    answer = vsp("probe", *LIGHT)
    assert "3 of 5 layers were fitted before" in answer.stderr and "2/2 jobs" in answer.stderr
    every = choose_setting(extracted.results)
    assert [score.layer for score in every.read()[1]] == list(range(5))
    assert [score.layer for score in results.read()[1]] == [1, 2, 3]  # these results stay
    assert all((every.probe(layer)[1]["coef"] == some[layer]).all() for layer in some)
    whole = _files(every)
    _forget(extracted)
    assert _files(probe_run(extracted, NONE, 1)) == whole


def test_layers_that_do_not_fit_in_memory_are_read_again(extracted, monkeypatch):
    whole = _files(probe_run(extracted, NONE, 1))
    monkeypatch.setattr("vsp.evaluation.probe_run._MAX_KEPT", 0)
    assert _files(probe_run(extracted, NONE, 1)) == whole


@pytest.mark.parametrize("layers", [[5], [0, -1], []])
def test_layers_that_are_not_there_are_refused(extracted, layers):
    with pytest.raises(ProbeError, match=r"layer (5|-1|none): run .* has layers 0 to 4"):
        probe_run(extracted, NONE, 1, layers=layers)


def test_no_more_workers_than_cores(monkeypatch):
    monkeypatch.setattr("joblib.cpu_count", lambda: 3)
    assert [usable_jobs(n) for n in (1, 3, 64)] == [1, 3, 3]


# The cache of fitted layers.


def test_a_killed_probe_goes_on_and_gives_what_an_undisturbed_one_gives(plan_fake, work, vsp):
    run = plan_fake(options={"n_layers": 24})
    extract(run, run.shards)
    whole = _files(probe_run(run, NONE, n_jobs=1))
    _forget(run)
    command = [sys.executable, "-m", "vsp", "probe", *LIGHT]
    with subprocess.Popen(command, cwd=work, stderr=subprocess.DEVNULL) as process:
        while len(_kept(run)) < 3 and process.poll() is None:
            time.sleep(0.002)
        process.kill()
    assert process.returncode == -signal.SIGKILL and not run.results.exists()
    n_kept = len(_kept(run))
    assert 3 <= n_kept < 24
    answer = vsp("probe", *LIGHT)
    assert f"note: {n_kept} of 24 layers were fitted before; kept in scratch/" in answer.stderr
    assert f"{24 - n_kept}/{24 - n_kept} jobs" in answer.stderr
    assert _files(choose_setting(run.results)) == whole


def test_a_worker_that_is_killed_is_a_line_and_the_same_command_goes_on(plan_fake, work, vsp):
    run = plan_fake(options={"n_layers": 24})
    extract(run, run.shards)
    command = [sys.executable, "-m", "vsp", "probe", *LIGHT, "--n-jobs", "2"]
    with subprocess.Popen(command, cwd=work, stderr=subprocess.PIPE, text=True) as process:
        while not _kept(run) and process.poll() is None:
            time.sleep(0.002)
        os.kill(_a_worker_of(process.pid), signal.SIGKILL)
        _, said = process.communicate()
    assert process.returncode == 1 and "Traceback" not in said
    assert "a worker process was killed, usually because memory ran out" in said.splitlines()[-1]
    n_kept = len(_kept(run))
    assert 0 < n_kept < 24
    assert f"{n_kept} of 24 layers were fitted before" in vsp("probe", *LIGHT).stderr
    assert len(choose_setting(run.results).read()[1]) == 24


def _a_worker_of(pid):
    for path in Path("/proc").glob("[0-9]*/stat"):
        fields = path.read_text().rpartition(")")[2].split()
        words = (path.parent / "cmdline").read_bytes()
        if int(fields[1]) == pid and b"LokyProcess" in words:
            return int(path.parent.name)
    raise AssertionError("no worker")


def _cut(path):
    path.write_bytes(path.read_bytes()[:-100])


def _empty(path):
    path.write_bytes(b"")


def _flip(path):
    body = bytearray(path.read_bytes())
    body[len(body) // 2] ^= 1
    path.write_bytes(body)


def _take_another_layers(path):
    path.write_bytes((path.parent / "000.npz").read_bytes())


@pytest.mark.parametrize("damage", [_cut, _empty, _flip, _take_another_layers])
def test_a_damaged_fit_is_said_and_fitted_again(extracted, capfd, caplog, damage):
    whole = _files(probe_run(extracted, NONE, n_jobs=1))
    path = _kept(extracted)[3]
    good = path.read_bytes()
    damage(path)
    _stderr_and_log(capfd, caplog)
    assert _files(probe_run(extracted, NONE, n_jobs=1)) == whole
    said = _stderr_and_log(capfd, caplog)
    assert f"{path} is damaged; it is removed and the layer fitted again" in said
    assert "4 of 5 layers were fitted before" in said and "1/1 jobs" in said
    assert path.read_bytes() == good


def test_fits_of_other_settings_are_not_taken_over_but_kept(extracted, capfd, caplog):
    first = _files(probe_run(extracted, NONE, n_jobs=1))
    other = _files(probe_run(extracted, replace(NONE, strengths=(1e-9,)), n_jobs=1))
    assert other["probes/003.npz"] != first["probes/003.npz"]
    assert "fitted before" not in _stderr_and_log(capfd, caplog)
    assert _files(probe_run(extracted, NONE, n_jobs=1)) == first
    assert "5 of 5 layers were fitted before" in _stderr_and_log(capfd, caplog)


def test_what_only_judges_does_not_fit_again(extracted, capfd, caplog):
    settings = replace(ALL, words=False)
    first = probe_run(extracted, settings, n_jobs=1)
    before, scores = _files(first), first.read()[1]
    _stderr_and_log(capfd, caplog)
    narrower = probe_run(extracted, replace(settings, confidence=0.5), n_jobs=1).read()[1]
    other = probe_run(extracted, replace(settings, resamples=50), n_jobs=1).read()[1]
    said = _stderr_and_log(capfd, caplog)
    assert said.count("were fitted before") == 2 and "/s\n" not in said
    assert _files(first)["probes/003.npz"] == before["probes/003.npz"]
    for one, half, few in zip(scores, narrower, other, strict=True):
        assert one.score == half.score == few.score
        assert half.high - half.low < 0.6 * (one.high - one.low)
    assert [(one.low, one.high) for one in scores] != [(few.low, few.high) for few in other]


def test_random_features_are_fitted_once_and_for_no_layer(extracted):
    results = probe_run(extracted, ALL, n_jobs=1, layers=[2])
    fitted = ["002.npz", "boxes.npz", "names.npz", "random-features.npz", "words.npz"]
    assert [path.name for path in _kept(extracted)] == fitted
    assert [score.layer for score in results.read()[1]] == [2]
    random = results.summary()["baselines"]["random features"]
    assert random["low"] < random["score"] < random["high"]
    without = probe_run(extracted, replace(ALL, random=False, words=False), n_jobs=1, layers=[2])
    assert not {"random features", "names", "words"} & without.summary()["baselines"].keys()
    assert len(_kept(extracted)) == 5  # without the baseline, no layer is fitted again


def _checksums(run, rows):
    """Checksums [array, row] of rows as they are on the disk."""
    arrays = [np.load(store.path, mmap_mode="r") for store in run.stores.values()]
    three = [array if array.ndim == 3 else array[None] for array in arrays]
    return np.array([[row_checksum(array[:, row]) for row in rows] for array in three])


def test_fits_of_states_that_were_extracted_anew_are_not_taken_over(extracted, capfd, caplog):
    results = probe_run(extracted, NONE, n_jobs=1)
    before = _files(results)
    row = int(np.flatnonzero(results.arrays("predictions")["outer"][0] < 0)[0])
    states = np.load(extracted.store.path, mmap_mode="r+")
    states[3, row] += 1
    with Journal(extracted.journals, extracted.plan.id, 0) as journal:
        of_arrays = _checksums(extracted, [row])
        of_arrays[0] = row_checksum(states[:, row])
        journal.mark_done([row], of_arrays)
    after = _files(probe_run(extracted, NONE, n_jobs=1))
    assert "fitted before" not in _stderr_and_log(capfd, caplog)
    assert after["probes/003.npz"] != before["probes/003.npz"]


_BOXES = ("subject_box", "reference_box")


def _decisive(run):
    text = {
        "label": np.tile(["a", "b", "b", "a"], 25),
        "group": np.array([f"g{i // 2}" for i in range(100)]),
        "prompt": np.array([f"p{i % 3}" for i in range(100)]),
        "split": np.repeat(["train", "test"], 50),
        "id": np.arange(100).astype(str),
        "subject": np.array([f"s{i % 5}" for i in range(100)]),
        "reference": np.array([f"r{i % 7}" for i in range(100)]),
    }
    boxes = {name: np.random.default_rng(0).random((100, 4)) for name in _BOXES}
    return {
        "run": run,
        "settings": ProbeSettings(),
        "rows": ProbedRows(row=np.arange(100), **text, **boxes),
        "crc32": np.arange(100, dtype=np.uint32),
    }


_CHANGED = {
    "probe": "lda", "treatment": "none", "strengths": (1.0,), "tolerance": 1e-3, "max_iter": 9,
    "folds": 4, "repeats": 1, "permutations": 9, "controls": 9, "curve": False, "seed": 1,
    "metric": "auc", "class_weight": "balanced", "over_training": True, "split_by": "pairs",
    "position": "image", "probe_options": (("n", 1),), "probe_code": "sha256:0",
    "erase": "inlp", "erase_rank": 2,
}  # fmt: skip
_JUDGES = {
    "confidence": 0.9, "resamples": 9, "random": False, "words": False, "drop_labels": ("x",),
    "answer_score": "per-token",
}  # fmt: skip
_OTHER = {
    "settings": lambda of: [replace(of["settings"], **{k: v}) for k, v in _CHANGED.items()],
    "rows": lambda of: [
        replace(of["rows"], row=of["rows"].row + 1),
        *(replace(of["rows"], **{name: np.roll(getattr(of["rows"], name), 1)})
          for name in ("id", "label", "group", "prompt", "split", "subject", "reference", *_BOXES)),
    ],
    "crc32": lambda of: [of["crc32"] + np.uint32(1), of["crc32"][::-1]],
}  # fmt: skip


@pytest.mark.parametrize("name", _OTHER)
def test_whatever_decides_a_fit_is_in_its_key(plan_fake, name):
    given = _decisive(plan_fake())
    key = fits_key(**given)
    assert len(key) == 16 and key == fits_key(**_decisive(given["run"]))
    others = [fits_key(**{**given, name: other}) for other in _OTHER[name](given)]
    assert len({key, *others}) == 1 + len(others)


def test_every_setting_decides_a_fit_or_only_judges(plan_fake):
    assert {*_CHANGED, *_JUDGES} == set(ProbeSettings.__dataclass_fields__)
    given = _decisive(plan_fake())
    judging = {**given, "settings": replace(given["settings"], **_JUDGES)}
    assert fits_key(**judging) == fits_key(**given)
    assert all(getattr(ProbeSettings(), k) != v for k, v in {**_CHANGED, **_JUDGES}.items())


def test_another_run_and_other_versions_have_other_keys(plan_fake, monkeypatch):
    given = _decisive(plan_fake())
    keys = [fits_key(**given), fits_key(**{**given, "run": plan_fake(name="other")})]
    for name in ("__version__", "sklearn.__version__", "np.__version__", "scipy.__version__"):
        with monkeypatch.context() as patch:
            patch.setattr(f"vsp.evaluation.probe_work.{name}", "0")
            keys.append(fits_key(**given))
    assert len(set(keys)) == 6


def test_a_disk_that_fills_under_the_fits_is_a_line_and_the_same_command_goes_on(plan_fake, vsp):
    run = plan_fake(options={"n_layers": 8})
    extract(run, run.shards)
    whole = _files(probe_run(run, NONE, n_jobs=1))
    n_pages = 3 * -(-_kept(run)[0].stat().st_size // 4096)  # space for three layers
    _forget(run)
    for n_jobs in (1, 2):
        with small_disk(run.folder / "probe") as disk:
            fill(disk, n_pages)
            answer = vsp("probe", *LIGHT, "--n-jobs", n_jobs)
            line = answer.stderr.strip().splitlines()[-1]
            assert answer.returncode == 1 and "Traceback" not in answer.stderr
            assert ".npz: no space left on device; free space and run the same command" in line
            assert not run.results.exists()
            n_kept = len(_kept(run))
            assert 0 < n_kept < 8 and all(path.name[0] != "." for path in _kept(run))
            free(disk)
            answer = vsp("probe", *LIGHT)  # the number of jobs decides nothing
            assert f"{n_kept} of 8 layers were fitted before" in answer.stderr
            assert _files(choose_setting(run.results)) == whole
        shutil.rmtree(run.results)


def test_a_disk_that_fills_under_the_results_keeps_the_old_ones_until_there_is_space(
    extracted, work, vsp
):
    new = _files(probe_run(extracted, replace(NONE, strengths=(0.01,)), n_jobs=1))
    shutil.rmtree(extracted.results)
    with small_disk(work / "results") as disk:
        old = _files(probe_run(extracted, NONE, n_jobs=1))
        for n_pages in (0, 6):
            fill(disk, n_pages)
            answer = vsp("probe", *LIGHT, "--grid", "0.01")
            assert answer.returncode == 1 and "Traceback" not in answer.stderr
            assert "no space left on device; free space and run the same" in answer.stderr
            assert _files(choose_setting(extracted.results)) == old
            assert vsp("report").returncode == 0
        free(disk)
        assert vsp("probe", *LIGHT, "--grid", "0.01").returncode == 0
        assert _files(choose_setting(extracted.results)) == new


def test_a_run_on_a_read_only_disk_is_probed_and_keeps_its_fits_with_the_results(
    extracted, work, vsp
):
    whole = _files(probe_run(extracted, NONE, n_jobs=1))
    _forget_fits(extracted)
    with small_disk(work / "disk", "64m") as disk:
        shutil.copytree(extracted.folder, disk / extracted.name)
        shutil.rmtree(extracted.folder)
        extracted.folder.symlink_to(disk / extracted.name)
        read_only(disk)
        answer = vsp("probe", *LIGHT)
        assert answer.returncode == 0, answer.stderr
        assert "is read-only; fitted layers are kept in results/" in answer.stderr
        assert _files(choose_setting(extracted.results)) == whole
        answer = vsp("probe", "--part", "0/1", *LIGHT)
        assert "5 of 5 layers were fitted before" in answer.stderr


def test_nothing_on_disk_is_pickled(extracted):
    results = probe_run(extracted, ALL, n_jobs=1)
    found = [*results.folder.rglob("*.npz"), *_kept(extracted)]
    assert len(found) == 2 + 5 + 9
    for path in found:
        with np.load(path, allow_pickle=False) as file:
            assert all(file[key].dtype != object for key in file)


# The command line.


def test_the_command_line_tells_parts_from_results(extracted, vsp):
    first = vsp("probe", "--part", "0/2", *LIGHT)
    assert first.returncode == 0 and first.stdout.startswith("part 0/2: layers 0 to 1 of 5 are in ")
    assert "no results written; `vsp probe` merges the parts and writes them" in first.stdout
    empty = vsp("probe", "--part", "0/9", *LIGHT)
    assert empty.stdout == "part 0/9 is empty: the run has 5 layers; no results written\n"
    assert "holds no results" in vsp("report").stderr
    assert "2 of 5 layers were fitted before" in vsp("probe", *LIGHT).stderr
    assert vsp("report").returncode == 0


def test_what_the_command_line_says_is_what_is_done(extracted, vsp):
    wanted = {
        "probe": "multinomial", "treatment": "unit-norm", "strengths": [0.01, 1.0],
        "tolerance": 1e-3, "max_iter": 50, "folds": 3, "repeats": 1, "permutations": 2,
        "controls": 1, "curve": False, "random": False, "seed": 4, "resamples": 60,
        "drop_labels": ["above"], "metric": "log-loss", "class_weight": "none",
        "over_training": True, "words": False, "split_by": "image",
        "position": "last", "answer_score": "per-token", "probe_options": [], "probe_code": "",
        "erase": "", "erase_rank": 0,
    }  # fmt: skip
    answer = vsp("probe", "--probe", "multinomial", "--treatment", "unit-norm", "--grid", 1, 0.01,
                 "--tolerance", "1e-3", "--max-iter", 50, "--folds", 3, "--repeats", 1,
                 "--permutations", 2, "--controls", 1, "--no-curve", "--no-random", "--seed", 4,
                 "--resamples", 60, "--layers", 2, "--n-jobs", 1, "--drop-label", "above",
                 "--metric", "log-loss", "--class-weight", "none", "--over", "training",
                 "--no-words", "--answer-score", "per-token", "--position", "last")  # fmt: skip
    assert answer.returncode == 0, answer.stderr
    summary = choose_setting(extracted.results).summary()
    found = summary["settings"]
    assert {**found, "strengths": sorted(found["strengths"])} == {**wanted, "confidence": 0.95}
    assert {**wanted, "confidence": 0.95}.keys() == found.keys()
    assert summary["probe"]["grid"] == [0.01, 1.0] and summary["n_permutations"] == 2
