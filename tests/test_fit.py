import json
from collections import Counter

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score, recall_score

from vsp.errors import ProbeError, RunError
from vsp.extract import extract
from vsp.fit import Settings, group_folds, load_probe, probe_run, split_rows, usable_jobs
from vsp.journal import Journal
from vsp.manifest import Sample
from vsp.probes.logistic import OneVsRestLogistic
from vsp.results import LayerScore, Results, best_layer


def _samples(n=100, rows_per_group=2, split="", labels="ab"):
    return [
        Sample(str(i), "i", "p", labels[i % len(labels)], f"g{i // rows_per_group}", split)
        for i in range(n)
    ]


@pytest.fixture
def extracted(plan_fake):
    run = plan_fake(n_shards=2)
    extract(run, run.shards)
    return run


def test_a_group_never_straddles_train_and_test():
    label, group = np.tile(["above", "below"], 12), np.repeat(np.arange(12).astype(str), 2)
    for fit, judge in group_folds(label, group, n_folds=3, seed=0):
        assert not set(group[fit]) & set(group[judge])


def test_without_a_split_of_its_own_a_fifth_is_held_out_by_group_and_label():
    rows = split_rows(_samples(), range(100), Settings())
    assert not set(rows.group[rows.train]) & set(rows.group[rows.test])
    assert sorted([*rows.train, *rows.test]) == list(range(100))
    assert Counter(rows.label[rows.test]) == {"a": 10, "b": 10}
    assert rows.split == "80%/20% by group"
    for fit, judge in rows.folds:
        assert not set(rows.group[rows.train][fit]) & set(rows.group[rows.train][judge])


def test_the_datasets_own_split_is_kept():
    samples = _samples(80, split="train") + [
        Sample(f"v{i}", "i", "p", "ab"[i % 2], f"v{i}", "val") for i in range(20)
    ]
    rows = split_rows(samples, range(100), Settings())
    assert rows.test.tolist() == list(range(80, 100))
    assert rows.split == "the dataset's own, val held out"


def test_rows_that_are_left_out_stay_out_and_the_others_keep_their_place():
    usable = [row for row in range(100) if row % 10]
    rows = split_rows(_samples(), usable, Settings())
    assert rows.row.tolist() == usable
    assert [f"g{row // 2}" for row in usable] == rows.group.tolist()


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (_samples(split="train"), "100 training and 0 test rows"),
        (_samples(50, split="train") + _samples(50, split="val"), "25 groups have rows in train"),
        (_samples(50, split="train") + _samples(50), "50 of 100 rows have no split"),
        (_samples(labels="a"), "one label, 'a'"),
        (_samples(8), "label 'a' has 4 groups, too few for 5 folds"),
        (
            [*_samples(50, split="train"), Sample("x", "i", "p", "z", "x", "test")],
            "test label 'z' is on no training row",
        ),
    ],
)
def test_rows_that_cannot_be_split_are_refused(samples, message):
    with pytest.raises(ProbeError, match=message):
        split_rows(samples, range(len(samples)), Settings())


def test_scores_are_scikit_learns_of_the_saved_predictions(extracted):
    results = probe_run(extracted, Settings(), n_jobs=1)
    predictions = results.arrays("predictions")
    samples = list(extracted.manifest.rows())
    assert [samples[row].label for row in predictions["rows"]] == predictions["label"].tolist()
    assert all(samples[row].split == "val" for row in predictions["rows"])
    label = predictions["label"]
    for score, predicted in zip(results.scores(), predictions["predicted"], strict=True):
        assert score.accuracy == accuracy_score(label, predicted)
        assert score.macro_f1 == f1_score(label, predicted, average="macro", zero_division=0.0)
        recalls = recall_score(label, predicted, average=None, zero_division=0.0)
        assert list(score.per_class.values()) == recalls.tolist()
        assert (score.n_train, score.n_test) == (77, 19) and score.n_fits == 6 * 4


def test_the_embedding_output_is_at_chance_and_a_layer_that_sees_is_above(plan_fake, write_dataset):
    """A label that is in the picture alone: no prompt may give it away."""
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
    scores = probe_run(run, Settings(), n_jobs=1).scores()
    assert scores[0].accuracy == scores[0].chance == 0.5
    assert all(score.accuracy > 0.9 for score in scores[1:])


def test_results_do_not_depend_on_the_number_of_jobs(extracted):
    one = probe_run(extracted, Settings(), n_jobs=1)
    files = {p.name: p.read_bytes() for p in one.folder.iterdir() if p.suffix != ".npz"}
    arrays = {name: one.arrays(name) for name in ("probes", "predictions")}
    two = probe_run(extracted, Settings(), n_jobs=2)
    assert files == {p.name: p.read_bytes() for p in two.folder.iterdir() if p.suffix != ".npz"}
    for name, expected in arrays.items():
        found = two.arrays(name)
        assert all((found[key] == expected[key]).all() for key in expected)


