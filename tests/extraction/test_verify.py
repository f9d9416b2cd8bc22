"""The store is compared with its checksums."""

import os
import shutil

import numpy as np
import pytest

from vsp import models
from vsp.errors import StoreError
from vsp.extraction.extract import extract
from vsp.extraction.plan import PlanRequest, plan_run
from vsp.extraction.verify import cut_pieces, differing_rows, repair, verify
from vsp.storage.journal import Journal
from vsp.storage.layout import HEADER_BYTES
from vsp.storage.run import Run

OPTIONS = {"hidden_size": 1024}


@pytest.fixture(scope="module")
def extracted(spatial, tmp_path_factory):
    """A working folder with an extracted run, for copying."""
    folder = tmp_path_factory.mktemp("extracted")
    request = PlanRequest(
        spatial, models.resolve("fake", options=OPTIONS), n_shards=4, batch_size=4
    )
    run = plan_run(request, folder).run
    extract(run, run.shards)
    return folder


@pytest.fixture
def run(extracted, work):
    shutil.copytree(extracted, work, dirs_exist_ok=True, symlinks=True)
    (folder,) = (work / "scratch").iterdir()
    return Run.open(folder)


def _flip(run, place, bit=3):
    with run.store.path.open("r+b") as file:
        file.seek(place)
        byte = file.read(1)[0]
        file.seek(place)
        file.write(bytes([byte ^ 1 << bit]))


def test_a_whole_store_is_found_whole(run):
    found = verify(run, n_jobs=1)
    assert (found.n_checked, found.n_bad, found.n_failed, found.n_missing) == (96, 0, 0, 0)
    layouts = run.plan.layouts()
    assert layouts.keys() == {"states", "answers"}
    assert found.n_bytes == 96 * sum(one.row_bytes * one.n_layers for one in layouts.values())


def test_any_flipped_bit_names_its_row_and_no_other(run):
    layout, rng = run.store.layout, np.random.default_rng(0)
    for _ in range(40):
        layer, row = rng.integers(run.plan.n_layers), int(rng.integers(96))
        place = layout.offset(layer, row) + int(rng.integers(layout.row_bytes))
        bit = int(rng.integers(8))
        _flip(run, place, bit)
        shard = next(s.index for s in run.shards if s.start <= row < s.stop)
        assert verify(run, n_jobs=1).bad == {shard: [row]}
        _flip(run, place, bit)
    assert not verify(run, n_jobs=1).bad


def test_rows_without_states_are_counted_and_not_looked_at(plan_fake):
    run = plan_fake(n_shards=4, batch_size=4, options=OPTIONS)
    extract(run, [run.shards[1]])
    with Journal(run.journals, run.plan.id, 0) as journal:
        journal.mark_failed(0, "why")
    size = run.shards[1].stop - run.shards[1].start
    found = verify(run, n_jobs=1)
    assert (found.n_checked, found.n_failed, found.n_missing) == (size, 1, 95 - size)
    _flip(run, run.store.layout.offset(0, 0))
    assert not verify(run, n_jobs=1).bad


def test_repair_puts_exactly_the_bad_rows_back_and_extraction_restores_the_bytes(run):
    whole = run.store.path.read_bytes()
    rows = [0, 5, 6, 40, 95]
    for row in rows:
        _flip(run, run.store.layout.offset(2, row) + 17)
    found = verify(run, n_jobs=1)
    assert sorted(row for bad in found.bad.values() for row in bad) == rows
    repair(run, found.bad)
    assert [row for ledger in run.ledgers() for row in ledger.missing] == rows
    assert not verify(run, n_jobs=1).bad
    extract(run, run.shards)
    assert run.store.path.read_bytes() == whole
    assert verify(run, n_jobs=1).n_checked == 96


def test_states_of_an_earlier_life_with_other_last_bits_are_as_good(run):
    """Two simultaneous lives may differ in the last bits, for example after one halved a batch."""
    ledger = run.ledgers()[0]
    with Journal(run.journals, run.plan.id, 0) as journal:
        of_arrays = ledger.crc32[:, :2].copy()
        of_arrays[0, 0] ^= 1
        journal.mark_done([0, 1], of_arrays)
    assert run.ledgers()[0].earlier == {0: {ledger.done[0]}}
    assert not verify(run, n_jobs=1).bad
    _flip(run, run.store.layout.offset(0, 0))
    assert verify(run, n_jobs=1).bad == {0: [0]}


def test_a_piece_is_a_few_megabytes_and_pieces_hold_every_done_row_once(run, monkeypatch):
    monkeypatch.setattr("vsp.extraction.verify._READ", 5 * run.store.layout.row_bytes)
    rows = []
    for i, ledger in enumerate(run.ledgers()):
        for piece in cut_pieces(i, ledger, run.store.layout):
            assert 0 < piece.stop - piece.start <= 5
            rows += piece.rows.tolist()
    assert rows == list(range(96))
    assert not verify(run, n_jobs=1).bad


def test_workers_find_what_one_process_finds(run, monkeypatch):
    _flip(run, run.store.layout.offset(1, 33))
    alone = verify(run, n_jobs=1).bad
    monkeypatch.setattr("vsp.extraction.verify._MIN_WORK", 1)
    assert verify(run, n_jobs=2).bad == alone != {}


