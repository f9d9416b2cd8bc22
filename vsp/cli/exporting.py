"""`vsp export`: write the states of a run to one file, for other programs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from vsp.choices import EXPORT_FORMATS, ROW_CHOICES
from vsp.cli.arguments import add_command, add_layers, add_position, add_run
from vsp.cli.chosen_run import chosen_run
from vsp.cli.output import print_cautions, print_line
from vsp.errors import ConfigError
from vsp.utils.signals import stoppable


def add_commands(subparsers: Any) -> None:
    parser = add_command(
        subparsers,
        "export",
        _export,
        "write states, labels, splits and answers of a run to a file that other programs read",
        example="vsp export llava15-spatial --to npz --out states.npz\n"
        "vsp export --to safetensors --layers 8-16 --rows test --out test.safetensors",
        guide="docs/exchange.md",
        interrupted="no file was written; the same command starts over",
    )
    add_run(parser)
    parser.add_argument("--to", choices=EXPORT_FORMATS, required=True, help="format of the file")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the new file")
    add_layers(parser)
    add_position(parser)
    parser.add_argument(
        "--rows",
        choices=ROW_CHOICES,
        default="done",
        help="all extracted rows, or those of a split (default: %(default)s)",
    )
    parser.add_argument(
        "--partial",
        action="store_true",
        help="leave out failed and missing rows and report their number, instead of stopping with an "
        "error",
    )
    parser.add_argument(
        "--no-answers", action="store_true", help="leave out the log-likelihoods of answer options"
    )
    parser.add_argument(
        "--predictions",
        action="store_true",
        help="also write the labels that the probes of `vsp probe` predict for held-out rows",
    )
    parser.add_argument(
        "--probe",
        metavar="SETTING",
        help="with --predictions: setting of `vsp probe`, a folder in results/RUN/ such as mass-mean, "
        "or the name of a probe (default: the newest results at the position)",
    )


def _export(arguments: argparse.Namespace) -> None:
    from vsp.storage.export_files import write_export
    from vsp.storage.exported import ExportRequest, prepare_export
    from vsp.utils.text import format_bytes, format_count

    if arguments.probe and not arguments.predictions:
        raise ConfigError(f"--probe {arguments.probe} chooses predictions; add --predictions")
    request = ExportRequest(
        position=arguments.position,
        layers=arguments.layers,
        rows=arguments.rows,
        partial=arguments.partial,
        answers=not arguments.no_answers,
        predictions=arguments.predictions,
        probe=arguments.probe,
    )
    run = chosen_run(arguments)
    run.require_states("export")
    with stoppable() as stop, stop.free():  # a signal unwinds, so that nothing half written is left
        export = prepare_export(run, request)
        paths = write_export(export, arguments.to, arguments.out)
    print_cautions(export.notes)
    for path in paths:
        print_line(
            f"wrote {format_count(len(export), 'row')} × {format_count(len(export.layers), 'layer')} to "
            f"{path}, {format_bytes(path.stat().st_size)}"
        )
