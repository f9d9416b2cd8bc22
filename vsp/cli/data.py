"""Commands about datasets: `vsp generate` and `vsp dataset show`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vsp.cli.arguments import (
    add_command,
    add_json,
    add_n_jobs,
    add_saying,
    add_seed,
    at_least,
)
from vsp.cli.output import print_cautions, print_json, print_line
from vsp.errors import ConfigError
from vsp.utils.signals import stoppable

if TYPE_CHECKING:
    from vsp.datasets.contact_sheet import Sheet

_PROBLEMS = 3  # problems of a sheet that are printed
REMOVED = "the unfinished dataset was removed; the same command starts over"


def add_commands(subparsers: Any) -> None:
    _add_generate(subparsers)
    _add_dataset(subparsers)


def _add_generate(subparsers: Any) -> None:
    parser = add_command(
        subparsers,
        "generate",
        _generate,
        "render a synthetic dataset, or make a variant of an existing dataset",
        example="vsp generate --config spatial\n"
        "vsp generate --config spatial --out data/raw/spatial-2\n"
        "vsp generate --of data/raw/spatial --variant mirrored --out data/raw/spatial-mirrored",
        guide="docs/datasets.md",
        interrupted=REMOVED,
    )
    made_from = parser.add_mutually_exclusive_group(required=True)
    made_from.add_argument(
        "--config",
        metavar="NAME",
        help="a file in configs/ (spatial for spatial_dataset.yaml), or the path of a .yaml file",
    )
    made_from.add_argument(
        "--of", type=Path, metavar="DIR", help="dataset to make a variant of, row by row"
    )
    parser.add_argument(
        "--variant",
        metavar="NAME",
        help="blank (grey pictures), shuffled (each row gets another image of its split), "
        "mirrored (pictures and labels), swapped (subject and reference), or names (the prompt "
        "holds the two names only, and pictures are grey)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="folder of the new dataset (default with --config: as the file says)",
    )
    parser.add_argument(
        "--seed",
        type=at_least(0),
        metavar="N",
        help="random seed for the variant `shuffled` (default: 0)",
    )
    add_n_jobs(parser, "worker processes; the files do not depend on it")


def _generate(arguments: argparse.Namespace) -> None:
    with stoppable() as stop, stop.free():  # a signal unwinds, so that temporary files are removed
        if arguments.of is None:
            _render(arguments)
        else:
            _make_variant(arguments)


def _render(arguments: argparse.Namespace) -> None:
    for option in ("variant", "seed"):
        if getattr(arguments, option) is not None:
            raise ConfigError(f"--{option} needs --of DIR, the dataset to make a variant of")
    from vsp.datasets.synthetic.generate import config_path, generate, read_config, written_to

    config = read_config(config_path(arguments.config, Path()))
    if arguments.out is not None:
        config = written_to(config, arguments.out)
    fresh = generate(config, arguments.n_jobs)
    print_line(f"{verb(fresh)} {config.n_samples} {config.task} samples in {config.output}")


def _make_variant(arguments: argparse.Namespace) -> None:
    from vsp.datasets.apply_variant import VariantRequest, apply_variant

    for option, metavar in (("variant", "NAME"), ("out", "DIR")):
        if getattr(arguments, option) is None:
            raise ConfigError(f"--of needs --{option} {metavar}")
    request = VariantRequest(arguments.of, arguments.variant, arguments.out, arguments.seed or 0)
    fresh, notes = apply_variant(request, arguments.n_jobs)
    print_cautions(notes)
    print_line(f"{verb(fresh)} {arguments.out}, {arguments.variant} of {arguments.of}")


def verb(fresh: bool) -> str:
    """The first word of the line about a dataset: it is new, or was already there."""
    return "wrote" if fresh else "already there:"


def _add_dataset(subparsers: Any) -> None:
    parser = subparsers.add_parser("dataset", help="look at a dataset before using it")
    add_saying(parser)
    show = add_command(
        parser.add_subparsers(title="commands", metavar="show", required=True),
        "show",
        _dataset_show,
        "count a dataset's labels, splits, images and prompts, and draw some rows on a sheet",
        example="vsp dataset show data/raw/spatial\n"
        "vsp dataset show data/vrd --n 60 --sheet vrd.png",
        guide="docs/datasets.md",
        interrupted="the dataset is unchanged; the same command starts over",
    )
    show.add_argument("dataset", type=Path, metavar="DIR", help="folder with metadata.json")
    show.add_argument(
        "--sheet",
        type=Path,
        metavar="FILE",
        help="PNG with pictures, boxes and labels (default: sheet.png in the dataset's folder)",
    )
    show.add_argument(
        "--n",
        type=at_least(0),
        default=24,
        metavar="N",
        help="rows on the sheet, labels in turn; 0: no sheet (default: 24)",
    )
    show.add_argument(
        "--check", action="store_true", help="open every image, and find images that are copies"
    )
    add_seed(show, "choosing the rows of the sheet")
    add_json(show)


def _dataset_show(arguments: argparse.Namespace) -> None:
    from vsp.datasets.contact_sheet import draw_sheet
    from vsp.datasets.summary import summarize

    path = arguments.sheet or arguments.dataset / "sheet.png"
    summary = summarize(arguments.dataset, arguments.n, arguments.seed, arguments.check)
    rows = [] if summary.why_without_images else summary.sheet_rows
    if arguments.json:
        problems = draw_sheet(arguments.dataset, rows, path).problems if rows else []
        sheet = {"sheet": str(path) if rows else None, "problems": problems}
        print_json({**summary.as_json(), **sheet})
        return
    from vsp.reporting.dataset_page import dataset_page
    from vsp.utils.terminal import show

    show(dataset_page(summary))
    print_cautions(summary.notes())
    if rows:  # the page is printed first: it does not need a sheet that can be written
        _print_sheet(path, len(rows), draw_sheet(arguments.dataset, rows, path))


def _print_sheet(path: Path, n_rows: int, sheet: Sheet) -> None:
    from vsp.utils.text import format_count

    print_cautions(sheet.problems[:_PROBLEMS])
    if len(sheet.problems) > _PROBLEMS:
        print_cautions([f"{len(sheet.problems) - _PROBLEMS} more problems; the sheet shows all"])
    print_line()
    print_line(
        f"wrote {path}: {', '.join(filter(None, (format_count(n_rows, 'row'), sheet.legend)))}"
    )
