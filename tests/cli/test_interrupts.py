"""Interrupting a command: its message must agree with the files it leaves behind."""

import argparse
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from helpers.commands import run_here
from helpers.paths import ROOT

from vsp.cli.main import FAMILIES
from vsp.cli.parser import Parser

INTERRUPTS = [signal.SIGINT, signal.SIGTERM]


def _start(work, *arguments, code=None):
    command = [sys.executable, *(["-c", code] if code else ["-m", "vsp"]), *map(str, arguments)]
    return subprocess.Popen(
        command, cwd=work, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, start_new_session=True,
        preexec_fn=_heed_sigint,
    )  # fmt: skip


def _heed_sigint():
    """Tests that run in a shell's background inherit an ignored SIGINT."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _finish(work, *arguments):
    answer = run_here(arguments, work)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


def _interrupt(process, number, ready, send=os.kill):
    """Send the signal once `ready()` is true; return what the message says after the signal."""
    deadline = time.monotonic() + 60
    while not ready():
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.01)
    send(process.pid, number)
    return _last_line(process, number)


def _last_line(process, number):
    try:
        _, said = process.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # no process outlives its test
        _, said = process.communicate()
    assert process.returncode == 128 + number and "Traceback" not in said, said
    line = next(line for line in reversed(said.splitlines()) if line.startswith("vsp: "))
    name = "interrupted" if number == signal.SIGINT else f"stopped by {number.name}"
    assert line.startswith((f"vsp: {name}; ", f"vsp: stopped by {number.name}; "))
    return line.partition("; ")[2]


def _files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def _commands(parser, path=()):
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, command in action.choices.items():
                yield from _commands(command, (*path, name))
    if parser.get_default("handler"):
        yield " ".join(path), parser.get_default("interrupted")


def _sentences():
    parser = Parser(prog="vsp")
    subparsers = parser.add_subparsers()
    for family in FAMILIES:
        family.add_commands(subparsers)
    return dict(_commands(parser))


_LEFT_BEHIND = {
    "generate": "the unfinished dataset was removed; the same command starts over",
    "import": "the unfinished dataset was removed; the same command starts over",
    "dataset show": "the dataset is unchanged; the same command starts over",
    "models": "nothing was changed",
    "plan": "the unfinished run was removed; the same command starts over",
    "extract": "rows written so far are kept; the same command continues",
    "submit": "no job was submitted; the same command starts over",
    "resume": "no job was submitted; the same command starts over",
    "status": "nothing was changed",
    "runs": "nothing was changed",
    "rm": "`vsp runs` lists what is left",
    "sweep": "the runs that are planned are kept; the same command goes on",
    "logs": "nothing was changed",
    "verify": "stored states are unchanged; the same command starts over",
    "probe": "fitted layers are kept; the same command fits the others",
    "evaluate": "results are unchanged; the same command starts over",
    "answer": "no text was kept; the same command starts over",
    "report": "results are unchanged",
    "axes": "results are unchanged; the same command starts over",
    "steer": "the unfinished run was removed; the same command starts over",
    "patch": "the unfinished run was removed; the same command starts over",
    "effects": "results are unchanged; the same command starts over",
    "study": "what is planned and computed is kept; `vsp study NAME` goes on",
    "view": "nothing was changed",
    "compare": "results are unchanged; the same command starts over",
    "export": "no file was written; the same command starts over",
    "bench": "no measurement was kept; the same command starts over",
}


def test_every_command_says_what_an_interrupt_leaves_behind():
    assert _sentences() == _LEFT_BEHIND


@pytest.mark.parametrize("number", INTERRUPTS)
def test_generate_removes_the_unfinished_dataset(work, number):
    (work / "c.yaml").write_text(
        "task: spatial\nn_samples: 10000\nseed: 7\noutput: data/spatial\nsplits: data/splits\n"
    )
    process = _start(work, "generate", "--config", "c.yaml", "--n-jobs", 2)
    line = _interrupt(process, number, lambda: list(work.glob("data/.spatial.*/**/*.png")))
    assert line == _sentences()["generate"] and _files(work) == ["c.yaml"]
    assert list((work / "data").iterdir()) == []


@pytest.mark.parametrize("number", INTERRUPTS)
def test_import_removes_the_unfinished_dataset(work, number):
    rows = "".join(f"{i}.jpg,cup {i},table,above\n" for i in range(100_000))
    (work / "train.csv").write_text("img_path,subj,obj,relationship\n" + rows)
    process = _start(work, "import", "csv", "--annotations", "train=train.csv", "--out", "data/own")
    line = _interrupt(process, number, lambda: list(work.glob("data/.own.*")))
    assert line == _sentences()["import"] and _files(work) == ["train.csv"]
    assert list((work / "data").iterdir()) == []


@pytest.mark.parametrize("number", INTERRUPTS)
def test_plan_removes_the_unfinished_run(work, spatial, number):
    code = (
        "import os, sys, vsp.extraction.run_folder\n"
        f"vsp.extraction.run_folder.sealed_plan = lambda plan: os.kill(os.getpid(), {int(number)})\n"
        "from vsp.cli.main import main\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    process = _start(work, "plan", "--model", "fake", "--dataset", spatial, code=code)
    assert _last_line(process, number) == _sentences()["plan"]
    assert _files(work) == [] and list((work / "scratch").iterdir()) == []


@pytest.mark.parametrize(
    ("moment", "number"),
    [("run_folder.sync_folder", signal.SIGINT), ("plan.largest_batch", signal.SIGTERM)],
)
def test_a_signal_after_the_run_was_written_says_that_it_is_planned(work, spatial, number, moment):
    """The run has its name by then, so it is kept and every line is printed."""
    code = (
        "import os, sys\n"
        "from vsp.extraction import plan, run_folder\n"
        f"real = {moment}\n"
        f"{moment} = lambda *a: (os.kill(os.getpid(), {int(number)}), real(*a))[1]\n"
        "from vsp.cli.main import main\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    process = _start(work, "plan", "--model", "fake", "--dataset", spatial, code=code)
    assert _last_line(process, number) == "run fake-spatial is planned"
    assert _finish(work, "extract").startswith("run fake-spatial: 96 rows done")


@pytest.mark.parametrize("moment", ["at exit", "as modules are removed"])
def test_a_signal_while_the_interpreter_ends_does_not_kill_it(work, spatial, moment):
    code = (
        "import atexit, os, sys\n"
        "class Last:\n"
        "    def __del__(self, kill=os.kill, pid=os.getpid()): kill(pid, 2)\n"
        f"if {moment == 'at exit'}: atexit.register(os.kill, os.getpid(), 2)\n"
        "else: last = Last()\n"
        "from vsp.cli.main import console\n"
        "console()"
    )
    process = _start(work, "plan", "--model", "fake", "--dataset", spatial, code=code)
    out, said = process.communicate(timeout=120)
    assert process.returncode == 0 and "fake-spatial" in out
    assert "vsp: " not in said and "Traceback" not in said


def test_a_signal_between_a_command_and_its_end_is_one_line(work):
    code = (
        "import os, sys, vsp.cli.main as program\n"
        "program.main = lambda argv: os.kill(os.getpid(), 2)\n"
        "program.console()"
    )
    process = _start(work, "models", code=code)
    assert process.communicate(timeout=60)[1] == "vsp: interrupted\n" and process.returncode == 130


@pytest.mark.parametrize("number", INTERRUPTS)
def test_extract_keeps_rows_and_continues(plan_fake, work, number):
    run = plan_fake(batch_size=1, options={"pause": 0.02})
    process = _start(work, "extract")
    line = _interrupt(process, number, lambda: run.ledgers()[0].n_done >= 20)
    assert line == _sentences()["extract"]
    n_done = run.ledgers()[0].n_done
    assert 20 <= n_done < 96
    assert _finish(work, "extract").startswith(f"run {run.name}: 96 rows done")
    assert [life.n_done for life in run.ledgers()[0].lives] == [n_done, 96 - n_done]


def test_probe_keeps_fitted_layers(plan_fake, work):
    run = plan_fake(options={"n_layers": 3})
    _finish(work, "extract")
    command = ("probe", "--n-jobs", 1, "--permutations", 30, "--controls", 0, "--no-curve",
               "--no-random", "--no-words")  # fmt: skip

    def fits():
        return {path: path.stat().st_mtime_ns for path in run.folder.rglob("*.npz")}

    process = _start(work, *command)
    line = _interrupt(process, signal.SIGINT, fits)
    assert line == _sentences()["probe"] and not (work / "results").exists()
    kept = fits()
    assert 0 < len(kept) <= run.plan.n_layers
    _finish(work, *command)
    assert kept.items() <= fits().items()


def _processes(session):
    """Numbers of the processes of a session that run."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(FileNotFoundError, ProcessLookupError):
            state, _, _, its_session = path.read_text().rpartition(") ")[2].split()[:4]
            if int(its_session) == session and state != "Z":
                found.append(int(path.parent.name))
    return found


