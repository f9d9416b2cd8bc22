import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vsp import models
from vsp.errors import DatasetError, DiskError, ModelError, RunError
from vsp.extraction.batches import cut_batches
from vsp.extraction.extract import extract, pending_rows
from vsp.extraction.plan import PlanRequest, plan_run
from vsp.models.fake import Fake
from vsp.storage.array import row_checksum
from vsp.storage.journal import Journal
from vsp.storage.run import Run
from vsp.utils.images import open_rgb

BATCH = 8


def _expected(run):
    """The states of each row run alone, in the store's dtype."""
    model = models.load(run.plan.model)
    rows = [
        model.last_token_states([open_rgb(sample.image)[0]], [sample.prompt])
        for sample in run.manifest.rows()
    ]
    return np.concatenate(rows, axis=1).astype(run.plan.dtype)


def _states(run):
    return np.load(run.store.path, mmap_mode="r")[:, : run.plan.n_samples]


def _counts(run):
    ledgers = run.ledgers()
    return (
        sum(len(ledger.done) for ledger in ledgers),
        sum(len(ledger.failed) for ledger in ledgers),
        sum(ledger.n_missing for ledger in ledgers),
    )


def test_every_row_ends_in_its_own_column(plan_fake):
    run = plan_fake(n_shards=4, batch_size=BATCH)
    extract(run, run.shards)
    assert _counts(run) == (96, 0, 0)
    assert (_states(run) == _expected(run)).all()
    assert len({row.tobytes() for row in _states(run)[-1]}) == 96  # no two columns alike


def test_journals_hold_the_checksums_of_what_is_on_disk(plan_fake):
    run = plan_fake(n_shards=4)
    extract(run, run.shards)
    states = _states(run)
    for ledger in run.ledgers():
        assert all(row_checksum(states[:, row]) == crc for row, crc in ledger.done.items())


def test_a_shard_writes_its_own_rows_only(plan_fake):
    run = plan_fake(n_shards=4, batch_size=BATCH)
    extract(run, [run.shards[2]])
    shard = run.shards[2]
    inside = np.arange(96)
    inside = (inside >= shard.start) & (inside < shard.stop)
    assert (_states(run)[:, ~inside] == 0).all() and (_states(run)[:, inside] != 0).any(
        axis=2
    ).all()
    assert _counts(run) == (shard.stop - shard.start, 0, 96 - (shard.stop - shard.start))


def test_a_finished_shard_loads_no_model(plan_fake, monkeypatch):
    run = plan_fake()
    extract(run, run.shards)
    before = run.store.path.stat().st_mtime_ns
    monkeypatch.setattr(models, "load", None)
    extract(run, run.shards)
    assert run.store.path.stat().st_mtime_ns == before


