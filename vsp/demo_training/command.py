"""Train the small LLaVA of the demo and write its checkpoint.

python -m vsp.demo_training data/models/small-llava --seed 1
"""

from __future__ import annotations

import argparse
from dataclasses import asdict, fields
from pathlib import Path

from transformers.utils.logging import disable_progress_bar

from vsp.cli.arguments import at_least
from vsp.cli.output import print_aside, print_line
from vsp.demo_training.curriculum import Recipe
from vsp.demo_training.state import FILE
from vsp.demo_training.train import train
from vsp.errors import VspError
from vsp.utils.streams import escape_output

_MEANING = {
    "seed": "of pictures, weights and steps; the shipped model has 1",
    "n_pictures": "training pictures",
    "tower_steps": "steps of the vision tower alone",
    "relation_steps": "steps of the relation in short prompts",
    "name_steps": "steps that tell shapes of one kind apart",
    "style_steps": "steps of all prompt styles",
}


def _help(name: str, default: int) -> str:
    return f"{_MEANING[name]} (default: {default})"


def main() -> int:
    """Train as the command line asks; the exit code."""
    escape_output()
    disable_progress_bar()
    parser = argparse.ArgumentParser(
        prog="python -m vsp.demo_training",
        description=(__doc__ or "").partition("\n")[0],
        epilog="The defaults take about 24 minutes on 2 cores. After an interruption, the same command "
        "continues from the last state on disk, which is written every 100 steps.",
    )
    parser.add_argument("folder", type=Path, help="where to write the checkpoint")
    for name, default in asdict(Recipe()).items():
        flag = f"--{name.replace('_', '-')}"
        least = 0 if name == "seed" else 1
        parser.add_argument(flag, type=at_least(least), default=default, help=_help(name, default))
    parser.add_argument(
        "--n-jobs",
        type=at_least(1),
        default=2,
        help="processes that draw the pictures (default: 2)",
    )
    given = parser.parse_args()
    recipe = Recipe(**{field.name: getattr(given, field.name) for field in fields(Recipe)})
    try:
        train(given.folder, recipe, given.n_jobs)
    except VspError as error:
        print_aside(f"vsp: {error}")
        return 1
    except KeyboardInterrupt:
        begun = (given.folder / FILE).exists()
        what = "continues the training" if begun else "begins again; no state was written yet"
        print_aside(f"vsp: interrupted; the same command {what}")
        return 130
    print_line(f"wrote {given.folder}")
    return 0
