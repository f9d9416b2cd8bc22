"""The state of each shard in `vsp status` and `vsp logs`."""

import json
import os
import re
import time
from dataclasses import replace
from datetime import datetime

import pytest

from vsp.cluster.contract import States, TaskState
from vsp.cluster.logs import failed_logs, not_started, shard_log
from vsp.cluster.next_commands import Situation, next_commands
from vsp.cluster.run_stages import run_stages
from vsp.cluster.stages import STAGES
from vsp.cluster.status import run_status
from vsp.cluster.submitted import Submission, add_submission, submissions
from vsp.cluster.task_words import exit_words
from vsp.config import parse
from vsp.extraction.extract import extract
from vsp.reporting.status_page import status_page
from vsp.storage.journal import Journal, TaskIdentity
from vsp.storage.ledger import Ledger
from vsp.utils.signals import Stopped
from vsp.utils.terminal import show


@pytest.fixture
def run(plan_fake):
    return plan_fake(n_shards=4, batch_size=4, answers=False, options={"hidden_size": 1024})


def _task(shard, state, phase="failed", **more):
    return TaskState(more.pop("job", f"7_{shard}"), "extract", shard, phase, state, **more)


def _status(run, *tasks, problem=""):
    return run_status(run, run.ledgers(), States(tuple(tasks), problem))


def _next(run, found, slurm=True, name=None, states=States(), sent=()):  # noqa: B008 - frozen
    stages = run_stages(run, found, states, sent)
    return next_commands(Situation(found, stages, slurm, name or run.name))


def _page(run, found, capsys, everything=False, slurm=True):
    show(status_page(found, everything, _next(run, found, slurm)))
    return capsys.readouterr().out


def _life(run, shard, n_rows, error=None, job=None):
    """Write the journal of a task that did the first rows of a shard and ended with `error`."""
    start = run.shards[shard].start
    task = TaskIdentity(job=job)
    journal = Journal(run.journals, run.plan.id, shard, planned=24, task=task)
    journal.mark_done(range(start, start + n_rows), range(n_rows))
    journal.__exit__(type(error) if error else None, error, None)


def test_planned_is_done_and_failed_and_missing_in_every_shard_and_in_all(run):
    extract(run, [run.shards[0], run.shards[2]])
    with Journal(run.journals, run.plan.id, 1) as journal:
        journal.mark_failed(run.shards[1].start, "its image is gone")
    found = _status(run)
    for shard in found.shards:
        assert shard.n_done + shard.n_failed + shard.n_missing == shard.stop - shard.start
    counts = [found.count(name) for name in ("n_done", "n_failed", "n_missing")]
    assert sum(counts) == found.n_planned == 96 and counts[1] == 1
    assert found.failed == {run.shards[1].start: "its image is gone"}
    assert [shard.state for shard in found.shards] == [
        "finished", "not started", "finished", "not started",
    ]  # fmt: skip


def test_a_running_shard_has_a_rate_and_a_time_left(run):
    extract(run, [run.shards[0]])  # it has a rate, but has ended
    start = run.shards[1].start
    began = time.time()
    with Journal(run.journals, run.plan.id, 1, planned=24) as journal:
        time.sleep(0.2)
        journal.mark_done(range(start, start + 8), range(8))
        at_most = time.time() - began
        found = _status(run)
    shard = found.shards[1]
    # The journal rounds times to milliseconds.
    assert shard.state == "running"
    assert 8 / (at_most + 0.002) <= shard.rows_per_second <= 8 / (0.2 - 0.002)
    missing = run.shards[1].stop - start - 8
    assert shard.seconds_left == pytest.approx(missing / shard.rows_per_second)
    assert found.rows_per_second == shard.rows_per_second  # sum over running tasks
    assert abs(shard.last_write - time.time()) < 5 and shard.node == os.uname().nodename


