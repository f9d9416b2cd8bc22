"""Verdicts of drawn worlds: worlds without a picture are not called grounded, few more than the level."""

from __future__ import annotations

import pytest
from benchmarks.verdict_simulation import (
    ANSWER_WORLDS,
    PROBE_WORLDS,
    answer_rows,
    probe_rows,
    rates,
)

from vsp.evaluation.statistics import Folds

FIVE_FOLDS = Folds(5, 1)


@pytest.mark.parametrize(
    "name", ["nothing", "nothing, few rows", "words alone", "words alone, few rows", "prior"]
)
def test_probes_that_do_not_read_the_picture_are_not_called_grounded(name):
    shares, any_class = rates(lambda seed: probe_rows(PROBE_WORLDS[name], seed), FIVE_FOLDS, 12)
    assert shares["grounded"] == any_class == 0


@pytest.mark.parametrize("name", [one for one in ANSWER_WORLDS if one.startswith(("gain", "the"))])
def test_a_gain_of_just_the_margin_is_neither_grounded_nor_words_alone(name):
    shares, any_class = rates(lambda seed: answer_rows(*ANSWER_WORLDS[name], seed), Folds(), 12)
    # Each error has a probability of at most 2.5 %: two of twelve have one of 0.04.
    assert max(shares["grounded"], shares["words alone"], any_class) <= 1 / 12


def test_pictures_words_and_priors_are_found():
    found = {
        name: rates(lambda seed, world=PROBE_WORLDS[name]: probe_rows(world, seed), FIVE_FOLDS, 4)[0]
        for name in ("picture", "words alone", "prior")
    }  # fmt: skip
    assert found["picture"]["grounded"] == 1
    assert found["words alone"]["words alone"] == 1
    assert found["prior"]["prior"] == 1
