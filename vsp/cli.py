"""The command line: parse, call one stage, print.

Stages are imported inside the commands: every array task imports this module, over a network file
system, and `vsp --help` should answer at once.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vsp import __version__
from vsp.errors import VspError
from vsp.prompts import STYLES
from vsp.signals import Stopped, stoppable

if TYPE_CHECKING:
    from rich.console import RenderableType

    from vsp.config import ModelConfig, Profile
    from vsp.plan import Request
    from vsp.submit import Options

_PROFILE = Path("jobs/slurm.yaml")
_STAGES = ("extract", "verify", "probe", "report")  # as vsp.jobs has them

_FLOW = """\
the main job:
  vsp generate --config configs/spatial_dataset.yaml
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


def _generate(arguments: argparse.Namespace) -> None:
    from vsp.generate import generate, read_config

    config = read_config(arguments.config)
    fresh = generate(config, arguments.n_jobs)
    there = "wrote" if fresh else "already there:"
    print(f"{there} {config.n_samples} {config.task} samples in {config.output}")


def _plan(arguments: argparse.Namespace) -> None:
    from vsp.plan import make
    from vsp.report import plan_lines

    # Stopped, it leaves nothing behind: half a run may be a large reserved array.
    with stoppable() as stop, stop.free():
        planned = make(_request(arguments), Path())
    for note in planned.notes:
        print(f"note: {note}", file=sys.stderr)
    for line in plan_lines(planned):
        print(line)


def _extract(arguments: argparse.Namespace) -> None:
    from vsp.extract import extract, outcome
    from vsp.run import find_run

    run = find_run(arguments.run, Path())
    shards = run.shards if arguments.shard is None else [run.shard(i) for i in arguments.shard]
    extract(run, shards, arguments.retry_failed, arguments.workers)
    print(outcome(run, shards))


def _submit(arguments: argparse.Namespace) -> None:
    from vsp.run import find_run
    from vsp.submit import submit

    run = find_run(arguments.run, Path())
    submit(run, _profile(arguments.profile), _submit_options(arguments), _say)


def _resume(arguments: argparse.Namespace) -> None:
    from vsp.run import find_run
    from vsp.submit import resume

    run = find_run(arguments.run, Path())
    resume(run, _profile(arguments.profile), _submit_options(arguments), _say)


def _submit_options(arguments: argparse.Namespace) -> Options:
    from vsp.submit import Options

    return Options(
        stages=arguments.stages,
        after=arguments.after,
        probe_tasks=arguments.probe_tasks,
        retry_failed=arguments.retry_failed,
        dry_run=arguments.dry_run,
    )


def _say(line: str) -> None:
    print(line, flush=True)  # a stage that runs here prints to the same place


def _status(arguments: argparse.Namespace) -> None:
    from vsp.jobs import scheduler_of, task_states
    from vsp.run import find_run
    from vsp.status import Status, as_json, commands, page, status
    from vsp.terminal import show, watch

    run = find_run(arguments.run, Path())
    profile = _profile(arguments.profile)
    scheduler = scheduler_of(profile)

    def look() -> Status:
        ledgers = run.ledgers()
        return status(run, ledgers, task_states(run, scheduler, ledgers))

    def pages() -> RenderableType:
        found = look()
        slurm = profile.scheduler != "local" and shutil.which("sbatch") is not None
        return page(found, arguments.all, commands(run, found, slurm))

    if arguments.json:
        print(json.dumps(as_json(look())))
    elif arguments.watch is not None:
        watch(pages, arguments.watch)
    else:
        show(pages())


def _logs(arguments: argparse.Namespace) -> None:
    from vsp.jobs import log_folder, scheduler_of, task_states
    from vsp.logs import tails
    from vsp.run import find_run
    from vsp.status import status

    run = find_run(arguments.run, Path())
    profile = _profile(arguments.profile)
    if arguments.shard is not None:
        run.shard(arguments.shard)
    ledgers = run.ledgers()
    states = task_states(run, scheduler_of(profile), ledgers)
    found, folder = status(run, ledgers, states), log_folder(run, profile)
    logs = tails(found, states, folder, arguments.shard, arguments.lines)
    for log in logs:
        print(f"== {log.what}\n== {log.path}", *log.lines, sep="\n", end="\n\n")
    if not logs:
        print(f"run {run.name}: no task of the batch system failed; its logs are in {folder}")


def _verify(arguments: argparse.Namespace) -> None:
    from vsp.errors import StoreError
    from vsp.run import find_run
    from vsp.schedulers import ranges
    from vsp.verify import repair, verify

    run = find_run(arguments.run, Path())
    found = verify(run, arguments.n_jobs)
    print(
        f"run {run.name}: {found.n_checked} rows read again, {found.n_bad} are not what was "
        f"written; {found.n_failed} failed and {found.n_missing} missing rows have no states\n"
        f"{found.n_bytes / 1e6:,.0f} MB in {found.seconds:.1f} s, "
        f"{found.n_bytes / 1e6 / max(found.seconds, 1e-9):,.0f} MB/s"
    )
    if not found.bad:
        return
    where = [f"shard {shard}: rows {ranges(rows)}" for shard, rows in found.bad.items()]
    if not arguments.repair:
        raise StoreError(
            f"run {run.name}: {found.n_bad} rows were damaged on disk since they were written; "
            "`vsp verify --repair` puts them back to missing",
            where,
        )
    repair(run, found.bad)
    print(*where, sep="\n")
    print(
        f"these {found.n_bad} rows are missing now; `vsp resume` or `vsp extract` takes them again"
    )


