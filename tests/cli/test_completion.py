"""The tab key: argcomplete's protocol, as a shell speaks it, with a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import made

from vsp.choices import MODEL_FAMILIES
from vsp.models import FAMILIES

_AT_DEV_8 = 'exec 8>answer; exec "$0" "$@"'


def _complete(folder, line, *command):
    """The words with which a shell would complete the end of `line`."""
    environment = {
        **os.environ, "_ARGCOMPLETE": "1", "COMP_LINE": line, "COMP_POINT": str(len(line.encode())),
        "COMP_TYPE": "9", "_ARGCOMPLETE_IFS": "\n", "_ARGCOMPLETE_SUPPRESS_SPACE": "1",
    }  # fmt: skip
    command = command or (sys.executable, "-m", "vsp")
    answer = subprocess.run(
        ["bash", "-c", _AT_DEV_8, *command], cwd=folder, env=environment, capture_output=True, text=True
    )  # fmt: skip
    assert answer.stdout == "" and "Traceback" not in answer.stderr, answer
    assert answer.returncode == 0
    return (folder / "answer").read_text().split("\n")


@pytest.fixture
def project(work):
    for name in ("llava-spatial", "llava-blank", "qwen-spatial"):
        made.made(work / "results" / name)
    (work / "scratch/llava-new").mkdir(parents=True)
    (work / "scratch/llava-new/plan.json").write_text("{}")
    (work / "data/raw/demo").mkdir(parents=True)
    (work / "data/raw/demo/metadata.json").write_text("[]")
    return work


@pytest.mark.parametrize(
    ("line", "completions"),
    [
        ("vsp re", {"report", "resume"}),
        ("vsp help re", {"report", "resume"}),
        ("vsp dataset ", {"show"}),
        ("vsp status --j", {"--json"}),
        ("vsp status --run llava", {"llava-spatial", "llava-blank", "llava-new"}),
        ("vsp compare qwen-spatial llava-b", {"llava-blank"}),
        ("vsp plan --model sp", {"spatialrgpt", "spatialrgpt-8b"}),
        ("vsp plan --model fake --prompt st", {"statement"}),
        ("vsp plan --model fake --dataset data/raw/d", {"data/raw/demo"}),
        ("vsp --quiet generate --config de", {"demo", "depth"}),
        ("vsp probe --probe mass", {"mass-mean"}),
        ("vsp report --run qwen-spatial --ro", {"--rows"}),
        ("vsp report --rows kno", {"knows-not-says"}),
        ("vsp import vr", {"vrd"}),
        ("vsp submit --stages ver", {"verify"}),
        ("vsp plan --model fake --run x", {""}),
        ("vsp nonsense --x", {""}),
    ],
)  # fmt: skip
def test_the_tab_key_completes(project, line, completions):
    assert set(_complete(project, line)) == completions


def test_a_completion_runs_no_command_and_loads_nothing_heavy(project):
    code = (
        "import atexit, os, sys\n"
        "leave = os._exit\n"
        "def end(code):\n"
        "    print([m for m in ('torch', 'numpy', 'pydantic', 'rich', 'yaml') if m in sys.modules],"
        " file=open('loaded', 'w'), flush=True)\n"
        "    leave(code)\n"
        "os._exit = end\n"
        "import argcomplete.finders as f; f.CompletionFinder.__call__.__defaults__ = tuple("
        "end if d is leave else d for d in f.CompletionFinder.__call__.__defaults__)\n"
        "from vsp.cli.main import console; console()"
    )
    _complete(project, "vsp plan --model ", sys.executable, "-c", code)
    assert (project / "loaded").read_text() == "[]\n"
    assert not (project / "scratch/fake").exists()


def test_without_argcomplete_the_tab_key_does_nothing(work):
    code = (
        "import sys; sys.modules['argcomplete'] = None; from vsp.cli.main import console; console()"
    )
    environment = {
        **os.environ,
        "_ARGCOMPLETE": "1",
        "COMP_LINE": "vsp generate",
        "COMP_POINT": "12",
    }
    answer = subprocess.run(
        [sys.executable, "-c", code, "generate", "--config", "demo"],
        cwd=work, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert (answer.returncode, answer.stdout, answer.stderr) == (1, "", "")
    assert not any(work.iterdir())


def test_argcomplete_finds_its_line_in_the_module_of_the_command():
    import vsp.__main__ as module

    assert "PYTHON_ARGCOMPLETE_OK" in Path(module.__file__).read_text()[:1024]


def test_the_families_that_are_completed_are_those_that_there_are():
    assert list(MODEL_FAMILIES) == FAMILIES.own_names()
