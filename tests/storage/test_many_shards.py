"""Time and memory of a run of a million rows in a thousand shards.

`python tests/benchmarks/many_shards.py` measures larger runs.
"""

import json
import os
import shutil
import time

import pytest
from benchmarks.many_shards import command, journalled, planned

from vsp.cluster.submit import unfinished
from vsp.storage.run import Run

UNFINISHED = {0, 3, 500, 998, 999}
ALLOWED = 2.5  # seconds of CPU time; an idle machine takes one


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    work = tmp_path_factory.mktemp("million")
    run = planned(work, 1_000_000, 1000)
    journalled(run, UNFINISHED)
    yield run
    shutil.rmtree(work)


def _fastest(call, times=2):
    """Minimum of several CPU times in seconds: other load can only increase a time."""
    seconds = []
    for _ in range(times):
        started = time.process_time()
        call()
        seconds.append(time.process_time() - started)
    return min(seconds)


def _growth(runs):
    """CPU time of reading the second run's ledgers, divided by that of the first run.

    The runs take turns, so that other load affects both. CPU time is less affected than wall time.
    """
    seconds = [[], []]
    for _ in range(4):
        for of, run in zip(seconds, runs, strict=True):
            started = time.process_time()
            run.ledgers()
            of.append(time.process_time() - started)
    return min(seconds[1]) / min(seconds[0])


def test_the_array_of_a_million_rows_has_its_whole_length_and_no_blocks(run):
    stat = run.store.path.stat()
    assert len(run.shards) == 1000 and run.plan.n_samples == 1_000_000
    assert stat.st_size > 33 * 1_000_000 * 4096 * 2 > 1000 * 512 * stat.st_blocks
    assert not run.store.layer(32)[::100_000].any()


def test_the_status_of_a_million_rows_is_there_in_a_second(run):
    seconds, said = [], ""
    for _ in range(2):
        before = sum(os.times()[2:4])  # CPU time of processes that ended
        _, peak, said = command(run, "status", "--json")
        seconds.append(sum(os.times()[2:4]) - before)
        assert peak < 200  # MiB
    found = json.loads(said)
    left_out = sum(
        (shard.stop - shard.start) - (shard.stop - shard.start) // 2
        for shard in run.shards if shard.index in UNFINISHED
    )  # fmt: skip
    assert (found["planned"], found["failed"]) == (1_000_000, 0)
    assert found["missing"] == pytest.approx(left_out, abs=16 * len(UNFINISHED))
    assert found["done"] + found["missing"] == 1_000_000
    states = {shard["shard"]: shard["state"] for shard in found["shards"]}
    assert {shard for shard, state in states.items() if state != "finished"} == UNFINISHED
    assert {states[shard] for shard in UNFINISHED} == {"stopped"}
    assert min(seconds) < ALLOWED


def test_exactly_the_unfinished_shards_of_a_thousand_are_sent_again(run):
    assert unfinished(Run.open(run.folder).ledgers(), retry_failed=False) == UNFINISHED
    assert (
        _fastest(lambda: unfinished(Run.open(run.folder).ledgers(), retry_failed=False)) < ALLOWED
    )
    _, _, said = command(run, "resume", "--dry-run", "--stages", "extract")
    assert said.splitlines()[-1].endswith("extract.sh 0 3 500 998 999")


def test_twice_the_rows_take_less_than_three_times_as_long(tmp_path):
    runs = [planned(tmp_path, n_rows, 100) for n_rows in (50_000, 100_000)]
    for run in runs:
        journalled(run)
        assert sum(ledger.n_done for ledger in run.ledgers()) == run.plan.n_samples
    assert _growth(runs) < 3


def test_twice_the_shards_take_less_than_three_times_as_long(tmp_path):
    runs = [planned(tmp_path / str(n), 32_000, n) for n in (500, 1000)]
    for run in runs:
        journalled(run)
    assert [len(run.shards) for run in runs] == [500, 1000]
    assert _growth(runs) < 3
