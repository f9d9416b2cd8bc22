"""Hypothesis strategy for labels, groups and splits, and their design."""

from __future__ import annotations

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from vsp.errors import ProbeError
from vsp.evaluation.design import make_design


@st.composite
def labelled_rows(draw, one_label=None, own_split=None, numbers=None):
    """Labels, groups and a dataset split (or an empty one) of a few dozen rows."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    n_groups, n_labels = draw(st.integers(8, 30)), draw(st.integers(2, 4))
    number = np.repeat(np.arange(n_groups), rng.integers(1, 5, n_groups))
    number = rng.permutation(number)
    one_label = draw(st.booleans()) if one_label is None else one_label
    y = rng.integers(n_labels, size=n_groups)[number]
    if not one_label:
        y = rng.integers(n_labels, size=len(number))
    if draw(st.booleans()) if numbers is None else numbers:
        y = y + rng.standard_normal(n_groups)[number] * one_label
    split = np.full(len(y), "")
    if draw(st.booleans()) if own_split is None else own_split:
        split = np.where(rng.random(n_groups) < 0.3, "test", "train")[number]
    return y, np.char.add("g", number.astype(str)), split


def design_of(y, group, split, **settings):
    try:
        return make_design(y, group, split, **settings)
    except ProbeError as error:
        assert "\n" not in str(error)
        assume(False)
