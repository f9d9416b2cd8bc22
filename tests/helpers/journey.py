"""A user at a terminal: types the numbered actions of a journey, and looks at what each one shows."""

from __future__ import annotations

import ast
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from helpers.commands import run_here, run_here_in_terminal
from helpers.terminals import run_in_terminal

_SHELL = re.compile(r"[|><;&$*]|\A(?!vsp\b)")  # a shell has to read this line
_FUNCTION = f'vsp() {{ {shlex.quote(sys.executable)} -m vsp "$@"; }}\n'
_TYPING = ("types", "follows", "looks")  # methods whose calls are actions
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")
_CUT = re.compile(r"\d\.?\d*…")


@dataclass(frozen=True)
class Seen:
    """Exit code, stdout and stderr of an action."""

    code: int
    out: str
    err: str

    @property
    def words(self) -> str:
        """All text with single spaces, so that a line break divides no phrase."""
        return " ".join(f"{self.out}\n{self.err}".split())


class User:
    """Types commands in a folder. `columns` is the width of the terminal; None: output goes to a pipe."""

    def __init__(self, folder: Path, columns: int | None = None) -> None:
        self.folder = folder
        self.columns = columns

    def types(
        self,
        number: int,
        line: str,
        expects: str,
        *shown: str,
        code: int = 0,
        columns: int | None = None,
        hides: tuple[str, ...] = (),
    ) -> Seen:
        """Type a line; `expects` says in words what the user expects, `shown` what has to be there.

        `number` and `expects` stand in the table of all actions, tests/journeys/README.md.
        """
        seen = self._run(line, columns or self.columns)
        said = f"action {number}: {line}\n{seen.out}\n{seen.err}\nexit code {seen.code}"
        print(f"$ {said}")
        assert seen.code == code, said
        for words in shown:
            assert words in seen.words, f"{words!r} is missing in {said}"
        for words in hides:
            assert words not in seen.words, f"{words!r} stands in {said}"
        assert "Traceback" not in seen.words and not _CUT.search(seen.out), said
        width = columns or self.columns
        for text in broken_lines(seen.out, width) if width else ():
            raise AssertionError(f"a line of a table is too long: {text!r} in {said}")
        return seen

    def follows(
        self, number: int, line: str, expects: str, advice: Seen, *shown: str, code: int = 0
    ) -> Seen:
        """Type a command that an earlier action advised, literally."""
        assert line in advice.words, f"{line!r} is not advised in {advice.words}"
        return self.types(number, line, expects, *shown, code=code)

    def _run(self, line: str, columns: int | None) -> Seen:
        if _SHELL.search(line) and columns:
            command = ["bash", "-c", _FUNCTION + line]
            code, text = run_in_terminal(command, columns, self.folder)
            return _seen_in_terminal(code, text)
        if _SHELL.search(line):
            environment = {**os.environ, "COLUMNS": str(columns or 80)}
            command = ["bash", "-c", _FUNCTION + line]
            done = subprocess.run(
                command,
                cwd=self.folder,
                env=environment,
                text=True,
                capture_output=True,
                timeout=240,
            )
            return Seen(done.returncode, done.stdout, done.stderr)
        arguments = tuple(shlex.split(line)[1:])
        if columns is None:
            done = run_here(arguments, self.folder)
            return Seen(done.returncode, done.stdout, done.stderr)
        code, text = run_here_in_terminal(arguments, self.folder, columns)
        return _seen_in_terminal(code, text)


def _seen_in_terminal(code: int, text: str) -> Seen:
    lines = _CONTROL.sub("", text).replace("\r", "\n").splitlines()
    return Seen(code, "\n".join(lines), "")


def broken_lines(text: str, columns: int) -> Iterator[str]:
    """Lines of tables that are longer than the terminal.

    A message is one line of any length, and a command too, so that both can be copied: a terminal
    wraps them.
    """
    for line in text.splitlines():
        is_table = "  " in line.strip() or "│" in line
        is_json = line.lstrip()[:1] in ("[", "{")
        if len(line) > columns and is_table and not is_json and not _is_message(line):
            yield line


def _is_message(line: str) -> bool:
    return bool(re.match(r"\s*(note: |next: |vsp[: ]|usage: |\$ )", line))


def actions(folder: Path) -> list[tuple[int, str, str, str]]:
    """Number, file, line and expectation of every action of the journeys in a folder, once each."""
    found: dict[int, tuple[int, str, str, str]] = {}
    for path in sorted(folder.glob("test_journey_*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            if node.func.attr in _TYPING and isinstance(node.args[0], ast.Constant):
                number, line, expects = (ast.literal_eval(one) for one in node.args[:3])
                assert number not in found, f"{path.name}: action {number} stands there twice"
                found[number] = number, path.name, line, expects
    return [found[number] for number in sorted(found)]


def table(folder: Path) -> str:
    """The table of all actions, in Markdown, a part for each journey."""
    lines: list[str] = []
    journey = ""
    for number, file, line, expects in actions(folder):
        if file != journey:
            title = ast.get_docstring(ast.parse((folder / file).read_text())) or ""
            lines += ["", f"## {title.splitlines()[0].rstrip('.')}", "", f"`{file}`", ""]
            lines += ["| | typed | expected |", "|---|---|---|"]
            journey = file
        cell = line.replace("\n", "; ").replace("|", "\\|")
        lines.append(f"| {number} | `{cell}` | {expects} |")
    return "\n".join(lines[1:]) + "\n"
