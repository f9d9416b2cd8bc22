"""Every exit code that docs/troubleshooting.md lists, and no other, is what vsp ends with."""

import ast
import os
import re
import signal
import subprocess
import sys
import time

import pytest
from helpers.commands import run_here
from helpers.paths import ROOT

from vsp.cli.main import main

_SECTION = (ROOT / "docs/troubleshooting.md").read_text().partition("## Exit codes")[2]
LISTED = {int(code) for code in re.findall(r"^\| (\d+) \|", _SECTION.partition("\n## ")[0], re.M)}
SIGNALS = {129: signal.SIGHUP, 130: signal.SIGINT, 138: signal.SIGUSR1, 143: signal.SIGTERM}


def test_the_page_lists_the_codes_of_errors_and_of_the_signals_that_a_task_obeys():
    assert {0, 1, 2, 141, *SIGNALS} == LISTED
    tree = ast.parse((ROOT / "vsp/utils/signals.py").read_text())
    names = next(
        ast.unparse(node.value) for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "_SIGNALS"
    )  # fmt: skip
    obeyed = {getattr(signal, name) for name in re.findall(r"signal\.(\w+)", names)}
    assert {128 + number for number in obeyed} == SIGNALS.keys()


def test_the_code_of_the_command_line_ends_with_no_other_number():
    """A return or an exit with a literal number is in the table."""
    for name in ("main", "parser"):
        for node in ast.walk(ast.parse((ROOT / f"vsp/cli/{name}.py").read_text())):
            value = node.value if isinstance(node, ast.Return) else None
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "sys.exit":
                value = node.args[0]
            if isinstance(value, ast.Constant) and isinstance(value.value, int):
                assert value.value in LISTED


@pytest.mark.parametrize(
    ("arguments", "code"), [("models --json", 0), ("extract", 1), ("extract --sahrd 1", 2), ("", 2)]
)
def test_a_command_ends_with_its_code(work, arguments, code):
    assert run_here(arguments.split(), work).returncode == code


def test_a_bug_ends_with_one_and_a_traceback(work):
    code = "import vsp.cli.main as m; m.FAMILIES = (None,); m.console()"
    answer = subprocess.run([sys.executable, "-c", code], cwd=work, capture_output=True, text=True)
    assert answer.returncode == 1 and "Traceback" in answer.stderr


def test_a_reader_that_has_ended_is_141(work):
    read, write = os.pipe()
    os.close(read)
    answer = subprocess.run([sys.executable, "-m", "vsp", "models"], cwd=work, stdout=write)
    os.close(write)
    assert answer.returncode == 141


@pytest.mark.parametrize(("code", "number"), SIGNALS.items())
def test_a_signal_ends_a_task_with_its_code(plan_fake, work, code, number):
    run = plan_fake(options={"pause": 0.2}, batch_size=1)
    command = [sys.executable, "-c", _HEEDING, "extract", "--workers", "0"]
    process = subprocess.Popen(command, cwd=work, stdout=-3, stderr=-3)
    while not any(ledger.n_done for ledger in run.ledgers()):
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(number)
    assert process.wait(30) == code
    assert 0 < run.ledgers()[0].n_done < 96


# A shell that starts tests in the background leaves signals ignored.
_HEEDING = """import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
from vsp.cli.main import console
console()"""


def test_a_command_line_that_cannot_be_read_does_nothing(work):
    with pytest.raises(SystemExit) as caught:
        main(["generate", "--config", "spatial", "--nope"])
    assert caught.value.code == 2 and not any(work.iterdir())
