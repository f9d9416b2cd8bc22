import json
import os
import subprocess
import sys
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vsp.errors import StoreError
from vsp.storage.journal import FINISHED, Journal, TaskIdentity
from vsp.storage.ledger import BatchEffect, Ledger, largest_batch_effect, read_ledgers
from vsp.utils.signals import Stopped


def _ledger(folder, run_id="r", shard=0):
    return read_ledgers(folder, run_id, {shard: (10, 20)})[0]


def _line(entry):
    text = json.dumps(entry).encode() if not isinstance(entry, bytes) else entry
    return b"%08x %s\n" % (zlib.crc32(text), text)


def test_every_row_is_done_failed_or_missing(tmp_path):
    with Journal(tmp_path, "r", 0) as journal:
        journal.mark_done([10, 12], [111, 222])
        journal.mark_failed(11, "its image is gone")
    ledger = _ledger(tmp_path)
    assert ledger.done == {10: 111, 12: 222}
    assert ledger.failed == {11: "its image is gone"}
    assert ledger.missing == list(range(13, 20))
    assert (ledger.n_done, ledger.n_failed, ledger.n_missing) == (2, 1, 7)
    assert ledger.rows_done.tolist() == [10, 12] and ledger.crc32_done().tolist() == [111, 222]


def test_a_later_life_opens_a_file_of_its_own_and_heals_failed_rows(tmp_path):
    with Journal(tmp_path, "r", 0) as first, Journal(tmp_path, "r", 0) as second:
        first.mark_failed(15, "out of memory")
        second.mark_done([15], [1])
        first.mark_failed(15, "out of memory")
    assert len(list(tmp_path.iterdir())) == 2
    assert _ledger(tmp_path).done == {15: 1} and not _ledger(tmp_path).failed


def test_the_tenth_hundredth_and_thousandth_life_come_in_order(tmp_path):
    with Journal(tmp_path, "r", 0) as first:
        first.mark_done([10], [1])
    (path,) = tmp_path.iterdir()
    for life in (2, 99, 999, 1000):
        last = tmp_path / f"000000-{life:03d}.journal"
        last.write_bytes(path.read_bytes())
    with last.open("ab") as file:
        file.write(_line({"lost": [[10, 11]], "t": 1}))
    assert _ledger(tmp_path).missing == list(range(10, 20)) and len(_ledger(tmp_path).lives) == 5


def test_lost_rows_are_missing_until_they_are_done_again(tmp_path):
    with Journal(tmp_path, "r", 0) as journal:
        journal.mark_done(range(10, 20), range(10))
    with Journal(tmp_path, "r", 0) as journal:
        journal.mark_lost([11, 12, 17])
    assert _ledger(tmp_path).missing == [11, 12, 17] and _ledger(tmp_path).n_done == 7
    with Journal(tmp_path, "r", 0) as journal:
        journal.mark_done([12], [5])
    assert _ledger(tmp_path).missing == [11, 17] and _ledger(tmp_path).done[12] == 5


def test_a_journal_cut_anywhere_is_read_up_to_its_last_whole_line(tmp_path):
    with Journal(tmp_path, "r", 0) as journal:
        for row in range(10, 20):
            journal.mark_done([row], [row])
        journal.mark_failed(10, "ü" * 3)
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    for length in range(len(whole) + 1):
        path.write_bytes(whole[:length])
        n_lines = whole[:length].count(b"\n")
        ledger = _ledger(tmp_path)
        assert list(ledger.done) == list(range(10, 10 + min(10, max(0, n_lines - 1))))
        assert not ledger.damage
        assert ledger.n_done + ledger.n_failed + ledger.n_missing == 10


def test_a_flipped_bit_anywhere_costs_its_line_and_is_said(tmp_path):
    with Journal(tmp_path, "r", 0) as journal:
        journal.mark_done([10, 11, 12], [1, 2, 3])
        journal.mark_failed(13, "why")
        journal.mark_done([14], [4])
    (path,) = tmp_path.iterdir()
    whole, truth = path.read_bytes(), _ledger(tmp_path)
    for place in range(len(whole)):
        for bit in (0, 5, 7):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :])
            ledger = _ledger(tmp_path)
            last = place >= whole[:-1].rindex(b"\n")  # damage here may be silent, as after a kill
            assert ledger.damage or last
            assert ledger.done.items() <= truth.done.items()
            assert ledger.failed.items() <= truth.failed.items()
            assert ledger.n_done + ledger.n_failed + ledger.n_missing == 10


