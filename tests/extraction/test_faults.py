"""Killed tasks, full disks, power loss and damaged files lose no finished work."""

import errno
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from helpers.commands import run_here
from helpers.disks import fill, free, read_only, small_disk
from PIL import Image

from vsp import models
from vsp.cli.main import main
from vsp.errors import VspError
from vsp.extraction.extract import extract
from vsp.extraction.plan import PlanRequest, plan_run
from vsp.extraction.verify import repair, verify
from vsp.storage.array import Store, _reserve, row_checksum
from vsp.storage.layout import Layout
from vsp.storage.plan import sealed_plan
from vsp.storage.run import Run
from vsp.utils.files import write_json

PAGE = 4096
_PASSED_OVER = ("note: ", "warning: ", "check: ", "count tokens: ")


def _plan(base, n_rows=8, options=None, **changes):
    """Plan a run of the fake model below `base`, over rows of a small dataset of its own."""
    dataset = base / f"rows-{n_rows}"
    if not dataset.exists():
        (dataset / "images").mkdir(parents=True)
        rng = np.random.default_rng(0)
        n_images = max(4, n_rows // 8)
        for i in range(n_images):
            pixels = rng.integers(0, 256, (12, 12, 3), np.uint8)
            Image.fromarray(pixels).save(dataset / f"images/{i}.png")
        records = ", ".join(
            f'{{"id": "{i}", "image_filename": "{i * n_images // n_rows}.png", "label": "{"ab"[i % 2]}",'
            f' "prompt": "question {i}"}}'
            for i in range(n_rows)
        )
        (dataset / "metadata.json").write_text(f"[{records}]")
    model = models.resolve("fake", options=options)
    return plan_run(PlanRequest(dataset, model, **changes), base).run


def _small(base, **options):
    """Eight rows, each a page in each of two layers, in batches of two."""
    options = {"n_layers": 2, "hidden_size": 1024, **options}
    run = _plan(base, options=options, batch_size=2, n_shards=1, share=False)
    # No package versions in the plan: looking them up takes longer than all the rest.
    return Run(run.folder, run.plan.model_copy(update={"packages": {}}))


def _counts(run):
    ledgers = run.ledgers()
    names = ("n_done", "n_failed", "n_missing")
    return tuple(sum(getattr(ledger, name) for ledger in ledgers) for name in names)


def _rows_done(run):
    return [row for ledger in run.ledgers() for row in ledger.rows_done.tolist()]


def _array(run):
    return np.load(run.store.path, mmap_mode="r")


def _start(run, *more, **streams):
    """Start a task as a separate process, as a batch system does."""
    command = [sys.executable, "-m", "vsp", "extract", "--run", str(run.folder.absolute())]
    # Without --workers the task looks for a GPU, which takes a second.
    command += ["--workers", "0", *more]
    streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, **streams}
    return subprocess.Popen(command, text=True, **streams)


def _ask(cwd, *arguments, **changes):
    if not changes:
        return run_here(arguments, cwd)
    command = [sys.executable, "-m", "vsp", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120, **changes)


def _refused(answer):
    """The single error line of a failed command; notes and warnings may come first."""
    assert answer.returncode == 1 and "Traceback" not in answer.stderr, answer.stderr
    (line,) = [line for line in answer.stderr.splitlines() if not line.startswith(_PASSED_OVER)]
    assert line.startswith("vsp: ")
    return line