def test_why_a_task_stopped_is_its_own_word_or_that_of_the_batch_system(run):
    for shard, (error, job) in enumerate(
        [(ValueError("no such\nlayer"), "7_0"), (Stopped(15), "7_1"), (None, "7_2")]
    ):
        _life(run, shard, 4, error, job)
    whys = [shard.why for shard in _status(run).shards]
    assert whys[:2] == ["ValueError: no such layer", "told to stop: ended its batch"]
    assert [shard.state for shard in _status(run).shards] == ["stopped"] * 3 + ["not started"]
    found = _status(
        run,
        _task(0, "FAILED", exit_code="1:0"),
        _task(1, "PREEMPTED", words="preempted"),
        _task(2, "TIMEOUT", words="time limit reached"),
        _task(3, "NODE_FAIL", node="n3", words="node failed"),
    )
    assert [shard.why for shard in found.shards] == [
        "ValueError: no such layer",
        "preempted: ended its batch",
        "time limit reached",
        "node failed, before it wrote anything",
    ]


def test_the_words_of_an_end_name_no_bare_exit_code_where_they_know_more(run):
    _life(run, 0, 4, Stopped(10), "7_0")
    _life(run, 1, 4, Stopped(15), "7_1")
    found = _status(
        run,
        _task(0, "FAILED", exit_code="138:0"),
        _task(1, "CANCELLED", words="cancelled", cancelled=True, by="1000"),
        _task(2, "FAILED", exit_code="0:9"),
        _task(3, "FAILED", exit_code="7:0"),
    )
    assert [shard.why for shard in found.shards] == [
        "time limit near: ended its batch, continues with `vsp resume`",
        "cancelled by user 1000: ended its batch",
        "killed (SIGKILL), as happens when memory is full, before it wrote anything",
        "exit code 7, before it wrote anything",
    ]


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("138:0", "time limit near (SIGUSR1)"),
        ("0:15", "told to stop (SIGTERM)"),
        ("137:0", "killed (SIGKILL), as happens when memory is full"),
        ("127:0", "a program of its script was not found (exit code 127)"),
        ("7:0", "exit code 7"),
        ("what", ""),
        (None, ""),
    ],
)
def test_an_exit_code_of_a_shell_is_read_as_the_signal_that_it_stands_for(code, words):
    assert exit_words(code) == words


def test_each_stage_has_a_line_with_its_job_state_time_and_why(run, capsys):
    _life(run, 0, 4, ValueError("no"), "7_0")
    now = time.time()
    tasks = (
        _task(0, "FAILED", exit_code="1:0", since=now - 100),
        *(_task(i, "RUNNING", "running", since=now - 300) for i in (1, 2)),
        TaskState(
            "8", "verify", None, "queued", "W", words="waits for an earlier stage", since=now
        ),
        TaskState("9", "probe", None, "failed", "C", cancelled=True, words="cancelled", by="me"),
    )
    states = States(tasks)
    found = run_status(run, run.ledgers(), states)
    stages = run_stages(run, found, states, ())
    assert [(one.stage, one.state, one.jobs, one.why) for one in stages] == [
        ("extract", "running", ("7",), "shards: 1 stopped, 2 running, 1 not started"),
        ("verify", "queued", ("8",), "waits for an earlier stage"),
        ("probe", "cancelled", ("9",), "cancelled by user me"),
        ("report", "not started", (), ""),
    ]
    show(status_page(found, False, (), stages))
    lines = capsys.readouterr().out.splitlines()
    assert "extract  7    running      5m ago  shards: 1 stopped, 2 running, 1 not started" in lines


def test_a_stage_is_outdated_once_rows_were_written_after_it(run):
    extract(run, run.shards)
    _results(run)
    (run.folder / "verified.json").write_text("{}")
    found = _status(run)

    def states():
        return [one.state for one in run_stages(run, found, States(), ())]

    assert states() == ["done", "done", "done", "not started"]
    before = found.shards[0].last_write - 60
    os.utime(run.results / "summary.json", (before, before))
    assert states()[2] == "not started"  # older than the plan: of an earlier run of this name
    planned = datetime.fromisoformat(run.plan.created).timestamp()
    later = [replace(shard, last_write=planned + 100) for shard in found.shards]
    found = replace(found, shards=tuple(later))
    os.utime(run.results / "summary.json", (planned + 50, planned + 50))
    assert states()[1:3] == ["outdated", "outdated"]
    assert _commands(_next(run, found, False)) == [f"vsp probe --run {run.name}"]


