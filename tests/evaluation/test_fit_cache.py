"""A cached layer is read with the same arrays, or refused; never the arrays of another layer."""

import hashlib
import io
import json
import os
import resource
import time
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from vsp.errors import RunError
from vsp.evaluation.fit_cache import FitCache

FIT = {
    "predicted": np.array([[0, 1, -1], [1, 0, 0]], np.int16),
    "probability": np.full((2, 3, 2), 1 / 3, np.float32),
    "null_observed": np.array(0.1 + 0.2),
    "gap": np.array([1e-9, np.nan, np.inf], np.float32),
    "portion_rows": np.empty(0, np.intp),
    "probe.treatment": np.array("über"),
    "probe.coef": np.arange(6.0).reshape(2, 3)[:, ::2],  # not contiguous
}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    cache = FitCache(tmp_path_factory.mktemp("probe") / "0123456789abcdef")
    cache.write(7, FIT)
    return cache


def _refused_or_right(cache, body):
    """Write `body` as the file of layer 7. Returns "right" or "refused"; anything else fails."""
    other = FitCache(cache.folder.parent / "other" / cache.key)
    other.folder.mkdir(parents=True, exist_ok=True)
    other.path(7).write_bytes(body)
    try:
        assert _same(other.read(7), FIT)
        return "right"
    except RunError as error:
        assert str(error) == f"{other.path(7)}: is damaged; remove it and run the command again"
        return "refused"


def _same(read, written):
    return list(read) == list(written) and all(
        (read[k].dtype, read[k].shape, read[k].tobytes())
        == (written[k].dtype, written[k].shape, written[k].tobytes())
        for k in written
    )


def test_what_was_kept_is_read_to_the_last_bit(cache):
    assert _same(cache.read(7), FIT)
    assert [path.name for path in cache.folder.iterdir()] == ["007.npz"]


_ANY = arrays_of.arrays(
    st.one_of(
        arrays_of.floating_dtypes(endianness="<"), arrays_of.integer_dtypes(endianness="<"),
        arrays_of.boolean_dtypes(), arrays_of.unicode_string_dtypes(endianness="<", min_len=1),
    ),
    arrays_of.array_shapes(min_dims=0, min_side=0, max_side=4),
)  # fmt: skip


@given(st.dictionaries(st.from_regex(r"[a-z_]+(\.[a-z]+)?", fullmatch=True), _ANY, max_size=4))
@settings(max_examples=100, deadline=None)
def test_any_arrays_are_the_same_again(cache, written):
    other = FitCache(cache.folder.parent / "any")
    other.write(0, written)
    assert _same(other.read(0), written)


def test_the_same_arrays_give_the_same_bytes(cache, tmp_path):
    again = FitCache(tmp_path / cache.key)
    again.write(7, FIT)
    assert again.path(7).read_bytes() == cache.path(7).read_bytes()


def test_a_layer_that_was_not_fitted_is_none(cache):
    assert cache.read(6) is None and FitCache(cache.folder / "no").read(7) is None


def test_the_file_is_an_npz_without_pickles_that_numpy_reads(cache):
    with np.load(cache.path(7), allow_pickle=False) as arrays:
        assert set(arrays) == {*FIT, "whose"}
    with zipfile.ZipFile(cache.path(7)) as file:
        assert file.testzip() is None


def test_objects_are_never_written(tmp_path):
    cache = FitCache(tmp_path / "key")
    with pytest.raises(ValueError, match="allow_pickle=False"):
        cache.write(0, {"a": np.array([{}])})
    assert cache.read(0) is None and list(cache.folder.iterdir()) == []


def test_a_file_cut_at_any_place_is_refused(cache):
    body = cache.path(7).read_bytes()
    places = {*range(0, len(body), 7), *range(len(body) - 100, len(body))}
    assert {_refused_or_right(cache, body[:n]) for n in places} == {"refused"}
    assert _refused_or_right(cache, body) == "right"


@given(data=st.data())
@settings(max_examples=400, deadline=None)
def test_a_flipped_bit_anywhere_is_refused(cache, data):
    body = bytearray(cache.path(7).read_bytes())
    place = data.draw(st.integers(0, 8 * len(body) - 1))
    body[place // 8] ^= 1 << place % 8
    assert _refused_or_right(cache, bytes(body)) == "refused"


def test_a_directory_at_a_place_outside_the_file_is_damage(cache):
    body = bytearray(cache.path(7).read_bytes())
    body[-68] ^= 1  # the place of the directory, ahead of 64 digits
    assert _refused_or_right(cache, bytes(body)) == "refused"


@given(body=st.binary(max_size=300))
def test_any_other_content_is_refused(cache, body):
    assert _refused_or_right(cache, body) == "refused"


def test_an_npz_that_is_whole_but_not_of_parts_is_refused(cache):
    file = io.BytesIO()
    np.savez(file, **FIT)
    assert _refused_or_right(cache, file.getvalue()) == "refused"


def test_the_fit_of_another_layer_or_of_another_key_is_refused(cache, tmp_path):
    other_layer, other_key = FitCache(tmp_path / cache.key), FitCache(tmp_path / ("f" * 16))
    other_layer.write(8, FIT)
    assert _refused_or_right(cache, other_layer.path(8).read_bytes()) == "refused"
    other_key.write(7, FIT)
    assert _refused_or_right(cache, other_key.path(7).read_bytes()) == "refused"


def test_a_removed_layer_is_there_no_more(tmp_path):
    cache = FitCache(tmp_path / "key")
    cache.write(7, FIT)
    cache.remove(7)
    cache.remove(7)
    assert cache.read(7) is None


@pytest.mark.parametrize("limit", [1 << 28, 1 << 34])
def test_a_large_file_of_zeros_is_refused_and_takes_no_memory(tmp_path, limit):
    cache = FitCache(tmp_path / "key", limit)
    cache.write(0, FIT)
    os.truncate(cache.path(0), 3 << 30)
    started, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(RunError, match=r"000.npz: .*; remove it and run the command again"):
        cache.read(0)
    assert time.process_time() - started < 2
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB


def test_a_cache_that_numpy_wrote_is_read(tmp_path):
    """As older versions wrote it."""
    cache = FitCache(tmp_path / "key")
    cache.folder.mkdir()
    owner = np.array(json.dumps({"key": "key", "layer": 0}))
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **FIT, whose=owner)
    body = file.getvalue()[:-2] + (64).to_bytes(2, "little")
    cache.path(0).write_bytes(body + hashlib.sha256(body).hexdigest().encode())
    assert _same(cache.read(0), FIT)