def _workers(process):
    """Numbers of the worker processes that have set up their signals: they ignore SIGINT."""
    ignores = []
    for number in _processes(process.pid):
        command = Path(f"/proc/{number}/cmdline").read_bytes()
        status = Path(f"/proc/{number}/status").read_text()
        mask = int(status.partition("SigIgn:")[2].split()[0], 16)
        if b"loky" in command and b"resource_tracker" not in command and mask & 2:
            ignores.append(number)
    return ignores


def _with_workers(work, spatial, command):
    """Start a command that is busy in two workers for a long time; return once it is."""
    if command == "probe":
        _finish(work, "extract")
        words = ("--permutations", 1000, "--repeats", 20, "--n-jobs", 2)
    elif command == "generate":
        (work / "c.yaml").write_text(
            "task: spatial\nn_samples: 10000\nseed: 7\noutput: data/s\nsplits: data/t\n"
        )
        words = ("--config", "c.yaml", "--n-jobs", 2)
    elif command == "import":
        rows = "".join(f"{i}.png,cup {i},table,above\n" for i in range(3000))
        (work / "train.csv").write_text("image,subject,object,relation\n" + rows)
        (work / "photos").mkdir()
        for i in range(3000):
            (work / "photos" / f"{i}.png").symlink_to(next((spatial / "images").glob("*.png")))
        words = (
            "csv",
            "--annotations",
            "train=train.csv",
            "--images",
            "photos",
            "--out",
            "data/own",
        )
        words = (*words, "--check", "--n-jobs", 2)
    process = _start(work, command, *words)
    deadline = time.monotonic() + 60
    while len(_workers(process)) < 2:
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.05)
    return process