def _wait(condition, process=None, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        assert process is None or process.poll() is None, process.returncode
        time.sleep(0.002)


@pytest.fixture
def memory(tmp_path):
    """A folder in memory if possible, where flushing takes no time."""
    shm = Path("/dev/shm")
    if not os.access(shm, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=shm) as folder:
        yield Path(folder)


# Kills.

N_KILLS, N_ROWS, N_SHARDS = 8, 384, 3


@dataclass
class _Task:
    """A shard's process, killed before its first write or some time after it."""

    run: Run
    shard: int
    rng: random.Random
    n_kills: dict = field(default_factory=lambda: {"start-up": 0, "writing": 0})

    def _journals(self):
        return sorted(self.run.journals.glob(f"{self.shard:06d}-*.journal"))

    def start(self):
        self._before = len(self._journals())
        self._early = self.rng.random() < 0.35
        self._moment = time.monotonic() + self.rng.uniform(0, 0.2) if self._early else None
        self.process = _start(self.run, "--shard", str(self.shard))

    def is_due(self):
        if self._moment is None and len(self._journals()) > self._before:
            self._moment = time.monotonic() + self.rng.uniform(0, 0.12)
        if self.process.poll() is not None:
            return True
        return self._moment is not None and time.monotonic() >= self._moment

    def kill(self):
        """Kill the process; True if it was still running."""
        self.process.kill()
        if self.process.wait() != -signal.SIGKILL:
            return False
        begun = len(self._journals()) > self._before
        self.n_kills["writing" if begun else "start-up"] += 1
        if self.rng.random() < 0.3:
            self._tear()
        return True

    def _tear(self):
        """Cut the last line of the last life at a random place, as a power loss may."""
        for path in self._journals()[-1:]:
            body = path.read_bytes()
            last = body[:-1].rfind(b"\n") + 1
            os.truncate(path, self.rng.randint(last, len(body)))


def test_kills_and_torn_journals_lose_no_row_and_change_no_byte(work):
    options = {"pause": 0.004, "hidden_size": 1024}
    asked = {"n_rows": N_ROWS, "options": options, "batch_size": 1, "share": False}
    whole, killed = (_plan(work, n_shards=N_SHARDS, **asked) for _ in range(2))
    extract(whole, whole.shards)
    expected, rng = _array(whole), random.Random(0)
    tasks = [_Task(killed, shard, rng) for shard in range(N_SHARDS)]
    for task in tasks:
        task.start()
    n_kills, deadline = 0, time.monotonic() + 150
    while n_kills < N_KILLS:
        assert time.monotonic() < deadline
        time.sleep(0.003)
        for task in tasks:
            if task.is_due() and n_kills < N_KILLS:
                n_kills += task.kill()
                assert sum(_counts(killed)) == N_ROWS
                rows = _rows_done(killed)  # every byte of a done row is on disk
                assert (_array(killed)[:, rows] == expected[:, rows]).all()
                task.start()
    for task in tasks:
        task.process.kill(), task.process.wait()
    done, failed, missing = _counts(killed)
    assert failed == 0 and done and missing and done + missing == N_ROWS
    in_phase = {kind: sum(task.n_kills[kind] for task in tasks) for kind in tasks[0].n_kills}
    assert in_phase["writing"] >= 3 and in_phase["start-up"] >= 1
    assert sum(in_phase.values()) == N_KILLS
    resumed = [_start(killed, "--shard", str(shard)) for shard in range(N_SHARDS)]
    assert [process.wait() for process in resumed] == [0] * N_SHARDS
    assert _counts(killed) == (N_ROWS, 0, 0)
    assert killed.store.path.read_bytes() == whole.store.path.read_bytes()
    assert not verify(killed, n_jobs=1).bad


# Journals that are cut or damaged.


def _spoil(run, rows):
    """Overwrite the states of rows that are not done; only computing the rows restores them."""
    np.load(run.store.path, mmap_mode="r+")[:, rows] = -1.5


def _resumes_to(run, whole):
    """Extract. Check that only missing rows were computed and that the bytes equal `whole`."""
    missing = run.ledgers()[0].missing
    _spoil(run, missing)
    n_lives = len(list(run.journals.iterdir()))
    extract(run, run.shards)
    assert run.store.path.read_bytes() == whole
    assert _counts(run) == (run.plan.n_samples, 0, 0)
    assert len(list(run.journals.iterdir())) == n_lives + bool(missing)
    if missing:
        assert run.ledgers()[0].lives[-1].n_done == len(missing)
    return missing


def _only(run, body):
    """Replace the run's journals by one with this content."""
    for path in run.journals.iterdir():
        path.unlink()
    path = run.journals / "000000-001.journal"
    path.write_bytes(body)
    return path


def _places(body):
    """Every seventh byte, and the first and last bytes of lines."""
    ends = [place for place, byte in enumerate(body) if byte == ord("\n")]
    return sorted({*range(0, len(body), 7), *ends, *(end + 1 for end in ends[:-1])})


def test_a_journal_cut_at_any_byte_is_resumed_to_the_same_bytes(memory):
    run = _small(memory)
    extract(run, run.shards)
    whole = run.store.path.read_bytes()
    (path,) = run.journals.iterdir()
    body = path.read_bytes()
    found = set()
    for length in (*_places(body), len(body)):
        _only(run, body[:length])
        found.add(tuple(_resumes_to(run, whole)))
    assert found == {tuple(range(first, 8)) for first in (0, 2, 4, 6, 8)}


def test_a_journal_damaged_at_any_byte_is_resumed_to_the_same_bytes(memory):
    run = _small(memory)
    extract(run, run.shards)
    whole, rng = run.store.path.read_bytes(), random.Random(0)
    (path,) = run.journals.iterdir()
    body = path.read_bytes()
    found = set()
    for place in _places(body):
        damaged = bytearray(body)
        damaged[place] ^= 1 << rng.randrange(8)
        _only(run, bytes(damaged))
        found.add(tuple(_resumes_to(run, whole)))
    # Each batch by itself, all of them with the head, none with other entries; two newlines lost.
    assert found >= {(), *((row, row + 1) for row in (0, 2, 4, 6)), tuple(range(8))}
    assert all(len(missing) <= 2 or missing == tuple(range(8)) for missing in found)


def test_a_repair_that_is_damaged_itself_is_said_and_verify_names_the_row_again(memory):
    """If the line that marks a row as lost is damaged, the row counts as done although it is bad."""
    run = _small(memory)
    extract(run, run.shards)
    whole = run.store.path.read_bytes()
    np.load(run.store.path, mmap_mode="r+")[1, 5, 77] += 1
    found = verify(run, n_jobs=1)
    assert found.bad == {0: [5]}
    repair(run, found.bad)
    path = run.journals / "000000-002.journal"
    body = path.read_bytes()
    for place in range(len(body)):
        path.write_bytes(body[:place] + bytes([body[place] ^ 4]) + body[place + 1 :])
        ledger, bad = run.ledgers()[0], verify(run, n_jobs=1).bad
        assert (ledger.missing, bad) in (([5], {}), ([], {0: [5]}))
        assert ledger.damage or place >= body[:-1].rindex(b"\n")
    path.write_bytes(body)
    extract(run, run.shards)
    assert run.store.path.read_bytes() == whole and not verify(run, n_jobs=1).bad


def test_a_flipped_bit_is_named_repaired_and_computed_again(work):
    run = _plan(work, n_rows=96, options={"hidden_size": 1024}, n_shards=3)
    extract(run, run.shards)
    whole = run.store.path.read_bytes()
    place = run.store.layout.offset(3, 50) + 1000
    run.store.path.write_bytes(whole[:place] + bytes([whole[place] ^ 16]) + whole[place + 1 :])
    answer = _ask(work, "verify")
    assert answer.returncode == 1 and "rows 50 of states.npy\n" in answer.stderr
    assert _ask(work, "verify", "--repair").returncode == 0 and _counts(run) == (95, 0, 1)
    answer = _ask(work, "extract")
    assert "96 rows done, 0 failed, 0 missing" in answer.stdout
    assert run.store.path.read_bytes() == whole and _ask(work, "verify").returncode == 0


# Power loss.


class _Recorder:
    """Disk operations of a run in order: files created, bytes written, files flushed."""

    def __init__(self, folder, monkeypatch):
        self._folder = str(folder)
        self.calls = []
        for name in ("open", "write", "pwrite", "fdatasync", "fsync"):
            monkeypatch.setattr(f"os.{name}", self._recorded(name, getattr(os, name)))

    def _recorded(self, name, function):
        def call(first, *rest, **more):
            if name == "open":
                handle = function(first, *rest, **more)
                if rest[0] & os.O_CREAT and str(first).startswith(self._folder):
                    self.calls.append(("make", Path(first)))
                return handle
            path = Path(f"/proc/self/fd/{first}").readlink()
            end = os.fstat(first).st_size
            result = function(first, *rest, **more)
            if str(path).startswith(self._folder):
                if "write" in name:
                    offset = rest[1] if name == "pwrite" else end
                    self.calls.append(("write", path, offset, bytes(rest[0][:result])))
                else:
                    self.calls.append(("flush", path))
            return result

        return call


def _after_a_power_loss(before, calls, rng=None):
    """Path → content: all flushed bytes. With `rng`, also random unflushed pages and names."""
    disk = {path: bytearray(body) for path, body in before.items()}
    unnamed, pending = {}, {}
    for kind, path, *what in calls:
        if kind == "make":
            unnamed[path] = bytearray()
        elif kind == "write":
            pending.setdefault(path, []).append(what)
        elif path in disk or path in unnamed:
            for offset, data in pending.pop(path, ()):
                _put(disk[path] if path in disk else unnamed[path], offset, data)
        else:  # a folder
            for one in [one for one in unnamed if one.parent == path]:
                disk[one] = unnamed.pop(one)
    if rng is not None:
        disk |= {path: body for path, body in unnamed.items() if rng.random() < 0.5}
        for path in disk.keys() & pending.keys():
            for offset, data in pending[path]:
                for start, piece in _pages(offset, data):
                    if rng.random() < 0.5:
                        _put(disk[path], start, piece)
    return {path: bytes(body) for path, body in disk.items()}


def _put(body, offset, data):
    """Write bytes as a file system does: a gap behind the end is filled with zeros."""
    body.extend(bytes(max(0, offset + len(data) - len(body))))
    body[offset : offset + len(data)] = data


def _pages(offset, data):
    """Split a write at page boundaries."""
    end = offset + len(data)
    bounds = [offset, *range(offset // PAGE * PAGE + PAGE, end, PAGE), end]
    return [(a, data[a - offset : b - offset]) for a, b in pairwise(bounds)]


def _files(run):
    return {path: path.read_bytes() for path in [run.store.path, *run.journals.iterdir()]}


def _lay(run, disk):
    for path in run.journals.iterdir():
        if path not in disk:
            path.unlink()
    for path, body in disk.items():
        path.write_bytes(body)


@pytest.mark.parametrize("kind", ["first", "resumed"])
def test_a_power_loss_at_any_moment_leaves_no_row_done_that_is_not_on_disk(
    memory, monkeypatch, kind
):
    run = _small(memory, pause=0.01)  # slow, so that no two batches are settled together
    run = Run(run.folder.absolute(), run.plan)
    extract(run, run.shards)
    whole, expected = run.store.path.read_bytes(), np.load(run.store.path)
    if kind == "first":
        next(run.journals.iterdir()).unlink()
        _spoil(run, slice(None, 8))
    else:
        _spoil(run, [3, 4, 6])
        repair(run, verify(run, n_jobs=1).bad)
    before = _files(run)
    with monkeypatch.context() as patched:
        recorder = _Recorder(run.folder, patched)
        extract(run, run.shards)
    calls, rng = recorder.calls, random.Random(0)
    assert _lay(run, _after_a_power_loss(before, calls)) is None
    # All states were flushed, and only missing rows were computed.
    assert run.store.path.read_bytes() == whole and _counts(run) == (8, 0, 0)
    assert run.ledgers()[0].lives[-1].n_done == (8 if kind == "first" else 3)
    n_done = []
    for n_calls in range(len(calls) + 1):
        for variant in range(2):
            lost = _after_a_power_loss(before, calls[:n_calls], rng if variant else None)
            _lay(run, lost)
            rows = _rows_done(run)
            assert (_array(run)[:, rows] == expected[:, rows]).all()
            n_done.append(len(rows))
            extract(run, run.shards)
            assert run.store.path.read_bytes() == whole and _counts(run) == (8, 0, 0)
    assert min(n_done) == (0 if kind == "first" else 5) and max(n_done) == 8
    assert len(set(n_done)) >= 4  # power was lost between batches and within them


# Disks that fill up or refuse.


def test_a_disk_that_fills_anywhere_in_a_plan_leaves_a_whole_run_or_nothing(tmp_path):
    with small_disk(tmp_path / "disk") as disk:
        outcomes = []
        for n_pages in range(90):
            if outcomes[-3:] == ["planned"] * 3:
                break
            fill(disk, n_pages)
            before = {path for path in disk.rglob("*") if path.is_file()}
            try:
                run = _plan_elsewhere(tmp_path, disk)
            except VspError as error:
                assert "\n" not in str(error) and "free space" in str(error)
                assert {path for path in disk.rglob("*") if path.is_file()} == before
                outcomes.append("refused")
                free(disk)
            else:
                free(disk)
                extract(Run.open(run.folder), run.shards)
                assert (disk / "jobs/extract_array.sh").exists()
                outcomes.append("planned")
                shutil.rmtree(run.folder)
                shutil.rmtree(disk / "jobs")
        n_refused = outcomes.count("refused")
        assert outcomes == ["refused"] * n_refused + ["planned"] * 3
        assert 30 < n_refused < 89


def _plan_elsewhere(base, disk):
    if not (base / "rows-8").exists():
        _plan(base)
    model = models.resolve("fake", options={"n_layers": 2, "hidden_size": 1024})
    return plan_run(PlanRequest(base / "rows-8", model, batch_size=2), disk).run


def test_a_file_longer_than_allowed_is_one_line_and_leaves_nothing(tmp_path):
    """As with `ulimit -f`: the first file that becomes too long raises an error."""
    _plan(tmp_path)
    place = tmp_path / "elsewhere"
    place.mkdir()
    asked = ("--model", "fake", "--dataset", tmp_path / "rows-8", "--option", "hidden_size=1024")
    for n_bytes in (1024, 6144, 65536):
        limit = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (n_bytes, n_bytes))
        answer = _ask(place, "plan", *asked, preexec_fn=limit)
        assert "file too large" in _refused(answer).lower()
        assert not [path for path in place.rglob("*") if path.is_file()]


def test_a_disk_that_fills_up_under_a_task_costs_nothing_but_time(tmp_path):
    asked = {"n_rows": 160, "options": {"pause": 0.005}, "batch_size": 1, "share": False}
    whole = _plan(tmp_path, **asked)
    extract(whole, whole.shards)
    with small_disk(tmp_path / "disk", "2m") as disk:
        run = plan_run(
            PlanRequest(tmp_path / "rows-160", whole.plan.model, batch_size=1, share=False), disk
        )
        run = run.run
        task = _start(run, stderr=subprocess.PIPE)
        _wait(lambda: _counts(run)[0] > 5, task)
        fill(disk)  # except for the rest of the journal's page
        _, said = task.communicate(timeout=60)
        said = [line for line in said.splitlines() if line]
        (line,) = said
        journal = run.journals.absolute() / "000000-001.journal"
        assert task.returncode == 1
        assert (
            line
            == f"vsp: {journal}: no space left on device; free space and run the same command again"
        )
        done, failed, missing = _counts(run)
        assert failed == 0 and 5 < done < 160 and done + missing == 160
        assert not verify(run, n_jobs=1).bad
        again = _start(run, stderr=subprocess.PIPE)  # a new task cannot start either
        assert (
            "no space left on device" in again.communicate(timeout=60)[1] and again.returncode == 1
        )
        assert _counts(run) == (done, 0, missing)
        free(disk)
        assert _start(run).wait(60) == 0
        assert _counts(run) == (160, 0, 0) and not verify(run, n_jobs=1).bad
        assert run.store.path.read_bytes() == whole.store.path.read_bytes()


def _refusing(number):
    """A system call that a file system refuses."""

    def refuse(*_, **__):
        raise OSError(number, os.strerror(number))

    return refuse


def test_where_a_file_system_reserves_nothing_every_block_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr("os.posix_fallocate", _refusing(errno.EOPNOTSUPP))
    # The length of the file is not a multiple of this.
    monkeypatch.setattr("vsp.storage.array._ZEROS", 3 * PAGE)
    store = Store(tmp_path / "states.npy", Layout.choose(3, 700, 100, "float32", 1))
    store.create()
    assert store.path.stat().st_size == store.layout.n_bytes
    assert store.path.stat().st_blocks * 512 >= store.layout.n_bytes
    assert not np.load(store.path).any()
    with small_disk(tmp_path / "disk", "256k") as disk:
        full = Store(disk / "states.npy", Layout.choose(3, 700, 100, "float32", 1))
        monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1 << 40))
        with pytest.raises(VspError, match=r"needs [\d,]+ bytes but No space left on device"):
            full.create()


