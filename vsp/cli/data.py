"""Commands about datasets: `vsp generate`, `vsp import` and `vsp dataset show`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vsp.cli.arguments import (
    add_command,
    add_drop_label,
    add_json,
    add_n_jobs,
    add_seed,
    at_least,
    fraction,
    key_value,
)
from vsp.cli.output import print_json, print_line, print_notes
from vsp.datasets import IMPORTERS
from vsp.errors import ConfigError
from vsp.utils.signals import stoppable

_PROBLEMS = 3  # problems of a sheet that are printed
_REMOVED = "the unfinished dataset was removed; the same command starts over"


def add_commands(subparsers: Any) -> None:
    _add_generate(subparsers)
    _add_import(subparsers)
    _add_dataset(subparsers)


def _add_generate(subparsers: Any) -> None:
    parser = add_command(
        subparsers,
        "generate",
        _generate,
        "render a synthetic dataset, or make a variant of an existing dataset",
        example="vsp generate --config spatial\n"
        "vsp generate --of data/raw/spatial --variant mirrored --out data/raw/spatial-mirrored",
        guide="docs/datasets.md",
        interrupted=_REMOVED,
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
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder of the variant")
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
    for option in ("variant", "out", "seed"):
        if getattr(arguments, option) is not None:
            raise ConfigError(f"--{option} needs --of DIR, the dataset to make a variant of")
    from vsp.datasets.synthetic.generate import config_path, generate, read_config

    config = read_config(config_path(arguments.config, Path()))
    fresh = generate(config, arguments.n_jobs)
    print_line(f"{_verb(fresh)} {config.n_samples} {config.task} samples in {config.output}")


def _make_variant(arguments: argparse.Namespace) -> None:
    from vsp.datasets.apply_variant import VariantRequest, apply_variant

    for option, metavar in (("variant", "NAME"), ("out", "DIR")):
        if getattr(arguments, option) is None:
            raise ConfigError(f"--of needs --{option} {metavar}")
    request = VariantRequest(arguments.of, arguments.variant, arguments.out, arguments.seed or 0)
    fresh, notes = apply_variant(request, arguments.n_jobs)
    print_notes(notes)
    print_line(f"{_verb(fresh)} {arguments.out}, {arguments.variant} of {arguments.of}")


def _verb(fresh: bool) -> str:
    return "wrote" if fresh else "already there:"


def _add_import(subparsers: Any) -> None:
    parser = add_command(
        subparsers,
        "import",
        _import,
        "make a dataset from annotated photographs, and show which rows were dropped",
        example="vsp import vrd --annotations annotations_train.json annotations_test.json \\\n"
        "  --images sg_train_images sg_test_images --out data/vrd\n"
        "vsp import gqa --annotations train=train_sceneGraphs.json --images images \\\n"
        "  --relations 4way --drop box-contradicts --balance --out data/gqa",
        guide="docs/datasets.md",
        interrupted=_REMOVED,
    )
    _add_import_files(parser)
    _add_row_options(parser.add_argument_group("which rows"))
    _add_split_options(parser.add_argument_group("splits and balance"))
    parser.add_argument(
        "--option",
        type=key_value,
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="an option of the source; may be repeated. vrd: objects, predicates and sizes, each a "
        "file; csv: encoding; whatsup: images=coco or images=vg",
    )
    parser.add_argument("--json", action="store_true", help="print the row counts as JSON")
    add_n_jobs(parser, "worker processes of --check")


def _add_import_files(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help=f"format of the annotations: {', '.join(IMPORTERS.own_names())}",
    )
    parser.add_argument(
        "--annotations",
        nargs="+",
        action="extend",
        required=True,
        metavar="[SPLIT=]FILE",
        help="train=FILE, val=FILE or test=FILE; without a split, it is taken from the file's "
        "name where that contains one",
    )
    parser.add_argument(
        "--images",
        type=Path,
        nargs="+",
        action="extend",
        default=[],
        metavar="DIR",
        help="folders of the photographs; they are not copied (default: only annotations are "
        "imported)",
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder of the new dataset"
    )
    parser.add_argument(
        "--table",
        type=Path,
        metavar="FILE",
        help="also write the rows as CSV with img_path, subj, obj, relationship",
    )


def _add_row_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--relations",
        metavar="NAME",
        help="table of relations in configs/relations/, as 4way or 6way, or the path of a .yaml "
        "file (default: depends on the source, usually 6way)",
    )
    for name, what in (
        ("drop", "also drop rows with this flag, for example box-contradicts"),
        ("keep", "keep rows with this flag, for example ambiguous-name"),
    ):
        group.add_argument(
            f"--{name}",
            nargs="+",
            action="extend",
            default=[],
            metavar="FLAG",
            help=f"{what}; the guide lists the flags",
        )
    add_drop_label(group)
    group.add_argument(
        "--check",
        action="store_true",
        help="open every image, check that boxes lie inside it, and find images that are copies",
    )


def _add_split_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--balance",
        action="store_true",
        help="drop rows until all classes of a split are as large as its smallest class",
    )
    group.add_argument(
        "--resplit",
        action="store_true",
        help="replace the source's splits by new ones of the same sizes, by image",
    )
    group.add_argument(
        "--test-fraction",
        type=fraction,
        metavar="X",
        help="use this share of the rows as the test split, by image (default: the source's "
        "splits, or none)",
    )
    add_seed(group, "splits and balance")


def _import(arguments: argparse.Namespace) -> None:
    from vsp.datasets.importers.import_request import ImportRequest
    from vsp.datasets.importers.pipeline import import_dataset
    from vsp.utils.text import format_count

    request = ImportRequest(
        source=arguments.source,
        annotations=arguments.annotations,
        out=arguments.out,
        images=arguments.images,
        relations=arguments.relations,
        drop=arguments.drop,
        keep=arguments.keep,
        options={key: str(value) for key, value in arguments.option},
        balance=arguments.balance,
        resplit=arguments.resplit,
        test_fraction=arguments.test_fraction,
        check=arguments.check,
        seed=arguments.seed,
        table=arguments.table,
        drop_labels=arguments.drop_label,
    )
    with stoppable() as stop, stop.free():  # as in _generate
        imported = import_dataset(request, Path(), arguments.n_jobs)
    print_notes(imported.notes)
    if arguments.json:
        print_notes(imported.dropped_line())
        print_json(imported.funnel)
        return
    from vsp.reporting.funnel_page import funnel_page
    from vsp.utils.terminal import show

    show(funnel_page(imported.funnel))
    print_line(
        f"{_verb(imported.fresh)} {format_count(imported.n_rows, 'row')} in {imported.folder}"
    )
    for line in imported.dropped_line():
        print_line(line)


def _add_dataset(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "dataset", help="look at a dataset before using it", allow_abbrev=False
    )
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
        problems = draw_sheet(arguments.dataset, rows, path) if rows else []
        sheet = {"sheet": str(path) if rows else None, "problems": problems}
        print_json({**summary.as_json(), **sheet})
        return
    from vsp.reporting.dataset_page import dataset_page
    from vsp.utils.terminal import show

    show(dataset_page(summary))
    print_notes(summary.notes())
    if rows:  # the page is printed first: it does not need a sheet that can be written
        _print_sheet(path, len(rows), draw_sheet(arguments.dataset, rows, path))


def _print_sheet(path: Path, n_rows: int, problems: Sequence[str]) -> None:
    from vsp.utils.text import format_count

    print_notes(problems[:_PROBLEMS])
    if len(problems) > _PROBLEMS:
        print_notes([f"{len(problems) - _PROBLEMS} more problems; the sheet shows all"])
    rows = format_count(n_rows, "row")
    print_line()
    print_line(f"wrote {path}: {rows}, the subject in red, the reference in blue")