def _probe(arguments: argparse.Namespace) -> None:
    from vsp.fit import Settings, probe_part, probe_run, usable_jobs
    from vsp.run import find_run

    run = find_run(arguments.run, Path())
    n_jobs = usable_jobs(arguments.n_jobs)
    if n_jobs < arguments.n_jobs:
        print(f"note: {n_jobs} of {arguments.n_jobs} jobs, one a core", file=sys.stderr)
    settings = Settings(
        C=arguments.C, max_iter=arguments.max_iter, folds=arguments.folds, seed=arguments.seed
    )
    if arguments.part is not None:
        layers, folder = probe_part(run, settings, n_jobs, arguments.part, arguments.partial)
        print(_part_line(arguments.part, layers, run.plan.n_layers, folder))
        return
    results = probe_run(run, settings, n_jobs, arguments.partial)
    rows = results.summary()["rows"]
    if rows["used"] < rows["planned"]:
        print(f"left out {rows['failed']} failed and {rows['missing']} missing rows")
    print(f"wrote {results.folder}; `vsp report` shows it")


def _part_line(part: tuple[int, int], layers: range, n_layers: int, folder: Path) -> str:
    which = f"part {part[0]}/{part[1]}"
    if not layers:
        return f"{which} is empty, there are {n_layers} layers; no results written"
    return (
        f"{which}: layers {layers[0]} to {layers[-1]} of {n_layers} are in {folder}; no results "
        "written, `vsp probe` merges the parts"
    )


def _report(arguments: argparse.Namespace) -> None:
    from vsp.report import as_json, plot, report_table
    from vsp.results import Results
    from vsp.run import find_run
    from vsp.terminal import show

    results = Results(find_run(arguments.run, Path()).results)
    if arguments.plot:
        plot(results, arguments.plot)
        print(f"wrote {arguments.plot}", file=sys.stderr)
    if arguments.json:
        print(json.dumps(as_json(results)))
    else:
        show(report_table(results))


def _bench(arguments: argparse.Namespace) -> None:
    from dataclasses import asdict

    from vsp.bench import Asked, bench
    from vsp.report import bench_table
    from vsp.run import find_run
    from vsp.terminal import show

    asked = {
        "n_rows": arguments.rows,
        "batch_sizes": tuple(arguments.batch_size),
        "workers": arguments.workers,
    }
    n_planned = None
    if arguments.model is None:
        plan = find_run(arguments.run, Path()).plan
        n_planned = plan.n_samples
        what = Asked(plan.model, Path(plan.dataset), plan.prompt, **asked)
    else:
        what = Asked(_model(arguments), arguments.dataset, arguments.prompt, **asked)
    benches = bench(what, Path("scratch"))
    if arguments.json:
        best = [b.best and asdict(b.best) for b in benches]
        print(json.dumps([{**asdict(b), "best": w} for b, w in zip(benches, best, strict=True)]))
    else:
        show(bench_table(benches, n_planned))


def _models(arguments: argparse.Namespace) -> None:
    from vsp import catalog
    from vsp.models import FAMILIES
    from vsp.report import models_json, models_table
    from vsp.terminal import show

    entries = catalog.entries(Path())
    if arguments.json:
        print(json.dumps(models_json(entries)))
    else:
        show(models_table(entries, FAMILIES.names()))


def _model(arguments: argparse.Namespace) -> ModelConfig:
    from vsp import catalog

    return catalog.find(
        arguments.model,
        Path(),
        checkpoint=arguments.checkpoint,
        revision=arguments.revision,
        quantization=arguments.quantization,
        dtype=arguments.dtype,
        weights=arguments.weights,
        options=dict(arguments.option) or None,
    )


def _profile(path: Path | None) -> Profile:
    """The scheduler profile of that file, or of the usual one where it exists."""
    from vsp.config import Profile, parse, read_yaml

    if path is None and not _PROFILE.exists():
        return Profile()
    path = path or _PROFILE
    return parse(Profile, read_yaml(path), str(path))


def _request(arguments: argparse.Namespace) -> Request:
    from vsp.plan import Request

    return Request(
        dataset=arguments.dataset,
        model=_model(arguments),
        prompt=arguments.prompt,
        store_dtype=arguments.store_dtype,
        n_shards=arguments.shards,
        shard_size=arguments.shard_size,
        batch_size=arguments.batch_size,
        share=not arguments.no_sharing,
        limit=arguments.limit,
        name=arguments.run,
        drop_unreadable=arguments.drop_unreadable,
        profile=_profile(arguments.profile),
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="vsp",
        description="Where inside a vision-language model is the knowledge of spatial relations?",
        epilog=_FLOW,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"vsp {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for add in (
        _add_generate,
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
    ):
        add(commands)
    return parser


