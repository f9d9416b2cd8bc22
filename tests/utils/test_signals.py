"""A task that is asked to stop finishes its batch and loses no work."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from vsp.errors import VspError
from vsp.extraction.extract import extract
from vsp.utils.signals import Stopped, stoppable

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT, signal.SIGHUP)


def _send(number):
    os.kill(os.getpid(), number)
    time.sleep(0.01)  # the interpreter takes it up between two instructions


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_waits_for_the_work_in_hand(number):
    done = []
    with pytest.raises(Stopped, match=signal.Signals(number).name), stoppable() as stop:
        with stop.free():
            pass
        _send(number)
        done.append("work")
        with stop.free():
            done.append("more")
    assert done == ["work"]


@pytest.mark.parametrize("number", SIGNALS)
def test_between_pieces_of_work_a_signal_ends_at_once(number):
    with pytest.raises(Stopped) as caught, stoppable() as stop, stop.free():
        _send(number)
        raise AssertionError("it went on")
    assert caught.value.number == number


def test_no_library_that_catches_errors_catches_a_stop():
    assert not issubclass(Stopped, Exception) and not issubclass(Stopped, VspError)


def test_a_second_interrupt_does_not_wait():
    with pytest.raises(KeyboardInterrupt), stoppable():
        _send(signal.SIGINT)
        _send(signal.SIGINT)
        raise AssertionError("it went on")


def test_afterwards_signals_mean_what_they_meant_before():
    before = [signal.getsignal(number) for number in SIGNALS]
    with stoppable():
        assert signal.getsignal(signal.SIGTERM) not in before
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_a_hangup_that_nohup_ignores_stays_ignored():
    code = (
        "import os, signal\nfrom vsp.utils.signals import follow_parent, stoppable\n"
        "with stoppable() as stop, stop.free(): os.kill(os.getpid(), signal.SIGHUP)\n"
        "follow_parent(os.getppid())\n"
        "assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN"
    )
    subprocess.run(["nohup", sys.executable, "-c", code], check=True, timeout=60)


def test_beside_the_main_thread_signals_are_left_alone():
    before, seen = signal.getsignal(signal.SIGTERM), []

    def other():
        with stoppable() as stop, stop.free():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=other)
    thread.start(), thread.join()
    assert seen == [before]


@pytest.mark.parametrize("number", SIGNALS)
def test_a_task_that_is_asked_to_end_keeps_what_it_did_and_goes_on_later(plan_fake, work, number):
    whole, asked = (plan_fake(batch_size=1, limit=40, options={"pause": 0.02}) for _ in range(2))
    extract(whole, whole.shards)
    command = [sys.executable, "-m", "vsp", "extract", "--run", asked.name]
    process = subprocess.Popen(command, cwd=work, stderr=subprocess.PIPE, text=True)
    while asked.ledgers()[0].n_done < 10 and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(number)
    _, said = process.communicate(timeout=20)
    name = signal.Signals(number).name
    assert process.returncode == 128 + number and "Traceback" not in said
    assert (
        f"vsp: stopped by {name}; rows written so far are kept; the same command continues" in said
    )
    (ledger,) = asked.ledgers()
    assert 10 <= ledger.n_done < 40 and ledger.lives[0].ended == f"stopped by {name}"
    # Every row that was computed is in the journal: no batch was thrown away.
    (journal,) = asked.journals.iterdir()
    entries = [json.loads(line[9:]) for line in journal.read_text().splitlines()]
    n_checksums = sum(len(entry.get("crc32", "")) // 8 for entry in entries)
    assert n_checksums == len(asked.stores) * ledger.n_done
    extract(asked, asked.shards)
    assert asked.store.path.read_bytes() == whole.store.path.read_bytes()
    assert asked.ledgers()[0].lives[1].n_done == 40 - ledger.n_done


def test_workers_that_are_signalled_too_do_not_spoil_the_end(plan_fake, work):
    """A batch system may send signals to all processes of a task, including workers."""
    run = plan_fake(batch_size=1, options={"pause": 0.02})
    command = [sys.executable, "-m", "vsp", "extract", "--run", run.name, "--workers", "2"]
    process = subprocess.Popen(command, cwd=work, stderr=subprocess.PIPE, text=True)
    while run.ledgers()[0].n_done < 10 and process.poll() is None:
        time.sleep(0.02)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert len(children) == 2
    for child in children:
        os.kill(int(child), signal.SIGTERM)
    time.sleep(0.5)  # their turn comes first
    process.terminate()
    _, said = process.communicate(timeout=20)
    assert process.returncode == 128 + signal.SIGTERM, said
    assert "Traceback" not in said and run.ledgers()[0].lives[0].ended == "stopped by SIGTERM"


def test_what_a_plan_that_was_killed_leaves_is_said(work, spatial, vsp):
    """tests/cli/test_interrupts.py stops a plan by other signals: it leaves nothing."""
    code = (
        "import os, signal, sys, vsp.extraction.run_folder\n"
        "vsp.extraction.run_folder.sealed_plan = lambda plan: os.kill(os.getpid(), signal.SIGKILL)\n"
        "from vsp.cli.main import main\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    plan = ("plan", "--model", "fake", "--dataset", str(spatial))
    command = [sys.executable, "-c", code, *plan]
    answer = subprocess.run(command, cwd=work, capture_output=True, text=True, timeout=60)
    assert answer.returncode == -signal.SIGKILL, answer.stderr
    assert len(list((work / "scratch").iterdir())) == 1
    answer = vsp(*plan)
    assert answer.returncode == 0
    assert "another `vsp plan` is running there or was killed" in answer.stderr