def test_a_resumed_run_has_the_bytes_of_an_undisturbed_one(work, write_dataset, checkpoint):
    """In float16 the last bits depend on the batch, so the same batches must run again."""
    records = [{**record, "prompt": "far " * i} for i, record in enumerate(_records(), start=1)]
    dataset = write_dataset(records)
    options = {"quantization": "none", "dtype": "float16"}
    model = models.resolve("llava15", checkpoint=str(checkpoint), **options)
    whole, torn = (
        plan_run(PlanRequest(dataset, model, batch_size=BATCH), work).run for _ in range(2)
    )
    extract(whole, whole.shards)
    extract(torn, torn.shards)
    # Forget the first half of every batch, in the journal and in the array.
    samples = dict(enumerate(torn.manifest.rows()))
    batches = [
        sorted(row for rows in batch for row in rows) for batch in cut_batches([torn.plan], samples)
    ]
    assert len(batches) > 1
    forgotten = sorted(row for batch in batches for row in batch[: len(batch) // 2])
    np.load(torn.store.path, mmap_mode="r+")[:, forgotten] = 0
    with Journal(torn.journals, torn.plan.id, 0) as journal:
        journal.mark_lost(forgotten)
    assert pending_rows(torn.ledgers()[0]) == forgotten and len(forgotten) > BATCH // 2
    extract(torn, torn.shards)
    assert torn.store.path.read_bytes() == whole.store.path.read_bytes()
    assert _counts(torn) == (16, 0, 0)
    # The others are run again, not written.
    assert [life.n_done for life in torn.ledgers()[0].lives] == [16, 0, len(forgotten)]


def test_a_killed_task_goes_on_where_it_was(plan_fake, work):
    whole, killed = plan_fake(batch_size=1), plan_fake(batch_size=1)
    extract(whole, whole.shards)
    # Without --workers the task looks for a GPU, which takes a second.
    command = [sys.executable, "-m", "vsp", "extract", "--run", killed.name, "--workers", "0"]
    for n_rows in (1, 20, 60):
        process = subprocess.Popen(command, cwd=work, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while _counts(killed)[0] < n_rows and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        process.wait()
    done, failed, missing = _counts(killed)
    assert done >= 60 and failed == 0 and done + missing == 96
    extract(killed, killed.shards)
    assert killed.store.path.read_bytes() == whole.store.path.read_bytes()


def test_two_tasks_of_the_same_shard_at_once_are_harmless(plan_fake, work):
    alone, twice = plan_fake(batch_size=4), plan_fake(batch_size=4)
    extract(alone, alone.shards)
    command = [sys.executable, "-m", "vsp", "extract", "--run", twice.name, "--workers", "0"]
    tasks = [subprocess.Popen(command, cwd=work, stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [task.wait() for task in tasks] == [0, 0]
    assert twice.store.path.read_bytes() == alone.store.path.read_bytes()
    assert _counts(twice) == (96, 0, 0)


def test_a_row_is_done_only_after_its_bytes_are_on_disk(plan_fake, monkeypatch):
    run = plan_fake(batch_size=96)
    monkeypatch.setattr("vsp.extraction.forward_parts.rows_to_run_alone", lambda _: set())
    calls = []
    for name in ("pwrite", "write", "fdatasync"):
        monkeypatch.setattr(f"os.{name}", _recorded(calls, name, getattr(os, name)))
    extract(run, run.shards)
    order = [call for i, call in enumerate(calls) if i == 0 or calls[i - 1] != call]
    arrays = list(dict.fromkeys(handle for name, handle in order if name == "pwrite"))
    assert len(arrays) == 2  # states and answers
    first = order.index(("pwrite", arrays[0]))
    journal = order[first + 4][1]
    assert order[first : first + 6] == [
        *(("pwrite", array) for array in arrays), *(("fdatasync", array) for array in arrays),
        ("write", journal), ("fdatasync", journal),
    ]  # fmt: skip
    assert journal not in arrays and not any(name == "pwrite" for name, _ in order[first + 6 :])


def _recorded(calls, name, function):
    def call(handle, *arguments):
        calls.append((name, handle))
        return function(handle, *arguments)

    return call


def test_an_image_that_turned_unreadable_fails_its_row_alone(work, write_dataset):
    run = _own_run(work, write_dataset)
    expected = _expected(run)
    rows = list(run.manifest.rows())
    saved = Path(rows[4].image).read_bytes()
    Path(rows[4].image).write_bytes(saved[:40])
    Path(rows[9].image).unlink()
    Image.new("RGB", (12, 12)).save(rows[13].image)
    extract(run, run.shards)
    (ledger,) = run.ledgers()
    assert sorted(ledger.failed) == [4, 9, 13] and _counts(run) == (13, 3, 0)
    assert "cannot be read" in ledger.failed[4] and "cannot be read" in ledger.failed[9]
    assert "was changed since the plan" in ledger.failed[13]
    good = [row for row in range(16) if row not in (4, 9, 13)]
    assert (_states(run)[:, good] == expected[:, good]).all()
    assert not _states(run)[:, [4, 9, 13]].any()
    # Failed rows stay failed until they are asked for again.
    Path(rows[4].image).write_bytes(saved)
    assert pending_rows(run.ledgers()[0]) == []
    extract(run, run.shards, retry_failed=True)
    assert _counts(run) == (14, 2, 0)
    assert (_states(run)[:, 4] == expected[:, 4]).all()


def test_a_value_the_store_cannot_hold_fails_its_row_alone(work, write_dataset):
    plain = _expected_float(_own_run(work, write_dataset, folder="plain"))
    # A gain under which half of the rows overflow float16, which ends at 65,504.
    gain = 65504 / np.median(np.abs(plain).max(axis=(0, 2)))
    model = models.resolve("fake", options={"gain": float(gain)})
    run = _own_run(work, write_dataset, model=model, store_dtype="float16")
    large = np.abs(_expected_float(run)) > 65520  # float16 rounds smaller values to 65,504
    bad = np.flatnonzero(large.any(axis=(0, 2)))
    assert 0 < len(bad) < 16
    extract(run, run.shards)
    (ledger,) = run.ledgers()
    assert sorted(ledger.failed) == bad.tolist()
    layer = np.flatnonzero(large[:, bad[0]].any(axis=1))[0]
    assert f"of layer {layer} is not finite in float16" in ledger.failed[bad[0]]
    assert np.isfinite(_states(run)).all() and not _states(run)[:, bad].any()
    states = _states(run)
    assert all(row_checksum(states[:, row]) == crc for row, crc in ledger.done.items())


def _expected_float(run):
    model = models.load(run.plan.model)
    rows = list(run.manifest.rows())
    return model.last_token_states([open_rgb(s.image)[0] for s in rows], [s.prompt for s in rows])


@pytest.mark.parametrize("fits", [1, 3, 16])
def test_a_batch_that_does_not_fit_is_halved_until_it_does(work, write_dataset, fits):
    model = models.resolve("fake", options={"memory": fits * 12 * 12})
    run = _own_run(work, write_dataset, model=model)
    extract(run, run.shards)
    roomy = _own_run(work, write_dataset, folder="roomy")
    extract(roomy, roomy.shards)
    assert _counts(run) == (16, 0, 0)
    assert (_states(run) == _states(roomy)).all()


def test_rows_about_one_image_that_do_not_fit_together_are_halved_in_their_order(
    work, write_dataset
):
    records = [{**record, "image_filename": "one.png"} for record in _records()]
    model = models.resolve("fake", options={"memory": 3 * 12 * 12})
    run = plan_run(PlanRequest(write_dataset(records), model), work).run
    extract(run, run.shards)
    assert _counts(run) == (16, 0, 0) and run.ledgers()[0].token_limit is not None
    assert (_states(run) == _expected(run)).all()


def test_what_the_device_can_take_is_remembered(work, write_dataset, monkeypatch):
    """After the first batch that did not fit, no batch is too large, even in a later life."""
    model = models.resolve("fake", options={"memory": 3 * 12 * 12})
    run = _own_run(work, write_dataset, model=model)
    sizes = []
    forward = Fake.forward

    def counted(self, groups, *recorded):
        sizes.append(len(groups))
        return forward(self, groups, *recorded)

    monkeypatch.setattr(Fake, "forward", counted)
    monkeypatch.setattr("vsp.extraction.forward_parts.rows_to_run_alone", lambda _: set())
    extract(run, run.shards)
    assert sizes[0] == BATCH and sum(size > 3 for size in sizes) == 2  # 8, 4, then 2 at most
    limit = run.ledgers()[0].token_limit
    assert limit is not None and _counts(run) == (16, 0, 0)
    whole = run.store.path.read_bytes()
    with Journal(run.journals, run.plan.id, 0) as journal:
        journal.mark_lost(range(16))
    sizes.clear()
    extract(run, run.shards)
    assert max(sizes) <= 3 and run.ledgers()[0].token_limit == limit
    assert run.store.path.read_bytes() == whole


def test_a_sample_of_rows_is_compared_with_the_model_run_on_each_alone(
    work, write_dataset, checkpoint
):
    options = {"quantization": "none", "dtype": "bfloat16"}
    model = models.resolve("llava15", checkpoint=str(checkpoint), **options)
    records = [{**r, "image_filename": f"{i % 5}.png"} for i, r in enumerate(_records())]
    run = plan_run(PlanRequest(write_dataset(records), model, n_shards=1), work).run
    extract(run, run.shards)
    (ledger,) = run.ledgers()
    assert sorted(ledger.batch_effects) == [0, 4, 8, 12]
    loaded, rows = models.load(model), list(run.manifest.rows())
    for row, (absolute, relative) in ledger.batch_effects.items():
        sample = rows[row]
        alone = loaded.last_token_states([open_rgb(sample.image)[0]], [sample.prompt])[:, 0]
        kept = np.stack([run.store.layer(layer)[row] for layer in range(7)]).astype(np.float32)
        off = np.abs(kept - alone).max(axis=1)
        # The store keeps float16, which rounds by less than bfloat16 does.
        assert np.allclose(off, absolute, atol=2e-3 * np.abs(alone).max())
        assert np.allclose(relative, absolute / np.abs(alone).max(axis=1))
    # In half precision, a row's states depend on its batch.
    assert max(map(max, (a for a, _ in ledger.batch_effects.values()))) > 0


def test_worker_processes_change_no_byte(work, write_dataset, checkpoint):
    model = models.resolve("llava15", checkpoint=str(checkpoint), quantization="none")
    request = PlanRequest(write_dataset(_records()), model, batch_size=2)
    here, there = (plan_run(request, work).run for _ in range(2))
    extract(here, here.shards, workers=0)
    extract(there, there.shards, workers=2)
    assert here.store.path.read_bytes() == there.store.path.read_bytes()
    assert here.ledgers()[0].done == there.ledgers()[0].done


def test_a_row_that_does_not_fit_alone_fails_alone(work, write_dataset):
    folder = write_dataset(_records())
    Image.new("RGB", (40, 40)).save(folder / "images/5.png")
    model = models.resolve("fake", options={"memory": 12 * 12 * 2})
    run = plan_run(PlanRequest(folder, model, batch_size=BATCH), work).run
    extract(run, run.shards)
    (ledger,) = run.ledgers()
    assert list(ledger.failed) == [5] and "out of memory alone in its batch" in ledger.failed[5]
    good = [row for row in range(16) if row != 5]
    expected = models.load(models.resolve("fake"))
    for row, sample in enumerate(run.manifest.rows()):
        if row in good:
            states = expected.last_token_states([open_rgb(sample.image)[0]], [sample.prompt])
            assert (_states(run)[:, row] == states[:, 0].astype(np.float32)).all()


def test_a_prompt_beyond_the_context_is_named_by_the_plan(work, write_dataset, checkpoint):
    records = _records()
    records[5]["prompt"] = "far " * 3000
    model = models.resolve("llava15", checkpoint=str(checkpoint), quantization="none")
    request = PlanRequest(write_dataset(records), model, batch_size=BATCH)
    with pytest.raises(DatasetError, match="1 images or prompts, for 1 of 16 rows") as caught:
        plan_run(request, work)
    (detail,) = caught.value.details
    assert detail.startswith("row '5': prompt and image make")
    assert detail.endswith("tokens, over the context of 2048")
    planned = plan_run(replace(request, drop_unreadable=True), work)
    assert [sample.id for sample in planned.run.manifest.rows()] == [
        record["id"] for record in records if record["id"] != "5"
    ]


def test_an_edited_manifest_is_refused_before_weights_are_loaded(
    work, write_dataset, checkpoint, tmp_path
):
    copy = shutil.copytree(checkpoint, tmp_path / "copy")
    model = models.resolve("llava15", checkpoint=str(copy), quantization="none")
    run = _own_run(work, write_dataset, model=model)
    (copy / "model.safetensors").unlink()  # loading it would be another error
    path = run.folder / "manifest.jsonl"
    path.write_text(path.read_text().replace("question 3", "question 4"))
    with pytest.raises(RunError, match="was changed or lost since the plan"):
        extract(run, run.shards)


def test_fewer_gpus_than_planned_are_refused_before_weights_are_loaded(
    work, write_dataset, checkpoint, tmp_path, monkeypatch
):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    copy = shutil.copytree(checkpoint, tmp_path / "copy")
    model = models.resolve("llava15", checkpoint=str(copy), quantization="none")
    run = _own_run(work, write_dataset, model=model, devices=2)
    monkeypatch.setattr(models, "read_model", None)  # calling it would be another error
    with pytest.raises(ModelError, match=r"^devices 2: this machine has 0 GPUs; ask the batch "):
        extract(run, run.shards)
    assert not list(run.journals.iterdir())


def test_a_task_splits_the_model_over_the_gpus_it_finds(
    work, write_dataset, checkpoint, monkeypatch
):
    model = models.resolve("llava15", checkpoint=str(checkpoint), quantization="none")
    run = _own_run(work, write_dataset, model=model, devices=2)
    read_model, given = models.read_model, []

    def read(config, devices):
        given.append(devices)
        return read_model(config, devices)

    monkeypatch.setattr(models, "read_model", read)
    monkeypatch.setattr("vsp.extraction.extract.visible_devices", lambda n: ("cpu",) * n)
    extract(run, run.shards)
    assert given == [("cpu", "cpu")] and _counts(run) == (16, 0, 0)


def test_a_bug_keeps_its_traceback_and_stops_the_shard(plan_fake, monkeypatch):
    run = plan_fake()
    monkeypatch.setattr("vsp.models.fake.Fake._outputs", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        extract(run, run.shards)
    assert _counts(run) == (0, 0, 96)


def test_a_write_that_fails_is_not_lost_in_the_background(plan_fake, monkeypatch):
    run = plan_fake(batch_size=96)  # one batch, so no later batch can raise the error

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("vsp.storage.array._write_all", full)
    monkeypatch.setattr("vsp.extraction.forward_parts.rows_to_run_alone", lambda _: set())
    with pytest.raises(
        DiskError, match=r"states\.npy: no space left on device; free space and run"
    ):
        extract(run, run.shards)
    assert _counts(run) == (0, 0, 96)


def test_a_checkpoint_that_changed_its_shape_is_refused(work, spatial, checkpoint, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(checkpoint, copy)
    model = models.resolve("llava15", checkpoint=str(copy), quantization="none")
    run = plan_run(PlanRequest(spatial, model), work).run
    config = json.loads((copy / "config.json").read_text())
    config["text_config"]["num_hidden_layers"] = 5
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(RunError, match="the checkpoint now has 6 layers"):
        extract(Run.open(run.folder), run.shards)


def _records():
    return [
        {
            "id": str(i),
            "image_filename": f"{i}.png",
            "label": "ab"[i % 2],
            "prompt": f"question {i}",
        }
        for i in range(16)
    ]


def _own_run(work, write_dataset, model=None, folder="own", **changes):
    dataset = write_dataset(_records(), folder)
    model = model or models.resolve("fake")
    return plan_run(PlanRequest(dataset, model, batch_size=BATCH, **changes), work).run


@pytest.fixture
def unreadable_run(plan_fake, write_dataset):
    """A run of 40 rows in two shards, and the folder of its pictures."""
    records = [
        {"id": str(i), "image_filename": f"{i}.png", "label": "ab"[i % 2], "prompt": "?"}
        for i in range(40)
    ]
    folder = write_dataset(records)
    options = {"n_layers": 2, "hidden_size": 1024}
    run = plan_fake(folder, n_shards=2, options=options)
    assert len(run.shards) == 2
    return run, folder / "images"


def _lines(answer):
    assert "Traceback" not in answer.stderr
    return [line for line in answer.stderr.splitlines() if line.startswith("vsp: ")]


def test_a_run_in_which_every_row_failed_ends_with_an_error(unreadable_run, vsp):
    run, pictures = unreadable_run
    for picture in pictures.iterdir():
        picture.unlink()
    for command in (("extract",), ("extract",), ("extract", "--retry-failed")):
        answer = vsp(*command)
        (line,) = _lines(answer)
        assert answer.returncode == 1
        assert line.startswith(f"vsp: run {run.name}: all 40 rows failed, ")
        assert line.endswith("; mend that, then `vsp extract --retry-failed` extracts them again")
    for command in (("probe",), ("probe", "--partial"), ("report",)):
        answer = vsp(*command)
        assert answer.returncode == 1 and "all 40 rows failed, " in _lines(answer)[0]


def test_an_array_task_whose_rows_all_failed_ends_with_an_error(unreadable_run, vsp):
    run, pictures = unreadable_run
    first = run.shards[0]
    for row in range(first.start, first.stop):
        (pictures / f"{row}.png").unlink()
    answer = vsp("extract", "--shard", 0)
    (line,) = _lines(answer)
    assert answer.returncode == 1 and f"shard 0: all {first.stop} rows failed, " in line
    assert vsp("extract", "--shard", 1).returncode == 0
    assert vsp("extract").returncode == 0  # some rows of the run are done


def test_one_row_that_succeeds_is_no_error(unreadable_run, vsp):
    _, pictures = unreadable_run
    for row in range(39):
        (pictures / f"{row}.png").unlink()
    answer = vsp("extract")
    assert answer.returncode == 0 and "1 rows done, 39 failed, 0 missing" in answer.stdout


def test_of_two_tasks_that_start_together_one_sees_the_other(plan_fake, monkeypatch, caplog):
    """The other one records its start just before this one does."""
    caplog.set_level("INFO")
    run = plan_fake()

    class SecondJournal(Journal):
        def __init__(self, *arguments):
            self.other = Journal(*arguments)
            super().__init__(*arguments)

    monkeypatch.setattr("vsp.extraction.extract.Journal", SecondJournal)
    extract(run, run.shards)
    assert caplog.text.count("shard 0 is running already") == 1
