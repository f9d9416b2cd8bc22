"""Every command fits terminals of 60, 80 and 200 columns, and no figure is cut on a narrow one."""

from __future__ import annotations

import re

import pytest
from helpers.commands import run_here, run_here_in_terminal
from helpers.twin_runs import direction, planted, twin_runs

from vsp.cli.main import make_parser
from vsp.utils.wrapping import text_width, wrapped_lines

WIDTHS = (60, 80, 200)
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")
_FIGURE = re.compile(r"[+-]?\d+\.\d+")
_COMMAND = re.compile(r"(^|  |: )(vsp|sbatch|hf) ")  # to be copied
_LIGHT = ("--permutations", 0, "--controls", 0, "--resamples", 50, "--no-curve", "--grid", 0.01, 1,
          "--folds", 2, "--n-jobs", 1)  # fmt: skip
_DATASET = "task: spatial\nn_samples: 40\nseed: 7\noutput: data/raw/demo\nsplits: data/splits\n"
_PLAN = ("plan", "--model", "fake", "--dataset", "data/raw/demo", "--option", "n_layers=3")
_STEER = ("steer", "demo", "--layers", "1-2", "--scale", 1, "--random", 2)
_MADE = (
    ("generate", "--config", "demo", "--n-jobs", 1),
    (*_PLAN, "--run", "demo"),
    ("extract", "demo"),
    ("probe", "demo", *_LIGHT),
    (*_PLAN, "--run", "asked", "--prompt", "question"),
    ("extract", "asked"),
    ("probe", "asked", *_LIGHT),
    (*_STEER, "--run-name", "steered"),
    ("extract", "steered"),
    ("effects", "steered"),
)
COMMANDS = (
    ("status", "demo"),
    ("runs",),
    ("rm", "demo", "--dry-run"),
    ("verify", "demo"),
    ("probe", "demo", *_LIGHT),
    ("report", "demo"),
    ("compare", "demo", "asked"),
    ("axes", "one", "twin"),
    ("effects", "steered"),
    (*_STEER, "--run-name", "steered-WIDTH"),
    ("study", "--model", "fake", "--dataset", "data/raw/demo", "--dry-run"),
    ("dataset", "show", "data/raw/demo"),
    ("models",),
    ("submit", "demo", "--stages", "probe", "--dry-run"),
    ("logs", "demo"),
    ("extract", "demo"),
    ("resume", "demo"),
    ("generate", "--config", "WIDTH", "--n-jobs", 1),
    (*_PLAN, "--run", "at-WIDTH"),
    ("sweep", "--models", "fake", "--prompts", "statement,question", "--datasets", "data/raw/demo",
     "--dry-run"),
    ("import", "csv", "--annotations", "train=rows.csv", "--images", "data/raw/demo/images",
     "--out", "data/rows", "--relations", "words.yaml", "--n-jobs", 1, "--check"),
    ("bench", "--model", "fake", "--dataset", "data/raw/demo", "--rows", 8),
    ("evaluate", "demo", "--on", "asked"),
    ("export", "demo", "--to", "npz", "--out", "states-WIDTH.npz"),
)  # fmt: skip
_SCRIPT = {"submit"}
# Times and rates differ each time.
_TIMED = {"verify", "probe", "plan", "extract", "bench", "generate", "import", "evaluate"}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with a dataset, two probed runs, one of effects, and a pair of runs for the axes."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "configs").mkdir()
    (folder / "configs/demo_dataset.yaml").write_text(_DATASET)
    for words in _MADE:
        done = run_here(words, folder)
        assert done.returncode == 0, f"{words}: {done.stderr}"
    for width in WIDTHS:
        text = _DATASET.replace("data/raw/demo", f"data/raw/{width}").replace(
            "data/splits", f"s/{width}"
        )
        (folder / f"configs/{width}_dataset.yaml").write_text(text)
    images = sorted((folder / "data/raw/demo/images").iterdir())
    relations = ("left of", "right of", "beside a very long relation that no list of words has") * 9
    rows = "".join(f"{images[i].name},cup,plate,{one}\n" for i, one in enumerate(relations))
    (folder / "rows.csv").write_text(f"image,subject,reference,relation\n{rows}")
    (folder / "words.yaml").write_text("left_of: [left of]\nright_of: [right of]\n")
    twin_runs(folder, planted({"left_of": direction()}, (0.0, 2.0), n_rows=80))
    assert run_here(("axes", "one", "twin"), folder).returncode == 0
    return folder


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: words[0])
def test_no_line_is_wider_than_the_terminal_and_no_figure_is_cut(made, words):
    figures = {}
    for width in WIDTHS:
        given = tuple(str(one).replace("WIDTH", str(width)) for one in words)
        code, text = run_here_in_terminal(given, made, width)
        lines = _CONTROL.sub("", text).replace("\r", "\n").splitlines()
        assert code == 0 and lines, text
        assert not [line for line in lines if _is_too_wide(line, width, words[0])], text
        assert not re.search(r"\d\.?\d*…", text), text
        figures[width] = {one for line in lines for one in _FIGURE.findall(line)}
    if words[0] not in _TIMED:
        assert figures[60] <= figures[200] and figures[80] <= figures[200]


@pytest.mark.parametrize("width", WIDTHS)
def test_the_help_of_every_command_fits_and_breaks_no_word(work, width):
    names = [(name,) for name in make_parser().commands() if name not in ("help", "dataset")]
    for words in [(), ("dataset",), ("dataset", "show"), *names]:
        code, text = run_here_in_terminal((*words, "--help"), work, width)
        lines = _CONTROL.sub("", text).replace("\r", "\n").splitlines()
        assert code == 0 and len(lines) > 5, text
        wide = [line for line in lines if text_width(line.rstrip()) > width and _in_parts(line)]
        assert not wide, (words, wide)


def _in_parts(line: str) -> bool:
    """Whether a line of help has several parts; an option and its value are one part."""
    return len(line.split()) > 1 and not re.fullmatch(r" *(\[-.*\]|--[a-z-]+ \S+)", line)


def _is_too_wide(line: str, width: int, command: str) -> bool:
    """A line of several words that is no command; of a script, only notes and comments are wrapped."""
    if text_width(line.rstrip()) <= width or _COMMAND.search(line):
        return False
    is_sentence = line.startswith(("note: ", "# "))
    return len(_words(line)) > 1 and (is_sentence or command not in _SCRIPT)


def _words(line: str) -> list[str]:
    """The words; a command in backticks is one."""
    return re.sub(r"`[^`]*`", "`command`", line).split()


def test_a_command_in_backticks_and_a_path_stay_whole():
    line = (
        "  kept: `vsp report --run demo` shows /a/long/path/that/cannot/be/broken, which is there"
    )
    assert wrapped_lines(line, 30) == [
        "  kept:",
        "    `vsp report --run demo`",
        "    shows",
        "    /a/long/path/that/cannot/be/broken,",
        "    which is there",
    ]
    assert wrapped_lines(line, None) == [line]
    for call in ("  vsp plan --model small --limit 160", "next     sbatch jobs/a_long_name.sh x"):
        assert wrapped_lines(call, 20) == [call]
    assert len(wrapped_lines("vsp plan: option --rows is not known", 20)) == 2
    assert wrapped_lines("one vsp: two", 5) == ["one vsp:", "two"]  # a name forges no message
    assert wrapped_lines("# one two", 6) == ["# one", "# two"]
    assert wrapped_lines("左右 上下", 4) == ["左右", "上下"]
