"""What the model says beside what the probe knows, on rows whose answers are known."""

from dataclasses import replace

import numpy as np
import pytest
from benchmarks.estimate_simulation import World
from benchmarks.says_simulation import error_rates, options_of
from helpers.fitted import losses
from scipy.stats import binomtest
from sklearn.metrics import accuracy_score, balanced_accuracy_score, cohen_kappa_score, recall_score

from vsp.evaluation.design import make_design
from vsp.evaluation.evaluate import EvaluatedRows, EvaluationSettings
from vsp.evaluation.metrics import METRICS
from vsp.evaluation.peak import Selection
from vsp.evaluation.says import says_beside_peak

NAMES = ["left_of", "right_of"]


def _rows(n=120, rare=1, own_split=False, seed=0):
    """Labels, of which the first is more common with a larger `rare`, and two rows a group."""
    number = np.arange(n) // 2
    y = (np.random.default_rng(seed).integers(1 + rare, size=n) == 0).astype(int)
    group = np.char.add("g", np.char.zfill(number.astype(str), 4))
    split = np.where(number >= 0.5 * number.max(), "test", "train") if own_split else np.full(n, "")
    return y, group, make_design(y, group, split)


def _peak(y, design, share, seed=1):
    """A peak that is right on a share of the rows, drawn anew in each repeat."""
    wrong = np.random.default_rng(seed).random((design.n_repeats, len(y))) > share
    predicted = np.where(design.test_split >= 0, np.where(wrong, 1 - y, y), -1)
    peak = Selection(design, np.zeros((1, len(design.outer))))
    peak.take(0, {"predicted": predicted, **losses(y, design, predicted)})
    return peak


def _answers(y, share, seed=2):
    wrong = np.random.default_rng(seed).random(len(y)) > share
    return options_of(y, np.where(wrong, 1 - y, y), 1.0)


def _says(options, y, group, design, peak, metric="accuracy", kind="total", layers=(0,)):
    rows = EvaluatedRows(y, group, design, METRICS[metric], NAMES)
    settings = EvaluationSettings(resamples=200)
    return says_beside_peak(options, kind, rows, peak, layers, settings)


def _judged(design, peak, y, options):
    """Label, prediction of the peak and answer of every tested row of every repeat."""
    tested = design.test_split >= 0
    answer = np.broadcast_to(options.total.argmax(axis=1), tested.shape)[tested]
    return np.broadcast_to(y, tested.shape)[tested], peak.arrays["predicted"][tested], answer


@pytest.mark.parametrize("own_split", [False, True])
def test_figures_are_those_of_the_tested_rows(own_split):
    y, group, design = _rows(own_split=own_split, rare=2)
    peak, options = _peak(y, design, 0.9), _answers(y, 0.6)
    summary = _says(options, y, group, design, peak, "balanced").summary
    true, knows, says = _judged(design, peak, y, options)
    for name, score in (
        ("accuracy", accuracy_score),
        ("balanced accuracy", balanced_accuracy_score),
    ):
        figures = summary["figures"][name]
        values = score(true, says), score(true, knows)
        assert figures["says"]["score"] == pytest.approx(values[0])
        assert figures["knows"]["score"] == pytest.approx(values[1])
        assert figures["difference"]["difference"] == pytest.approx(values[1] - values[0])
        for one in figures.values():
            value = one.get("score", one.get("difference"))
            assert one["low"] < value < one["high"]
    assert summary["statistic"] == "balanced accuracy"
    for k, recall in enumerate(recall_score(true, says, average=None)):
        assert summary["recall"][NAMES[k]]["says"]["score"] == pytest.approx(recall)
    n_repeats, both, alone = design.n_repeats, (true == knows) & (true == says), true == knows
    table = summary["table"]
    assert table["both"] == both.sum() / n_repeats and sum(table.values()) == len(true) / n_repeats
    assert table["only_knows"] == (alone & ~both).sum() / n_repeats
    agreement = summary["agreement"]
    assert agreement["share"]["score"] == pytest.approx(np.mean(knows == says))
    assert agreement["kappa"] == pytest.approx(cohen_kappa_score(knows, says))


def test_a_score_that_is_no_share_of_rows_is_compared_as_accuracy():
    y, group, design = _rows()
    summary = _says(_answers(y, 0.6), y, group, design, _peak(y, design, 0.8), "auc").summary
    assert summary["statistic"] == "accuracy" and list(summary["figures"]) == ["accuracy"]


def test_what_the_model_knows_and_does_not_say_is_found():
    y, group, design = _rows()
    known = _says(_answers(y, 0.5), y, group, design, _peak(y, design, 0.95)).summary
    assert known["figures"]["accuracy"]["difference"]["low"] > 0.2
    assert known["test"]["p"] <= 0.001 and known["test"]["p_rows"] < 1e-4
    same = _says(_answers(y, 0.8), y, group, design, _peak(y, design, 0.8)).summary
    difference = same["figures"]["accuracy"]["difference"]
    assert difference["low"] < 0 < difference["high"] and same["test"]["p"] > 0.05


