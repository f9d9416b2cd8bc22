"""A figure for print: its size, its styles that need no colour, and a file with the same bytes again."""

from __future__ import annotations

import logging
import textwrap
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vsp.errors import ConfigError
from vsp.escaping import one_line
from vsp.utils.files import write_aside

SUFFIXES = (".png", ".svg", ".pdf")
# Okabe & Ito's colours, told apart with any colour vision (Wong 2011, Nature Methods 8:441).
BLUE, ORANGE, GREEN, PINK = "#0072b2", "#d55e00", "#009e73", "#cc79a7"
YELLOW, SKY, BLACK, GREY = "#e69f00", "#56b4e9", "#000000", "#666666"
# Colour, mark and line of each curve; mark and line alone tell them apart in grey print.
STYLES = (
    (BLUE, "o", "-"),
    (ORANGE, "s", "--"),
    (GREEN, "^", "-."),
    (PINK, "D", ":"),
    (YELLOW, "v", "-"),
    (SKY, "P", "--"),
    (BLACK, "X", "-."),
)
# Without dates the same results give the same bytes.
_METADATA: Mapping[str, dict[str, Any]] = {
    ".png": {},
    ".svg": {"Date": None},
    ".pdf": {"CreationDate": None},
}
_INCH = 2.54  # cm
_DPI = 300
_NARROW = 12  # cm; a figure of one column has thinner lines
_HANDLE = 2.6  # length of a line in the legend, of the font size
_SIGN_WIDTH = 0.6  # mean width of a sign, of the font size

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FigureStyle:
    """Size of a figure in print, and its title."""

    width: float = 17.4  # cm
    font_size: float = 8.0  # points
    title: str | None = None  # None: names of dataset and model; empty: no title

    @property
    def is_narrow(self) -> bool:
        return self.width < _NARROW

    @property
    def line(self) -> float:
        return 0.9 if self.is_narrow else 1.4

    @property
    def mark(self) -> float:
        return 2.6 if self.is_narrow else 4.0

    @property
    def signs(self) -> int:
        """About how many signs of text fit beside each other."""
        return max(int(self.width / _INCH * 72 / (self.font_size * _SIGN_WIDTH)), 10)

    @property
    def height(self) -> float:
        """The usual height in cm, without a legend."""
        return max(0.55 * self.width, 4.5)


def check_suffix(path: Path) -> None:
    """Raise ConfigError unless a plot can be written to a file of this name."""
    if path.suffix not in SUFFIXES:
        known = f"{', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}"
        raise ConfigError(f"plot {str(path)!r}: unknown suffix {path.suffix!r}; use {known}")


@contextmanager
def figure(
    path: Path, style: FigureStyle | None = None, height: float | None = None
) -> Iterator[Any]:
    """The axes to draw on. At the end of the block, the figure is written with a legend.

    `height` in cm, without legend. The state of matplotlib that other code sees is unchanged.
    """
    check_suffix(path)
    style = style or FigureStyle()
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # a file of the user's own would change the bytes
        matplotlib.rcParams.update(_settings(style))
        size = (style.width / _INCH, (height or style.height) / _INCH)
        drawn = Figure(figsize=size, layout="constrained")
        axes = drawn.subplots()
        yield axes
        _add_legend(drawn, axes, style)
        _escape(drawn)
        with write_aside(path) as file, _missing_signs(path):
            drawn.savefig(file, format=path.suffix[1:], dpi=_DPI, metadata=_METADATA[path.suffix])


def _settings(style: FigureStyle) -> Any:
    sizes = ("figure.titlesize", "axes.labelsize", "xtick.labelsize", "ytick.labelsize")
    return {
        "font.size": style.font_size,
        **dict.fromkeys((*sizes, "legend.fontsize"), style.font_size),
        "lines.linewidth": style.line,
        "lines.markersize": style.mark,
        "axes.linewidth": 0.6,
        "grid.linewidth": 0.4,
        **dict.fromkeys(("xtick.major.width", "ytick.major.width"), 0.6),
        "svg.fonttype": "none",  # text stays text
        "svg.hashsalt": "vsp",
        "pdf.fonttype": 42,  # fonts are embedded as TrueType, as publishers ask
        "text.parse_math": False,  # names are no mathematics
    }


def label(text: str) -> str:
    """A label that the legend shows: matplotlib leaves out one that begins with "_"."""
    return f"\u200b{text}" if text.startswith("_") else text


def mark_every(n: int) -> int:
    """The step between marks on a curve of `n` points: with more than 16, lines are hidden."""
    return max(1, n // 16)


def wrapped(text: str, style: FigureStyle, share: float = 1.0) -> str:
    """The text in lines that fit this share of the figure's width, escaped."""
    return "\n".join(textwrap.wrap(one_line(text), max(int(style.signs * share), 8)))


def set_title(axes: Any, title: str, style: FigureStyle) -> None:
    """The title over the whole figure, in lines that fit; `title` if the style has no other one."""
    words = title if style.title is None else style.title
    if words:
        axes.figure.suptitle(wrapped(words, style, 0.95))


def _add_legend(drawn: Any, axes: Any, style: FigureStyle) -> None:
    """A legend below the axes, in as many columns as fit; the figure grows by its height."""
    handles, labels = axes.get_legend_handles_labels()
    if not handles:
        return
    texts = [wrapped(text.lstrip("\u200b"), style, 0.88) for text in labels]
    columns = _legend_columns(texts, style)
    lines = max(sum(text.count("\n") + 1 for text in column) for column in columns)
    width, height = drawn.get_size_inches()
    drawn.set_size_inches(width, height + (lines * 1.5 + 1) * style.font_size / 72)
    drawn.legend(
        handles,
        [label(text) for text in texts],
        loc="outside lower center",
        ncols=len(columns),
        frameon=False,
        handlelength=_HANDLE,
        labelspacing=0.3,
        columnspacing=1.0,
    )


def _legend_columns(texts: Sequence[str], style: FigureStyle) -> list[Sequence[str]]:
    """The texts in the most columns, at most three, that fit beside each other."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextToPath

    font, measure = FontProperties(size=style.font_size), TextToPath()

    def width(column: Sequence[str]) -> float:
        lines = [line for text in column for line in text.split("\n")]
        widest = max(measure.get_text_width_height_descent(line, font, False)[0] for line in lines)
        return float(widest) + (_HANDLE + 2.2) * style.font_size

    for n in (3, 2):
        n_rows = -(-len(texts) // n)
        columns = [texts[start : start + n_rows] for start in range(0, len(texts), n_rows)]
        if len(columns) == n and sum(map(width, columns)) <= style.width / _INCH * 72:
            return columns
    return [texts]


def _escape(drawn: Any) -> None:
    """Make commands for terminals visible in every text; an SVG keeps text as text."""
    from matplotlib.text import Text

    for text in drawn.findobj(Text):
        text.set_text("\n".join(map(one_line, text.get_text().split("\n"))))


@contextmanager
def _missing_signs(path: Path) -> Iterator[None]:
    """Say in one line which characters the font does not have, instead of a warning for each."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    missing: dict[str, None] = {}
    for one in caught:
        words = str(one.message).split()
        if words[:1] == ["Glyph"] and words[1].isdecimal():
            missing[chr(int(words[1]))] = None
        else:
            warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)
    if missing:
        listed = " ".join(list(missing)[:10])
        _log.warning(
            "%s: the font lacks %d characters, drawn as boxes: %s", path, len(missing), listed
        )
