"""Scores of options, and the answer that they choose."""

import numpy as np
import pytest

from vsp.evaluation.answers import RowOptions, best_option, margins, name_options

NAN, INF = np.nan, np.inf
LENGTHS = np.array([[2, 1], [1, 4]])


def _options(total, texts=None, **others):
    total = np.array(total, np.float32)
    texts = texts or [["a"] * total.shape[1]] * len(total)
    lengths = np.ones(total.shape, int)
    return RowOptions(texts, total, **{"n_tokens": lengths, "n_characters": lengths, **others})


def test_scores_are_divided_by_lengths_and_corrected_by_the_prior():
    prior = np.array([[-1, -2], [-8, -INF]])
    options = _options(
        [[-6, -4], [-3, -8]], n_tokens=LENGTHS, n_characters=2 * LENGTHS, prior=prior
    )
    assert options.scores("total").tolist() == [[-6, -4], [-3, -8]]
    assert options.scores("per-token").tolist() == [[-3, -4], [-3, -2]]
    assert options.scores("per-character").tolist() == [[-1.5, -2], [-1.5, -1]]
    assert options.scores("corrected").tolist() == [[-5, -2], [5, -INF]]
    assert _options([[-6, -4]]).scores("corrected") is None


def test_a_prior_changes_the_answer_of_a_model_that_prefers_a_word():
    prior = np.array([[-1.0, -5.0]])
    options = _options([[-1.5, -2.0]], prior=prior)
    assert best_option(options.scores("total"))[0].tolist() == [0]
    assert best_option(options.scores("corrected"))[0].tolist() == [1]


def test_the_lens_is_scored_as_the_answers_are_with_the_prior_of_its_layer():
    lens = np.array([[[-6.0, -4.0]], [[-2.0, -8.0]]])
    prior_lens = np.array([[[-6.0, -1.0]], [[0.0, -8.0]]])
    lengths = np.array([[2, 4]])
    options = _options(lens[-1], n_tokens=lengths, lens=lens, prior_lens=prior_lens)
    assert options.lens_scores("per-token", 0).tolist() == [[-3, -1]]
    assert options.lens_scores("corrected", 1).tolist() == [[-2, 0]]
    assert _options(lens[-1], lens=lens).lens_scores("corrected", 0) is None
    assert _options(lens[-1]).lens_scores("total", 0) is None


def test_of_equal_scores_the_first_option_is_the_answer_and_the_tie_is_known():
    scores = np.array(
        [[-2, -1, -1], [-1, -2, NAN], [NAN, NAN, NAN], [-INF, -INF, NAN], [-3, -2, -1]]
    )
    chosen, is_tied = best_option(scores)
    assert chosen.tolist() == [1, 0, -1, 0, 2]
    assert is_tied.tolist() == [True, False, False, True, False]


def test_the_margin_is_negative_for_wrong_answers_and_undefined_without_the_label():
    scores = np.array([[-1, -3, NAN], [-3, -1, -2], [-1, -2, -3], [-INF, -INF, NAN]])
    is_label = np.array([[1, 0, 0], [1, 0, 0], [0, 0, 0], [1, 0, 0]], bool)
    assert margins(scores, is_label) == pytest.approx([2, -2, NAN, NAN], nan_ok=True)


def test_options_are_named_by_the_class_whose_words_they_are():
    texts = [[" Left of", " Right of"], [" a cat", " left of", " A cat"]]
    index, names = name_options(texts, ["above", "left_of"], 3)
    assert names == ["above", "left_of", "Right of", "a cat", "A cat"]
    assert index.tolist() == [[1, 2, -1], [3, 1, 4]]


def test_rows_are_taken_with_all_that_belongs_to_them():
    total = np.array([[-1.0, -2.0], [-3.0, -4.0]])
    options = _options(total, [["a", "b"], ["c", "d"]], n_tokens=LENGTHS, lens=total[None],
                       prior=2 * total, prior_lens=3 * total[None])  # fmt: skip
    taken = options.take(np.array([1]))
    assert taken.texts == [["c", "d"]] and taken.total.tolist() == [[-3, -4]]
    assert taken.n_tokens.tolist() == [[1, 4]] and taken.lens.tolist() == [[[-3, -4]]]
    assert taken.prior.tolist() == [[-6, -8]] and taken.prior_lens.tolist() == [[[-9, -12]]]


def test_an_option_that_differs_from_the_label_in_its_capital_alone_is_not_the_label():
    index, names = name_options([["may", "May"], ["may"]], ["May", "near"], 2)
    assert names == ["May", "near", "may"]
    assert index.tolist() == [[2, 0], [0, -1]]