def test_a_saved_probe_predicts_what_it_predicted(extracted):
    results = probe_run(extracted, Settings(), n_jobs=1)
    predictions = results.arrays("predictions")
    for layer in range(extracted.plan.n_layers):
        probe = load_probe(results.folder, layer)
        states = extracted.store.layer(layer)[predictions["rows"]]
        assert (probe.predict(states) == predictions["predicted"][layer]).all()
    with pytest.raises(ProbeError, match="holds no layer 5; it has 5"):
        load_probe(results.folder, 5)


def test_nothing_on_disk_is_pickled(extracted):
    results = probe_run(extracted, Settings(), n_jobs=1)
    for name in ("probes", "predictions"):
        with np.load(results.folder / f"{name}.npz", allow_pickle=False) as file:
            assert all(file[key].dtype != object for key in file)


def test_unfinished_runs_are_refused_or_counted(plan_fake):
    run = plan_fake(n_shards=2)
    with pytest.raises(RunError, match="96 rows are missing and 0 failed of 96; extract them"):
        probe_run(run, Settings(), n_jobs=1)
    extract(run, run.shards)
    path = next(run.journals.glob("000000-*.jsonl"))
    head, first, *rest = path.read_text().splitlines()
    lost = json.loads(first)["rows"]
    path.write_text("\n".join([head, *rest]) + "\n")
    with Journal(run.journals, run.plan.id, 0) as journal:
        journal.failed(lost[0], "its image is gone")
    n_missing = len(lost) - 1
    with pytest.raises(RunError, match=f"{n_missing} rows are missing and 1 failed of 96"):
        probe_run(run, Settings(), n_jobs=1)
    results = probe_run(run, Settings(folds=3), n_jobs=1, partial=True)
    rows = results.summary()["rows"]
    assert (rows["planned"], rows["failed"], rows["missing"]) == (96, 1, n_missing)
    assert rows["used"] == rows["done"] == 96 - len(lost)
    assert not set(lost) & set(results.arrays("predictions")["rows"].tolist())
    _check_probes_saw_their_own_training_rows(run, results, without=set(lost))


def test_probes_are_fitted_on_the_training_rows_alone(extracted):
    results = probe_run(extracted, Settings(), n_jobs=1)
    _check_probes_saw_their_own_training_rows(extracted, results, without=set())


def _check_probes_saw_their_own_training_rows(run, results, without):
    samples = list(run.manifest.rows())
    train = [i for i, s in enumerate(samples) if s.split == "train" and i not in without]
    labels = np.array([samples[row].label for row in train])
    saved = results.arrays("probes")
    for layer in range(run.plan.n_layers):
        probe = OneVsRestLogistic().fit(run.store.layer(layer)[train], labels)
        np.testing.assert_allclose(saved["coef"][layer], probe.coef_, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(saved["mean"][layer], probe.mean_, rtol=1e-9, atol=1e-12)


def test_states_that_are_not_finite_are_refused(extracted):
    np.load(extracted.store.path, mmap_mode="r+")[2, 5, 0] = np.nan
    with pytest.raises(ProbeError, match="layer 2 holds values that are not finite"):
        probe_run(extracted, Settings(), n_jobs=1)


def test_the_best_layer_is_chosen_by_cross_validation_not_by_the_test_rows():
    def score(layer, accuracy, cv):
        return LayerScore(layer, accuracy, 0, 0, cv, {}, 0, 0, 0, 0)

    assert best_layer([score(0, 0.9, 0.4), score(1, 0.5, 0.6), score(2, 0.7, 0.6)]).layer == 1


def test_results_that_are_not_there_say_what_to_do(tmp_path):
    with pytest.raises(RunError, match="run `vsp probe` first"):
        Results(tmp_path).summary()
    with pytest.raises(RunError, match="run `vsp probe` first"):
        Results(tmp_path).arrays("probes")


def test_results_that_were_only_half_replaced_do_not_pass_for_whole(extracted):
    results = probe_run(extracted, Settings(), n_jobs=1)
    unsavable = {"rows": np.array([object()])}
    with pytest.raises(ValueError):
        results.write(results.summary(), results.scores(), results.arrays("probes"), unsavable)
    with pytest.raises(RunError, match="holds no results"):
        results.summary()


def test_no_more_workers_than_cores(monkeypatch):
    monkeypatch.setattr("joblib.cpu_count", lambda: 3)
    assert [usable_jobs(n) for n in (1, 3, 64)] == [1, 3, 3]
