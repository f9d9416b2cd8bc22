import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from disks import fill, free, read_only, small_disk
from sklearn.metrics import accuracy_score, f1_score, recall_score

from vsp.errors import ProbeError, RunError
from vsp.extract import extract
from vsp.fit import (
    Settings,
    fits_key,
    group_folds,
    load_probe,
    part_layers,
    probe_part,
    probe_run,
    split_rows,
    usable_jobs,
)
from vsp.journal import Journal
from vsp.manifest import Sample
from vsp.probes.logistic import OneVsRestLogistic
from vsp.results import LayerScore, Results, best_layer
from vsp.store import row_checksum


def _samples(n=100, rows_per_group=2, split="", labels="ab"):
    return [
        Sample(str(i), "i", "p", labels[i % len(labels)], f"g{i // rows_per_group}", split)
        for i in range(n)
    ]


def _files(results):
    return {path.name: path.read_bytes() for path in results.folder.iterdir() if path.is_file()}


def _kept(run):
    """The files of layers that were fitted, in their order."""
    return sorted((run.folder / "probe").glob("*/*.npz"))


def _forget_fits(run):
    shutil.rmtree(run.folder / "probe")


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
    assert predictions["rows"].tolist() == sorted(predictions["rows"].tolist())
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
    one = _files(probe_run(extracted, Settings(), n_jobs=1))
    _forget_fits(extracted)
    assert _files(probe_run(extracted, Settings(), n_jobs=2)) == one
    assert set(one) == {"summary.json", "scores.jsonl", "probes.npz", "predictions.npz"}


@pytest.mark.parametrize("n_parts", [1, 2, 3, 5, 8])
def test_results_do_not_depend_on_how_the_layers_were_divided(extracted, capfd, n_parts):
    whole = _files(probe_run(extracted, Settings(), n_jobs=1))
    _forget_fits(extracted)
    shutil.rmtree(extracted.results)
    for k in reversed(range(n_parts)):
        probe_part(extracted, Settings(), n_jobs=1 + k % 2, part=(k, n_parts))
        assert not extracted.results.exists()
    capfd.readouterr()
    assert _files(probe_run(extracted, Settings(), n_jobs=1)) == whole
    said = capfd.readouterr().err
    assert "5 of 5 layers were fitted before" in said and "layers/s" not in said


def test_a_part_fits_its_own_layers_alone(extracted):
    layers, folder = probe_part(extracted, Settings(), n_jobs=1, part=(1, 2))
    assert layers == range(2, 5)
    assert sorted(path.name for path in folder.iterdir()) == ["002.npz", "003.npz", "004.npz"]


@pytest.mark.parametrize("n_layers", [1, 2, 5, 33])
@pytest.mark.parametrize("n_parts", [1, 2, 3, 4, 33, 40])
def test_parts_follow_each_other_and_are_nearly_equal(n_layers, n_parts):
    parts = [part_layers(n_layers, k, n_parts) for k in range(n_parts)]
    assert [layer for part in parts for layer in part] == list(range(n_layers))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_a_part_of_an_unfinished_run_is_refused(plan_fake):
    with pytest.raises(RunError, match="96 rows are missing"):
        probe_part(plan_fake(), Settings(), n_jobs=1, part=(0, 2))


def test_a_run_without_a_single_row_is_refused_in_a_line(plan_fake):
    with pytest.raises(ProbeError, match="none of 96 rows is done"):
        probe_run(plan_fake(), Settings(), n_jobs=1, partial=True)


def test_a_killed_probe_goes_on_and_gives_what_an_undisturbed_one_gives(plan_fake, work, vsp):
    run = plan_fake(options={"n_layers": 24})
    extract(run, run.shards)
    whole = _files(probe_run(run, Settings(), n_jobs=1))
    _forget_fits(run)
    shutil.rmtree(run.results)
    command = [sys.executable, "-m", "vsp", "probe", "--n-jobs", "1"]
    with subprocess.Popen(command, cwd=work, stderr=subprocess.DEVNULL) as process:
        while len(_kept(run)) < 3 and process.poll() is None:
            time.sleep(0.002)
        process.kill()
    assert process.returncode == -signal.SIGKILL and not run.results.exists()
    n_kept = len(_kept(run))
    assert 3 <= n_kept < 24
    answer = vsp("probe", "--n-jobs", "1")
    assert f"note: {n_kept} of 24 layers were fitted before; kept in scratch/" in answer.stderr
    assert f"{24 - n_kept}/{24 - n_kept} layers" in answer.stderr
    assert _files(Results(run.results)) == whole


def test_a_layer_is_kept_as_soon_as_it_is_fitted(extracted):
    np.load(extracted.store.path, mmap_mode="r+")[3, 5, 0] = np.nan
    with pytest.raises(ProbeError, match="layer 3 holds values that are not finite"):
        probe_run(extracted, Settings(), n_jobs=1)
    assert [path.name for path in _kept(extracted)] == ["000.npz", "001.npz", "002.npz"]