def test_a_file_system_without_reservation_is_one_the_c_library_fills(tmp_path):
    """ramfs is such a file system."""
    command = ["mount", "-t", "ramfs", "ramfs", str(tmp_path)]
    answer = subprocess.run(command, capture_output=True, text=True)
    if answer.returncode:
        assert os.environ.get("CI") != "true", f"CI cannot mount: {answer.stderr}"
        pytest.skip(f"a ramfs cannot be mounted here: {answer.stderr.strip()}")
    try:
        with (tmp_path / "a").open("w+b") as file:
            _reserve(file.fileno(), 10 * PAGE + 1)
            assert os.fstat(file.fileno()).st_blocks * 512 >= 10 * PAGE + 1
    finally:
        subprocess.run(["umount", "-l", str(tmp_path)], check=True)


def test_where_a_file_system_refuses_maps_the_values_are_the_same(tmp_path, monkeypatch):
    run = _plan(tmp_path)
    extract(run, run.shards)
    mapped = [np.array(run.store.layer(i)) for i in range(run.plan.n_layers)]
    monkeypatch.setattr("numpy.memmap", _refusing(errno.ENODEV))
    for i, expected in enumerate(mapped):
        read = run.store.layer(i)
        assert type(read) is np.ndarray and (read == expected).all() and read.shape == (8, 64)


