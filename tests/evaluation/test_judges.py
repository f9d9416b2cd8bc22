"""The judge of each row equals the one that a search over all pairs of rows finds."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vsp.evaluation.judges import FINAL, NONE, FittedRows
from vsp.evaluation.row_identity import COMMON, UNKNOWN, RowIdentity
from vsp.storage.manifest import Sample

ROW = Sample("7", "/data/a.jpg", "?", "left_of", "a.jpg", image_sha256="ab" * 32)
NAMED = replace(ROW, subject="cat", reference="dog")


def _key(sample):
    return RowIdentity.of([sample]).key[0]


@pytest.mark.parametrize(
    "variant",
    [
        replace(ROW, image="/mirrored/a.jpg.png", label="right_of", image_sha256="cd" * 32),
        replace(ROW, image="/blank/grey_224x224.png"),
        replace(ROW, prompt="Where?", split="test", n_tokens=9),
    ],
)
def test_a_variant_of_a_row_without_names_has_its_key(variant):
    assert _key(variant) == _key(ROW)


def test_a_variant_of_a_row_with_names_has_its_key():
    swapped = replace(NAMED, subject="dog", reference="cat", image="/x.png", group="x")
    assert _key(swapped) == _key(NAMED)


@pytest.mark.parametrize(
    "other",
    [
        replace(ROW, id="8"),
        replace(ROW, group="b.jpg"),
        replace(ROW, subject="cat", reference="dog"),
        replace(ROW, group="7", image="/data/b.jpg"),
    ],
)
def test_other_rows_have_other_keys(other):
    assert _key(other) != _key(ROW)
    assert _key(replace(NAMED, subject="cow")) != _key(NAMED)


def test_where_each_row_is_a_group_the_image_decides():
    """A split by row makes each row a group; the file that it was read from has images as groups."""
    assert _key(replace(ROW, group="7")) == _key(ROW)


def test_pictures_that_most_rows_share_under_several_names_are_common():
    samples = [replace(ROW, id=str(i), image=f"{i // 2}.jpg", image_sha256=digest * 32)
               for i, digest in enumerate(("aa", "aa", "bb", "aa", "aa"))]  # fmt: skip
    samples.append(replace(ROW, id="9", image="", image_sha256=""))
    known = RowIdentity.of(samples)
    kept = known.with_common_images()
    b = int("bb" * 8, 16)
    assert kept.image.tolist() == [COMMON, COMMON, b, COMMON, COMMON, UNKNOWN]
    assert np.array_equal(kept.key, known.key)
    # Questions about one picture under one name are not a control.
    one = RowIdentity.of([replace(one, image="a.jpg", image_sha256="aa" * 32) for one in samples])
    assert (one.with_common_images().image == one.image).all()


@st.composite
def fitted_rows(draw):
    """A few rows with folds or one split, and rows of a target that are partly the same."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    n_rows, n_folds = draw(st.integers(4, 20)), draw(st.integers(1, 4))
    n_repeats = draw(st.integers(1, 3)) if n_folds > 1 else 1
    images = rng.integers(0, 12, n_rows).astype(np.uint64)  # 0 is UNKNOWN
    fold = rng.integers(n_folds, size=(n_repeats, n_rows))
    for of_repeat in fold:
        of_repeat[:n_folds] = np.arange(n_folds)
    outer = fold + n_folds * np.arange(n_repeats)[:, None]
    if n_folds == 1:
        outer[0, rng.random(n_rows) < 0.5] = -1
        outer[0, 0] = -1
        outer_fitted = (outer == -1) & (rng.random(n_rows) < 0.7)  # the others: val
        outer_fitted[0, 0] = True
        fitted = outer_fitted[0]
    else:
        outer_fitted = np.concatenate([
            [one != split for split in range(n_folds * r, n_folds * (r + 1))]
            for r, one in enumerate(outer)
        ])  # fmt: skip
        # With names held out, a row can be on neither side of a fold, or on no side that is tested.
        outer_fitted &= rng.random(outer_fitted.shape) < 0.9
        outer[:, n_folds:][rng.random((n_repeats, n_rows - n_folds)) < 0.1] = -1
        fitted = np.ones(n_rows, bool)
    rows = FittedRows(
        RowIdentity(np.arange(n_rows).astype(np.uint64), images, images + np.uint64(50)),
        outer, fitted, outer_fitted,
    )  # fmt: skip
    shown = rng.integers(0, 16, 15).astype(np.uint64)
    target = RowIdentity(
        rng.integers(0, 2 * n_rows, 15).astype(np.uint64), shown,
        np.where(rng.random(15) < 0.3, UNKNOWN, shown + np.uint64(50)),
    )  # fmt: skip
    return rows, target


def _same_picture(rows, key_image_name):
    """Whether each row of a run shows a picture, pair by pair."""
    image, name = key_image_name
    of_run = zip(rows.identity.image.tolist(), rows.identity.image_name.tolist(), strict=True)
    return np.array([
        (image == other if min(image, other) > COMMON else
         UNKNOWN in (image, other) and COMMON not in (image, other) and UNKNOWN != name == other_name)
        for other, other_name in of_run
    ])  # fmt: skip


@given(fitted_rows())
@settings(max_examples=150, deadline=None)
def test_no_judge_was_fitted_or_chosen_on_the_row_or_its_picture(given):
    """Only the run's own test rows have the judge that tests them, whatever pictures it was fitted on."""
    rows, target = given
    judge = rows.judges(target)
    assert judge.shape == (len(rows.outer), len(target.key))
    used = rows.fitted | (rows.outer < 0).all(axis=0)
    for column in range(len(target.key)):
        equal = rows.identity.key == target.key[column]
        shown = (int(target.image[column]), int(target.image_name[column]))
        picture = _same_picture(rows, shown)
        same = equal | picture
        # Repeats in which the target's row, as a row of the run, is not tested.
        untested = (rows.outer[:, equal] < 0).any(axis=1)
        for repeat, chosen in enumerate(judge[:, column]):
            own = equal & picture & (rows.outer[repeat] >= 0)
            if own.any() and chosen != NONE:
                single = len(rows.outer_fitted) == 1
                assert [chosen] == ([FINAL] if single else rows.outer[repeat, own].tolist())
            elif chosen == FINAL:
                assert not (used & same).any()
            elif chosen != NONE:
                assert not (rows.outer_fitted[chosen] & same).any()
                assert chosen in rows.outer[repeat] and (rows.fitted & same).any()
        none = judge[:, column] == NONE
        if len(rows.outer_fitted) > 1 and not none.all():
            assert np.array_equal(none, untested)
        elif none.any():
            assert (untested.all() and equal.any()) or _has_no_judge(rows, same, equal & picture)


def _has_no_judge(rows, same, own):
    """Whether all probes of some repeat were fitted on a row of `same`."""
    if len(rows.outer_fitted) == 1:
        return bool(((rows.fitted | (rows.outer[0] < 0)) & same).any())
    seen = (rows.outer_fitted & same).any(axis=1)
    return any(
        seen[np.unique(of_repeat[of_repeat >= 0])].all() and (of_repeat[own] < 0).all()
        for of_repeat in rows.outer
    )
