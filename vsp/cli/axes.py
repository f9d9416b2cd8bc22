"""`vsp axes`: the directions of relations, from a run and its swapped twin."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vsp.choices import LAST, STORED_POSITIONS
from vsp.cli.arguments import add_command, add_json, add_seed, at_least
from vsp.cli.output import print_aside, print_notes
from vsp.cli.paper_options import (
    Tables,
    add_figure,
    add_tables,
    check_paper_options,
    figure_style,
    write_or_show,
)
from vsp.errors import ConfigError

if TYPE_CHECKING:
    from vsp.storage.axes import Axes


def add_commands(subparsers: Any) -> None:
    parser = add_command(
        subparsers,
        "axes",
        _axes,
        "find the directions of relations: what changes when subject and reference change places",
        example="vsp axes llava15-spatial llava15-spatial-swapped --plot coherence.png\n"
        "vsp axes llava15-vrd llava15-vrd-swapped --plot cosines.pdf --figure cosines --layer 20",
        guide="docs/axes.md",
        interrupted="results are unchanged; the same command starts over",
    )
    parser.add_argument("run", metavar="RUN", help="run in scratch/, or its path")
    parser.add_argument(
        "swapped",
        metavar="SWAPPED",
        help="run of the same model on the swapped variant of the dataset (`vsp generate --of DATASET "
        "--variant swapped`)",
    )
    parser.add_argument(
        "--position",
        choices=STORED_POSITIONS,
        default=LAST,
        metavar="NAME",
        help=f"position of the states, which both runs have recorded (default: {LAST})",
    )
    parser.add_argument(
        "--layer",
        type=at_least(0),
        metavar="N",
        help="layer of the cosines between axes (default: the one with the highest mean coherence)",
    )
    add_seed(parser, "the bootstrap and the sign flips")
    add_json(parser)
    add_figure(parser, ("coherence", "cosines"))
    add_tables(parser)


def _axes(arguments: argparse.Namespace) -> None:
    from vsp.evaluation.axes import AxesSettings, relation_axes
    from vsp.reporting.axes_page import axes_csv, axes_page, axes_page_json, axes_table, entry_of
    from vsp.storage.axes import axes_file
    from vsp.storage.run import find_run

    _check(arguments)
    run, swapped = (find_run(name, Path()) for name in (arguments.run, arguments.swapped))
    for one in (run, swapped):
        one.require_states("axes")
    settings = AxesSettings(seed=arguments.seed)
    axes, was_stored = relation_axes(run, swapped, arguments.position, settings)
    path = axes_file(run.results, swapped.name, arguments.position)
    if was_stored:
        print_notes([f"read from {path}, which is of the same states"])
    else:
        print_aside(f"wrote {path}")
    entry_of(axes, arguments.layer)  # raises if it was not recorded
    _plot(arguments, axes)
    tables = Tables(csv=lambda: axes_csv(axes), paper=lambda: axes_table(axes, arguments.title))
    write_or_show(
        arguments, tables, lambda: axes_page_json(axes), lambda: axes_page(axes, arguments.layer)
    )


def _check(arguments: argparse.Namespace) -> None:
    """Raise ConfigError for options that do not go together, before anything is computed."""
    check_paper_options(arguments)
    is_page = not (
        arguments.json or Path("-") in (arguments.csv, arguments.markdown, arguments.latex)
    )
    if arguments.layer is not None and not is_page and arguments.figure != "cosines":
        raise ConfigError(
            f"--layer {arguments.layer}: applies to the page and to --figure cosines; tables and JSON "
            "have all layers"
        )


def _plot(arguments: argparse.Namespace, axes: Axes) -> None:
    if not arguments.plot:
        return
    from vsp.reporting.axes_plot import plot_coherence, plot_cosines

    style = figure_style(arguments)
    if arguments.figure == "cosines":
        plot_cosines(axes, arguments.plot, style, arguments.layer)
    else:
        plot_coherence(axes, arguments.plot, style)
    print_aside(f"wrote {arguments.plot}")