def test_a_worker_that_is_killed_is_a_line_and_the_same_command_goes_on(plan_fake, work, vsp):
    run = plan_fake(options={"n_layers": 24})
    extract(run, run.shards)
    command = [sys.executable, "-m", "vsp", "probe", "--n-jobs", "2"]
    with subprocess.Popen(command, cwd=work, stderr=subprocess.PIPE, text=True) as process:
        while not _kept(run) and process.poll() is None:
            time.sleep(0.002)
        os.kill(_a_worker_of(process.pid), signal.SIGKILL)
        _, said = process.communicate()
    assert process.returncode == 1 and "Traceback" not in said
    assert "a worker process was killed, as a rule for want of memory" in said.splitlines()[-1]
    n_kept = len(_kept(run))
    assert f"{n_kept} of 24 layers were fitted before" in vsp("probe").stderr
    assert len(Results(run.results).scores()) == 24


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
def test_a_damaged_fit_is_said_and_fitted_again(extracted, capfd, damage):
    whole = _files(probe_run(extracted, Settings(), n_jobs=1))
    path = _kept(extracted)[3]
    good = path.read_bytes()
    damage(path)
    capfd.readouterr()
    assert _files(probe_run(extracted, Settings(), n_jobs=1)) == whole
    said = capfd.readouterr().err
    assert f"{path} is damaged; it is removed and the layer fitted again" in said
    assert "4 of 5 layers were fitted before" in said and "1/1 layers" in said
    assert path.read_bytes() == good


def test_fits_of_other_settings_are_not_taken_over_but_kept(extracted, capfd):
    first = _files(probe_run(extracted, Settings(), n_jobs=1))
    other = _files(probe_run(extracted, Settings(C=0.01), n_jobs=1))
    assert other["probes.npz"] != first["probes.npz"]
    assert "fitted before" not in capfd.readouterr().err
    assert _files(probe_run(extracted, Settings(), n_jobs=1)) == first
    assert "5 of 5 layers were fitted before" in capfd.readouterr().err


def test_fits_of_states_that_were_extracted_anew_are_not_taken_over(extracted, capfd):
    results = probe_run(extracted, Settings(), n_jobs=1)
    before = _files(results)
    test_rows = results.arrays("predictions")["rows"].tolist()
    row = next(row for row in range(96) if row not in test_rows)
    states = np.load(extracted.store.path, mmap_mode="r+")
    states[3, row] += 1
    with Journal(extracted.journals, extracted.plan.id, 0) as journal:
        journal.done([row], [row_checksum(states[:, row])])
    after = _files(probe_run(extracted, Settings(), n_jobs=1))
    assert "fitted before" not in capfd.readouterr().err
    assert after["probes.npz"] != before["probes.npz"]


def _decisive(run):
    samples = _samples()
    rows = split_rows(samples, range(100), Settings())
    return {
        "run": run,
        "settings": Settings(),
        "rows": rows,
        "crc32": np.arange(100, dtype=np.uint32),
    }


_OTHER = {
    "settings": lambda all_: [replace(all_["settings"], **{name: value}) for name, value in (
        ("probe", "other"), ("C", 2.0), ("max_iter", 9), ("folds", 4), ("test_fraction", 0.25), ("seed", 1)
    )],
    "rows": lambda all_: [replace(all_["rows"], **changed) for changed in (
        {"row": all_["rows"].row + 1},
        {"label": all_["rows"].label[::-1]},
        {"group": all_["rows"].group[::-1]},
        {"train": all_["rows"].train[1:]},
        {"test": all_["rows"].test[1:]},
        {"folds": all_["rows"].folds[1:]},
        {"split": "other"},
    )],
    "crc32": lambda all_: [all_["crc32"] + np.uint32(1), all_["crc32"][::-1]],
}  # fmt: skip


@pytest.mark.parametrize("name", _OTHER)
def test_whatever_decides_a_fit_is_in_its_key(plan_fake, name):
    given = _decisive(plan_fake())
    key = fits_key(**given)
    assert len(key) == 16 and key == fits_key(**_decisive(given["run"]))
    others = [fits_key(**{**given, name: other}) for other in _OTHER[name](given)]
    assert len({key, *others}) == 1 + len(others)


def test_another_run_and_other_versions_have_other_keys(plan_fake, monkeypatch):
    given = _decisive(plan_fake())
    keys = [fits_key(**given), fits_key(**{**given, "run": plan_fake(name="other")})]
    for name in ("__version__", "sklearn.__version__", "np.__version__", "scipy.__version__"):
        with monkeypatch.context() as patch:
            patch.setattr(f"vsp.fit.{name}", "0")
            keys.append(fits_key(**given))
    assert len(set(keys)) == 6