def test_a_job_that_the_batch_system_forgot_is_named_from_the_record(run):
    values = {"time": "2026-01-01T10:00:00+00:00", "profile": None, "stages": STAGES, "after": "ok",
              "probe_tasks": 2, "jobs": {"verify": ["12"], "probe-parts": ["13"], "probe": ["14"]}}  # fmt: skip
    add_submission(run, parse(Submission, values, "x"))
    stages = run_stages(run, _status(run), States(), submissions(run))
    assert [(one.stage, one.state, one.jobs) for one in stages[1:]] == [
        ("verify", "ended", ("12",)), ("probe-parts", "ended", ("13",)), ("probe", "ended", ("14",)),
        ("report", "not started", ()),
    ]  # fmt: skip
    assert stages[1].why == "the batch system forgot it, and it left no file"
    silent = run_stages(run, _status(run), States((), "no answer"), submissions(run))
    assert silent[1].why == "the batch system does not answer, and it left no file"


def test_a_task_of_the_batch_system_that_failed_earlier_is_not_why_a_later_one_stopped(run):
    _life(run, 0, 4, Stopped(2))
    found = _status(run, _task(0, "NODE_FAIL", words="node failed", since=time.time() - 60))
    assert found.shards[0].why == "interrupted (Ctrl-C): ended its batch"


def test_a_task_that_was_killed_without_a_word_is_said_to_be(run):
    process = os.fork()
    if process == 0:
        Journal(run.journals, run.plan.id, 0, planned=24)
        os.kill(os.getpid(), 9)
    os.waitpid(process, 0)
    (shard, *_) = _status(run).shards
    assert (shard.state, shard.why) == ("stopped", "killed without a reason in its journal")
    (shard, *_) = _status(run, _task(0, "OUT", job="8_0", words="out of memory")).shards
    assert shard.why == "out of memory (job 8_0), before it wrote anything"


def test_what_waits_or_runs_in_the_batch_system_is_not_called_stopped(run):
    _life(run, 0, 4, Stopped(15), "7_0")
    found = _status(
        run,
        _task(0, "PENDING", "queued", restarts=1, words="waits for its start time"),
        _task(1, "RUNNING", "running", node="n2"),
        _task(2, "PENDING", "queued", words="waits (a reason)"),
        _task(3, "COMPLETING", "ending"),
    )
    assert [(shard.state, shard.why) for shard in found.shards] == [
        ("queued", "told to stop: ended its batch; requeued 1 time, waits for its start time"),
        ("running", ""),
        ("queued", "waits (a reason)"),
        ("ending", ""),
    ]
    assert found.shards[1].node == "n2"
    # All missing rows are queued or running.
    assert _next(run, found) == [f"vsp status --run {run.name} --watch    shows when it ends"]


def _results(run, name="summary.json"):
    run.results.mkdir(parents=True, exist_ok=True)
    (run.results / name).write_text("{}")


def _commands(lines):
    return [line.partition("    ")[0] for line in lines]


def test_what_to_type_next_without_a_batch_system(run):
    assert _next(run, _status(run), slurm=False) == [
        f"vsp extract --run {run.name}    extracts shards 0-3 here"
    ]
    assert _next(run, _status(run), slurm=False, name="../a b/run") == [
        "vsp extract --run '../a b/run'    extracts shards 0-3 here"
    ]
    # A client of Slurm that is not configured answers nothing.
    silent = Situation(_status(run), (), True, run.name, answered=False)
    assert _commands(next_commands(silent)) == [f"vsp extract --run {run.name}"]
    extract(run, run.shards[:2])
    for slurm in (False, True):  # it was begun here, so it goes on here
        assert _next(run, _status(run), slurm) == [
            f"vsp extract --run {run.name}    continues shards 2-3"
        ]
    extract(run, run.shards)
    assert _commands(_next(run, _status(run), False)) == [f"vsp probe --run {run.name}"]
    _results(run)
    assert _commands(_next(run, _status(run), False)) == [f"vsp report --run {run.name}"]