def _assert_none_is_left(process, seconds):
    deadline = time.monotonic() + seconds
    while left := _processes(process.pid):
        if time.monotonic() > deadline:
            os.killpg(process.pid, signal.SIGKILL)
            raise AssertionError(f"{len(left)} processes are left")
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("command", "number", "send"),
    [
        ("probe", signal.SIGINT, os.killpg),
        ("generate", signal.SIGTERM, os.kill),
        ("generate", signal.SIGHUP, os.killpg),
        ("import", signal.SIGTERM, os.killpg),
    ],
)
def test_no_worker_outlives_a_command_that_is_stopped(
    plan_fake, work, spatial, command, number, send
):
    """All commands start their workers in one function, so not each is tried with each signal."""
    if command == "probe":
        plan_fake()
    process = _with_workers(work, spatial, command)
    send(process.pid, number)
    assert _last_line(process, number) == _sentences()[command]
    _assert_none_is_left(process, seconds=1)


def test_no_worker_outlives_a_command_that_is_killed(work, spatial):
    process = _with_workers(work, spatial, "generate")
    process.kill()
    process.communicate(timeout=10)  # the workers have these pipes too
    _assert_none_is_left(process, seconds=5)


def test_submit_names_the_jobs_that_were_submitted(plan_fake, work, monkeypatch):
    plan_fake()
    programs = work / "bin"
    programs.mkdir()
    (programs / "sbatch").write_text(
        '#!/bin/bash\ncase "$*" in *extract*) echo 7;; *) touch called; exec sleep 60;; esac\n'
    )
    (programs / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    process = _start(work, "submit")
    line = _interrupt(process, signal.SIGINT, (work / "called").exists)
    assert line == (
        "submitted already: extract 7; one more verify job may be queued: check the queue, then "
        "`vsp submit --run fake-spatial --stages verify,probe,report`"
    )


def test_a_submission_that_runs_here_names_the_stage_that_did_not_finish(plan_fake, work):
    run = plan_fake(batch_size=1, options={"pause": 0.05})
    (work / "local.yaml").write_text("scheduler: local\n")
    process = _start(work, "submit", "--profile", "local.yaml")
    # Ctrl-C reaches the whole process group, so also the stage that runs here.
    ready = lambda: run.ledgers()[0].n_done >= 5  # noqa: E731
    line = _interrupt(process, signal.SIGINT, ready, os.killpg)
    assert (
        line
        == "extract did not finish; `vsp resume --run fake-spatial` runs it and the later stages"
    )