def test_the_test_of_rows_is_mcnemars_exact_test_of_the_first_repeat():
    y, group, design = _rows()
    peak, options = _peak(y, design, 0.8), _answers(y, 0.6)
    knows, says = peak.arrays["predicted"][0] == y, options.total.argmax(axis=1) == y
    counts = int((knows & ~says).sum()), int((~knows & says).sum())
    expected = binomtest(counts[0], sum(counts)).pvalue
    assert _says(options, y, group, design, peak).summary["test"]["p_rows"] == pytest.approx(
        expected
    )


def test_rows_whose_label_is_no_option_are_left_out_and_counted():
    y, group, design = _rows()
    peak, options = _peak(y, design, 0.8), _answers(y, 0.6)
    texts = [
        [" above", " right of"] if i < 20 else of_row for i, of_row in enumerate(options.texts)
    ]
    says = _says(replace(options, texts=texts), y, group, design, peak)
    without = (np.arange(len(y)) < 20) & (y == 0)
    assert says.summary["n_no_label"] == without.sum() > 0
    assert says.summary["n_rows"] == (~without).sum()
    kept = replace(options, total=options.total[~without], texts=options.texts[: (~without).sum()])
    right = kept.total.argmax(axis=1) == y[~without]
    own = (options.total.argmax(axis=1) == 0) & (np.arange(len(y)) < 20)
    right = right & ~own[~without]
    assert says.summary["figures"]["accuracy"]["says"]["score"] == pytest.approx(right.mean())
    assert np.isnan(says.arrays["answer_margin"][without]).all()
    names = says.arrays["answer_names"]
    assert set(names[says.arrays["answer"]]) == {"left_of", "right_of", "above"}
    assert (names[says.arrays["answer"][own]] == "above").all()


def test_without_a_row_that_has_its_label_as_an_option_there_are_no_figures():
    y, group, design = _rows()
    options = replace(_answers(y, 0.6), texts=[[" above", " below"]] * len(y))
    says = _says(options, y, group, design, _peak(y, design, 0.8))
    assert says.summary is None and "none of 120 test rows has its label" in says.why_not


def test_ties_are_counted_and_go_to_the_first_option():
    y, group, design = _rows()
    options = _answers(y, 1.0)
    options.total[:10] = -1.0
    summary = _says(options, y, group, design, _peak(y, design, 0.8)).summary
    right = np.where(np.arange(len(y)) < 10, y == 0, True)
    assert summary["n_ties"] == 10
    assert summary["figures"]["accuracy"]["says"]["score"] == pytest.approx(right.mean())


def test_each_score_has_its_accuracy_and_the_prior_only_where_there_is_one():
    y, group, design = _rows()
    options, peak = _answers(y, 1.0), _peak(y, design, 0.8)
    biased = replace(
        options, total=options.total + np.array([20.0, 0.0]), prior_source="none at hand"
    )
    scores = _says(biased, y, group, design, peak).summary["scores"]
    assert scores["total"]["score"] == pytest.approx((y == 0).mean())
    assert scores["corrected"] is None
    prior = replace(biased, prior=np.tile([20.0, 0.0], (len(y), 1)))
    summary = _says(prior, y, group, design, peak, kind="corrected").summary
    assert summary["scores"]["corrected"]["score"] == 1
    assert summary["figures"]["accuracy"]["says"]["score"] == 1


def test_the_lens_has_a_score_for_each_probed_layer():
    y, group, design = _rows()
    options = _answers(y, 0.8)
    early = _answers(y, 0.5, seed=5).total
    lens = np.stack([early, early, options.total])
    says = _says(
        replace(options, lens=lens), y, group, design, _peak(y, design, 0.8), layers=(0, 2)
    )
    assert list(says.lens) == [0, 2]
    assert says.lens[2] == says.summary["figures"]["accuracy"]["says"]
    assert says.lens[0]["score"] == pytest.approx((early.argmax(axis=1) == y).mean())
    assert says.summary["no_lens"] == ""
    # A blank run without a lens corrects the answers, and not the lens.
    corrected = replace(options, lens=lens, prior=np.zeros_like(options.total), prior_source="b")
    says = _says(corrected, y, group, design, _peak(y, design, 0.8), kind="corrected")
    assert not says.lens and "run b with blank pictures stores no lens" in says.summary["no_lens"]


def test_numbers_have_no_answers():
    y, group, design = _rows()
    rows = EvaluatedRows(y.astype(float), group, design, METRICS["accuracy"])
    peak = Selection(design, np.zeros((1, len(design.outer))))
    says = says_beside_peak(_answers(y, 0.6), "total", rows, peak, [0], EvaluationSettings())
    assert says.summary is None and "numbers" in says.why_not


def test_with_groups_the_test_has_its_level_and_the_test_of_rows_does_not():
    world = World(rows=6, unequal=False, depend=0.9, n_groups=60)
    says, difference, p, p_rows = error_rates(world, 60, n_probes=40)
    assert says <= 0.15 and difference <= 0.12 and p <= 0.12 < 0.3 < p_rows
