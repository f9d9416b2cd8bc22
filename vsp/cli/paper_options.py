"""Options of commands that write figures and tables for papers."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vsp.cli.output import print_aside, print_json, print_text
from vsp.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from vsp.reporting.figure_file import FigureStyle
    from vsp.reporting.table_files import PaperTable

_COLUMNS = {"single": 8.4, "double": 17.4}  # cm
_SUFFIXES = {"csv": (".csv",), "markdown": (".md", ".markdown"), "latex": (".tex",)}
_STDOUT = Path("-")
_CM_OF = {"cm": 1.0, "in": 2.54, "mm": 0.1}
# Set by the command line itself, or with every command.
_NOT_TYPED = {"handler", "interrupted", "words", "quiet", "verbose"}
_OPTIONS = {"figure_layer": "layer", "further_runs": "run"}  # where the names differ
_OF_PLOT = ("figure", "figure_layer", "layer_axis", "width", "font_size")


@dataclass(frozen=True, slots=True)
class Tables:
    """Functions that make the tables of a command; only those that are asked for are called."""

    csv: Callable[[], Iterable[bytes]]
    paper: Callable[[], PaperTable]


def add_tables(parser: argparse.ArgumentParser) -> None:
    """Add --csv, --markdown and --latex."""
    said = {
        "csv": "write the figures of all layers as CSV",
        "markdown": "write the table as Markdown",
        "latex": "write the table as LaTeX, for booktabs and siunitx",
    }
    for kind, words in said.items():
        parser.add_argument(
            f"--{kind}", type=Path, metavar="FILE", help=f"{words}; -: print it instead of the page"
        )


def add_figure(
    parser: argparse.ArgumentParser,
    kinds: Sequence[str] = (),
    axis: bool = False,
    default: str = "",
) -> None:
    """Add --plot and the options of its look.

    `kinds` are the choices of --figure; `default` says which is drawn without it (empty: the first).
    """
    parser.add_argument(
        "--plot", type=Path, metavar="FILE", help="draw a figure as .png, .svg or .pdf"
    )
    if kinds:
        parser.add_argument(
            "--figure",
            choices=kinds,
            help=f"what --plot draws (default: {default or kinds[0]})",
        )
    if axis:
        parser.add_argument(
            "--layer-axis",
            choices=("absolute", "relative"),
            help="layers of --plot by number, or by depth from 0 to 1 (default: by number, or by depth "
            "if the models have different numbers of layers)",
        )
    parser.add_argument(
        "--width",
        type=figure_width,
        metavar="SIZE",
        help="width of --plot: single or double (a column of a paper, or two: 8.4 and 17.4 cm), or a "
        "size as 8cm or 3.25in (default: double)",
    )
    parser.add_argument(
        "--font-size",
        type=_font_size,
        metavar="POINTS",
        help="font size of --plot in print (default: 8)",
    )
    parser.add_argument(
        "--title",
        metavar="TEXT",
        help="title of --plot and beginning of a table's caption (default: names of model and "
        "dataset); '' for none",
    )


def figure_width(text: str) -> float:
    """The argument type of --width, in cm."""
    if text in _COLUMNS:
        return _COLUMNS[text]
    unit = text[-2:] if text[-2:] in _CM_OF else "cm"
    try:
        width = float(text.removesuffix(unit)) * _CM_OF[unit]
    except ValueError:
        width = 0.0
    if not 4 <= width <= 60:
        raise argparse.ArgumentTypeError(
            f"{text!r} must be single, double or a size from 4cm to 60cm, as 8.4cm or 3.25in"
        )
    return width


def _font_size(text: str) -> float:
    try:
        size = float(text)
    except ValueError:
        size = 0.0
    if not 4 <= size <= 30:
        raise argparse.ArgumentTypeError(f"{text!r} must be a number from 4 to 30")
    return size


def figure_style(arguments: argparse.Namespace) -> FigureStyle:
    from vsp.reporting.figure_file import FigureStyle

    usual = FigureStyle()
    return FigureStyle(
        width=arguments.width or usual.width,
        font_size=arguments.font_size or usual.font_size,
        title=arguments.title,
    )


def check_paper_options(arguments: argparse.Namespace) -> None:
    """Raise ConfigError for files and options that do not go together, before anything is computed."""
    given = {kind: getattr(arguments, kind) for kind in _SUFFIXES}
    for kind, path in given.items():
        if path and path != _STDOUT and path.suffix not in _SUFFIXES[kind]:
            raise ConfigError(
                f"--{kind} {path}: unknown suffix {path.suffix!r}; use "
                f"{' or '.join(_SUFFIXES[kind])}, or - to print the table"
            )
    printed = [f"--{kind} -" for kind, path in given.items() if path == _STDOUT]
    printed += ["--json"] if arguments.json else []
    if len(printed) > 1 and printed != ["--json"]:
        raise ConfigError(
            f"{' and '.join(printed)}: only one of them can be printed; write to files"
        )
    if arguments.plot:
        from vsp.reporting.figure_file import check_suffix

        check_suffix(arguments.plot)
        return
    for name in _OF_PLOT:
        value = getattr(arguments, name, None)
        if value is not None:
            raise ConfigError(
                f"--{name.removeprefix('figure_').replace('_', '-')}: needs a figure; add --plot FILE"
            )
    if arguments.title is not None and not (arguments.markdown or arguments.latex):
        raise ConfigError(
            "--title: needs a figure or a table; add --plot, --markdown or --latex FILE"
        )


def write_tables(arguments: argparse.Namespace, tables: Tables) -> bool:
    """Write the tables that the options ask for; True if one was printed instead of the page."""
    from vsp.utils.files import write_aside

    printed = False
    for kind in _SUFFIXES:
        path = getattr(arguments, kind)
        if path is None:
            continue
        body = _body(kind, tables)
        if path == _STDOUT:
            print_text(body.decode().removesuffix("\n").removesuffix("\r"))
            printed = True
            continue
        with write_aside(path) as file:
            file.write(body)
        print_aside(f"wrote {path}")
    return printed


def write_or_show(
    arguments: argparse.Namespace,
    tables: Tables,
    as_json: Callable[[], Any],
    page: Callable[[], RenderableType],
) -> None:
    """Write the tables that the options ask for, and print one of: a table, the JSON, the page."""
    from vsp.utils.terminal import show

    if write_tables(arguments, tables):
        return
    if arguments.json:
        print_json(as_json())
    else:
        show(page())


def _body(kind: str, tables: Tables) -> bytes:
    from vsp.reporting.table_files import latex_table, markdown_table

    if kind == "csv":
        return b"".join(tables.csv())
    write = latex_table if kind == "latex" else markdown_table
    return write(tables.paper()).encode(errors="backslashreplace")


def other_option(arguments: argparse.Namespace, takes: Set[str]) -> str | None:
    """The first option that was typed and is not in `takes`, as "--layer"; None if there is none."""
    for name, value in vars(arguments).items():
        if name not in takes | _NOT_TYPED and value is not None and value is not False:
            return f"--{_OPTIONS.get(name, name).replace('_', '-')}"
    return None
