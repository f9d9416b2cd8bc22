"""Runs with the same pictures are extracted together: one pass for all, each with its own rows."""

from __future__ import annotations

import json
import os
import shutil
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from PIL import Image

from vsp import models
from vsp.config import parse
from vsp.errors import ConfigError, RunError
from vsp.extraction.extract import extract
from vsp.extraction.plan import PlanRequest, plan_run
from vsp.extraction.plan_together import plan_together
from vsp.extraction.planned_rows import CheckedDatasets
from vsp.extraction.verify import verify
from vsp.storage.journal import Journal
from vsp.storage.plan import Plan, sealed_plan
from vsp.storage.run import Run
from vsp.storage.together import plans_together

N_PICTURES, N_ROWS = 6, 12
ASKED = {"positions": ("last", "subject", "image"), "n_shards": 1, "batch_size": 4}


def _records(prompt, n_rows=N_ROWS):
    """Two rows for each picture. `prompt` gets the number of the row."""
    return [
        {"id": str(i), "image_filename": f"{i // 2}.png", "label": "ab"[i % 2], "subject": "cup",
         "reference": "table", "prompt": prompt(i)}
        for i in range(n_rows)
    ]  # fmt: skip


@pytest.fixture
def datasets(write_dataset):
    """Two datasets with the same pictures, each with its own files; the second has other questions."""
    write_dataset(_records(lambda i: f"where is the cup, on the table or below? {'far ' * i}"), "a")
    write_dataset(_records(lambda i: f"table and cup {i}"), "b")


def _llava(checkpoint, dtype="float32"):
    return models.resolve("llava15", checkpoint=str(checkpoint), quantization="none", dtype=dtype)


def _planned(work, model, **changes):
    """A run and its companion, which stores no state at the subject."""
    asked = {**ASKED, **changes}
    few = tuple(one for one in asked["positions"] if one != "subject")
    leader = PlanRequest(work / "a", model, name="leader", **asked)
    other = PlanRequest(work / "b", model, name="other", rows_of="leader",
                        **{**asked, "positions": few})  # fmt: skip
    planned = plan_together([leader, other], work, lambda: None, CheckedDatasets())
    return [one.run for one in planned]


def _states(run, position="last"):
    return np.load(run.states(position).path)[:, : run.plan.n_samples].astype(np.float64)


def _bytes(runs):
    """The bytes of all arrays, without the header: it holds the plan, and so the paths of pictures."""
    return [np.load(store.path).tobytes() for run in runs for store in run.stores.values()]


def _counts(run):
    ledgers = run.ledgers()
    return tuple(sum(getattr(one, n) for one in ledgers) for n in ("n_done", "n_failed"))


@contextmanager
def _encoded():
    """The number of pictures that each call of a vision tower encodes."""
    numbers = []

    def count(module, arguments, output):
        if type(module).__name__ == "CLIPVisionEmbeddings":
            numbers.append(len(output))

    hook = torch.nn.modules.module.register_module_forward_hook(count)
    try:
        yield numbers
    finally:
        hook.remove()


def test_a_picture_is_encoded_once_and_each_run_has_the_states_of_a_run_alone(
    work, datasets, checkpoint, monkeypatch
):
    monkeypatch.setattr("vsp.extraction.forward_parts.rows_to_run_alone", lambda _: set())
    model = _llava(checkpoint)
    runs = _planned(work, model)
    with _encoded() as numbers:
        extract(runs[1], runs[1].shards)
    assert sum(numbers) == N_PICTURES
    for run, dataset in zip(runs, "ab", strict=True):
        asked = {**ASKED, "positions": run.plan.positions}
        alone = plan_run(PlanRequest(work / dataset, model, **asked), work).run
        extract(alone, alone.shards)
        assert list(run.stores) == list(alone.stores) and not alone.plan.together
        for position in run.plan.positions:
            mine, expected = _states(run, position), _states(alone, position)
            assert np.abs(mine - expected).max() <= 1e-5 * np.abs(expected).max()
        ours, theirs = (one.stores["answers"].layer(0)[:, :2] for one in (run, alone))
        assert np.allclose(ours, theirs, rtol=1e-5, atol=1e-5) and not np.isnan(ours).any()
        checked = verify(run, n_jobs=1)
        assert checked.n_checked == N_ROWS and not checked.bad


def test_a_torn_run_has_the_bytes_of_an_undisturbed_one_whichever_run_is_named(
    work, datasets, checkpoint
):
    """In float16 the last bits depend on the batch, so the same batches must run again."""
    found = []
    for place, number in (("x", 0), ("y", 1)):
        (work / place).mkdir()
        for name in "ab":
            shutil.copytree(work / name, work / place / name)
        runs = _planned(work / place, _llava(checkpoint, "float16"))
        extract(runs[number], runs[number].shards)
        found.append(_bytes(runs))
        assert [_counts(run) for run in runs] == [(N_ROWS, 0)] * 2
    assert found[0] == found[1]
    leader, other = runs
    lost = {leader: (0, 3, 4), other: (1, 3)}
    for run, rows in lost.items():
        for store in run.stores.values():
            values = np.load(store.path, mmap_mode="r+")
            (values if store.layout.of_options else values.swapaxes(0, 1))[list(rows)] = 0
        with Journal(run.journals, run.plan.id, 0) as journal:
            journal.mark_lost(rows)
    extract(leader, leader.shards)
    assert _bytes(runs) == found[0]
    for run, rows in lost.items():  # the others are computed again, not written
        assert [life.n_done for life in run.ledgers()[0].lives] == [N_ROWS, 0, len(rows)]


