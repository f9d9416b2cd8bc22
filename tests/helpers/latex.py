"""Compile LaTeX with the pdfLaTeX of this machine."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

_DOCUMENT = r"""\documentclass{article}
\usepackage{booktabs}
\usepackage{siunitx}
\begin{document}
%s
\end{document}
"""


def compile_tables(folder: Path, *tables: str) -> str:
    """Compile a document with these tables and return the log; skip without pdfLaTeX, but not in CI."""
    program = shutil.which("pdflatex")
    if program is None:
        assert os.environ.get("CI") != "true", "CI has no pdflatex; tests/run.sh installs it"
        pytest.skip("no pdflatex; `bash tests/run.sh` installs it")
    folder.mkdir(exist_ok=True)
    inputs = []
    for i, table in enumerate(tables):
        (folder / f"table{i}.tex").write_text(table)
        inputs.append(rf"\input{{table{i}}}")
    (folder / "paper.tex").write_text(_DOCUMENT % "\n".join(inputs))
    command = [
        program,
        "-interaction=nonstopmode",
        "-halt-on-error",
        "-no-shell-escape",
        "paper.tex",
    ]
    answer = subprocess.run(command, cwd=folder, capture_output=True, timeout=120)
    log = (folder / "paper.log").read_text(errors="replace")
    errors = re.findall(r"^!.*(?:\n.*){6}", log, re.MULTILINE)
    assert answer.returncode == 0 and not errors, "\n".join(errors) or log[-2000:]
    assert (folder / "paper.pdf").stat().st_size > 1000
    return log
