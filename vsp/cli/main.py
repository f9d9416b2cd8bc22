"""The command line: what can be asked, and how an answer or an error leaves the process."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from vsp import __version__
from vsp.cli import commands
from vsp.datasets import IMPORTERS
from vsp.datasets.prompts import STYLES
from vsp.errors import VspError
from vsp.utils.signals import Stopped

_STAGES = ("extract", "verify", "probe", "report")  # as vsp.cluster.jobs has them

_FLOW = """\
the main job:
  vsp generate --config configs/spatial_dataset.yaml
  vsp dataset show data/raw/spatial     a look at it: counts, and a sheet of pictures
  vsp plan --model llava15 --checkpoint DIR
  vsp submit                            extract → verify → probe → report, on Slurm
  vsp status --watch
  vsp resume                            sends what is unfinished

without Slurm:
  vsp extract; vsp verify; vsp probe; vsp report --plot accuracy.png
"""


def console() -> None:
    """The `vsp` command."""
    for stream in (sys.stdout, sys.stderr):
        # A log in an old encoding gets question marks for bars, not a traceback.
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    sys.exit(main(sys.argv[1:]))


def main(argv: Sequence[str]) -> int:
    """Run one command; its exit code. A VspError is one line on stderr and 1."""
    arguments = _parser().parse_args(argv)
    try:
        arguments.command(arguments)
        sys.stdout.flush()
    except VspError as error:
        for detail in error.details:
            print(f"  {detail}", file=sys.stderr)
        print(f"vsp: {error}", file=sys.stderr)
        return 1
    except Stopped as stopped:
        print(f"vsp: {stopped}; the same command goes on where it was", file=sys.stderr)
        return 128 + stopped.number
    except KeyboardInterrupt:
        print("vsp: interrupted; the same command goes on where it was", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of a pipe went away; keep Python from complaining once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="vsp",
        description="Where inside a vision-language model is the knowledge of spatial relations?",
        epilog=_FLOW,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"vsp {__version__}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for add in (
        _add_generate,
        _add_import,
        _add_dataset,
        _add_models,
        _add_plan,
        _add_bench,
        _add_extract,
        _add_submit,
        _add_resume,
        _add_status,
        _add_logs,
        _add_verify,
        _add_probe,
        _add_report,
        _add_compare,
    ):
        add(subparsers)
    return parser


def _command(
    subparsers: Any,
    run: Callable[[argparse.Namespace], None],
    summary: str,
    example: str,
    name: str | None = None,
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = subparsers.add_parser(
        name or run.__name__,
        help=summary,
        description=summary[:1].upper() + summary[1:] + ".",
        epilog="example:\n" + "\n".join(f"  {line}" for line in example.splitlines()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.set_defaults(command=run)
    return parser


def _add_generate(subparsers: Any) -> None:
    parser = _command(
        subparsers,
        commands.generate,
        "render a synthetic dataset from a YAML file, or a variant of any dataset",
        "vsp generate --config configs/spatial_dataset.yaml\n"
        "vsp generate --of data/raw/spatial --variant mirrored --out data/raw/spatial-mirrored",
    )
    made_from = parser.add_mutually_exclusive_group(required=True)
    made_from.add_argument(
        "--config",
        metavar="NAME",
        help="a file of configs/, as spatial for spatial_dataset.yaml, or the path of a .yaml file",
    )
    made_from.add_argument(
        "--of", type=Path, metavar="DIR", help="dataset of which a variant is made, row by row"
    )
    parser.add_argument(
        "--variant",
        metavar="NAME",
        help="blank (grey pictures), shuffled (each image another one of its split), mirrored "
        "(pictures and labels), swapped (subject and reference), or names (no question, no picture)",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder of the variant")
    parser.add_argument(
        "--seed", type=_index, metavar="N", help="of the order of shuffled images (default: 0)"
    )
    _add_n_jobs(parser, "worker processes; the bytes do not depend on it")


def _add_import(subparsers: Any) -> None:
    parser = _command(
        subparsers,
        commands.import_,
        "make a dataset of a real one's annotations and photographs, and say what was left out",
        "vsp import vrd --annotations annotations_train.json annotations_test.json \\\n"
        "  --images sg_train_images sg_test_images --out data/vrd\n"
        "vsp import gqa --annotations train=train_sceneGraphs.json --images images \\\n"
        "  --relations 4way --drop box-contradicts --balance --out data/gqa",
        name="import",
    )
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help=f"where the annotations come from: {', '.join(IMPORTERS.own_names())}",
    )
    parser.add_argument(
        "--annotations",
        nargs="+",
        action="extend",
        required=True,
        metavar="[SPLIT=]FILE",
        help="train=FILE, val=FILE, test=FILE; without a split the file's name tells it, if it does",
    )
    parser.add_argument(
        "--images",
        type=Path,
        nargs="+",
        action="extend",
        default=[],
        metavar="DIR",
        help="folders of the photographs, which stay where they are (default: only annotations "
        "are imported)",
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="the dataset's folder, as data/vrd"
    )
    _add_rows(parser.add_argument_group("which rows"))
    _add_sides(parser.add_argument_group("splits and balance"))
    parser.add_argument(
        "--option",
        type=_option,
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="an option of the source: objects, predicates and sizes, each a file, for vrd, "
        "encoding for csv, images=coco or images=vg for whatsup",
    )
    parser.add_argument(
        "--table",
        type=Path,
        metavar="FILE",
        help="also write the rows as CSV with img_path, subj, obj, relationship",
    )
    parser.add_argument("--json", action="store_true", help="the funnel, for machines")
    _add_n_jobs(parser, "worker processes of --check")


def _add_rows(which: argparse._ArgumentGroup) -> None:
    which.add_argument(
        "--relations",
        metavar="NAME",
        help="table of relations in configs/relations/, as 4way or 6way, or the path of a .yaml "
        "file (default: the source's own, as a rule 6way)",
    )
    for name, what in (
        ("drop", "also drop rows with this flag, as box-contradicts"),
        ("keep", "keep rows with this flag, as ambiguous-name"),
    ):
        which.add_argument(
            f"--{name}",
            nargs="+",
            action="extend",
            default=[],
            metavar="FLAG",
            help=f"{what}; the README lists the flags",
        )
    which.add_argument(
        "--check", action="store_true", help="open every image, and hold boxes against its size"
    )


def _add_sides(sides: argparse._ArgumentGroup) -> None:
    sides.add_argument(
        "--balance",
        action="store_true",
        help="drop rows until every class of a split has as many as its rarest",
    )
    sides.add_argument(
        "--resplit",
        action="store_true",
        help="give up the source's splits: new ones of the same shares, by image",
    )
    sides.add_argument(
        "--test-fraction",
        type=_fraction,
        metavar="X",
        help="hold out that share of the rows for test, by image (default: the source's splits, "
        "or none)",
    )
    sides.add_argument(
        "--seed", type=_index, default=0, metavar="N", help="of what is drawn (default: 0)"
    )


def _add_dataset(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "dataset", help="look at a dataset before GPU hours are spent", allow_abbrev=False
    )
    shown = _command(
        parser.add_subparsers(title="commands", metavar="show", required=True),
        commands.dataset_show,
        "count a dataset's labels, splits, images and prompts, and draw some rows on a sheet",
        "vsp dataset show data/raw/spatial\nvsp dataset show data/vrd --n 60 --sheet vrd.png",
        name="show",
    )
    shown.add_argument("dataset", type=Path, metavar="DIR", help="folder with metadata.json")
    shown.add_argument(
        "--sheet",
        type=Path,
        metavar="FILE",
        help="PNG with pictures, boxes and labels (default: sheet.png in the dataset's folder)",
    )
    shown.add_argument(
        "--n",
        type=_index,
        default=24,
        metavar="N",
        help="rows on the sheet, labels by turns; 0: no sheet (default: 24)",
    )
    shown.add_argument(
        "--seed", type=_index, default=0, metavar="N", help="of the rows on the sheet (default: 0)"
    )
    shown.add_argument("--json", action="store_true", help="for machines")


def _add_models(subparsers: Any) -> None:
    parser = _command(
        subparsers,
        commands.models,
        "list the models that files in configs/models/ describe",
        "vsp models\nvsp plan --model llava-1.5-7b --checkpoint /shared/llava-1.5-7b-hf",
    )
    parser.add_argument("--json", action="store_true", help="for machines")


def _add_plan(subparsers: Any) -> None:
    parser = _command(
        subparsers,
        commands.plan,
        "check a dataset and a model, reserve the store, write jobs/extract_array.sh",
        "vsp plan --model llava15 --checkpoint /shared/llava-1.5-7b-hf --shards 8\n"
        "vsp plan --model llava15 --checkpoint data/small-llava --quantization none",
    )
    _add_what(parser.add_argument_group("what is computed"))
    _add_where(parser.add_argument_group("where and how it runs"))


def _add_model(what: argparse._ActionsContainer, required: bool) -> None:
    what.add_argument(
        "--model",
        required=required,
        metavar="NAME",
        help="a family, as llava15, a file in configs/models/ (`vsp models` lists them), or the "
        "path of a .yaml file",
    )
    what.add_argument(
        "--checkpoint",
        metavar="DIR",
        help="folder in save_pretrained layout or hub name (default: the model's own)",
    )
    what.add_argument("--revision", help="of a hub checkpoint")
    what.add_argument(
        "--quantization",
        choices=("none", "4bit", "8bit"),
        help="of the language model's weights (default: the model's own, as a rule 4bit)",
    )
    what.add_argument(
        "--dtype",
        choices=("auto", "bfloat16", "float16", "float32"),
        help="what the model computes in; auto: as the checkpoint was saved (default: the model's "
        "own)",
    )
    what.add_argument(
        "--weights",
        choices=("checkpoint", "random"),
        help="random: an untrained model of the checkpoint's shape (default: checkpoint)",
    )
    what.add_argument(
        "--option",
        type=_option,
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="an option of the model family; may be repeated",
    )


def _add_what(what: argparse._ArgumentGroup) -> None:
    _add_model(what, required=True)
    what.add_argument(
        "--dataset",
        type=Path,
        default=Path("data/raw/spatial"),
        metavar="DIR",
        help="folder with metadata.json and images/ (default: %(default)s)",
    )
    what.add_argument(
        "--prompt",
        choices=STYLES,
        help="how the question is put (default: instruction, or dataset where records bring "
        "only a prompt of their own)",
    )
    what.add_argument(
        "--store-dtype",
        choices=("float16", "float32"),
        help="what the states are kept in (default: float32 if computed in it, else float16)",
    )
    what.add_argument(
        "--batch-size",
        type=_positive,
        default=16,
        metavar="N",
        help="as many tokens at once as N of the longest rows have; where memory is short a "
        "batch is halved (default: %(default)s)",
    )
    what.add_argument(
        "--no-sharing",
        action="store_true",
        help="compute image and prompt anew for each row, also where rows share an image",
    )
    what.add_argument(
        "--limit", type=_positive, metavar="N", help="only the first N rows, for a trial"
    )
    what.add_argument(
        "--drop-unreadable",
        action="store_true",
        help="leave rows out whose image or prompt cannot be used, instead of refusing",
    )


def _add_where(where: argparse._ArgumentGroup) -> None:
    where.add_argument(
        "--run", metavar="NAME", help="name of the run (default: from model and dataset)"
    )
    cut = where.add_mutually_exclusive_group()
    cut.add_argument("--shards", type=_positive, metavar="N", help="number of array tasks")
    cut.add_argument(
        "--shard-size",
        type=_positive,
        default=1024,
        metavar="N",
        help="rows of an array task, about (default: %(default)s)",
    )
    _add_profile(where)


def _add_extract(subparsers: Any) -> None:
    parser = _command(
        subparsers,
        commands.extract,
        "write last-token states of every pending row; safe to run again",
        "vsp extract\nvsp extract --run llava15-spatial --shard 3",
    )
    _add_run(parser)
    parser.add_argument(
        "--shard",
        type=_index,
        action="append",
        metavar="N",
        help="only this shard; may be repeated (default: all of them, here, in turn)",
    )
    parser.add_argument(
        "--retry-failed", action="store_true", help="take the rows again that failed"
    )
    _add_workers(parser)


def _add_submit(subparsers: Any) -> None:
    parser = _command(
        subparsers,
        commands.submit,
        "send extraction and what follows it to the batch system",
        "vsp submit\nvsp submit --dry-run\nvsp submit --after any --stages extract,probe,report",
    )
    _add_submission(parser)


def _add_resume(subparsers: Any) -> None:
    parser = _command(
        subparsers,
        commands.resume,
        "send the shards that are not finished, and what follows them",
        "vsp resume\nvsp resume --retry-failed --profile jobs/long.yaml",
    )
    _add_submission(parser)


def _add_submission(parser: argparse.ArgumentParser) -> None:
    _add_run(parser)
    _add_profile(parser)
    parser.add_argument(
        "--stages",
        type=_stages,
        default=_STAGES,
        metavar="LIST",
        help=f"what to send, of {','.join(_STAGES)} (default: all)",
    )
    parser.add_argument(
        "--after",
        choices=("ok", "any"),
        default="ok",
        help="any: a stage also starts where the one before failed, and the probe leaves out rows "
        "that are not done (default: %(default)s)",
    )
    parser.add_argument(
        "--probe-tasks",
        type=_index,
        default=0,
        metavar="N",
        help="fit the layers in N parts, each a task of an array (default: in one task)",
    )
    parser.add_argument(
        "--retry-failed", action="store_true", help="take the rows again that failed"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="print scripts and commands, and send nothing"
    )


def _add_status(subparsers: Any) -> None:
    parser = _command(
        subparsers,
        commands.status,
        "what became of each shard: rows, speed, node, why it stopped, how to go on",
        "vsp status\nvsp status --watch 5",
    )
    _add_run(parser)
    _add_profile(parser)
    parser.add_argument("--all", action="store_true", help="every shard, also where they are many")
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument(
        "--watch",
        type=_positive,
        nargs="?",
        const=5,
        metavar="SECONDS",
        help="draw it again and again, every 5 seconds or as often as said, until Ctrl-C",
    )
    shape.add_argument("--json", action="store_true", help="for machines")


def _add_logs(subparsers: Any) -> None:
    parser = _command(
        subparsers,
        commands.logs,
        "show the end of the log of every task that failed, or of one shard's",
        "vsp logs\nvsp logs 3 --lines 100",
    )
    parser.add_argument("shard", type=_index, nargs="?", metavar="SHARD", help="its number")
    parser.add_argument(
        "--lines", type=_positive, default=20, metavar="N", help="of each log (default: 20)"
    )
    _add_run(parser)
    _add_profile(parser)


def _add_verify(subparsers: Any) -> None:
    parser = _command(
        subparsers,
        commands.verify,
        "read the store again from the disk and compare every row with its checksum",
        "vsp verify --n-jobs 8\nvsp verify --repair",
    )
    _add_run(parser)
    _add_n_jobs(parser, "worker processes")
    parser.add_argument(
        "--repair",
        action="store_true",
        help="put damaged rows back to missing, so that the next extraction takes them again",
    )


def _add_probe(subparsers: Any) -> None:
    parser = _command(
        subparsers,
        commands.probe,
        "fit a probe on every layer, and say what it is worth on rows it was not fitted on",
        "vsp probe --n-jobs 64\n"
        "vsp probe --probe mass-mean --layers 0,8-16\n"
        "vsp probe --probe ridge --grid 1 100 10000   # labels that are numbers\n"
        "sbatch --array=0-3 --wrap 'vsp probe --n-jobs 16 --part $SLURM_ARRAY_TASK_ID/4'",
    )
    _add_run(parser)
    _add_n_jobs(parser, "workers; results do not depend on it")
    parser.add_argument(
        "--probe",
        default="logistic",
        metavar="NAME",
        help="centroid, lda, linear, logistic (default), mass-mean, mlp, multinomial, ridge, or "
        "sklearn, scikit-learn's logistic regression",
    )
    parser.add_argument(
        "--treatment",
        choices=("none", "center", "standardize", "unit-norm"),
        help="of the states, learned from the rows a probe is fitted on (default: the probe's own; "
        "center for logistic)",
    )
    parser.add_argument(
        "--grid",
        type=_positive_number,
        nargs="+",
        default=(),
        metavar="X",
        help="values of the probe's C or alpha, chosen from inside the training rows (default: the "
        "probe's own; five powers of ten for logistic, the smaller the larger a layer's states)",
    )
    some = parser.add_mutually_exclusive_group()
    some.add_argument(
        "--layers", type=_layers, metavar="LIST", help="only these, as 0,8-16 (default: all)"
    )
    _add_judging(parser)
    some.add_argument(
        "--part",
        type=_part,
        metavar="K/N",
        help="only fit the K-th, from 0, of N parts of the layers, and keep them; a `vsp probe` "
        "without it fits what is left and writes the results",
    )
    parser.add_argument(
        "--partial",
        action="store_true",
        help="leave out failed and missing rows, and say how many, instead of refusing",
    )


def _add_judging(parser: argparse.ArgumentParser) -> None:
    """What estimates are made of; each can be switched off."""
    for name, default, what in (
        ("--permutations", 100, "refits with permuted labels, for p values; 0: none"),
        ("--controls", 5, "control tasks, for selectivity; 0: none"),
        ("--seed", 0, "of splits, permutations and resamples"),
    ):
        parser.add_argument(
            name, type=_index, default=default, metavar="N", help=f"{what} (default: {default})"
        )
    parser.add_argument(
        "--folds", type=_folds, default=5, metavar="N", help="by group (default: %(default)s)"
    )
    parser.add_argument(
        "--repeats",
        type=_positive,
        default=2,
        metavar="N",
        help="of the folds, where the dataset has no split of its own (default: %(default)s)",
    )
    parser.add_argument(
        "--resamples",
        type=_positive,
        default=2000,
        metavar="N",
        help="of groups, for intervals (default: %(default)s)",
    )
    parser.add_argument(
        "--no-curve", action="store_true", help="no learning curve and no online code length"
    )
    parser.add_argument("--no-random", action="store_true", help="no baseline of random features")
    parser.add_argument(
        "--tolerance",
        type=_positive_number,
        default=0.0,
        metavar="X",
        help="relative duality gap of every fit (default: the probe's own; 1e-6 for logistic)",
    )
    parser.add_argument(
        "--max-iter",
        type=_positive,
        default=0,
        metavar="N",
        help="steps after which a fit is given up, and counted (default: the probe's own; 1000 for "
        "logistic)",
    )


def _add_report(subparsers: Any) -> None:
    parser = _command(
        subparsers,
        commands.report,
        "show accuracy by layer",
        "vsp report --plot accuracy.png",
    )
    parser.add_argument(
        "--run",
        metavar="NAME",
        help="run in results/, or the path of a run or of its results (default: the newest)",
    )
    parser.add_argument("--json", action="store_true", help="for machines")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw it as .png or .svg")


def _add_compare(subparsers: Any) -> None:
    parser = _command(
        subparsers,
        commands.compare,
        "test what one run scores more than another on the same rows, layer by layer",
        "vsp compare llava15-spatial llava15-blank-images\n"
        "vsp compare llava15-spatial qwen2-spatial /shared/results/vila-spatial --json",
    )
    parser.add_argument(
        "runs",
        nargs="+",
        metavar="RUN",
        help="run in results/, or the path of a run or of its results; the others are compared "
        "with the first",
    )
    parser.add_argument(
        "--seed", type=_index, default=0, metavar="N", help="of the draws (default: 0)"
    )
    parser.add_argument("--json", action="store_true", help="for machines")


def _add_bench(subparsers: Any) -> None:
    parser = _command(
        subparsers,
        commands.bench,
        "measure rows per second and memory of a model on this machine",
        "vsp bench\nvsp bench --model llava15 --checkpoint DIR --weights random --batch-size 16",
    )
    _add_run(parser)
    _add_model(parser, required=False)
    parser.add_argument(
        "--dataset",
        type=Path,
        metavar="DIR",
        help="rows to go over, with --model (default: pictures made for the purpose, once with "
        "an image for each row, once with as many rows an image as VRD has)",
    )
    parser.add_argument("--prompt", choices=STYLES, help="how the question is put")
    parser.add_argument(
        "--rows", type=_positive, default=128, metavar="N", help="rows to go over (default: 128)"
    )
    parser.add_argument(
        "--batch-size",
        type=_positive,
        nargs="+",
        default=[4, 16, 64],
        metavar="N",
        help="batch sizes to try (default: 4 16 64)",
    )
    _add_workers(parser)
    parser.add_argument("--json", action="store_true", help="for machines")


def _add_n_jobs(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument(
        "--n-jobs",
        type=_positive,
        default=os.cpu_count(),
        metavar="N",
        help=f"{what} (default: all cores)",
    )


def _add_workers(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--workers",
        type=_index,
        metavar="N",
        help="processes that decode images ahead of the device; no result depends on it "
        "(default: with a GPU one a core but one, at most 8; else none)",
    )


def _add_profile(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--profile",
        type=Path,
        metavar="FILE",
        help=f"scheduler profile (default: {commands.PROFILE} where it exists)",
    )


def _add_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--run", metavar="NAME", help="run in scratch/, or its path (default: the newest)"
    )


def _stages(text: str) -> tuple[str, ...]:
    asked = text.split(",")
    unknown = [stage for stage in asked if stage not in _STAGES]
    if unknown:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(_STAGES)}")
    return tuple(stage for stage in _STAGES if stage in asked)


def _positive(text: str) -> int:
    return _whole(text, least=1)


def _index(text: str) -> int:
    return _whole(text, least=0)


def _layers(text: str) -> list[int]:
    """`0,8-16`."""
    layers: list[int] = []
    for item in text.split(","):
        first, dash, last = item.partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise argparse.ArgumentTypeError(f"{text!r}: write layers as 0,8-16")
        if dash and int(last) < int(first):
            raise argparse.ArgumentTypeError(
                f"{item!r} ends before it begins: write {last}-{first}"
            )
        layers += range(int(first), int(last if dash else first) + 1)
    return layers


def _folds(text: str) -> int:
    return _whole(text, least=2)


def _part(text: str) -> tuple[int, int]:
    k, separator, n = text.partition("/")
    if not separator or not k.isdecimal() or not n.isdecimal() or not int(k) < int(n):
        raise argparse.ArgumentTypeError(f"{text!r} is not K/N, a part from 0/N to N-1/N")
    return int(k), int(n)


def _whole(text: str, least: int) -> int:
    if not text.isdecimal() or int(text) < least:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from {least} on")
    return int(text)


def _positive_number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no number over 0")
    return value


def _fraction(text: str) -> float:
    value = _positive_number(text)
    if not value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no share between 0 and 1")
    return value


def _option(text: str) -> tuple[str, Any]:
    import yaml

    key, separator, value = text.partition("=")
    if not separator or not key:
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE")
    return key, yaml.safe_load(value)
