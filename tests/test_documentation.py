"""The documentation: links lead somewhere, commands run, the version stands once."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from helpers.commands import run_here
from helpers.paths import ROOT

import vsp

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
PAGES += sorted((ROOT / "docs").glob("*.md"))
_LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(#[^)\s]+)?\)")
_BLOCK = re.compile(r"(?:<!-- not run: ([^>]+?) -->\n)?```(\w*)\n(.*?)```\n", re.DOTALL)


class Block(NamedTuple):
    """A fenced block of a page."""

    language: str
    text: str
    not_run: str  # the reason; "" if it is run


def _blocks(page: Path) -> list[Block]:
    found = _BLOCK.findall(page.read_text())
    return [Block(language, text, reason) for reason, language, text in found]


def _anchors(page: Path) -> set[str]:
    """Anchors of the headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    plain = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
    return {"#" + heading.replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_to_a_file_and_a_heading(page):
    for name, anchor in _LINK.findall(page.read_text()):
        target = page.parent / name if name else page
        assert target.exists(), f"{page.name}: {name}"
        if anchor:
            assert anchor in _anchors(target), f"{page.name}: {name}{anchor}"


def test_the_first_page_is_short_and_leads_to_every_other():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 200
    linked = {name for name, _ in _LINK.findall(text)}
    assert linked >= {f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")}


def _commands(text: str) -> list[str]:
    """One shell command a line; a line that ends in a backslash goes on in the next."""
    joined = text.replace("\\\n", " ")
    return [line for line in joined.splitlines() if line.strip() and not line.startswith("#")]


@pytest.mark.parametrize("page", [PAGES[0], *sorted((ROOT / "docs").glob("*.md"))],
                         ids=lambda page: page.name)  # fmt: skip
def test_every_block_runs_on_the_small_model(page, work):
    """All blocks of a page, one after another, in one folder; the Python blocks as one program."""
    namespace: dict[str, object] = {"__name__": "__main__"}
    for block in _blocks(page):
        if block.language == "python" and not block.not_run:
            exec(compile(block.text, page.name, "exec"), namespace)
        if block.language != "bash" or block.not_run:
            continue
        for command in _commands(block.text):
            program, *words = shlex.split(command, comments=True)
            assert program in ("vsp", "python"), (
                f"{page.name}: {command}: say `<!-- not run: why -->`"
            )
            if program == "vsp":
                answer = run_here(words, work)
            else:
                answer = subprocess.run([sys.executable, *words], capture_output=True, text=True)
            assert answer.returncode == 0, f"{command}\n{answer.stderr}"


def test_every_command_names_a_page_that_exists():
    from vsp.cli.main import main  # noqa: F401 - the command line is importable

    answer = subprocess.run(
        [sys.executable, "-m", "vsp", "--help"], capture_output=True, text=True, check=True
    )
    commands = re.findall(r"^    (\w+) ", answer.stdout, re.MULTILINE)
    assert len(commands) >= 15
    for command in commands:
        words = [command, "show"] if command == "dataset" else [command]
        text = subprocess.run(
            [sys.executable, "-m", "vsp", *words, "--help"],
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        (page,) = re.findall(r"docs/\w+\.md", text)
        assert (ROOT / page).is_file(), f"{command}: {page}"


def test_the_version_stands_in_one_place_and_its_copies_agree():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == vsp.__version__
    assert f"\n## {vsp.__version__}" in (ROOT / "CHANGELOG.md").read_text()
    assert "version = attr: vsp.__version__" in (ROOT / "setup.cfg").read_text()


def test_pre_commit_checks_what_ci_checks():
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    entries = {hook["entry"] for repo in config["repos"] for hook in repo["hooks"]}
    lines = (ROOT / "tests/run.sh").read_text().splitlines()
    run = {line.removesuffix(" vsp tests") for line in lines if re.match("ruff|mypy", line)}
    assert entries == run and run