def test_the_damage_names_file_and_line(tmp_path):
    with Journal(tmp_path, "r", 0) as journal:
        journal.mark_done([10], [1])
        journal.mark_done([11], [1])
    (path,) = tmp_path.iterdir()
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0], b"garbage\n", *lines[2:]]))
    assert _ledger(tmp_path).done == {11: 1}
    (damage,) = _ledger(tmp_path).damage
    assert damage.startswith(f"{path}: line 2 is damaged and skipped; its rows count as missing")
    path.write_bytes(b"".join([b"\0" * 40 + b"\n", *lines[1:]]))
    assert (
        not _ledger(tmp_path).done
        and "line 1 is damaged, so the whole file is skipped" in _ledger(tmp_path).damage[0]
    )


@pytest.mark.parametrize(
    "entry",
    [
        [1, 2],
        {"done": [[10, 11]], "crc32": "", "t": 1},
        {"done": [[10, 11]], "crc32": "0000000100000002", "t": 1},
        {"done": [[10, 12]], "crc32": "00000001", "t": 1},
        {"done": [[10, 11]], "crc32": "xx", "t": 1},
        {"done": [[20, 21]], "crc32": "00000001", "t": 1},
        {"done": [[11, 10]], "crc32": "", "t": 1},
        {"done": [[True, 11]], "crc32": "00000001", "t": 1},
        {"done": 5, "crc32": "00000001", "t": 1},
        {"done": [[10, 11]], "crc32": "00000001"},
        {"failed": 9, "why": "why", "t": 1},
        {"failed": "10", "why": "why", "t": 1},
        {"lost": [[0, 11]], "t": 1},
        {"compared": 10, "absolute": [0], "relative": None, "t": 1},
        {"limit": "much", "t": 1},
        {"other": 1, "t": 1},
    ],
)
def test_an_entry_that_cannot_be_understood_is_named(tmp_path, entry):
    with Journal(tmp_path, "r", 0) as journal:
        journal.mark_done([10], [1])
    (path,) = tmp_path.iterdir()
    with path.open("ab") as file:
        file.write(_line(entry))
    with pytest.raises(StoreError, match=r"line 4 is not an entry of shard 0 \[10, 20\)"):
        _ledger(tmp_path)


@given(entry=st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(
        st.sampled_from(["done", "crc32", "failed", "why", "lost", "compared", "absolute",
                         "relative", "limit", "ended", "t", "run", "shard"]) | st.text(), inner),
))  # fmt: skip
def test_whatever_an_entry_holds_the_rows_sum_up_or_it_is_one_line(tmp_path_factory, entry):
    folder = tmp_path_factory.mktemp("journal")
    with Journal(folder, "r", 0) as journal:
        journal.mark_done([10], [1])
    (path,) = folder.iterdir()
    with path.open("ab") as file:
        file.write(_line(entry))
    try:
        ledger = _ledger(folder)
    except StoreError as error:
        assert "\n" not in str(error)
    else:
        assert ledger.n_done + ledger.n_failed + ledger.n_missing == 10