def test_of_a_finished_companion_nothing_is_written(work, datasets):
    leader, other = _planned(work, models.resolve("fake"))
    extract(leader, leader.shards)
    before = {path: path.stat().st_mtime_ns for path in other.folder.rglob("*")}
    with Journal(leader.journals, leader.plan.id, 0) as journal:
        journal.mark_lost([5])
    extract(other, other.shards)
    assert _counts(leader) == (N_ROWS, 0)
    assert {path: path.stat().st_mtime_ns for path in other.folder.rglob("*")} == before


@pytest.mark.parametrize("workers", [0, 2])
def test_a_picture_that_is_lost_fails_in_its_own_run_alone(work, datasets, workers):
    leader, other = _planned(work, models.resolve("fake"))
    (work / "a/images/2.png").unlink()
    Image.new("RGB", (5, 5)).save(work / "a/images/4.png")
    extract(leader, leader.shards, workers=workers)
    assert _counts(leader) == (8, 4) and _counts(other) == (N_ROWS, 0)
    failed = leader.ledgers()[0].failed
    assert sorted(failed) == [4, 5, 8, 9] and "was changed since the plan" in failed[8]
    shutil.copy(work / "b/images/2.png", work / "a/images/2.png")
    shutil.copy(work / "b/images/4.png", work / "a/images/4.png")
    before = _bytes([other])
    extract(other, other.shards, retry_failed=True)
    assert _counts(leader) == (N_ROWS, 0) and _bytes([other]) == before


def test_a_batch_that_does_not_fit_is_halved_for_all_runs_and_the_limit_is_kept_by_each(
    work, datasets
):
    runs = _planned(work, models.resolve("fake", options={"memory": 3 * 12 * 12}))
    extract(runs[0], runs[0].shards)
    assert [_counts(run) for run in runs] == [(N_ROWS, 0)] * 2
    limits = {run.ledgers()[0].token_limit for run in runs}
    assert len(limits) == 1 and limits != {None}
    assert all(len(run.ledgers()[0].batch_effects) == 4 for run in runs)


def test_runs_that_differ_in_pictures_model_or_shards_are_extracted_alone_and_it_is_said(
    work, datasets, write_dataset
):
    model = models.resolve("fake")
    for i in range(4):
        Image.new("RGB", (5 + i, 5)).save(work / f"b/images/{i}.png")
    other = {"rows_of": "leader", "n_shards": 1}
    requests = [
        PlanRequest(work / "a", model, name="leader", n_shards=1),
        PlanRequest(work / "b", model, name="pictures", **other),
        PlanRequest(work / "a", models.resolve("fake", options={"gain": 2}), name="model", **other),
        PlanRequest(work / "a", model, name="answers", answers=False, **other),
        PlanRequest(work / "a", model, name="stored", store_dtype="float16", **other),
        PlanRequest(work / "a", model, name="same", **other),
    ]
    planned = plan_together(requests, work, lambda: None, CheckedDatasets())
    together = [one.run.name for one in planned if one.run.plan.together]
    assert together == ["leader", "same"]
    said = [note for one in planned for note in one.notes if "extracted " in note]
    assert said == [
        "extracted alone, not together with leader: 4 of 12 rows show a picture of the same shard there",
        "extracted alone, not together with leader: it has another model",
        "extracted alone, not together with leader: only one of them stores answers",
        "extracted alone, not together with leader: it stores states of another type",
        "extracted together with leader, so that each picture is encoded once",
    ]
    for one in planned[1:-1]:
        extract(one.run, one.run.shards)
    assert _counts(planned[0].run) == (0, 0)


def test_a_run_with_the_pictures_in_another_order_takes_part(work, datasets, checkpoint):
    """As a shuffled variant has them: a picture is encoded once for all rows that show it."""
    for i in range(N_PICTURES):
        shutil.copy(work / f"a/images/{(i + 1) % N_PICTURES}.png", work / f"b/images/{i}.png")
    model = _llava(checkpoint)
    runs = _planned(work, model, positions=("last",))
    assert all(run.plan.together for run in runs)
    with _encoded() as numbers:
        extract(runs[0], runs[0].shards)
    assert sum(numbers) == N_PICTURES + 4 * len(runs)  # and four rows of each alone
    asked = {**ASKED, "positions": ("last",)}
    alone = plan_run(PlanRequest(work / "b", model, **asked), work).run
    extract(alone, alone.shards)
    mine, expected = _states(runs[1]), _states(alone)
    assert np.abs(mine - expected).max() <= 1e-5 * np.abs(expected).max()


