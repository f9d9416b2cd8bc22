"""`vsp models`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from vsp.cli.arguments import add_command, add_json
from vsp.cli.output import print_json


def add_commands(subparsers: Any) -> None:
    parser = add_command(
        subparsers,
        "models",
        _models,
        "list the models described in configs/models/",
        example="vsp models\nvsp models --supported\nvsp plan --model llava-1.5-7b --checkpoint /shared/llava-1.5-7b-hf",
        guide="docs/models.md",
        interrupted="nothing was changed",
    )
    parser.add_argument(
        "--supported",
        action="store_true",
        help="list the model types of transformers, and which of them vsp tests, loads or refuses",
    )
    add_json(parser)


def _models(arguments: argparse.Namespace) -> None:
    from vsp.models import FAMILIES, catalog
    from vsp.models.supported import supported
    from vsp.reporting.model_list import models_json, models_page, supported_page
    from vsp.utils.terminal import show

    if arguments.supported:
        if arguments.json:
            print_json(supported())
        else:
            show(supported_page(supported()))
        return
    entries = catalog.entries(Path())
    if arguments.json:
        print_json(models_json(entries))
    else:
        show(models_page(entries, FAMILIES.names()))
