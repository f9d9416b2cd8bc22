"""Train the small LLaVA of the demo and write its checkpoint.

python -m vsp.demo_training data/models/small-llava --seed 1
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict, fields
from pathlib import Path

from transformers.utils.logging import disable_progress_bar

from vsp.cli.arguments import at_least
from vsp.demo_training.curriculum import Recipe
from vsp.demo_training.train import train
from vsp.errors import VspError


def main() -> int:
    """Train as the command line asks; the exit code."""
    disable_progress_bar()
    parser = argparse.ArgumentParser(
        prog="python -m vsp.demo_training",
        description=(__doc__ or "").partition("\n")[0],
        epilog="After an interruption, the same command continues from the last hundred of steps.",
    )
    parser.add_argument("folder", type=Path, help="where to write the checkpoint")
    for name, default in asdict(Recipe()).items():
        flag = f"--{name.replace('_', '-')}"
        least = 0 if name == "seed" else 1
        parser.add_argument(flag, type=at_least(least), default=default, help=f"default: {default}")
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
        print(f"vsp: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("vsp: interrupted; the same command continues the training", file=sys.stderr)
        return 130
    print(f"wrote {given.folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