def test_names_do_not_count_in_the_identity_and_the_rows_of_companions_do(work, datasets):
    model = models.resolve("fake")
    runs = _planned(work, model)
    alone = plan_run(PlanRequest(work / "b", model, name="alone", n_shards=1), work).run
    with_other = runs[0].plan.identity()
    for run in runs:
        assert [one.name for one in Run.open(run.folder).plan.together] == ["leader", "other"]
        assert run.plan.identity() != run.plan.own_identity()
        shutil.rmtree(run.folder)
    first = PlanRequest(work / "a", model, name="first", **ASKED)
    few = ("last", "image")
    second = PlanRequest(work / "b", model, name="second", rows_of="first",
                         **{**ASKED, "positions": few})  # fmt: skip
    again = plan_together([first, second], work, lambda: None, CheckedDatasets())
    assert again[0].run.plan.identity() == with_other
    assert alone.plan.identity() == alone.plan.own_identity()


def test_a_companion_that_other_rows_need_is_not_removed_and_without_it_nothing_is_extracted(
    work, datasets, vsp
):
    leader, other = _planned(work, models.resolve("fake"))
    (work / "local.yaml").write_text("scheduler: local\n")

    def rm(*names):
        return vsp("rm", *names, "--yes", "--profile", "local.yaml")

    said = "note: one extraction computes this run and leader"
    assert said in vsp("status", "--run", "other", "--profile", "local.yaml").stdout
    answer = rm("leader")
    assert answer.returncode == 1 and leader.folder.exists()
    assert (
        "`vsp extract --run other` extracts them, `vsp rm leader other` removes both"
        in answer.stderr
    )
    shutil.move(leader.folder, work / "moved")
    with pytest.raises(RunError, match="is extracted together with run leader, which is not in"):
        extract(other, other.shards)
    plan_run(PlanRequest(work / "a", models.resolve("fake"), name="leader"), work)
    with pytest.raises(RunError, match="was planned again since"):
        extract(other, other.shards)
    shutil.rmtree(leader.folder)
    shutil.move(work / "moved", leader.folder)
    answer = vsp("extract", "--run", "other")
    assert f"run other: {N_ROWS} rows done" in answer.stdout
    assert f"run leader: {N_ROWS} rows done" in answer.stdout
    assert rm("leader").returncode == 0 and _counts(other) == (N_ROWS, 0)
    assert verify(other, n_jobs=1).n_checked == N_ROWS
    extract(other, other.shards)  # nothing is left to do, so that the companion is not needed
    with Journal(other.journals, other.plan.id, 0) as journal:
        journal.mark_lost([5])
    with pytest.raises(RunError, match="is extracted together with run leader, which is not in"):
        extract(other, other.shards)


def test_old_runs_are_kept_with_the_old_run_in_use_that_needs_them(work, datasets, vsp):
    leader, other = _planned(work, models.resolve("fake"))
    Journal(other.journals, other.plan.id, 0, N_ROWS).__enter__()  # a task extracts its rows
    for path in (work / "scratch").rglob("*"):
        os.utime(path, (1e9, 1e9))
    (work / "local.yaml").write_text("scheduler: local\n")
    answer = vsp("rm", "--older-than", "1d", "--yes", "--profile", "local.yaml")
    said = " ".join(answer.stderr.split())
    assert "run other is left as it is: a task extracts its rows" in said
    assert "run leader is left as it is: run other is extracted together with it" in said
    assert leader.folder.exists() and other.folder.exists()


@pytest.mark.parametrize(
    "forged",
    [{"n_samples": 11}, {"shard_starts": (0, 4), "manifest_offsets": (0, 10**6, 2 * 10**6),
      "manifest_sha256": ("", "")}, {"share": False}, {"answers": None}],
)  # fmt: skip
def test_forged_plans_of_unlike_runs_are_refused_in_one_line(work, datasets, forged):
    runs = _planned(work, models.resolve("fake"))
    plans = [runs[0].plan, runs[1].plan.model_copy(update=forged)]
    alone = [plan.model_copy(update={"together": ()}) for plan in plans]
    for run, plan in zip(runs, plans_together(alone), strict=True):
        (run.folder / "plan.json").write_text(json.dumps(sealed_plan(plan)))
    for name in ("leader", "other"):
        run = Run.open(work / "scratch" / name)
        with pytest.raises(RunError, match="cannot be extracted together with run"):
            extract(run, run.shards)


def test_a_forged_run_of_effects_is_extracted_with_no_other(work, datasets):
    plan = _planned(work, models.resolve("fake"))[0].plan
    values = plan.model_dump(mode="json")
    effects = {
        "kind": "steer", "run": "a", "run_id": "0" * 64, "layers": [0], "position": "last",
        "settings": [{"name": "none", "scale": 0}, {"name": "direction", "scale": 1}], "changes_sha256": "0" * 64, "seed": 0,
    }  # fmt: skip
    forged = {**values, "positions": ["last"], "effects": effects}
    with pytest.raises(ConfigError, match="together: is of runs whose states are extracted"):
        parse(Plan, forged, "plan")
    parse(Plan, {**forged, "together": []}, "plan")
