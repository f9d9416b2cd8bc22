"""Groups stay whole, and each split gets its share of every label."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from vsp.datasets.splitting import assign_splits


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 60), st.sampled_from([(0.8, 0.2), (0.7, 0.1, 0.2)]), st.integers(0, 9))
def test_sides_keep_groups_whole_and_give_each_side_its_share_of_every_label(n, shares, seed):
    group = np.repeat(np.arange(10 * n), 1 + np.arange(10 * n) % 3)
    label = np.arange(len(group)) % 4
    side = assign_splits(label, group, shares, seed)
    assert (np.diff(side)[np.diff(group) == 0] == 0).all()
    for one in range(4):
        held = np.bincount(side[label == one], minlength=len(shares))
        assert np.abs(held - np.array(shares) * held.sum()).max() <= 4