def _command(
    commands: Any, run: Callable[[argparse.Namespace], None], summary: str, example: str
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        run.__name__.removeprefix("_"),
        help=summary,
        description=summary[:1].upper() + summary[1:] + ".",
        epilog="example:\n" + "\n".join(f"  {line}" for line in example.splitlines()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.set_defaults(command=run)
    return parser


def _add_generate(commands: Any) -> None:
    parser = _command(
        commands,
        _generate,
        "render a synthetic dataset from a YAML file",
        "vsp generate --config configs/spatial_dataset.yaml",
    )
    parser.add_argument("--config", type=Path, required=True, help="YAML file in configs/")
    parser.add_argument(
        "--n-jobs",
        type=_positive,
        default=os.cpu_count(),
        metavar="N",
        help="worker processes; the bytes do not depend on it (default: all cores)",
    )


def _add_models(commands: Any) -> None:
    parser = _command(
        commands,
        _models,
        "list the models that files in configs/models/ describe",
        "vsp models\nvsp plan --model llava-1.5-7b --checkpoint /shared/llava-1.5-7b-hf",
    )
    parser.add_argument("--json", action="store_true", help="for machines")


def _add_plan(commands: Any) -> None:
    parser = _command(
        commands,
        _plan,
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


def _add_extract(commands: Any) -> None:
    parser = _command(
        commands,
        _extract,
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


def _add_submit(commands: Any) -> None:
    parser = _command(
        commands,
        _submit,
        "send extraction and what follows it to the batch system",
        "vsp submit\nvsp submit --dry-run\nvsp submit --after any --stages extract,probe,report",
    )
    _add_submission(parser)


def _add_resume(commands: Any) -> None:
    parser = _command(
        commands,
        _resume,
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


def _add_status(commands: Any) -> None:
    parser = _command(
        commands,
        _status,
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


def _add_logs(commands: Any) -> None:
    parser = _command(
        commands,
        _logs,
        "show the end of the log of every task that failed, or of one shard's",
        "vsp logs\nvsp logs 3 --lines 100",
    )
    parser.add_argument("shard", type=_index, nargs="?", metavar="SHARD", help="its number")
    parser.add_argument(
        "--lines", type=_positive, default=20, metavar="N", help="of each log (default: 20)"
    )
    _add_run(parser)
    _add_profile(parser)


def _add_verify(commands: Any) -> None:
    parser = _command(
        commands,
        _verify,
        "read the store again from the disk and compare every row with its checksum",
        "vsp verify --n-jobs 8\nvsp verify --repair",
    )
    _add_run(parser)
    parser.add_argument(
        "--n-jobs",
        type=_positive,
        default=os.cpu_count(),
        metavar="N",
        help="worker processes (default: all cores)",
    )
    parser.add_argument(
        "--repair",
        action="store_true",
        help="put damaged rows back to missing, so that the next extraction takes them again",
    )


def _add_probe(commands: Any) -> None:
    parser = _command(
        commands,
        _probe,
        "fit and score a linear probe on every layer",
        "vsp probe --n-jobs 64\n"
        "sbatch --array=0-3 --wrap 'vsp probe --n-jobs 16 --part $SLURM_ARRAY_TASK_ID/4'",
    )
    _add_run(parser)
    parser.add_argument(
        "--n-jobs",
        type=_positive,
        default=os.cpu_count(),
        metavar="N",
        help="layers fitted at once; results do not depend on it (default: all cores)",
    )
    parser.add_argument(
        "--C",
        type=_positive_number,
        default=1.0,
        metavar="X",
        help="inverse strength of the L2 penalty (default: 1)",
    )
    parser.add_argument(
        "--max-iter",
        type=_positive,
        default=1000,
        metavar="N",
        help="iterations before a fit counts as not converged (default: %(default)s)",
    )
    parser.add_argument(
        "--folds",
        type=_folds,
        default=5,
        metavar="N",
        help="folds inside the training rows that choose the best layer (default: %(default)s)",
    )
    parser.add_argument(
        "--seed", type=_index, default=0, metavar="N", help="of the splits (default: 0)"
    )
    parser.add_argument(
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


def _add_report(commands: Any) -> None:
    parser = _command(
        commands,
        _report,
        "show accuracy by layer",
        "vsp report --plot accuracy.png",
    )
    _add_run(parser)
    parser.add_argument("--json", action="store_true", help="for machines")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw it as .png or .svg")


def _add_bench(commands: Any) -> None:
    parser = _command(
        commands,
        _bench,
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
        help=f"scheduler profile (default: {_PROFILE} where it exists)",
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


def _option(text: str) -> tuple[str, Any]:
    import yaml

    key, separator, value = text.partition("=")
    if not separator or not key:
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE")
    return key, yaml.safe_load(value)