def test_what_to_type_next_with_a_batch_system(run):
    which = f"--run {run.name}"
    assert _commands(_next(run, _status(run))) == [f"vsp submit {which}", f"vsp extract {which}"]
    for shard in run.shards:
        _life(run, shard.index, shard.stop - shard.start, None, f"7_{shard.index}")
    assert _commands(_next(run, _status(run))) == [
        f"vsp submit {which} --stages verify,probe,report"
    ]
    (run.folder / "verified.json").write_text("{}")
    assert _commands(_next(run, _status(run))) == [f"vsp submit {which} --stages probe,report"]
    with Journal(run.journals, run.plan.id, 1) as journal:
        journal.mark_lost([run.shards[1].start, run.shards[1].start + 1])
    found = _status(run)
    assert found.shards[1].why == "rows were lost since"
    assert _next(run, found) == [
        f"vsp resume {which}    continues shard 1",
        f"vsp logs {which}    shows the ends of the logs",
    ]


@pytest.mark.parametrize("slurm", [True, False])
def test_what_to_type_next_where_rows_failed(run, slurm):
    which = f"--run {run.name}"
    for shard in run.shards:
        _life(run, shard.index, shard.stop - shard.start - 1, None, "7_0" if slurm else None)
        task = TaskIdentity("7_0" if slurm else None)
        with Journal(run.journals, run.plan.id, shard.index, 1, task=task) as journal:
            journal.mark_failed(shard.stop - 1, "why")
    first, second = _next(run, _status(run), slurm)
    if slurm:
        assert first.startswith(f"vsp resume {which} --retry-failed    tries 4 failed rows again")
        assert second.startswith(f"vsp submit {which} --stages verify,probe,report --after any")
    else:
        assert first.startswith(f"vsp extract {which} --retry-failed")
        assert second.startswith(f"vsp probe {which} --partial")
    assert "without 4 failed rows" in second


def test_the_page_fits_eighty_columns_and_names_every_shard(run, capsys):
    _life(run, 0, 4, ValueError("x" * 200), "7_0")
    found = _status(run, _task(1, "RUNNING", "running", node="a-node-of-a-long-name-17"))
    text = _page(run, found, capsys)
    assert max(map(len, text.splitlines())) <= 80
    for shard in range(4):
        assert re.search(rf"^ +{shard} +\d+ +\d+ +\d+ +\d+ ", text, re.MULTILINE), text
    assert "shard 0 stopped: ValueError: xxx" in text.replace("\n", " ")
    assert ["all", "96", "4", "0", "92"] in map(str.split, text.splitlines())


def test_of_many_shards_those_that_want_attention_are_shown(run, capsys):
    found = _status(run)
    many = [
        found.shards[0].__class__(i, i, i + 1, int(i % 40 > 0), 0, int(i % 40 == 0),
                                  "stopped" if i % 40 == 0 else "finished", "TIMEOUT" if i % 40 == 0 else "")
        for i in range(1000)
    ]  # fmt: skip
    found = type(found)(run.name, 1000, tuple(many), {}, None, (), time.time())
    text = _page(run, found, capsys)
    assert "not shown: 975 finished shards and 1 others; --all shows them" in text
    numbers = ",".join(str(i) for i in range(0, 1000, 40))
    assert f"shards{numbers}stopped:TIMEOUT" in "".join(text.split())
    assert len(_page(run, found, capsys, everything=True).splitlines()) > 1000