# Several at once.


def test_a_second_task_of_a_shard_says_so_and_changes_no_byte(work):
    asked = {"n_rows": 160, "options": {"pause": 0.01}, "batch_size": 1, "share": False}
    alone, twice = (_plan(work, **asked) for _ in range(2))
    extract(alone, alone.shards)
    first = _start(twice, stderr=subprocess.PIPE)
    _wait(lambda: _counts(twice)[0] > 0, first)
    second = _start(twice, stderr=subprocess.PIPE)
    said = [task.communicate(timeout=60)[1] for task in (first, second)]
    assert [task.returncode for task in (first, second)] == [0, 0]
    assert f"note: shard 0 is running already (process {first.pid} on " in said[1]
    assert "running already" not in said[0]
    assert twice.store.path.read_bytes() == alone.store.path.read_bytes()
    assert _counts(twice) == (160, 0, 0) and not twice.ledgers()[0].earlier
    assert all(life.n_done > 0 for life in twice.ledgers()[0].lives)


def test_whoever_reads_while_tasks_write_sees_the_bytes_of_every_row_that_is_done(work):
    options = {"pause": 0.004, "hidden_size": 1024}
    run = _plan(work, n_rows=512, options=options, n_shards=2, batch_size=1, share=False)
    tasks = [_start(run, "--shard", str(shard)) for shard in range(2)]
    looks = 0
    while any(task.poll() is None for task in tasks):
        ledgers = run.ledgers()
        assert sum(_counts(run)) == 512
        array = _array(run)
        done = {row: crc for ledger in ledgers for row, crc in ledger.done.items()}
        for row in random.Random(looks).sample(sorted(done), min(len(done), 40)):
            assert row_checksum(array[:, row]) == done[row]
        assert not verify(run, n_jobs=1).bad
        looks += 0 < len(done) < 512
    assert [task.returncode for task in tasks] == [0, 0] and looks >= 5
    assert _counts(run) == (512, 0, 0)


