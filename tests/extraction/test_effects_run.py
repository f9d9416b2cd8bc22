"""Runs of effects: planned by `vsp steer` and `vsp patch`, extracted, resumed and verified."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vsp import models
from vsp.errors import RunError
from vsp.extraction.effects_passes import EffectsOfChanges
from vsp.extraction.extract import extract
from vsp.extraction.forward_parts import TokenLimit
from vsp.extraction.plan import PlanRequest, plan_run
from vsp.extraction.preprocess import prepare
from vsp.extraction.verify import verify
from vsp.models.contract import Recorded
from vsp.models.edits import Add, Edit
from vsp.storage.changes import read_directions
from vsp.storage.journal import Journal
from vsp.storage.run import Run

STEER = ("--layers", "1,3", "--scale", "0", "2", "--random", "2")


@pytest.fixture(scope="module")
def extracted(spatial, tmp_path_factory):
    """The working folder of an extracted run of the fake model."""
    folder, positions = tmp_path_factory.mktemp("extracted"), ("last", "subject", "image")
    request = PlanRequest(
        spatial, models.resolve("fake"), name="base", positions=positions, n_shards=2, limit=48
    )
    run = plan_run(request, folder).run
    extract(run, run.shards)
    return folder


@pytest.fixture
def base(extracted, work):
    """A copy of the extracted run, in the folder of the test."""
    shutil.copytree(extracted, work, dirs_exist_ok=True, symlinks=True)
    return Run.open(work / "scratch" / "base")


@pytest.fixture
def planned(vsp, work):
    """Plan a run of effects by a command line: `planned("steer", "base", …)`."""

    def plan(*words: object) -> Run:
        answer = vsp(*words)
        assert answer.returncode == 0, answer.stderr
        name = next(line.split()[1] for line in answer.stdout.splitlines() if line[:4] == "run ")
        return Run.open(work / "scratch" / name.rstrip(","))

    return plan


def _done(run: Run) -> np.ndarray:
    """The effects of a run after its extraction, which must leave no row."""
    extract(run, run.shards, workers=0)
    assert [ledger.n_missing + ledger.n_failed for ledger in run.ledgers()] == [0] * len(run.shards)
    return np.array(run.effects())


def _settings(run: Run) -> list[tuple[str, float]]:
    return [(one.name, one.scale) for one in run.of_effects().settings]


def test_steering_is_planned_extracted_and_verified(base, planned):
    run = planned("steer", "base", *STEER)
    values = _done(run)
    assert run.name == "base-steer" and list(run.stores) == ["effects"]
    names = ["direction", "unrelated", "random-1", "random-2"]
    assert _settings(run) == [("none", 0.0), *((name, s) for name in names for s in (0.0, 2.0))]
    assert values.shape == (2, 9, run.plan.n_samples, 4)
    assert verify(run, n_jobs=1).n_checked == run.plan.n_samples
    # Each row has the answers that the run itself stores, and its target is the next label.
    rows = {sample.id: i for i, sample in enumerate(base.all_samples())}
    stored = base.stores["answers"].layer(0)[:, :4]
    labels = base.plan.labels
    for column, sample in enumerate(run.all_samples()):
        assert np.array_equal(values[0, 0, column], stored[rows[sample.id]])
        assert run.effect_targets()[column] == (labels.index(sample.label) + 1) % len(labels)


def test_scale_0_gives_the_bytes_of_no_change_and_another_scale_does_not(base, planned):
    run = planned("steer", "base", *STEER)
    values = _done(run)
    for setting, (_, scale) in enumerate(_settings(run)):
        assert np.array_equal(values[:, setting], values[:, 0]) == (scale == 0)


def test_the_values_of_a_setting_are_those_of_its_edit_alone(base, planned):
    run = planned("steer", "base", *STEER, "--position", "subject", "--rows", "3")
    values, effects = _done(run), run.of_effects()
    directions = read_directions(run.folder / "changes.npz", effects.changes_sha256)
    model = models.read_model(run.plan.model, ())
    processor = models.read_processor(run.plan.model)
    options = tuple(option.tokens for option in run.plan.answers.options)
    for column, sample in enumerate(run.all_samples()):
        batch = prepare(processor, [{0: replace(sample, option_tokens=options)}])
        place = dict(sample.tokens_of)["subject"]
        target = directions.target_of(sample.label)
        for i, layer in enumerate(effects.layers):
            for k, one in enumerate(effects.settings[1:], start=1):
                vector = directions.vector(layer, one.name, sample.label, target)
                edit = Edit(0, layer, (place,), Add(vector * np.float32(one.scale)))
                alone = model.forward(batch.groups, Recorded(("last",), 4), [edit])().answers
                assert np.array_equal(values[i, k, column], alone[0])


class _Uneven:
    """The fake model, whose answers are higher by a little in each pass, as rounding may be."""

    def __init__(self, run: Run) -> None:
        self._model = models.read_model(run.plan.model)
        self.n_passes = 0

    def forward(self, *batch: object):
        self.n_passes += 1
        more, outputs = np.float32(self.n_passes / 4), self._model.forward(*batch)()
        return lambda: replace(outputs, answers=outputs.answers + more)


def test_settings_are_compared_with_the_unchanged_row_of_their_own_pass(plan_fake, planned):
    run = plan_fake(name="base", limit=48, batch_size=1)
    extract(run, run.shards)
    run = planned("steer", "base", "--layers", "1,3", "--random", "12", "--rows", "1")
    work = EffectsOfChanges.of(run)
    (batch,) = work.batches(run.shards[0], {0})
    ready = prepare(models.read_processor(run.plan.model), batch)
    found, uneven = [], _Uneven(run)
    for model in (models.read_model(run.plan.model), uneven):
        (part,) = work.parts(model, ready, TokenLimit(None), {})
        values = part.arrays()["effects"].reshape(1, 4, 2, -1)
        found.append(values[..., 1:] - values[..., :1])
    assert uneven.n_passes > 2
    assert np.allclose(found[0], found[1], atol=1e-3)


def test_the_rows_are_test_rows_and_fewer_of_them_are_whole_groups(base, planned):
    every = planned("steer", "base", *STEER, "--layers", "2")
    some = planned("steer", "base", *STEER, "--layers", "2", "--rows", "9")
    fitted = read_directions(
        every.folder / "changes.npz", every.of_effects().changes_sha256
    ).fitted_on
    ids = [sample.id for sample in base.all_samples()]
    assert [one.id for one in every.all_samples()] == [
        ids[i] for i in np.flatnonzero(fitted.tested)
    ]
    assert not (fitted.tested & fitted.fitted).any()
    groups = [one.group for one in some.all_samples()]
    whole = [one.group for one in every.all_samples() if one.group in set(groups)]
    assert groups == whole and 0 < len(groups) <= 9
    assert some.name == "base-steer-2" or some.name.startswith("base-steer-")


def test_a_resumed_run_of_effects_has_the_bytes_of_an_undisturbed_one(base, planned):
    whole, torn = (planned("steer", "base", *STEER, "--shards", 2) for _ in range(2))
    _done(whole)
    _done(torn)
    forgotten = [0, 1, torn.plan.n_samples - 1]
    np.load(torn.stores["effects"].path, mmap_mode="r+")[forgotten] = 0
    for shard in torn.shards:
        own = [row for row in forgotten if shard.start <= row < shard.stop]
        with Journal(torn.journals, torn.plan.id, shard.index) as journal:
            journal.mark_lost(own)
    assert sum(ledger.n_missing for ledger in torn.ledgers()) == 3
    _done(torn)
    assert _bytes(torn) == _bytes(whole)


def test_a_killed_task_of_effects_goes_on_where_it_was(plan_fake, planned, work):
    slow = plan_fake(name="slow", limit=48, options={"pause": 0.02})
    extract(slow, slow.shards)
    whole, killed = (planned("steer", "slow", *STEER, "--rows", 12) for _ in range(2))
    _done(whole)
    command = [sys.executable, "-m", "vsp", "extract", "--run", killed.name, "--workers", "0"]
    process = subprocess.Popen(command, cwd=work, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while killed.ledgers()[0].n_done < 1 and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert killed.ledgers()[0].n_done > 0
    _done(killed)
    assert _bytes(killed) == _bytes(whole)


def _bytes(run: Run) -> bytes:
    return run.stores["effects"].path.read_bytes()


def test_shards_and_sharing_change_no_value(base, planned, plan_fake):
    one = planned("steer", "base", *STEER, "--shards", 1)
    three = planned("steer", "base", *STEER, "--shards", 3)
    assert len(one.shards) == 1 and len(three.shards) == 3
    values = _done(one)
    assert np.array_equal(_done(three), values)
    alone = plan_fake(name="alone", limit=48, share=False)
    extract(alone, alone.shards)
    others = planned("steer", "alone", *STEER)
    assert [a.id for a in others.all_samples()] == [a.id for a in one.all_samples()]
    assert np.array_equal(_done(others), values)


def test_a_pass_that_does_not_fit_is_halved_down_to_one_setting(plan_fake, planned):
    roomy = plan_fake(name="roomy", limit=48)
    extract(roomy, roomy.shards)
    size = roomy.all_samples()[0].image_size
    tight = plan_fake(
        name="tight", limit=48, batch_size=2, options={"memory": 3 * size[0] * size[1]}
    )
    extract(tight, tight.shards)
    values, halved = (_done(planned("steer", name, *STEER)) for name in ("roomy", "tight"))
    assert np.array_equal(values, halved)
    assert Run.open(Path("scratch/tight-steer")).ledgers()[0].token_limit is not None


def test_patching_a_run_with_itself_changes_nothing(base, planned):
    run = planned("patch", "base", "base", "--layers", "0,2,4", "--tokens", "last", "image", "all")
    values = _done(run)
    assert run.name == "base-patch" and values.shape == (3, 4, 6, 4)
    assert (values == values[:, :1]).all()
    labels = [sample.label for sample in run.all_samples()]
    assert [run.plan.labels[one] for one in run.effect_targets()] == labels


def test_a_patch_tests_the_rows_that_a_probe_holds_out_and_counts_equal_labels(plan_fake, vsp):
    run = plan_fake(name="whole")
    held_out = [sample.id for sample in run.all_samples() if sample.split == "val"]
    assert 0 < len(held_out) < run.plan.n_samples
    answer = vsp("patch", "whole", "whole", "--layers", "2")
    assert answer.returncode == 0, answer.stderr
    n = len(held_out)
    assert f"{n} of {n} rows have the label of their paired rows" in answer.stderr
    patched = Run.open(Path("scratch/whole-patch"))
    assert sorted(one.id for one in patched.all_samples()) == sorted(held_out)


def test_a_patch_draws_rows_whose_paired_row_has_another_label(base, mirrored, vsp):
    answer = vsp("patch", "base", "mirrored", "--layers", "2", "--rows", "6")
    assert answer.returncode == 0, answer.stderr
    other = {one.id: one.label for one in mirrored.all_samples()}
    held_out = [one for one in base.all_samples() if one.split == "val"]
    n_same = sum(one.label == other[one.id] for one in held_out)
    assert 0 < n_same < len(held_out)
    said = " ".join(answer.stderr.split())
    assert f"{n_same} of {len(held_out)} rows have the label of their paired rows" in said
    drawn = Run.open(Path("scratch/base-patch")).all_samples()
    assert drawn and all(one.label != other[one.id] for one in drawn)


@pytest.fixture
def mirrored(spatial, tmp_path, plan_fake, vsp):
    """The run of the mirrored variant."""
    folder = tmp_path / "mirrored"
    made = vsp("generate", "--of", spatial, "--variant", "mirrored", "--out", folder)
    assert made.returncode == 0
    run = plan_fake(
        dataset=folder, name="mirrored", positions=("last", "subject", "image"), limit=48
    )
    extract(run, run.shards)
    return run


def test_a_row_patched_at_all_tokens_of_a_layer_gives_the_answer_of_the_other_row(
    base, mirrored, planned
):
    run = planned("patch", "base", "mirrored", "--layers", "0,2,4", "--tokens", "all", "--rows", 20)
    assert 0 < run.plan.n_samples <= 20
    values = _done(run)
    rows = {sample.id: i for i, sample in enumerate(mirrored.all_samples())}
    others = mirrored.stores["answers"].layer(0)
    labels = mirrored.all_samples()
    for column, sample in enumerate(run.all_samples()):
        other = rows[sample.id]
        assert run.plan.labels[run.effect_targets()[column]] == labels[other].label
        assert np.array_equal(values[2, 1, column], others[other, :4])  # the last layer
    assert (values[:, 1] != values[:, 0]).any()


def test_a_row_without_the_tokens_of_a_patch_fails_with_its_reason(base, mirrored, vsp, work):
    answer = vsp("patch", "base", "mirrored", "--layers", "2", "--tokens", "last", "box")
    run = Run.open(work / "scratch" / "base-patch")
    extract(run, run.shards, workers=0)
    failed = {row: why for ledger in run.ledgers() for row, why in ledger.failed.items()}
    n = run.plan.n_samples
    assert f"tokens box: {len(failed)} of {n} rows have none" in answer.stderr
    assert 0 < len(failed) <= n
    assert set(failed.values()) == {"tokens box: the row has no image token in a box of an object"}


def test_a_patch_needs_tokens_that_both_runs_know(base, plan_fake, vsp):
    plan_fake(name="plain")
    answer = vsp("patch", "plain", "base", "--tokens", "subject")
    assert answer.returncode == 1
    assert "run plain: position subject was not recorded" in answer.stderr


def test_a_changed_file_of_changes_is_refused(base, planned):
    run = planned("steer", "base", *STEER)
    path = run.folder / "changes.npz"
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(RunError, match=r"changes.npz: is not the file that the plan goes with"):
        extract(run, run.shards)
    with pytest.raises(RunError, match=r"changes.npz: was changed since the plan"):
        run.effect_targets()


def test_the_identity_of_effects_does_not_depend_on_names_of_runs(base, planned, work):
    run = planned("patch", "base", "base", "--layers", "1")
    base.folder.rename(work / "scratch" / "renamed")
    again = planned("patch", "renamed", "renamed", "--layers", "1", "--run-name", "other")
    assert again.plan.identity() == run.plan.identity()
    wider = planned("patch", "renamed", "renamed", "--layers", "1-3")
    assert wider.name == "renamed-patch" and wider.plan.identity() != run.plan.identity()


def test_the_small_checkpoint_is_steered_patched_and_resumed(work, spatial, checkpoint, planned):
    """A real model: in float32, equal passes give equal bytes."""
    model = models.resolve("llava15", checkpoint=str(checkpoint), quantization="none")
    request = PlanRequest(spatial, model, name="llava", limit=40, batch_size=4)
    base = plan_run(request, work).run
    extract(base, base.shards)
    words = ("steer", "llava", "--layers", "1-2", "--scale", "0", "8", "--random", "1", "--rows", 4)
    whole, torn = planned(*words), planned(*words)
    values = _done(whole)
    rows = {sample.id: i for i, sample in enumerate(base.all_samples())}
    stored = base.stores["answers"].layer(0)[[rows[one.id] for one in whole.all_samples()], :4]
    np.testing.assert_allclose(values[:, 0], np.stack([stored] * 2), atol=1e-4)
    np.testing.assert_allclose(values[:, 1], values[:, 0], atol=1e-5)  # scale 0
    assert (np.abs(values[:, 2] - values[:, 0]) > 1e-4).any()
    extract(torn, torn.shards, workers=0)
    with Journal(torn.journals, torn.plan.id, 0) as journal:
        journal.mark_lost([0])
    _done(torn)
    assert _bytes(torn) == _bytes(whole)
    patched = _done(planned("patch", "llava", "llava", "--layers", "0,2", "--tokens", "last", "all",
                            "--rows", 3))  # fmt: skip
    np.testing.assert_allclose(patched[:, 1:], patched[:, :1].repeat(2, 1), atol=1e-5)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--erase", "leace", "--scale", "2"), "--scale is about a direction"),
        (("--erase", "random", "--random", "0"), "--erase random needs a random subspace"),
        (("--probe", "logistic"), "--probe names saved probes; add --direction probe"),
        (("--layers", "2-9"), "--layers 9: run base has layers 0 to 4"),
        (("--position", "reference"), "position 'reference' was not recorded"),
        (("--target", "blue"), "--target"),
    ],
)
def test_options_that_cannot_be_used_are_refused_and_leave_nothing(base, vsp, work, words, said):
    answer = vsp("steer", "base", *words)
    assert answer.returncode != 0 and said in answer.stderr
    assert [path.name for path in (work / "scratch").iterdir()] == ["base"]


def test_commands_that_need_states_name_the_run_that_has_them(base, planned, vsp):
    planned("steer", "base", *STEER)
    for words in (
        ("probe", "base-steer"),
        ("axes", "base", "base-steer"),
        ("answer", "base-steer", "--generate", "1"),
        ("compare", "base-steer", "base"),
        ("evaluate", "base-steer", "--on", "base"),
        ("export", "base-steer", "--to", "npz", "--out", "out.npz"),
        ("steer", "base-steer"),
        ("submit", "base-steer", "--stages", "probe"),
    ):
        answer = vsp(*words)
        assert answer.returncode == 1, (words, answer)
        assert "run base-steer: holds effects" in answer.stderr, words
    assert "has no stage effects" in vsp("submit", "base", "--stages", "effects").stderr


def test_the_chain_of_a_run_of_effects_has_effects_in_the_place_of_probe(base, planned, vsp, work):
    run = planned("steer", "base", *STEER)
    Path("local.yaml").write_text("scheduler: local\n")
    shown = vsp("submit", "base-steer", "--profile", "local.yaml", "--dry-run").stdout
    scripts = [line.split("/")[-1] for line in shown.splitlines() if line.startswith("bash ")]
    stages = [script.removesuffix(".sh").partition(".sh")[0] for script in scripts]
    assert [stage.split()[0] for stage in stages] == ["extract", "verify", "effects"]
    assert f"vsp effects --run {run.folder.absolute()}\n" in shown
    status = vsp("status", "base-steer").stdout
    assert "effects" in status and "probe" not in status
    _done(run)
    assert "vsp effects --run base-steer" in vsp("status", "base-steer").stdout


def test_a_label_is_erased_and_random_subspaces_have_its_rank(base, planned):
    run = planned("steer", "base", "--erase", "leace", "--layers", "2", "--random", "2")
    values = _done(run)
    assert run.name == "base-erase"
    assert _settings(run) == [("none", 0.0), ("leace", 1.0), ("random-1", 1.0), ("random-2", 1.0)]
    assert (values[0, 1:] != values[0, 0]).any(axis=(1, 2)).all()


def test_runs_and_rm_say_that_a_run_has_effects(base, planned, vsp, work):
    run = planned("steer", "base", *STEER)
    listed = json.loads(vsp("runs", "--json").stdout)
    found = {one["run"]: one["effects"] for one in listed}
    assert found == {"base": None, "base-steer": {"kind": "steer", "run": "base", "variant": None}}
    _done(run)
    words = ("rm", "base-steer", "--dry-run")
    assert "by `vsp steer` and `vsp extract`" in vsp(*words).stdout
    base.folder.rename(work / "elsewhere")
    assert "run base, which it changes, is gone" in vsp(*words).stdout


def test_shards_of_effects_share_no_page_and_few_rows_take_little_disk(base, planned):
    run = planned("steer", "base", *STEER, "--shards", 3)
    layout = run.stores["effects"].layout
    assert [layout.offset(0, shard.start) % layout.boundary for shard in run.shards[1:]] == [0, 0]
    whole = planned("steer", "base", *STEER, "--layers", "1-3", "--shards", 1)
    assert whole.stores["effects"].layout.n_bytes < 1 << 20
