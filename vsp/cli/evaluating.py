"""`vsp evaluate`: judge the saved probes of runs on other states."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vsp.choices import LAST, STORED_POSITIONS
from vsp.cli.arguments import add_command, add_json, add_results_choice, add_seed, at_least
from vsp.cli.output import print_aside, print_cautions
from vsp.cli.paper_options import (
    Tables,
    add_figure,
    add_tables,
    check_paper_options,
    figure_style,
    write_or_show,
)
from vsp.errors import ConfigError, VspError
from vsp.probes.names import METRIC_NAMES

if TYPE_CHECKING:
    from vsp.datasets.relations import Relations
    from vsp.evaluation.target_states import TargetStates
    from vsp.evaluation.trained_probes import TrainedProbes
    from vsp.evaluation.transfer import Transfer


def add_commands(subparsers: Any) -> None:
    parser = add_command(
        subparsers,
        "evaluate",
        _evaluate,
        "judge the saved probes of a run on other states: another dataset, prompt, model or position",
        example="vsp evaluate llava15-spatial --on llava15-vrd --plot vrd.png\n"
        "vsp evaluate first second --on first second --csv matrix.csv\n"
        "vsp evaluate old-run --on representations.npz --metric accuracy",
        guide="docs/evaluate.md",
        interrupted="results are unchanged; the same command starts over",
    )
    parser.add_argument(
        "runs",
        nargs="+",
        metavar="RUN",
        help="run in results/, or the path of a run or its results",
    )
    parser.add_argument(
        "--on",
        nargs="+",
        action="extend",
        required=True,
        metavar="TARGET",
        help="states to judge the probes on: a run in scratch/, the path of a run, a .npz or "
        ".safetensors file of states, or the path of a folder of them; may be repeated",
    )
    add_results_choice(parser)
    _add_judging(parser)
    add_seed(parser, "the bootstrap")
    add_json(parser)
    add_figure(parser)
    add_tables(parser)


def _add_judging(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--on-position",
        choices=STORED_POSITIONS,
        metavar="NAME",
        help="position of the targets' states (default: that of --position)",
    )
    parser.add_argument(
        "--metric",
        choices=METRIC_NAMES,
        help="score of the targets (default: that of the results)",
    )
    parser.add_argument(
        "--relations",
        metavar="NAME",
        help="table of relations by which labels are matched, as in `vsp import` (default: 6way, then "
        "whatsup)",
    )
    parser.add_argument(
        "--layer",
        type=at_least(0),
        metavar="N",
        help="layer in the matrix (default: the one that each run's training rows select)",
    )
    parser.add_argument(
        "--other-norm",
        action="store_true",
        help="also judge a last layer of which only one side is after the model's final norm",
    )
    parser.add_argument(
        "--partial",
        action="store_true",
        help="leave out rows of targets without states, and count them",
    )


def _evaluate(arguments: argparse.Namespace) -> None:
    from vsp.reporting.transfer_page import transfer_csv, transfer_json, transfer_page, with_names
    from vsp.reporting.transfer_table import transfer_table

    _check(arguments)
    transfers = _transfers(arguments)
    for one in transfers if arguments.layer is not None else ():
        one.at(arguments.layer)  # raises if it was not judged
    named = with_names(transfers)
    if arguments.plot:
        from vsp.reporting.transfer_plot import plot_transfers

        plot_transfers(named, arguments.plot, arguments.layer, figure_style(arguments))
        print_aside(f"wrote {arguments.plot}")
    tables = Tables(
        csv=lambda: transfer_csv(named),
        paper=lambda: transfer_table(named, arguments.layer, arguments.title),
    )
    write_or_show(
        arguments,
        tables,
        lambda: transfer_json(transfers),
        lambda: transfer_page(transfers, arguments.layer),
    )


def _check(arguments: argparse.Namespace) -> None:
    """Raise ConfigError for what cannot be shown or written, before anything is judged.

    A run or a target that is named twice counts once.
    """
    check_paper_options(arguments)
    arguments.runs, arguments.on = (
        [*dict.fromkeys(names)] for names in (arguments.runs, arguments.on)
    )
    n_runs, n_targets = len(arguments.runs), len(arguments.on)
    if arguments.layer is not None and n_runs * n_targets == 1:
        raise ConfigError(
            f"--layer {arguments.layer} chooses the layer of a matrix; name several runs or targets"
        )
    if arguments.plot:
        from vsp.reporting.transfer_plot import check_plot

        check_plot(arguments.plot, n_runs, n_targets)
    for path in (arguments.csv, arguments.markdown, arguments.latex, arguments.plot):
        for name in arguments.on if path and path.exists() else ():
            if Path(name).exists() and path.samefile(name):
                raise ConfigError(f"{path}: is a target of --on; choose another name")


def _transfers(arguments: argparse.Namespace) -> list[Transfer]:
    from vsp.evaluation.target_states import is_file_of_states, open_target
    from vsp.evaluation.trained_probes import read_trained
    from vsp.evaluation.transfer import TransferSettings, transfer
    from vsp.storage.find_results import find_results

    metric, position, probe = arguments.metric or "", arguments.position, arguments.probe
    trained = [
        read_trained(name, find_results(name, Path(), position, probe), metric)
        for name in arguments.runs
    ]
    on_position = arguments.on_position or position or _common_position(trained)
    settings = TransferSettings(other_norm=arguments.other_norm, seed=arguments.seed)
    read_tables = cache(partial(_tables, arguments.relations))
    if arguments.relations:
        read_tables()  # raises if there is no such table
    refused: list[VspError] = []

    def judge(one: TrainedProbes, target: TargetStates) -> Transfer | None:
        try:
            return transfer(one, target, read_tables, settings)
        except VspError as error:
            refused.append(error)
            return None

    by_target = []
    for name in arguments.on:
        # A file has no positions, so --position applies to the run alone.
        at = LAST if is_file_of_states(name) and arguments.on_position is None else on_position
        target = open_target(name, Path(), at, arguments.partial)
        by_target.append([judge(one, target) for one in trained])
    transfers = [one for of_run in zip(*by_target, strict=True) for one in of_run if one]
    if not transfers:
        raise refused[0]
    print_cautions([f"not judged: {error}" for error in refused])
    return transfers


def _common_position(trained: Sequence[TrainedProbes]) -> str:
    """The position of all probes. Raises ConfigError if they have several."""
    found = [*dict.fromkeys(one.position for one in trained)]
    if len(found) > 1:
        raise ConfigError(f"the probes read {' and '.join(found)}; name one with --position")
    return found[0]


def _tables(name: str | None) -> list[Relations]:
    from vsp.datasets.relations import read_relations
    from vsp.evaluation.matched_labels import TABLES

    return [read_relations(one, Path()) for one in ((name,) if name else TABLES)]