def test_a_disk_that_fills_under_the_fits_is_a_line_and_the_same_command_goes_on(plan_fake, vsp):
    run = plan_fake(options={"n_layers": 12})
    extract(run, run.shards)
    whole = _files(probe_run(run, Settings(), n_jobs=1))
    _forget_fits(run)
    shutil.rmtree(run.results)
    for n_jobs in (1, 2):
        with small_disk(run.folder / "probe") as disk:
            fill(disk, free_pages=20)
            answer = vsp("probe", "--n-jobs", n_jobs)
            line = answer.stderr.strip().splitlines()[-1]
            assert answer.returncode == 1 and "Traceback" not in answer.stderr
            assert ".npz: no space left on device; free space and run the same command" in line
            assert not run.results.exists()
            n_kept = len(_kept(run))
            assert 0 < n_kept < 12 and all(path.name[0] != "." for path in _kept(run))
            free(disk)
            answer = vsp("probe", "--n-jobs", n_jobs)
            assert f"{n_kept} of 12 layers were fitted before" in answer.stderr
            assert _files(Results(run.results)) == whole
        shutil.rmtree(run.results)


def test_a_disk_that_fills_under_the_results_keeps_the_old_ones_until_there_is_space(
    extracted, work, vsp
):
    new = _files(probe_run(extracted, Settings(C=0.01), n_jobs=1))
    shutil.rmtree(extracted.results)
    with small_disk(work / "results") as disk:
        old = _files(probe_run(extracted, Settings(), n_jobs=1))
        for n_pages in (0, 6):
            fill(disk, n_pages)
            answer = vsp("probe", "--C", "0.01")
            assert answer.returncode == 1 and "Traceback" not in answer.stderr
            assert "no space left on device; free space and run the same" in answer.stderr
            assert _files(Results(extracted.results)) == old
            assert vsp("report").returncode == 0
        free(disk)
        assert vsp("probe", "--C", "0.01").returncode == 0
        assert _files(Results(extracted.results)) == new


def test_a_run_on_a_read_only_disk_is_probed_and_keeps_its_fits_with_the_results(
    extracted, work, capfd, vsp
):
    whole = _files(probe_run(extracted, Settings(), n_jobs=1))
    _forget_fits(extracted)
    with small_disk(work / "disk", "64m") as disk:
        shutil.copytree(extracted.folder, disk / extracted.name)
        shutil.rmtree(extracted.folder)
        extracted.folder.symlink_to(disk / extracted.name)
        read_only(disk)
        answer = vsp("probe")
        assert answer.returncode == 0, answer.stderr
        assert "is read-only; fitted layers are kept in results/" in answer.stderr
        assert _files(Results(extracted.results)) == whole
        assert "5 of 5 layers were fitted before" in vsp("probe", "--part", "0/1").stderr


def test_the_command_line_tells_parts_from_results(extracted, vsp):
    first = vsp("probe", "--part", "0/2")
    assert first.returncode == 0 and first.stdout.startswith("part 0/2: layers 0 to 1 of 5 are in ")
    assert "no results written, `vsp probe` merges the parts" in first.stdout
    empty = vsp("probe", "--part", "0/9")
    assert empty.stdout == "part 0/9 is empty, there are 5 layers; no results written\n"
    assert "holds no results" in vsp("report").stderr
    assert "2 of 5 layers were fitted before" in vsp("probe").stderr
    assert vsp("report").returncode == 0


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
    shard = run.shards[0]
    done = run.ledger(shard).done
    lost = [3, 4, 7]
    shutil.rmtree(run.journals)
    extract(run, [run.shards[1]])
    with Journal(run.journals, run.plan.id, 0) as journal:
        kept = [row for row in done if row not in lost]
        journal.done(kept, [done[row] for row in kept])
        journal.failed(lost[0], "its image is gone")
    n_missing = len(lost) - 1
    with pytest.raises(RunError, match=f"{n_missing} rows are missing and 1 failed of 96"):
        probe_run(run, Settings(), n_jobs=1)
    results = probe_run(run, Settings(folds=3), n_jobs=1, partial=True)
    rows = results.summary()["rows"]
    assert (rows["planned"], rows["failed"], rows["missing"]) == (96, 1, n_missing)
    assert rows["used"] == rows["done"] == 96 - len(lost)
    assert results.summary()["failed_reasons"] == {"its image is gone": 1}
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


def test_every_planned_row_is_counted_once_and_failed_rows_by_reason(plan_fake):
    run = plan_fake(n_shards=2)
    extract(run, [run.shards[0]])
    start, stop = run.shards[1].start, run.shards[1].stop
    with Journal(run.journals, run.plan.id, 1) as journal:
        for i, row in enumerate(range(start, stop - 2)):
            journal.failed(row, "seldom" if i < 3 else "often" if i < 10 else f"row {row}")
    summary = probe_run(run, Settings(folds=2), n_jobs=1, partial=True).summary()
    rows = summary["rows"]
    assert rows["planned"] == 96 == rows["done"] + rows["failed"] + rows["missing"]
    assert rows["missing"] == 2 and rows["used"] == rows["done"] == rows["train"] + rows["test"]
    reasons = summary["failed_reasons"]
    assert list(reasons.items())[:2] == [("often", 7), ("seldom", 3)] and len(reasons) == 10
    assert set(list(reasons.values())[2:]) == {1}


def test_no_more_workers_than_cores(monkeypatch):
    monkeypatch.setattr("joblib.cpu_count", lambda: 3)
    assert [usable_jobs(n) for n in (1, 3, 64)] == [1, 3, 3]
