"""Planted worlds get the verdict that they were built for, from runs, probes and answers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from helpers import made
from helpers import planted_studies as planted

from vsp import probes
from vsp.errors import ConfigError, RunError
from vsp.evaluation.judged_variants import judged_variants
from vsp.evaluation.study_rows import read_study_rows
from vsp.evaluation.verdict import VerdictSettings, study_verdict
from vsp.storage.run import Run

WORLDS = {
    "grounded": planted.GROUNDED,
    "words alone": planted.WORDS_ALONE,
    "prior": planted.PRIOR,
    "undecided": planted.AMBIGUOUS,
}


@pytest.fixture(scope="module")
def studies(tmp_path_factory):
    """Folder, results and judged variants of each world."""
    made = {}

    def of(name):
        if name not in made:
            work = tmp_path_factory.mktemp("study")
            results = planted.write_study(work, WORLDS[name])
            made[name] = work, results, planted.judge_study(work, results)[0]
        return made[name]

    return of


@pytest.mark.parametrize("name", WORLDS)
def test_a_planted_world_gets_its_verdict_for_probe_and_answer(studies, name):
    _, results, judged = studies(name)
    verdict = study_verdict(results, judged)
    assert [one.subject for one in verdict.subjects] == ["probe", "answer"]
    assert [one.overall.name for one in verdict.subjects] == [name, name]
    # A class never gets the verdict of another world.
    of_classes = {one.name for subject in verdict.subjects for one in subject.classes}
    assert of_classes <= {name, "undecided"}
    assert name in of_classes


def test_a_verdict_has_the_paired_difference_that_led_to_it(studies):
    _, results, judged = studies("grounded")
    (probe, answer) = study_verdict(results, judged).subjects
    original, blank = (results[role].arrays("predictions") for role in ("original", "blank"))
    tested = original["outer"][0] >= 0
    right = (original["classes"][original["predicted"][1, 0]] == original["label"])[tested]
    right_blank = (blank["classes"][blank["predicted"][1, 0]] == blank["label"])[tested]
    evidence = probe.overall.of("blank")
    if study_verdict(results, judged).layers == (1,):
        assert evidence.first == pytest.approx(right.mean())
    assert evidence.value == pytest.approx(evidence.first - evidence.other)
    assert evidence.low < evidence.value < evidence.high
    assert evidence.p <= evidence.p_corrected <= 0.05
    said = original["answer_names"][original["answer"]]
    said_blank = blank["answer_names"][blank["answer"]]
    gained = (said == original["label"]).astype(float) - (said_blank == blank["label"])
    assert answer.overall.of("blank").value == pytest.approx(gained[tested].mean())
    changed = (said != said_blank)[tested]
    assert answer.overall.of("changed").value == pytest.approx(changed.mean())
    assert right_blank.mean() < right.mean()


def test_a_missing_variant_leaves_the_verdict_undecided_and_says_which(studies):
    _, results, judged = studies("grounded")
    for role in ("blank", "mirrored", "swapped"):
        left = {name: one for name, one in results.items() if name != role}
        of_left = {name: one for name, one in judged.items() if name != role}
        for subject in study_verdict(left, of_left).subjects:
            assert subject.overall.name == "undecided"
            assert f"{role}: no results of such a run" in subject.overall.why


def test_without_a_row_that_every_repeat_tests_there_is_no_verdict(tmp_path):
    rows = made.predictions(made.accuracies(3))
    scores = made.scores(rows)
    rows["outer"][0, :120] = rows["outer"][1, 120:] = -1
    results = made.made(tmp_path / "results" / "r", rows, scores)
    with pytest.raises(ConfigError, match="no row is tested in every repeat"):
        study_verdict({"original": results})


def test_without_judged_states_the_probe_is_undecided_and_the_answer_is_not(studies):
    _, results, _ = studies("grounded")
    probe, answer = study_verdict(results).subjects
    assert (probe.overall.name, answer.overall.name) == ("undecided", "grounded")
    assert "were not judged on its states" in probe.overall.why


def test_a_margin_above_the_effect_leaves_nothing_grounded(studies):
    _, results, judged = studies("grounded")
    for subject in study_verdict(results, judged, VerdictSettings(margin=0.9)).subjects:
        assert subject.overall.name != "grounded"


def test_a_run_of_another_variant_is_refused(studies):
    _, results, judged = studies("grounded")
    with pytest.raises(RunError, match="is of mirrored, so it is not the variant blank"):
        study_verdict({**results, "blank": results["mirrored"]}, judged)
    with pytest.raises(ConfigError, match="no results of the role original"):
        study_verdict({"blank": results["blank"]})


def test_judged_states_are_kept_and_read_where_there_are_no_states(studies, tmp_path):
    work, results, judged = studies("grounded")
    folder = work / "results" / "study"
    again, missing = judged_variants(results, folder, tmp_path)
    assert not missing
    assert judged.keys() == again.keys() == {"blank", "mirrored", "swapped"}
    for role, one in again.items():
        assert (one.names == judged[role].names).all()
        assert (one.id == judged[role].id).all()
    elsewhere, missing = judged_variants(results, tmp_path / "none", tmp_path)
    assert not elsewhere
    assert "no run" in missing["blank"] or "no such run" in missing["blank"]


def test_a_file_of_other_results_or_a_damaged_one_is_not_used(studies, tmp_path):
    work, results, _ = studies("grounded")
    folder = tmp_path / "kept"
    folder.mkdir()
    for role in ("blank", "mirrored", "swapped"):
        path = work / "results" / "study" / f"judged-{role}.npz"
        (folder / path.name).write_bytes(path.read_bytes())
    other = {**results, "original": results["names"]}
    assert judged_variants(other, folder, tmp_path)[0] == {}
    (folder / "judged-blank.npz").write_bytes(b"PK\x03\x04 damaged")
    assert set(judged_variants(results, folder, tmp_path)[0]) == {"mirrored", "swapped"}


def test_rows_are_judged_by_the_probe_of_the_fold_that_tests_them(tmp_path):
    world = replace(planted.GROUNDED, picture=2.5, own_split=False, n_groups=90)
    results = planted.write_study(tmp_path, world)
    judged, missing = planted.judge_study(tmp_path, results)
    assert not missing
    assert len(judged["mirrored"].id) == 180
    assert judged["mirrored"].n_left_out == 0
    original = read_study_rows("study-original", results["original"])
    run = Run.open(tmp_path / "scratch" / "study-mirrored")
    ids, classes = [one.id for one in run.all_samples()], judged["mirrored"].classes
    for split, layer in enumerate(original.layer_of_split.tolist()):
        probe = probes.load_folds(results["original"].folder, layer)[split]
        said = classes[probe.scores(np.asarray(run.store.layer(layer))).argmax(axis=1)]
        by_id = dict(zip(ids, said.tolist(), strict=True))
        tested = set(original.id[original.outer[0] == split].tolist())
        found = zip(judged["mirrored"].id.tolist(), judged["mirrored"].names[0], strict=True)
        assert all(by_id[row] == name for row, name in found if row in tested)
    verdict = study_verdict(results, judged)
    assert [one.overall.name for one in verdict.subjects] == ["grounded", "grounded"]


def test_own_probes_are_applied_to_the_mirrored_states_and_nothing_is_fitted(studies):
    work, results, judged = studies("grounded")
    original = results["original"]
    layer = study_verdict(results, judged).layers[0]
    run = Run.open(work / "scratch" / "study-mirrored")
    scores = probes.load(original.folder, layer).scores(np.asarray(run.store.layer(layer)))
    classes = np.array(original.summary()["probe"]["classes"])
    by_id = dict(
        zip([one.id for one in run.all_samples()], classes[scores.argmax(axis=1)], strict=True)
    )
    expected = [by_id[one] for one in judged["mirrored"].id.tolist()]
    assert judged["mirrored"].names[0].tolist() == expected