def test_where_not_all_fit_the_stopped_ones_come_before_those_that_wait(run, capsys):
    found, kind = _status(run), type(_status(run).shards[0])
    many = [kind(i, i, i + 1, 0, 0, 1, "stopped" if i >= 900 else "queued") for i in range(910)]
    text = _page(run, type(found)(run.name, 910, tuple(many), {}, None, (), 0.0), capsys)
    shown = [int(line.split()[0]) for line in text.splitlines() if line[:5].strip().isdecimal()]
    assert shown == [*range(14), *range(900, 910)]


def test_notes_tell_of_damage_other_versions_and_a_batch_system_that_is_silent(run, capsys):
    with Journal(run.journals, run.plan.id, 0, 24, {"torch": "9.9"}) as journal:
        journal.mark_done([0, 1], [1, 2])
    with Journal(run.journals, run.plan.id, 0, 24, {"torch": "9.9"}) as journal:
        journal.mark_done([0, 1], [1, 3])
    path = sorted(run.journals.iterdir())[0]
    path.write_bytes(path.read_bytes().replace(b"[[0, 2]]", b"[[0, 1]]", 1))
    found = _status(run, problem="squeue: no answer")
    assert found.notes[0].startswith(
        f"{path}: line 2 is damaged and skipped; its rows count as missing"
    )
    assert "package versions other than the plan's: torch 9.9 in 2 tasks" in found.notes
    assert "squeue: no answer" in found.notes
    assert "note: squeue: no answer" in _page(run, found, capsys)


def test_rows_that_were_computed_twice_are_counted(run):
    for checksum in (2, 3):
        with Journal(run.journals, run.plan.id, 0, 24) as journal:
            journal.mark_done([0, 1], [1, checksum])
    assert "1 rows were computed again and differ in the last bits" in _status(run).notes