@given(data=st.binary(max_size=300))
def test_any_bytes_in_a_journal_settle_no_row(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("journal")
    (folder / "000000-001.journal").write_bytes(data)
    assert _ledger(folder).n_missing == 10


def test_the_journal_of_another_run_or_shard_is_refused(tmp_path):
    with Journal(tmp_path, "other", 0):
        pass
    with pytest.raises(StoreError, match="belongs to another run"):
        _ledger(tmp_path)
    assert _ledger(tmp_path, shard=1).n_missing == 10
    (path,) = tmp_path.iterdir()
    path.rename(tmp_path / "000001-001.journal")
    with pytest.raises(StoreError, match="belongs to another run or shard"):
        read_ledgers(tmp_path, "other", {1: (20, 30)})


def test_files_that_are_no_journals_are_passed_over(tmp_path):
    with Journal(tmp_path, "r", 0) as journal:
        journal.mark_done([10], [1])
    for name in (".nfs000000000001", "000000-001.journal~", "000000-001.jsonl", "notes.txt"):
        (tmp_path / name).write_text("x\n")
    assert _ledger(tmp_path).done == {10: 1} and not _ledger(tmp_path).damage


def test_several_shards_are_read_in_the_order_asked_for(tmp_path):
    for shard in (3, 1):
        with Journal(tmp_path, "r", shard) as journal:
            journal.mark_done([10 * shard], [shard])
    ledgers = read_ledgers(tmp_path, "r", {1: (10, 20), 2: (20, 30), 3: (30, 40)})
    assert [ledger.done for ledger in ledgers] == [{10: 1}, {}, {30: 3}]
    assert read_ledgers(tmp_path / "none", "r", {1: (10, 20)})[0].n_missing == 10


def test_comparisons_and_limits_come_back_and_the_worst_of_each_layer_is_known(tmp_path):
    with Journal(tmp_path, "r", 0) as first, Journal(tmp_path, "r", 0) as second:
        first.add_batch_effect(10, [0.0, 0.5], [0.0, 0.25])
        first.set_token_limit(900)
        second.add_batch_effect(17, [0.25, 0.125], [0.5, 0.125])
        second.set_token_limit(450)
    ledger = _ledger(tmp_path)
    assert ledger.batch_effects[17] == ([0.25, 0.125], [0.5, 0.125]) and ledger.token_limit == 450
    assert largest_batch_effect([ledger]) == BatchEffect(2, (0.25, 0.5), (0.5, 0.25))
    assert (
        largest_batch_effect([Ledger.blank(0, 3)]) is None
        and Ledger.blank(0, 3).token_limit is None
    )


def test_a_row_computed_twice_with_other_last_bits_keeps_both_checksums(tmp_path):
    with Journal(tmp_path, "r", 0) as first, Journal(tmp_path, "r", 0) as second:
        first.mark_done([10, 11, 12], [1, 2, 3])
        second.mark_done([10, 11, 12], [1, 5, 3])
    ledger = _ledger(tmp_path)
    assert ledger.done == {10: 1, 11: 5, 12: 3} and ledger.earlier == {11: {2}}


def test_a_life_says_who_where_and_how_it_ended(tmp_path):
    task = TaskIdentity("7_3", restarts=2)
    with Journal(tmp_path, "r", 0, planned=4, packages={"torch": "9"}, task=task) as journal:
        journal.mark_done([10, 11], [1, 2])
        journal.mark_failed(12, "why")
    with pytest.raises(ZeroDivisionError), Journal(tmp_path, "r", 0):
        1 / 0  # noqa: B018
    with pytest.raises(Stopped), Journal(tmp_path, "r", 0):
        raise Stopped(15)
    first, second, third = _ledger(tmp_path).lives
    assert (first.pid, first.job, first.restarts, first.planned) == (os.getpid(), "7_3", 2, 4)
    assert (first.n_done, first.n_failed, first.ended) == (2, 1, FINISHED)
    assert first.packages == {"torch": "9"} and first.last >= first.started > 1.7e9
    assert second.ended == "ZeroDivisionError: division by zero"
    assert third.ended == "stopped by SIGTERM"
    assert not any(life.running for life in (first, second, third))


def test_an_open_journal_is_seen_to_be_alive_and_one_of_the_dead_is_not(tmp_path):
    code = (
        "import sys, pathlib; from vsp.storage.journal import Journal\n"
        f"Journal(pathlib.Path({str(tmp_path)!r}), 'r', 0); print('open', flush=True)\n"
        "sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout.readline() == b"open\n"
    assert _ledger(tmp_path).lives[0].running is True
    process.kill(), process.communicate()
    life = _ledger(tmp_path).lives[0]
    assert life.running is False and life.ended is None


def test_without_locks_only_a_recent_life_may_be_running(tmp_path, monkeypatch):
    """Some file systems refuse flock; then the time of the last entry decides."""

    def refused(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("fcntl.flock", refused)
    journal = Journal(tmp_path, "r", 0)
    assert _ledger(tmp_path).lives[0].running is None
    monkeypatch.setattr("vsp.storage.ledger._RECENT", 0)
    assert _ledger(tmp_path).lives[0].running is False
    with journal:
        journal.mark_done([10], [1])
    assert _ledger(tmp_path).done == {10: 1}


def test_checksums_of_the_whole_range_come_back(tmp_path):
    checksums = np.array([0, 1, 2**31, 2**32 - 1], np.uint32)
    with Journal(tmp_path, "r", 0) as journal:
        journal.mark_done(range(10, 14), checksums.tolist())
    assert _ledger(tmp_path).crc32_done().tolist() == checksums.tolist()