def test_numpy_alone_reads_a_finished_run(work):
    run = _plan(work, n_rows=96, options={"hidden_size": 1024}, n_shards=3)
    extract(run, run.shards)
    script = (
        "import sys, zlib, numpy\n"
        f"states = numpy.load({str(run.store.path)!r}, mmap_mode='r')\n"
        "rows = [zlib.crc32(states[:, i].tobytes()) for i in range(96)]\n"
        "print(states.dtype, rows, 'vsp' in sys.modules)"
    )
    answer = subprocess.run(
        [sys.executable, "-I", "-c", script], capture_output=True, text=True, cwd=work
    )
    done = {row: crc for ledger in run.ledgers() for row, crc in ledger.done.items()}
    assert answer.stdout.strip() == f"float32 {[done[row] for row in range(96)]} False"


def test_a_run_on_a_disk_that_may_not_be_written_to_can_be_read_and_probed(tmp_path):
    with small_disk(tmp_path / "scratch", "4m") as disk:
        run = _plan(tmp_path, n_rows=96, n_shards=2)
        extract(run, run.shards[:1])
        read_only(disk)
        line = _refused(_ask(tmp_path, "extract", "--workers", "0"))
        assert "read-only file system; make it writable or use another folder" in line
        line = _refused(_ask(tmp_path, "plan", "--model", "fake", "--dataset", "rows-96"))
        assert "read-only file system" in line
        assert _ask(tmp_path, "verify").returncode == 0
        answer = _ask(tmp_path, "status")
        assert answer.returncode == 0 and "not started" in answer.stdout
        # Results lie beside scratch/, on another disk here.
        answer = _ask(tmp_path, "probe", "--partial", "--folds", "3", "--n-jobs", "1")
        assert answer.returncode == 0, answer.stderr
        assert list((tmp_path / "results" / run.name).glob("*/summary.json"))


