"""`vsp.open_run` and `vsp.open_results`: the Python interface to runs and results."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest

import vsp
from vsp import models
from vsp.errors import ProbeError, RunError
from vsp.evaluation.probe_run import probe_run
from vsp.evaluation.probe_settings import ProbeSettings
from vsp.extraction.extract import extract
from vsp.extraction.plan import PlanRequest, plan_run
from vsp.storage.journal import Journal
from vsp.storage.run import find_run
from vsp.utils.files import json_sha256

QUICK = ProbeSettings(permutations=0, controls=0, curve=False, random=False, words=False, resamples=60,
                      strengths=(0.01, 1.0))  # fmt: skip


@pytest.fixture
def run(plan_fake):
    """A run of two positions with answers and lens, of which nothing is extracted."""
    return plan_fake(n_shards=2, name="first", positions=("last", "subject"), lens=True)


@pytest.fixture(scope="module")
def complete_once(tmp_path_factory, spatial):
    """A folder with such a run, extracted. Tests have copies."""
    folder, model = tmp_path_factory.mktemp("complete"), models.resolve("fake")
    shape = {"n_shards": 2, "name": "first", "positions": ("last", "subject"), "lens": True}
    run = plan_run(PlanRequest(spatial, model, **shape), folder).run
    extract(run, run.shards)
    return folder


@pytest.fixture
def complete(complete_once, work):
    shutil.copytree(complete_once, work, dirs_exist_ok=True)
    return find_run("first", work)


def _part(run):
    """Extract the first shard alone, and mark a row of it as failed."""
    extract(run, run.shards[:1])
    shard, kept = run.shards[0], run.ledger(run.shards[0]).rows_done
    with Journal(run.journals, run.plan.id, shard.index, 1, {}) as journal:
        journal.mark_lost([int(kept[2])])
        journal.mark_failed(int(kept[2]), "broken picture")
    return np.delete(kept, 2)


def test_a_run_gives_its_rows_states_and_answers_in_one_order(complete):
    opened, samples = vsp.open_run("first"), complete.all_samples()
    assert (opened.n_samples, opened.positions) == (96, ("last", "subject"))
    assert opened.rows["id"].tolist() == [one.id for one in samples]
    assert opened.rows["row"].tolist() == list(range(96)) and opened.samples == samples
    assert {len(column) for column in opened.rows.values()} == {96}
    for position in opened.positions:
        for layer in range(opened.n_layers):
            states = opened.states(layer, position)
            stored = np.load(complete.states(position).path, mmap_mode="r")[layer, :96]
            assert isinstance(states, np.memmap) and not states.flags.writeable
            assert states.shape == (96, opened.hidden_size) and (states == stored).all()
    assert opened.done.all() and not opened.failed
    assert repr(opened) == "<run first: 96 of 96 rows, 5 layers × 64, at last, subject>"
    assert opened.convention() == complete.plan.convention()


def test_answers_and_lens_are_those_of_the_files(complete):
    opened, answers = vsp.open_run(complete.folder), complete.plan.answers
    n = answers.n_options
    assert opened.answers.options[0] == answers.texts_of(opened.samples[0])
    stored = np.load(complete.folder / "answers.npy")[:96, :n]
    np.testing.assert_array_equal(opened.answers.log_likelihood, stored)
    assert opened.lens.shape == (opened.n_layers, 96, n)
    np.testing.assert_allclose(opened.lens[-1], stored, rtol=1e-6)
    assert opened.answers.n_tokens.tolist()[0] == [len(one.tokens) for one in answers.options]


def test_a_run_without_answers_says_so(plan_fake):
    run = plan_fake(answers=False, limit=4)
    extract(run, run.shards)
    opened = vsp.open_run(run.name)
    assert opened.answers is None and opened.lens is None


def test_a_part_finished_run_gives_its_done_rows_and_only_if_asked(run):
    kept = _part(run)
    n_missing = 96 - len(kept) - 1
    with pytest.raises(
        RunError, match=f"first: {n_missing} rows are missing and 1 failed of 96; .*partial=True"
    ):
        vsp.open_run("first")
    opened, stored = vsp.open_run("first", partial=True), np.load(run.store.path)
    assert opened.rows["row"].tolist() == kept.tolist() == np.flatnonzero(opened.done).tolist()
    assert list(opened.failed.values()) == ["broken picture"] and len(opened.done) == 96
    states = opened.states(1)
    assert (states == stored[1, kept]).all() and states.any(axis=1).all()
    assert not states.flags.writeable
    n_rows = len(opened.samples), len(opened.answers.options), len(opened.answers.log_likelihood)
    assert {*n_rows, opened.lens.shape[1], len(opened.rows["label"])} == {len(kept)}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: vsp.open_run("other"), "scratch/other: no such run; there is first"),
        (lambda: vsp.open_run("first").states(99), "layer 99: run first has layers 0 to "),
        (lambda: vsp.open_run("first").states(-1), "layer -1: run first has layers 0 to "),
        (lambda: vsp.open_run("first").states(0, "image"), "'image' was not recorded; it has last"),
        (lambda: vsp.open_results("first"), "holds no results; run `vsp probe --run first` first"),
    ],
)  # fmt: skip
def test_what_is_not_there_is_refused_in_one_line(complete, call, message):
    with pytest.raises(RunError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_results_give_scores_arrays_and_the_probe_of_the_selected_layer(complete):
    written = probe_run(complete, QUICK, 1)
    results, summary = vsp.open_results("first"), written.summary()
    assert results.selected_layer == summary["best_layer"] and results.chance == summary["chance"]
    assert results.metric == summary["statistic"]
    assert repr(results) == f"<results {results.folder}: {results.metric} of 5 layers>"
    assert results.layers == list(range(complete.plan.n_layers))
    assert all(one.low <= one.score <= one.high for one in results.scores)
    for name in ("predictions", "estimates"):
        arrays = written.arrays(name)
        found = getattr(results, name)
        assert found.keys() == arrays.keys()
        assert all(np.array_equal(found[key], arrays[key], equal_nan=arrays[key].dtype.kind == "f")
                   for key in arrays)  # fmt: skip
    states = vsp.open_run("first").states(results.selected_layer)
    default, named = results.probe(), results.probe(results.selected_layer)
    assert (default.predict(states) == named.predict(states)).all()
    assert (default.coef_ != results.probe(0).coef_).any()
    with pytest.raises(ProbeError, match="holds no probe of layer 99; it has layers 0, 1"):
        results.probe(99)


def test_results_of_another_position_are_opened_by_its_name(complete):
    probe_run(complete, replace(QUICK, position="subject"), 1)
    results = vsp.open_results(complete.folder, "subject")
    assert results.position == "subject"
    assert "at-subject" in results.folder.name and results.folder.parent.name == "first"


def test_results_that_were_written_again_are_not_mixed(complete):
    probe_run(complete, QUICK, 1)
    opened = vsp.open_results("first")
    assert "predicted" in opened.predictions  # these stay as they were read
    path = opened.folder / "summary.json"
    values = json.loads(path.read_text())
    digests = values.pop("sha256")
    del digests["summary.json"]
    of_format, values["n_fits"] = values.pop("format"), values["n_fits"] + 1
    digests["summary.json"] = json_sha256([values, digests])
    path.write_text(json.dumps({"format": of_format, **values, "sha256": digests}))
    for read in (lambda: opened.estimates, opened.probe):
        with pytest.raises(RunError, match="was written again since it was opened; open it again"):
            read()
    assert vsp.open_results("first").estimates


def test_an_object_cannot_be_changed(complete):
    opened = vsp.open_run("first")
    with pytest.raises(FrozenInstanceError):
        opened.done = None
    with pytest.raises(ValueError, match="read-only"):
        opened.done[0] = False
    with pytest.raises(ValueError, match="read-only"):
        opened.states(0)[0] = 0


# A program that cannot import what a laptop for reading results may not have.
_BLOCKED = """
import sys
blocked = {"torch", "transformers", "bitsandbytes", "rich", "matplotlib", "accelerate"}
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in blocked:
            raise ImportError(f"{name} is blocked")
sys.meta_path.insert(0, Blocker())
import vsp
assert not {"numpy", "pydantic", "vsp.api"} & set(sys.modules)
run, results = vsp.open_run("first"), vsp.open_results("first")
predicted = results.probe().predict(run.states(results.selected_layer))
print(run.n_samples, len(predicted), run.answers.log_likelihood.shape[0])
"""


def test_reading_needs_neither_torch_nor_what_draws_pages(complete, work):
    probe_run(complete, QUICK, 1)
    answer = subprocess.run(
        [sys.executable, "-c", _BLOCKED], cwd=work, capture_output=True, text=True
    )
    assert answer.stdout.split() == ["96", "96", "96"], answer.stderr


def test_an_unknown_name_of_the_package_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'vsp' has no attribute 'open_dataset'"):
        _ = vsp.open_dataset
