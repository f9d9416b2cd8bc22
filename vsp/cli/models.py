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
        example="vsp models\nvsp plan --model llava-1.5-7b --checkpoint /shared/llava-1.5-7b-hf",
        guide="docs/models.md",
        interrupted="nothing was changed",
    )
    add_json(parser)


def _models(arguments: argparse.Namespace) -> None:
    from vsp.models import FAMILIES, catalog
    from vsp.reporting.model_list import models_json, models_page
    from vsp.utils.terminal import show

    entries = catalog.entries(Path())
    if arguments.json:
        print_json(models_json(entries))
    else:
        show(models_page(entries, FAMILIES.names()))
