import mmap
import shutil
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vsp.errors import StoreError
from vsp.storage.array import Store, _finite, row_checksum
from vsp.storage.layout import HEADER_BYTES, Layout

LAYOUTS = st.builds(
    Layout.choose,
    n_layers=st.integers(1, 5),
    # Lengths at or just below whole pages, where one layer ends and the next begins.
    n_samples=st.one_of(
        st.integers(1, 5000),
        st.builds(lambda pages, less: 64 * pages - less, st.integers(1, 60), st.integers(0, 7)),
    ),
    hidden_size=st.one_of(
        st.integers(1, 9000), st.sampled_from([64, 768, 1024, 3584, 4096, 5120, 8192])
    ),
    dtype=st.sampled_from(["float16", "float32"]),
    n_shards=st.integers(1, 40),
)


def _pages(layout: Layout, start: int, stop: int, page: int) -> set[int]:
    """Page numbers of rows start, …, stop - 1, over all layers."""
    touched = set()
    for layer in range(layout.n_layers):
        first, last = layout.offset(layer, start), layout.offset(layer, stop) - 1
        touched |= set(range(first // page, last // page + 1))
    return touched


@given(layout=LAYOUTS, n_shards=st.integers(1, 40))
@example(layout=Layout(2, 128, 4096, "float16", 65536), n_shards=4)
def test_no_two_shards_touch_one_page(layout, n_shards):
    bounds = [*layout.shard_starts(n_shards), layout.n_samples]
    assert bounds[0] == 0 and bounds == sorted(set(bounds))
    for page in {4096, layout.boundary}:
        seen: set[int] = set()
        for start, stop in pairwise(bounds):
            pages = _pages(layout, start, stop, page)
            assert not seen & pages
            seen |= pages


SIZES = [24, 64, 128, 768, 1024, 1152, 1280, 1408, 3584, 4096, 5120, 8192]


@given(
    n_samples=st.one_of(st.integers(1, 5000), st.builds(lambda n, less: 64 * n - less,
                                                        st.integers(1, 60), st.integers(0, 7))),
    sizes=st.tuples(*[st.one_of(st.integers(1, 9000), st.sampled_from(SIZES))] * 2),
    dtype=st.sampled_from(["float16", "float32"]),
    n_shards=st.integers(1, 40),
    n_options=st.integers(0, 20),
)  # fmt: skip
@example(n_samples=3000, sizes=(4096, 1024), dtype="float16", n_shards=8, n_options=4)
@example(n_samples=3000, sizes=(3584, 1280), dtype="float16", n_shards=8, n_options=4)
@example(n_samples=3000, sizes=(63, 65), dtype="float16", n_shards=2, n_options=3)
def test_no_two_shards_touch_one_page_of_states_towers_or_answers(
    n_samples, sizes, dtype, n_shards, n_options
):
    beside = sizes[1:]
    states = Layout.choose(3, n_samples, sizes[0], dtype, n_shards, n_options > 0, beside)
    starts = states.shard_starts(n_shards, beside)
    layouts = [
        states,
        replace(states, n_layers=1),
        replace(states, n_layers=4, hidden_size=sizes[1]),
    ]
    if n_options:
        layouts += [states.of_options_beside(n * n_options, starts) for n in (1, 3)]
    for layout in layouts:
        seen: set[int] = set()
        for start, stop in pairwise([*starts, n_samples]):
            pages = _pages(layout, start, stop, layout.boundary)
            assert not seen & pages
            seen |= pages


def test_shards_are_those_of_a_run_without_modules_where_rows_of_the_tower_allow_them():
    alone = Layout.choose(33, 3000, 4096, "float32", 8)
    assert Layout.choose(33, 3000, 4096, "float32", 8, beside=(4096,)) == alone
    both = Layout.choose(33, 3000, 4096, "float16", 8, beside=(1024,))  # LLaVA-1.5 and its tower
    assert both.boundary == 8192 and len(both.shard_starts(8, (1024,))) == 8
    assert both.cuts((1024,)) == (0, 4) and both.cuts() == (0, 1)
    # Rows 1, 3, … of both begin on 16 KiB. On 64 KiB, row 7 of one does and row 5 of the other.
    wide = Layout.choose(33, 3000, 4096, "float16", 8, beside=(12288,))
    assert wide.boundary == 16384 and wide.cuts((12288,)) == (1, 2)


@pytest.mark.parametrize(
    ("hidden_size", "dtype", "n_shards", "boundary"),
    [
        (4096, "float16", 8, 65536),  # LLaVA-1.5-7B
        (5120, "float16", 8, 65536),  # LLaVA-1.5-13B
        (3584, "float16", 8, 65536),  # Qwen2-VL-7B
        (4096, "float32", 8, 8192),  # no row begins at a multiple of 64 KiB after an 8 KiB header
        (8192, "float16", 8, 8192),
    ],
)
def test_the_boundary_is_the_largest_that_the_shards_allow(hidden_size, dtype, n_shards, boundary):
    layout = Layout.choose(33, 3000, hidden_size, dtype, n_shards)
    assert layout.boundary == boundary
    assert len(layout.shard_starts(n_shards)) == n_shards


def test_shards_are_even_where_rows_are_small():
    layout = Layout.choose(7, 120, 128, "float32", 2)  # 64 KiB hold 128 of these rows
    assert layout.boundary == 32768 and layout.shard_starts(2) == [0, 48]


def test_padding_is_small_for_real_models():
    layout = Layout.choose(33, 3000, 4096, "float16", 8)
    assert layout.n_rows - layout.n_samples < 16


def test_numpy_alone_reads_the_file(tmp_path):
    layout = Layout.choose(3, 10, 5, "float16", 1)
    store = Store(tmp_path / "states.npy", layout)
    store.create()
    states = np.arange(150, dtype=np.float16).reshape(3, 10, 5)
    with store.writing() as writer:
        writer.write(range(10), store.screen(states))
    mapped = np.load(tmp_path / "states.npy", mmap_mode="r")
    assert mapped.shape == layout.shape and mapped.offset == HEADER_BYTES
    assert (mapped[:, :10] == states).all() and not mapped[:, 10:].any()
    assert (store.layer(1) == states[1]).all()


def test_only_the_named_rows_are_written_and_their_checksums_are_of_the_file(tmp_path):
    store = _store(tmp_path, n_samples=20)
    states = np.random.default_rng(0).normal(size=(3, 5, 8)).astype(np.float32)
    rows = [2, 3, 7, 8, 19]
    with store.writing() as writer:
        writer.write(rows, store.screen(states))
    checksums = store.screen(states).checksums
    mapped = np.load(store.path, mmap_mode="r")
    others = np.setdiff1d(np.arange(mapped.shape[1]), rows)
    assert (mapped[:, rows] == states).all() and not mapped[:, others].any()
    assert checksums == [row_checksum(mapped[:, row]) for row in rows]
    assert len(set(checksums)) == 5


def test_the_disk_is_reserved_when_the_store_is_made(tmp_path):
    store = _store(tmp_path, n_samples=4000)
    assert store.path.stat().st_blocks * 512 >= store.layout.n_bytes


def test_a_disk_that_is_too_small_is_refused_with_the_figures(tmp_path):
    free = shutil.disk_usage(tmp_path).free
    layout = Layout.choose(100, free // 100_000, 4096, "float32", 4)
    with pytest.raises(StoreError, match=rf"needs {layout.n_bytes:,} bytes but [\d,]+ are free"):
        Store(tmp_path / "states.npy", layout).create()
    assert not (tmp_path / "states.npy").exists()


@pytest.mark.parametrize(
    ("rows", "shape", "message"),
    [
        ([0, 1], (3, 2, 7), "do not fit"),
        ([0, 1], (2, 2, 8), "do not fit"),
        ([0], (3, 2, 8), "do not fit"),
        ([1, 0], (3, 2, 8), "not ascending"),
        ([4, 4], (3, 2, 8), "not ascending"),
        ([19, 20], (3, 2, 8), "not ascending rows of 20"),
        ([-1, 0], (3, 2, 8), "not ascending"),
    ],
)
def test_rows_and_shapes_that_do_not_fit_are_refused(tmp_path, rows, shape, message):
    store = _store(tmp_path, n_samples=20)
    with store.writing() as writer, pytest.raises(StoreError, match=message):
        writer.write(rows, store.screen(np.zeros(shape, np.float32)))
    assert not np.load(store.path, mmap_mode="r").any()


def test_values_that_are_not_finite_never_enter_the_array(tmp_path):
    store = _store(tmp_path, n_samples=20, dtype="float16")
    states = np.zeros((3, 3, 8))
    states[2, 1, 5] = 7e4  # finite, but not in float16
    states[1, 2, 0] = np.nan
    screened = store.screen(states)
    assert screened.reasons == {
        1: "value 70000 of layer 2 is not finite in float16",
        2: "value nan of layer 1 is not finite in float16",
    }
    with store.writing() as writer, pytest.raises(StoreError, match="leave them out"):
        writer.write([0, 1, 2], screened)
    with store.writing() as writer:
        writer.write([0], screened.take([0]))


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_every_value_that_is_not_finite_is_seen_and_no_other(dtype):
    every = np.arange(2**16, dtype=np.uint16).view(np.float16)  # all float16 values
    for value in every[::17].astype(dtype) if dtype == "float32" else every:
        assert _finite(np.array([0, value, -1], dtype)) == np.isfinite(value)
    assert _finite(np.zeros((0, 3), dtype))


def test_another_array_in_its_place_is_refused(tmp_path):
    store = _store(tmp_path, n_samples=20)
    other = Layout.choose(3, 20, 8, "float16", 1)
    with pytest.raises(StoreError, match="is not the array of this plan"):
        Store(store.path, other).check()
    store.path.unlink()
    with pytest.raises(StoreError, match="no such file"):
        store.check()


def test_a_host_with_larger_pages_refuses_to_write(tmp_path, monkeypatch):
    store = _store(tmp_path, n_samples=20)
    monkeypatch.setattr(mmap, "PAGESIZE", 4 * store.layout.boundary)
    with pytest.raises(StoreError, match="plan the run on a host like this one"), store.writing():
        pass


def test_a_page_too_large_for_the_hidden_size_is_refused_at_the_plan(monkeypatch):
    monkeypatch.setattr(mmap, "PAGESIZE", 65536)
    with pytest.raises(StoreError, match="use --shards 1"):
        Layout.choose(33, 3000, 8192, "float16", 4)
    assert Layout.choose(33, 3000, 8192, "float16", 1).shard_starts(1) == [0]


def _store(folder, n_samples, dtype="float32"):
    store = Store(folder / "states.npy", Layout.choose(3, n_samples, 8, dtype, 1))
    store.create()
    return store


@given(
    st.integers(1, 5000), st.integers(1, 300) | st.sampled_from([768, 1536, 3584, 4096]),
    st.sampled_from(["float16", "float32"]), st.integers(1, 9), st.integers(1, 40),
)  # fmt: skip
def test_shards_begin_on_pages_of_the_answers_too(n_samples, hidden, dtype, n_shards, n_options):
    layout = Layout.choose(3, n_samples, hidden, dtype, n_shards, with_options=True)
    starts = layout.shard_starts(n_shards)
    options = layout.of_options_beside(n_options, starts)
    assert options.hidden_size >= n_options and options.n_layers == 1
    assert all(options.offset(0, row) % layout.boundary == 0 for row in starts[1:])
    if len(starts) == 1:
        assert options.hidden_size == n_options


def test_options_of_all_layers_take_a_few_pages_for_each_row():
    """A row of each layer on pages of its own would double the store of a model of 4096 units."""
    states = Layout.choose(33, 10_000, 4096, "float16", 10, with_options=True)
    layout = states.of_options_beside(5 * 33, states.shard_starts(10))
    assert len(states.shard_starts(10)) == 10 and layout.n_bytes < 0.04 * states.n_bytes


def test_a_plan_whose_shards_lie_anywhere_is_refused_and_not_searched_for_ever():
    layout = Layout.choose(3, 5000, 64, "float32", 4)
    with pytest.raises(StoreError, match="shards do not begin on pages"):
        layout.of_options_beside(4, [0, 3, 1001])
