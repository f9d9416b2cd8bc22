"""Commands that show results: `vsp report` and `vsp compare`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from vsp.choices import LAST, ROW_KINDS, STORED_POSITIONS
from vsp.cli.arguments import (
    add_command,
    add_json,
    add_over,
    add_position,
    add_run,
    add_seed,
    compared_positions,
)
from vsp.cli.chosen_run import chosen_results
from vsp.cli.output import print_aside, print_json
from vsp.errors import ConfigError


def add_commands(subparsers: Any) -> None:
    _add_report(subparsers)
    _add_compare(subparsers)


def _add_report(subparsers: Any) -> None:
    parser = add_command(
        subparsers,
        "report",
        _report,
        "show the accuracy of each layer",
        example="vsp report --plot accuracy.png",
        guide="docs/statistics.md",
        interrupted="results are unchanged",
    )
    add_run(parser, "run in results/, or the path of a run or of its results (default: the newest)")
    add_position(parser)
    add_json(parser)
    parser.add_argument("--plot", type=Path, metavar="FILE", help="plot the curve as .png or .svg")
    parser.add_argument(
        "--rows",
        choices=ROW_KINDS,
        help="also list rows with the model's own answer: those whose label the probe of the selected "
        "layer reads in most repeats and the model does not say, the reverse, or all",
    )


def _report(arguments: argparse.Namespace) -> None:
    from vsp.reporting.probe_report import report_json, report_page
    from vsp.utils.terminal import show

    results = chosen_results(arguments, arguments.position)
    if arguments.plot:
        from vsp.reporting.curve_plot import plot

        plot(results, arguments.plot)
        print_aside(f"wrote {arguments.plot}")
    if arguments.json:
        print_json(report_json(results, arguments.rows))
    else:
        show(report_page(results, arguments.rows))


def _add_compare(subparsers: Any) -> None:
    parser = add_command(
        subparsers,
        "compare",
        _compare,
        "test whether runs differ on the same rows, layer by layer",
        example="vsp compare llava15-spatial llava15-blank-images --plot blank.png\n"
        "vsp compare llava15-spatial qwen2-spatial /shared/results/vila-spatial --json",
        guide="docs/statistics.md",
        interrupted="results are unchanged; the same command starts over",
    )
    parser.add_argument(
        "runs",
        nargs="+",
        metavar="RUN",
        help="run in results/, or the path of a run or of its results; the first is compared "
        "with each of the others",
    )
    parser.add_argument(
        "--positions",
        type=compared_positions,
        default=[LAST],
        metavar="LIST",
        help="where in the prompt the states were recorded: one position for all runs, or several of "
        f"one run, from {','.join(STORED_POSITIONS)} (default: last)",
    )
    add_seed(parser, "the sign-flip test and the bootstrap")
    add_over(parser, "runs need `vsp probe --over training`")
    add_json(parser)
    parser.add_argument(
        "--plot", type=Path, metavar="FILE", help="plot the curves of all runs as .png or .svg"
    )


def _compare(arguments: argparse.Namespace) -> None:
    from dataclasses import asdict

    from vsp.evaluation.compare import ComparisonSettings, compare
    from vsp.reporting.comparison import comparison_page
    from vsp.storage.find_results import find_results
    from vsp.utils.terminal import show

    names, positions = arguments.runs, arguments.positions
    if len(positions) > 1 and len(names) > 1:
        raise ConfigError(
            f"--positions {','.join(positions)}: several positions of {len(names)} runs; name one run, "
            "or one position"
        )
    runs = [
        (name if len(positions) == 1 else f"{name} at {position}",
         find_results(name, Path(), position))
        for name in names
        for position in positions
    ]  # fmt: skip
    over_training = arguments.over == "training"
    settings = ComparisonSettings(seed=arguments.seed, over_training=over_training)
    pairs = compare(runs, settings)
    if arguments.plot:
        from vsp.reporting.curve_plot import plot_runs

        plot_runs(runs, arguments.plot)
        print_aside(f"wrote {arguments.plot}")
    if arguments.json:
        print_json([asdict(pair) for pair in pairs])
    else:
        show(comparison_page(pairs))
