"""`vsp import`: make a dataset from annotations that others wrote."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from vsp.cli.arguments import add_command, add_drop_label, add_n_jobs, add_seed, fraction, key_text
from vsp.cli.data import REMOVED, verb
from vsp.cli.output import print_cautions, print_json, print_line
from vsp.cli.state_files import STATES, add_state_options, check_options, import_states
from vsp.datasets import IMPORTERS
from vsp.errors import ConfigError
from vsp.utils.signals import stoppable
from vsp.utils.spelling import did_you_mean


def add_commands(subparsers: Any) -> None:
    parser = add_command(
        subparsers,
        "import",
        _import,
        "make a dataset from annotated photographs, and show which rows were dropped; or a run of states "
        "that another program stored",
        example="vsp import vrd --annotations annotations_train.json annotations_test.json \\\n"
        "  --images sg_train_images sg_test_images --out data/vrd\n"
        "vsp import gqa --annotations train=train_sceneGraphs.json --images images \\\n"
        "  --relations 4way --drop box-contradicts --balance --out data/gqa\n"
        "vsp import states old_run.npz --split research --out scratch/old-run",
        guide="docs/datasets.md",
        interrupted=REMOVED,
    )
    _add_import_files(parser)
    _add_row_options(parser.add_argument_group("which rows"))
    _add_split_options(parser.add_argument_group("splits and balance"))
    add_state_options(parser.add_argument_group(f"with the source {STATES}"))
    parser.add_argument(
        "--option",
        type=key_text,
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="an option of the source; may be repeated. vrd: objects, predicates and sizes, each a "
        "file; csv: encoding, answer, prompt; mcq: answer, prompt, label; tsv: answer, prompt; prompts: image "
        "or images, answer; whatsup: images=coco or images=vg; spatialrgpt-bench: answer, regions; comfort: frame, label, "
        "facing; parquet, imagefolder and load_from_disk: question, answer, prompt",
    )
    parser.add_argument("--json", action="store_true", help="print the row counts as JSON")
    add_n_jobs(parser, "worker processes of --check")


def _add_import_files(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help=f"format of the annotations: {', '.join(IMPORTERS.own_names())}; or {STATES}, for hidden "
        "states that another program stored; or only a file or folder, to see which of these reads it",
    )
    parser.add_argument(
        "files",
        type=Path,
        nargs="*",
        metavar="FILE",
        help=f"with {STATES}: a .npz, .safetensors, or folder of .pt or vLLM's files",
    )
    parser.add_argument(
        "--annotations",
        nargs="+",
        action="extend",
        default=[],
        metavar="[SPLIT=]FILE",
        help="train=FILE, val=FILE or test=FILE; without a split, it is taken from the file's "
        "name where that contains one. A folder for comfort, parquet, imagefolder and load_from_disk",
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
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder of the new dataset or run")
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
    path = Path(arguments.source)
    if len(arguments.words) == 2 and arguments.source not in (STATES, *IMPORTERS.names()):
        if not path.exists():
            near = did_you_mean(arguments.source, [*IMPORTERS.names(), STATES])
            raise ConfigError(
                f"{path}: neither a source nor a file; {f'{near} ' if near else ''}the sources are "
                f"{', '.join(IMPORTERS.names())} and {STATES}"
            )
        from vsp.datasets.importers.recognition import guess

        for line in guess(path).lines():
            print_line(line)
        return
    check_options(arguments)
    if arguments.source == STATES:
        import_states(arguments)
    else:
        _import_dataset(arguments)


def _import_dataset(arguments: argparse.Namespace) -> None:
    from vsp.datasets.importers.import_request import ImportRequest
    from vsp.datasets.importers.pipeline import import_dataset
    from vsp.utils.text import format_count

    if not arguments.annotations:
        raise ConfigError("--annotations is missing; name the files of the annotations")
    request = ImportRequest(
        source=arguments.source,
        annotations=arguments.annotations,
        out=arguments.out,
        images=arguments.images,
        relations=arguments.relations,
        drop=arguments.drop,
        keep=arguments.keep,
        options=dict(arguments.option),
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
    print_cautions(imported.notes)
    if arguments.json:
        print_cautions(imported.dropped_line())
        print_json(imported.funnel)
        return
    from vsp.reporting.funnel_page import funnel_page
    from vsp.utils.terminal import show

    show(funnel_page(imported.funnel))
    print_line(
        f"{verb(imported.fresh)} {format_count(imported.n_rows, 'row')} in {imported.folder}"
    )
    for line in imported.dropped_line():
        print_line(line)
