"""Scores by a field of the records: strata, gaps, and rows that the names or boxes contradict."""

from __future__ import annotations

import json

import numpy as np
import pytest
from helpers import made

from vsp.errors import ConfigError, RunError
from vsp.evaluation.intuition import COUNTER, box_cue_stratum, names_of, usual_label_strata
from vsp.evaluation.strata import StrataSettings, strata_of

QUICK = StrataSettings(resamples=300, flips=499)
N_GROUPS = 60


@pytest.fixture
def probed(tmp_path):
    """Results whose rows with an even picture are right in all layers, and the others wrong."""

    def make(change=lambda record, i: record, n_layers=3):
        arrays = made.predictions(np.full(n_layers, 0.5), N_GROUPS)
        true = np.searchsorted(made.NAMES, arrays["label"])
        is_even = (np.arange(2 * N_GROUPS) // 2) % 2 == 0
        arrays["predicted"][:] = np.where(is_even, true, (true + 1) % 4)
        folder = tmp_path / "data"
        folder.mkdir()
        records = [
            change({"id": one, "image_filename": "a.png", "label": label, "size": i // 2, "seen": bool(even)}, i)
            for i, (one, label, even) in enumerate(
                zip(arrays["id"].tolist(), arrays["label"].tolist(), is_even.tolist(), strict=True)
            )
        ]  # fmt: skip
        (folder / "metadata.json").write_text(json.dumps(records))
        plan = made.plan(n_layers=n_layers, dataset=str(folder)).model_dump(mode="json")
        return made.made(tmp_path / "results" / "run", arrays, plan=plan)

    return make


def test_each_stratum_has_its_own_accuracy_and_the_gap_is_their_difference(probed):
    found = strata_of(probed(), "seen", QUICK)
    assert [(one.name, one.knows.value, one.n_rows) for one in found.strata] == [
        ("false", 0.0, 60),
        ("true", 1.0, 60),
    ]
    (gap,) = found.gaps
    assert (gap.first, gap.other, gap.knows.value) == ("false", "true", -1.0)
    assert -1.0 <= gap.knows.low <= -1.0 <= gap.knows.high < -0.8
    assert gap.knows.p_corrected < 0.05
    assert (found.n_rows, found.n_without, found.says_rows) == (120, 0, 0)


def test_rows_without_the_field_are_counted(probed):
    def change(record, i):
        return {key: one for key, one in record.items() if key != "seen" or i >= 20}

    found = strata_of(probed(change), "seen", QUICK)
    assert found.n_without == 20
    assert sum(one.n_rows for one in found.strata) == 100


def test_a_field_that_no_record_has_is_refused_with_the_near_one(probed):
    with pytest.raises(ConfigError, match=r"field 'sean' is not known; did you mean seen\?"):
        strata_of(probed(), "sean", QUICK)


def test_a_field_of_mappings_is_refused(probed):
    results = probed(lambda record, i: {**record, "odd": {"a": i}})
    with pytest.raises(ConfigError, match="--by odd: has values such as"):
        strata_of(results, "odd", QUICK)


def test_many_numbers_are_cut_into_quarters(probed):
    found = strata_of(probed(), "size", QUICK)
    assert len(found.strata) == 4
    assert [one.n_rows for one in found.strata] == [30, 30, 30, 30]
    assert found.strata[0].name.startswith("0 to ")
    # Several strata are each compared with all others.
    assert [(one.first, one.other) for one in found.gaps] == [(s.name, "") for s in found.strata]


def test_small_strata_have_no_figures_and_are_named(probed):
    results = probed(lambda record, i: {**record, "kind": "rare" if i < 8 else "common"})
    found = strata_of(results, "kind", QUICK)
    assert [(one.name, one.n_rows) for one in found.too_few] == [("rare", 8)]
    assert found.gaps == ()


def test_a_dataset_that_is_gone_is_said(probed, tmp_path):
    results = probed()
    (tmp_path / "data" / "metadata.json").unlink()
    with pytest.raises(RunError, match="put the dataset back"):
        strata_of(results, "seen", QUICK)


def test_the_usual_label_is_read_from_the_training_rows_of_the_split_alone():
    names = [("cup", "table")] * 6 + [("cat", "mat")] * 2 + [None]
    label = np.array(["on", "on", "on", "under", "on", "under", "on", "under", "on"])
    split = np.array([-1, -1, -1, -1, 0, 0, 0, -1, 0])
    fitted = np.array([[True, True, True, True, False, False, False, True, False]])
    found = usual_label_strata(names, label, split, fitted)
    # Four training rows of cup and table, three of them "on"; one of cat and mat; none without names.
    assert found == [None] * 4 + ["consistent", COUNTER] + [None] * 3
    # Three test rows say "on", and do not make it usual.
    pairs, label = [("cup", "table")] * 5, np.array(["under", "under", "on", "on", "on"])
    split, fitted = np.array([-1, -1, 0, 0, 0]), np.array([[True, True, False, False, False]])
    assert usual_label_strata(pairs, label, split, fitted)[2:] == [COUNTER] * 3


def test_a_tie_in_training_rows_suggests_no_label():
    names, label = [("cup", "table")] * 3, np.array(["on", "under", "on"])
    split, fitted = np.array([-1, -1, 0]), np.array([[True, True, False]])
    assert usual_label_strata(names, label, split, fitted)[2] is None


BOXES = {
    ("left_of", (0, 0, 10, 10), (20, 0, 30, 10)): "consistent",
    ("right of", (0, 0, 10, 10), (20, 0, 30, 10)): "counter-intuitive",
    ("above", (0, 0, 10, 10), (0, 20, 10, 30)): "consistent",
    ("under", (0, 0, 10, 10), (0, 20, 10, 30)): "counter-intuitive",
    ("in_front_of", (0, 0, 10, 40), (0, 0, 10, 30)): "consistent",  # lower is nearer
    ("behind", (0, 0, 10, 40), (0, 0, 10, 30)): "counter-intuitive",
    ("larger", (0, 0, 10, 10), (0, 0, 20, 20)): "counter-intuitive",
    ("smaller", (0, 0, 10, 10), (0, 0, 20, 20)): "consistent",
    ("near", (0, 0, 10, 10), (0, 0, 20, 20)): None,
    ("above", (0, 0, 10, 10), (5, 0, 15, 10)): None,
}  # fmt: skip


@pytest.mark.parametrize(("case", "expected"), BOXES.items())
def test_boxes_suggest_a_label_by_one_plain_rule_for_each_pair_of_labels(case, expected):
    label, subject, reference = case
    assert box_cue_stratum((subject, reference), label) == expected
    assert box_cue_stratum(None, label) is None


def test_derived_strata_read_names_and_boxes_of_records(probed):
    def change(record, i):
        # The subject is left of the reference; the label says "left" or something else.
        label = ["above", "below"][i % 2]
        boxes = {"subject_box": [0, 0, 5, 5], "reference_box": [0, 10, 5, 15]}
        return {**record, "label": label, **boxes, "subject": "cup", "reference": f"r{i % 3}"}

    results = probed(change)
    cues = strata_of(results, "box-cue", QUICK)
    # Labels of the results count: above is consistent, below is not, left and right have no rule.
    assert {one.name for one in cues.strata} == {"consistent", COUNTER}
    assert cues.n_without == 60
    assert [one.n_rows for one in cues.strata] == [30, 30]
    usual = strata_of(results, "usual-label", QUICK)
    assert sum(one.n_rows for one in usual.strata) + usual.n_without == 120
    assert "training rows" in usual.meaning


def test_names_of_synthetic_records_are_those_of_the_question():
    record = {"subject_shape": "circle", "subject_color": "red", "reference_shape": "square",
              "reference_color": "blue"}  # fmt: skip
    assert names_of(record) == ("red circle", "blue square")
    assert names_of({"subject": "cup"}) is None
