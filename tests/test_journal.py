import pytest

from vsp.errors import StoreError
from vsp.journal import Journal, Ledger, Worst, read_ledger, worst


def _ledger(folder, run_id="r", shard=0):
    return read_ledger(folder, run_id, shard, 10, 20)


def test_every_row_is_done_failed_or_missing(tmp_path):
    with Journal(tmp_path, "r", 0) as journal:
        journal.done([10, 12], [111, 222])
        journal.failed(11, "its image is gone")
    ledger = _ledger(tmp_path)
    assert ledger.done == {10: 111, 12: 222}
    assert ledger.failed == {11: "its image is gone"}
    assert ledger.missing == list(range(13, 20)) and ledger.n_missing == 7


def test_a_later_life_opens_a_file_of_its_own_and_heals_failed_rows(tmp_path):
    with Journal(tmp_path, "r", 0) as first, Journal(tmp_path, "r", 0) as second:
        first.failed(15, "out of memory")
        second.done([15], [1])
        first.failed(15, "out of memory")
    assert len(list(tmp_path.iterdir())) == 2
    assert _ledger(tmp_path).done == {15: 1} and not _ledger(tmp_path).failed


def test_a_journal_cut_anywhere_is_read_up_to_its_last_whole_line(tmp_path):
    with Journal(tmp_path, "r", 0) as journal:
        for row in range(10, 20):
            journal.done([row], [row])
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    for length in range(len(whole) + 1):
        path.write_bytes(whole[:length])
        n_lines = whole[:length].count(b"\n")
        assert list(_ledger(tmp_path).done) == list(range(10, 10 + max(0, n_lines - 1)))


@pytest.mark.parametrize(
    "line",
    [
        b"garbage",
        b"[1, 2]",
        b'{"rows": [10], "crc32": []}',
        b'{"rows": [20], "crc32": [1]}',
        b'{"rows": [true], "crc32": [1]}',
        b'{"row": 9, "failed": "why"}',
        b'{"other": 1}',
    ],
)
def test_a_line_that_cannot_be_understood_is_named(tmp_path, line):
    with Journal(tmp_path, "r", 0) as journal:
        journal.done([10], [1])
    (path,) = tmp_path.iterdir()
    with path.open("ab") as file:
        file.write(line + b"\n")
    with pytest.raises(StoreError, match="line 3"):
        _ledger(tmp_path)


def test_the_journal_of_another_run_or_shard_is_refused(tmp_path):
    with Journal(tmp_path, "other", 0):
        pass
    with pytest.raises(StoreError, match="belongs to another run"):
        _ledger(tmp_path)
    assert _ledger(tmp_path, shard=1).n_missing == 10


def test_comparisons_and_limits_come_back_and_the_worst_of_each_layer_is_known(tmp_path):
    with Journal(tmp_path, "r", 0) as first, Journal(tmp_path, "r", 0) as second:
        first.compared(10, [0.0, 0.5], [0.0, 0.25])
        first.limit(900)
        second.compared(17, [0.25, 0.125], [0.5, 0.125])
        second.limit(450)
    ledger = _ledger(tmp_path)
    assert ledger.compared[17] == ([0.25, 0.125], [0.5, 0.125]) and ledger.limit == 450
    assert worst([ledger]) == Worst(2, (0.25, 0.5), (0.5, 0.25))
    assert worst([Ledger(0, 3)]) is None and Ledger(0, 3).limit is None
