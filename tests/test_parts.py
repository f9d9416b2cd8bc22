"""The fit of one layer on disk: the same again, or refused, and never another."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vsp.errors import RunError
from vsp.parts import LayerFit, Parts
from vsp.results import LayerScore

SCORE = LayerScore(7, 0.1 + 0.2, 1 / 3, 0.5, 0.75, {"über": 0.1, "a": 1.0}, 8, 2, 6, 0)
PROBE = {
    "classes": np.array(["a", "über"]),
    "mean": np.array([1 / 3, 0.1 + 0.2]),
    "scale": np.array([1.0, 2.0]),
    "coef": np.arange(4.0).reshape(2, 2),
    "intercept": np.array([0.5, -0.5]),
}
FIT = LayerFit(SCORE, PROBE, np.array(["über", "a"]))


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    parts = Parts(tmp_path_factory.mktemp("probe") / "0123456789abcdef")
    parts.write(FIT)
    return parts


def _refused_or_right(parts, body):
    whole = parts.path(7).read_bytes()
    try:
        parts.path(7).write_bytes(body)
        assert _same(parts.read(7))
        return "right"
    except RunError as error:
        assert str(error).endswith("007.npz: is damaged; remove it and run the command again")
        return "refused"
    finally:
        parts.path(7).write_bytes(whole)


def _same(fit):
    assert fit.score == SCORE and list(fit.score.per_class) == ["über", "a"]
    assert fit.probe.keys() == PROBE.keys()
    assert all(fit.probe[k].tobytes() == PROBE[k].tobytes() for k in PROBE)
    return fit.predicted.tolist() == ["über", "a"]


def test_what_was_kept_is_read_to_the_last_bit(parts):
    assert _same(parts.read(7))
    assert [path.name for path in parts.folder.iterdir()] == ["007.npz"]


def test_a_layer_that_was_not_fitted_is_none(parts):
    assert parts.read(6) is None and Parts(parts.folder / "no").read(7) is None


def test_the_file_is_an_npz_without_pickles_that_numpy_reads(parts):
    with np.load(parts.path(7), allow_pickle=False) as arrays:
        assert set(arrays) == {*PROBE, "predicted", "score"}


def test_a_file_cut_at_any_place_is_refused(parts):
    body = parts.path(7).read_bytes()
    assert {_refused_or_right(parts, body[:n]) for n in range(len(body))} == {"refused"}


@given(data=st.data())
@settings(max_examples=400, deadline=None)
def test_a_flipped_bit_anywhere_is_refused(parts, data):
    body = bytearray(parts.path(7).read_bytes())
    place = data.draw(st.integers(0, 8 * len(body) - 1))
    body[place // 8] ^= 1 << place % 8
    assert _refused_or_right(parts, bytes(body)) == "refused"


@given(body=st.binary(max_size=300))
def test_any_other_content_is_refused(parts, body):
    assert _refused_or_right(parts, body) == "refused"


def test_the_fit_of_another_layer_or_of_another_key_is_refused(parts, tmp_path):
    other_layer, other_key = Parts(tmp_path / parts.key), Parts(tmp_path / ("f" * 16))
    other_layer.write(replace(FIT, score=replace(SCORE, layer=8)))
    assert _refused_or_right(parts, other_layer.path(8).read_bytes()) == "refused"
    other_key.write(FIT)
    assert _refused_or_right(parts, other_key.path(7).read_bytes()) == "refused"


def test_a_removed_layer_is_there_no_more(tmp_path):
    parts = Parts(tmp_path / "key")
    parts.write(FIT)
    parts.remove(7)
    parts.remove(7)
    assert parts.read(7) is None
