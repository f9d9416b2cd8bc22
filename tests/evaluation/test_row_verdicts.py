"""The verdicts of rows in the gallery equal the results; its rows are chosen evenly."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from helpers import made
from helpers.gallery_run import gallery_run

from vsp.errors import ConfigError
from vsp.evaluation.row_fields import row_kinds
from vsp.evaluation.row_verdicts import chosen_rows, predicted_by_layer, row_verdicts
from vsp.reporting.answer_rows import answered_rows
from vsp.storage.results import Results


@pytest.fixture(scope="module")
def looked(tmp_path_factory) -> Results:
    return gallery_run(tmp_path_factory.mktemp("looked"))


def test_a_probe_is_right_on_a_row_if_it_is_in_most_repeats(work):
    rows = made.predictions(made.accuracies(5), repeats=3)
    results = made.made(work / "results" / "small", rows)
    verdicts = row_verdicts(results)
    every = np.arange(len(verdicts))
    layers, predicted = predicted_by_layer(results, verdicts, every)
    code = np.searchsorted(rows["classes"], rows["label"])
    n_right = (rows["predicted"] == code).sum(axis=1)  # [layer, row]
    assert layers.tolist() == rows["layers"].tolist()
    assert np.array_equal(predicted == code, n_right >= 2)
    for layer, row in zip(
        *np.nonzero(n_right < 2), strict=True
    ):  # a wrong label that was predicted
        assert predicted[layer, row] in rows["predicted"][layer, :, row]
        assert predicted[layer, row] != code[row]


def test_the_verdicts_are_those_that_the_report_lists(looked):
    verdicts = row_verdicts(looked)
    known = dict(zip(verdicts.id.tolist(), range(len(verdicts)), strict=True))
    listed = answered_rows(looked, "all")
    assert len(listed) == int(verdicts.answerable.sum()) > 0
    for one in listed:
        place = known[one.id]
        assert bool(verdicts.knows[place]) == (2 * one.n_right > one.n_tested)
        assert verdicts.answer[place] == one.answer
        assert bool(verdicts.says[place]) == (one.answer == one.label)
        assert verdicts.margin[place] == pytest.approx(one.margin)


def test_chosen_rows_are_even_over_labels_and_over_right_and_wrong_and_the_same_each_time(work):
    results = made.made(work / "results" / "small")
    verdicts = row_verdicts(results)
    chosen = chosen_rows(verdicts, 24)
    kinds = Counter((verdicts.label[one], bool(verdicts.knows[one])) for one in chosen.tolist())
    assert len(kinds) == 8 and set(kinds.values()) == {3}
    assert chosen.tolist() == sorted({*chosen.tolist()})
    assert np.array_equal(chosen, chosen_rows(verdicts, 24))
    assert {*chosen.tolist()} < {*chosen_rows(verdicts, 30).tolist()}
    assert len(chosen_rows(verdicts, 10_000)) == len(verdicts)


def test_fields_are_those_that_divide_the_rows(looked):
    verdicts = row_verdicts(looked)
    kinds = row_kinds(looked, verdicts, np.arange(len(verdicts)))
    fields = kinds.fields
    assert kinds.why_not == "" and {"scene", "crowded", "subject"} <= fields.keys()
    assert "box-cue" in kinds.strata
    assert "id" not in fields and "label" not in fields and "reference" not in fields  # one value
    assert fields["crowded"][:2] == ["true", "false"]


def test_rows_without_their_dataset_have_the_fields_of_the_run(looked, tmp_path):
    import shutil

    copy = tmp_path / "project"
    shutil.copytree(looked.home.parent.parent, copy, symlinks=True)
    home = copy / "results" / "looked"
    results = Results(home / looked.setting, home)
    dataset = looked.home.parent.parent / "data"
    dataset.rename(dataset.with_name("away"))
    try:
        verdicts = row_verdicts(results)
        kinds = row_kinds(results, verdicts, np.arange(len(verdicts)))
        assert kinds.why_not == "" and "subject" in kinds.fields and "scene" not in kinds.fields
        shutil.rmtree(copy / "scratch")
        kinds = row_kinds(results, verdicts, np.arange(len(verdicts)))
        assert kinds.fields == kinds.strata == {} and "are both gone" in kinds.why_not
    finally:
        dataset.with_name("away").rename(dataset)


def test_a_probe_of_numbers_has_no_right_and_wrong(work):
    with pytest.raises(ConfigError, match="numbers"):
        row_verdicts(made.made(work / "results" / "size", made.numbers()))
