"""Text from data as text of LaTeX, Markdown and CSV: no character of it is a command there.

Commands for terminals are made visible first (`vsp.escaping`), so that no file holds one.
"""

from __future__ import annotations

import re

from vsp.escaping import one_line
from vsp.utils.csv_lines import csv_line

_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "%": r"\%",
    "#": r"\#",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    # The usual font encoding of LaTeX has other signs in these places.
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\symbol{34}",
    "`": r"\textasciigrave{}",
    # pdfLaTeX knows these only with further packages, or takes them from bitmap fonts.
    "–": r"\textendash{}",
    "−": r"\ensuremath{-}",
    "²": r"\textsuperscript{2}",
    "·": r"\ensuremath{\cdot}",
    "×": r"\ensuremath{\times}",
    "≥": r"\ensuremath{\geq}",
    "≤": r"\ensuremath{\leq}",
    "→": r"\ensuremath{\rightarrow}",
    "←": r"\ensuremath{\leftarrow}",
    "…": r"\ldots{}",
}
_LIGATURES = re.compile(r"--|''|!`|\?`|,,")  # LaTeX joins these pairs into one sign
# Latin letters, and the signs above.
_OF_PDFLATEX = re.compile("[\x20-\x7e\xa1-\xff–−≥≤→←…]*")
_MARKDOWN = re.compile(r"[\\`*_\[\]<>|~&$:#]")


def latex_text(text: str) -> str:
    """The text for LaTeX, in one line."""
    apart = _LIGATURES.sub(lambda pair: f"{pair[0][0]}\0{pair[0][1]}", one_line(text))
    return "".join("{}" if sign == "\0" else _LATEX.get(sign, sign) for sign in apart)


def needs_unicode_latex(text: str) -> bool:
    """Whether the text has characters that pdfLaTeX does not know; LuaLaTeX and XeLaTeX do."""
    return _OF_PDFLATEX.fullmatch(one_line(text)) is None


def markdown_text(text: str) -> str:
    """The text for a cell or a paragraph of Markdown, in one line."""
    return _MARKDOWN.sub(r"\\\g<0>", one_line(text))


def csv_text_line(*cells: object) -> bytes:
    """One line of a CSV file; None is an empty cell, and a spreadsheet runs no cell."""
    return csv_line(*("" if cell is None else _csv_cell(cell) for cell in cells))


def _csv_cell(cell: object) -> object:
    return one_line(cell) if isinstance(cell, str) else cell