# Files that changed since the plan.


def _main(capsys, *arguments):
    """Run a command in this process: its exit code and its stderr."""
    capsys.readouterr()
    code = main([*map(str, arguments)])
    return code, [
        line for line in capsys.readouterr().err.splitlines() if not line.startswith(_PASSED_OVER)
    ]


def _sealed(path, **changes):
    """Edit a plan and update its SHA-256."""
    write_json(path, sealed_plan(Run.open(path.parent).plan.model_copy(update=changes)))


def _rewrite(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def _copy_store(run):
    """Replace array and journals by those of a plan that differs only in its batches."""
    dataset = Path(run.plan.dataset)
    other = plan_run(
        PlanRequest(dataset, run.plan.model, batch_size=1), run.folder.parent.parent
    ).run
    extract(other, other.shards)
    shutil.copy(other.store.path, run.store.path)


def _copy_journal(run):
    dataset = Path(run.plan.dataset)
    other = plan_run(PlanRequest(dataset, run.plan.model), run.folder.parent.parent).run
    extract(other, other.shards)
    shutil.copy(next(other.journals.iterdir()), run.journals)


CHANGES = {
    "an edited field": (
        lambda run: _rewrite(run.folder / "plan.json", '"float32"', '"float16"'),
        r"plan.json: was edited; plan the run again",
    ),
    "another revision": (
        lambda run: _sealed(
            run.folder / "plan.json", model=run.plan.model.model_copy(update={"revision": "v2"})
        ),
        r"states.npy: is not the array of this plan .*: it is <f4 .* of plan \w{8}; plan the run",
    ),
    "another quantization": (
        lambda run: _sealed(
            run.folder / "plan.json",
            model=run.plan.model.model_copy(update={"quantization": "8bit"}),
        ),
        r"states.npy: is not the array of this plan",
    ),
    "another dtype": (
        lambda run: _sealed(run.folder / "plan.json", compute_dtype="bfloat16"),
        r"states.npy: is not the array of this plan",
    ),
    "a newer format": (
        lambda run: _rewrite(run.folder / "plan.json", '"format": 4', '"format": 99'),
        r"plan.json: .*a newer vsp \(format 99, this one reads 3 and 4\); update vsp",
    ),
    "an older format": (
        lambda run: _rewrite(run.folder / "plan.json", '"format": 4', '"format": 2'),
        r"plan.json: .*an older vsp \(format 2, this one reads 3 and 4\); plan the run again",
    ),
    "an edited manifest": (
        lambda run: _rewrite(run.folder / "manifest.jsonl", "question 3", "question 4"),
        r"manifest.jsonl: .*plan the run again",
    ),
    "a lost manifest": (
        lambda run: (run.folder / "manifest.jsonl").unlink(),
        r"manifest.jsonl: .*plan the run again",
    ),
    "the array of another plan": (_copy_store, r"states.npy: is not the array of this plan"),
    "a lost array": (lambda run: run.store.path.unlink(), r"states.npy: no such file; plan the"),
    "a short array": (
        lambda run: os.truncate(run.store.path, run.store.layout.n_bytes - 1),
        r"states.npy: is not the array of this plan .*: it has [\d,]+ bytes; plan the run again",
    ),
    "a journal of another run": (
        _copy_journal,
        r"000000-001.journal: belongs to another run or shard; remove it",
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_world_is_one_line_that_says_what_differs(work, capsys, change):
    run = _plan(work)
    edit, message = CHANGES[change]
    edit(run)
    before = {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}
    code, said = _main(capsys, "extract", "--run", run.name)
    assert code == 1 and len(said) == 1 and re.match(f"vsp: .*{message}", said[0]), said
    # No file of the run was touched, so the user can undo the change.
    assert before == {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("config.json", None, "config.json of checkpoint '.*' was changed since"),
        ("model.safetensors", None, "model.safetensors of checkpoint '.*' was changed since"),
        ("processor_config.json", None, "processor_config.json of checkpoint '.*' was changed"),
        ("model.safetensors.index.json", b"{", "model.safetensors.index.json"),
        ("model.safetensors.index.json", b"[1]", "model.safetensors.index.json"),
        ("added_tokens.json", b"{}", "added_tokens.json of checkpoint '.*' is new since"),
    ],
)
def test_another_checkpoint_in_its_place_is_one_line_before_weights_are_loaded(
    work, capsys, checkpoint, file, content, message
):
    copy = shutil.copytree(checkpoint, work / "copy")
    if "index" in file:
        (copy / file).write_text('{"weight_map": {"a": "model.safetensors"}}')
    _plan(work)
    model = models.resolve("llava15", checkpoint=str(copy), quantization="none")
    run = plan_run(PlanRequest(work / "rows-8", model), work).run
    body = content or (copy / file).read_bytes()
    if content is None:  # change one byte; a JSON file keeps its values
        place = len(body) - 8 if file == "model.safetensors" else body.index(b" ")
        body = body[:place] + (b"\n" if body[place] == 32 else b"\x01") + body[place + 1 :]
    (copy / file).write_bytes(body)
    code, said = _main(capsys, "extract", "--run", run.name)
    assert code == 1 and len(said) == 1 and re.match(f"vsp: .*{message}", said[0]), said
    assert not list(run.journals.iterdir())


def test_other_versions_of_libraries_are_warned_of_journalled_and_shown(work):
    run = _plan(work)
    other = work / "site/pillow-99.0.dist-info"
    other.mkdir(parents=True)
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: pillow\nVersion: 99.0\n")
    environment = {
        **os.environ,
        "PYTHONPATH": f"{work / 'site'}:{os.environ.get('PYTHONPATH', '')}",
    }
    answer = _ask(work, "extract", env=environment)
    planned = run.plan.packages["pillow"]
    warning = "warning: other versions than the plan's, last bits may differ: "
    assert answer.returncode == 0
    assert f"{warning}pillow 99.0 (planned {planned})\n" in answer.stderr
    (life,) = run.ledgers()[0].lives
    assert life.packages == {"pillow": "99.0"}
    status = " ".join(_ask(work, "status").stdout.split())
    assert "note: package versions other than the plan's: pillow 99.0 in 1 tasks" in status


def test_a_library_that_is_not_there_any_more_is_another_version(work, capsys):
    run = _plan(work)
    _sealed(run.folder / "plan.json", packages={**run.plan.packages, "bitsandbytes-x": "1.0"})
    assert main(["extract"]) == 0
    assert "last bits may differ: bitsandbytes-x none (planned 1.0)" in capsys.readouterr().err
    assert run.ledgers()[0].lives[0].packages == {"bitsandbytes-x": "none"}
