"""Commands that show results: `vsp report` and `vsp compare`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vsp.choices import ROW_KINDS, STORED_POSITIONS
from vsp.cli.arguments import (
    add_command,
    add_json,
    add_over,
    add_results_choice,
    add_seed,
    compared_positions,
)
from vsp.cli.output import print_aside, print_json
from vsp.errors import ConfigError

if TYPE_CHECKING:
    from vsp.storage.results import Results


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
    parser.add_argument(
        "--run",
        metavar="NAME",
        help="run in results/, or the path of a run or of its results (default: the newest)",
    )
    add_results_choice(parser)
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
    from vsp.storage.find_results import find_results
    from vsp.utils.terminal import show

    results = find_results(arguments.run, Path(), arguments.position, arguments.probe)
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
        metavar="LIST",
        help="where in the prompt the states were recorded: one position for all runs, or several of "
        f"one run, from {','.join(STORED_POSITIONS)} (default: last)",
    )
    parser.add_argument(
        "--probe",
        action="append",
        metavar="SETTING",
        help="setting of `vsp probe`, a folder in results/RUN/ such as mass-mean, or the name of a "
        "probe; given several times, the settings of one run are compared (default: the newest of "
        "the first run, and the same of the others if they have it)",
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
    from vsp.utils.terminal import show

    runs = _compared(arguments)
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


def _compared(arguments: argparse.Namespace) -> list[tuple[str, Results]]:
    """The name and the results of each run, position or setting that is compared.

    Without --probe, all runs have the setting of the first one if they have results of it.
    Raises ConfigError if several of two of these are named.
    """
    from vsp.storage.find_results import find_results

    names, probes = arguments.runs, arguments.probe or [None]
    positions = arguments.positions or [None]
    several = {"runs": names, "--positions": positions, "--probe": probes}
    listed = [f"{len(values)} {what}" for what, values in several.items() if len(values) > 1]
    if len(listed) > 1:
        raise ConfigError(f"{' and '.join(listed)}: name several of one kind and one of the other")
    runs = [
        (
            _compared_name(name, position, probe, arguments),
            find_results(name, Path(), position, probe),
        )
        for name in names
        for position in positions
        for probe in probes
    ]
    return [runs[0], *(_of_setting(runs[0][1], one, arguments) for one in runs[1:])]


def _of_setting(
    first: Results, other: tuple[str, Results], arguments: argparse.Namespace
) -> tuple[str, Results]:
    """The results of a run with the setting of the first run, unless the user chose or it has none."""
    from vsp.storage.stored_settings import stored_settings

    name, results = other
    if arguments.probe or len(arguments.runs) == 1:
        return other
    same = [
        one.results for one in stored_settings(results.home) if one.results.setting == first.setting
    ]
    return (name, same[0]) if same else other


def _compared_name(
    name: str, position: str | None, probe: str | None, arguments: argparse.Namespace
) -> str:
    """The run, with the position or the setting if several of them are compared."""
    if len(arguments.positions or ()) > 1:
        return f"{name} at {position}"
    return f"{name} with {probe}" if len(arguments.probe or ()) > 1 else name