def test_what_is_read_comes_from_the_disk(run, monkeypatch):
    calls = []
    advise = os.posix_fadvise
    monkeypatch.setattr(
        "os.posix_fadvise", lambda *args: (calls.append(args[1:]), advise(*args))[1]
    )
    layout = run.store.layout
    (piece,) = cut_pieces(0, run.ledgers()[0], layout)
    assert differing_rows(run.store.path, layout, piece) == []
    size = (piece.stop - piece.start) * layout.row_bytes
    for layer in range(layout.n_layers):
        place = layout.offset(layer, piece.start)
        drop, fetch = (place, size, os.POSIX_FADV_DONTNEED), (place, size, os.POSIX_FADV_WILLNEED)
        assert calls.index(drop) < calls.index(fetch)


def test_another_store_or_a_short_one_is_refused(run, plan_fake):
    whole = run.store.path.read_bytes()
    run.store.path.write_bytes(whole[:-1])
    with pytest.raises(StoreError, match=f"it has {len(whole) - 1:,} bytes; plan the run again"):
        verify(run, n_jobs=1)
    other = plan_fake(n_shards=4, batch_size=8, options=OPTIONS)
    shutil.copy(other.store.path, run.store.path)
    with pytest.raises(StoreError, match=r"is not the array of this plan .*: it is <f4 .* of plan"):
        verify(run, n_jobs=1)


def test_the_command_names_rows_and_says_what_to_do(run, vsp):
    answer = vsp("verify")
    assert answer.returncode == 0 and "96 rows checked: all match; 0 failed and 0" in answer.stdout
    for row in (3, 4, 5, 90):
        _flip(run, HEADER_BYTES + row * run.store.layout.row_bytes)
    answer = vsp("verify")
    assert answer.returncode == 1 and "Traceback" not in answer.stderr
    assert (
        "shard 0: rows 3-5 of states.npy\n" in answer.stderr
        and "shard 3: rows 90 of states.npy\n" in answer.stderr
    )
    assert "4 rows do not match their checksums" in answer.stderr and "--repair" in answer.stderr
    answer = vsp("verify", "--run", run.name)  # the suggested command names the same run
    assert f"`vsp verify --run {run.name} --repair`" in answer.stderr
    answer = vsp("verify", "--repair")
    assert answer.returncode == 0 and "shard 0: rows 3-5 of states.npy\n" in answer.stdout
    assert "marked 4 rows as missing" in answer.stdout
    assert [ledger.missing for ledger in run.ledgers()] == [[3, 4, 5], [], [], [90]]


@pytest.mark.parametrize("place", [0, 7, 9, 30, 60, 100, 150, HEADER_BYTES - 1])
@pytest.mark.parametrize("size", [1, 40, HEADER_BYTES])
def test_a_damaged_header_is_written_again_and_the_rows_are_checked(run, vsp, place, size):
    """The header follows from the plan, so the states need not be computed again."""
    if place + size > HEADER_BYTES and size > 1:
        place = 0 if size == HEADER_BYTES else HEADER_BYTES - size
    whole = run.store.path.read_bytes()
    with run.store.path.open("r+b") as file:
        file.seek(place)
        file.write(bytes(byte ^ 0x15 for byte in whole[place : place + size]))
    with pytest.raises(StoreError, match=r"its header is damaged; `vsp verify --run .* --repair`"):
        verify(run, n_jobs=1)
    assert run.store.repair_header() and not run.store.repair_header()
    assert run.store.path.read_bytes() == whole and not verify(run, n_jobs=1).bad


def test_the_command_repairs_the_header_and_finds_damaged_rows(run, vsp):
    with run.store.path.open("r+b") as file:
        file.write(b"x" * 200)
    _flip(run, run.store.layout.offset(2, 40))
    refused = vsp("extract", run.name)
    assert refused.returncode == 1 and refused.stderr.count("\n") == 1
    command = refused.stderr.partition("`vsp ")[2].partition("`")[0]
    answer = vsp(*command.split())
    assert answer.returncode == 0, answer.stderr
    assert "wrote a new header of" in answer.stdout and "rows 40 of states.npy\n" in answer.stdout
    assert np.load(run.store.path, mmap_mode="r").shape == run.store.layout.shape
    assert vsp("verify").returncode == 0


def test_the_array_of_another_plan_is_not_repaired(run, plan_fake):
    """It has the same size, and whoever put it there may want it back."""
    other = plan_fake(n_shards=4, batch_size=8, options=OPTIONS)
    shutil.copy(other.store.path, run.store.path)
    before = run.store.path.read_bytes()
    for refused in (run.store.repair_header, run.store.check):
        with pytest.raises(StoreError, match="is not the array of this plan"):
            refused()
    assert run.store.path.read_bytes() == before


def test_a_tiny_run_is_counted_in_bytes_that_are_not_zero(plan_fake, vsp):
    run = plan_fake(options={"n_layers": 2, "hidden_size": 8})
    extract(run, run.shards)
    answer = vsp("verify")
    n_bytes = 96 * (2 * 8 * 4 + run.stores["answers"].layout.row_bytes)
    assert f"{n_bytes / 1000:.3g} kB in 0" in answer.stdout
    assert f"{n_bytes}/{n_bytes} B" in answer.stderr and "0 MB" not in answer.stdout + answer.stderr