def test_the_command_answers_as_json_and_again_and_again(run, vsp, work):
    import subprocess
    import sys

    extract(run, run.shards[:2])
    values = json.loads(vsp("status", "--json").stdout)
    assert values["planned"] == values["done"] + values["failed"] + values["missing"] == 96
    assert [shard["state"] for shard in values["shards"]] == ["finished"] * 2 + ["not started"] * 2
    assert values["next"] == [f"vsp extract --run {run.name}    continues shards 2-3"]
    with Journal(run.journals, run.plan.id, 2, planned=1):
        process = subprocess.Popen(
            [sys.executable, "-m", "vsp", "status", "--watch", "1"], cwd=work,
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        time.sleep(4)
        assert process.poll() is None
    said = process.communicate(timeout=20)[0]
    assert process.returncode == 0 and said.count(f"run {run.name}: ") >= 2
    clocks = re.findall(r"^\d\d:\d\d:\d\d, (.*)$", said, re.MULTILINE)
    assert clocks[0] == "again in 1 s; Ctrl-C ends this"
    ended = "nothing waits or runs any more"
    assert clocks[-1] == ended and clocks.count(ended) == 1


def test_a_word_after_watch_that_is_no_number_is_the_run(run, vsp):
    answer = vsp("status", "--watch", run.name)
    assert answer.returncode == 0 and f"run {run.name}: 0% done" in answer.stdout
    answer = vsp("status", "--watch", "nope")
    assert answer.returncode == 1 and "nope: no such run" in answer.stderr
    answer = vsp("status", "--watch", run.name, "--run", run.name)
    assert (
        answer.returncode == 1
        and "must be a number of seconds, because --run names the run" in answer.stderr
    )
    assert vsp("status", "--watch", "0").returncode == 2


def test_logs_show_the_end_of_what_failed(run, work):
    logs = run.folder / "logs"
    logs.mkdir(exist_ok=True)
    _life(run, 0, 4, ValueError("no"), "7_0")
    _life(run, 1, run.shards[1].stop - run.shards[1].start, None, "7_1")
    (logs / "extract-7_0.log").write_text("a\nb\rc\nlast words\n")
    (logs / "extract-7_1.log").write_text("all is well\n")
    (logs / "probe-9.log").write_text("x\n" * 1_000_000 + "vsp: no probe\n")
    states = States((TaskState("9", "probe", None, "failed", "FAILED", exit_code="1:0"),))
    found = run_status(run, run.ledgers(), states)
    first, probe = failed_logs(found, states, logs, 2)
    assert first.title == "shard 0 stopped: ValueError: no" and first.lines == ("c", "last words")
    assert probe.title == "probe: ended with an error (exit code 1)" and probe.lines == (
        "x",
        "vsp: no probe",
    )
    one = shard_log(found, logs, 1, 20)
    assert one.title == "shard 1, finished" and one.lines == ("all is well",)


def test_stages_that_never_started_are_named_in_one_line_and_have_no_log(run):
    logs = run.folder / "logs"
    logs.mkdir(exist_ok=True)
    (logs / "report-11.log").write_text("began\n")
    gone = {
        "phase": "failed",
        "state": "CANCELLED",
        "cancelled": True,
        "words": "no success before",
    }
    stages = {"verify": "9", "probe": "10", "report": "11"}
    states = States(tuple(TaskState(job, one, None, **gone) for one, job in stages.items()))
    found = run_status(run, run.ledgers(), states)
    (report,) = failed_logs(found, states, logs, 2)
    assert report.lines == ("began",)
    assert not_started(states, logs) == (
        "did not start, so there is no log: verify, probe (no success before)"
    )
    assert not not_started(States(), logs)


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (os.mkfifo, "(cannot be read (is a named pipe, not a regular file))"),
        (
            lambda path: path.symlink_to("/dev/zero"),
            "(cannot be read (is a device, not a regular file))",
        ),
        (lambda path: path.mkdir(), "(cannot be read (is a directory))"),
    ],
)
def test_a_log_that_is_no_regular_file_is_said_to_be_none_at_once(run, make, line):
    logs = run.folder / "logs"
    logs.mkdir(exist_ok=True)
    _life(run, 0, 4, ValueError("no"), "7_0")
    make(logs / "extract-7_0.log")
    (log,) = failed_logs(_status(run), States(), logs, 2)
    assert log.lines == (line,)


def test_of_a_log_of_200_gb_and_of_a_line_without_end_a_little_is_read_and_shown(run):
    logs = run.folder / "logs"
    logs.mkdir(exist_ok=True)
    _life(run, 0, 4, ValueError("no"), "7_0")
    path = logs / "extract-7_0.log"
    path.touch()
    os.truncate(path, 200 << 30)
    with path.open("a") as file:
        file.write("\nlast words\n")
    start = time.process_time()
    (log,) = failed_logs(_status(run), States(), logs, 20)
    assert time.process_time() - start < 1
    assert log.lines[-1] == "last words" and max(map(len, log.lines)) < 2100


def test_the_job_of_a_journal_leads_to_no_file_outside_the_log_folder(run):
    logs = run.folder / "logs"
    (logs / "extract-").mkdir(parents=True)
    (run.folder / "secret.log").write_text("secret\n")
    _life(run, 0, 4, ValueError("no"), "/../../secret")
    (log,) = failed_logs(_status(run), States(), logs, 20)
    assert log.lines != ("secret",)


def test_logs_without_a_batch_system_say_where_words_went(run, vsp):
    extract(run, run.shards)
    answer = vsp("logs")
    assert answer.returncode == 0 and "no task of the batch system failed" in answer.stdout
    answer = vsp("logs", "2")
    assert (
        answer.returncode == 1
        and "no batch job is known; `vsp extract` in a terminal" in answer.stderr
    )
    assert "has no shard 9; it has 4" in vsp("logs", "9").stderr


def test_a_blank_ledger_is_not_started(run):
    found = run_status(run, [Ledger.blank(s.start, s.stop) for s in run.shards], States())
    assert {shard.state for shard in found.shards} == {"not started"}
    assert found.rows_per_second is None
