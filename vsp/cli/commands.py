"""What each command does: call one stage, print what it gives.

Stages are imported inside the commands: every array task imports this module, over a network file
system, and `vsp --help` should answer at once.
"""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vsp.errors import ConfigError
from vsp.utils.signals import stoppable

if TYPE_CHECKING:
    from rich.console import RenderableType

    from vsp.cluster.submit import Options
    from vsp.config import ModelConfig, Profile
    from vsp.extraction.plan import PlanRequest

PROFILE = Path("jobs/slurm.yaml")
_PROBLEMS = 3  # of a sheet, at most in print


def generate(arguments: argparse.Namespace) -> None:
    if arguments.of is not None:
        _vary(arguments)
        return
    for option in ("variant", "out", "seed"):
        if getattr(arguments, option) is not None:
            raise ConfigError(f"--{option} is of a variant; name the dataset with --of")
    from vsp.datasets.synthetic.generate import config_path, generate, read_config

    config = read_config(config_path(arguments.config, Path()))
    fresh = generate(config, arguments.n_jobs)
    there = "wrote" if fresh else "already there:"
    print(f"{there} {config.n_samples} {config.task} samples in {config.output}")


def import_(arguments: argparse.Namespace) -> None:
    from vsp.datasets.importers.funnel import page
    from vsp.datasets.importers.pipeline import Asked, import_dataset
    from vsp.utils.terminal import show
    from vsp.utils.text import format_count

    asked = Asked(
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
    )
    # Stopped, it leaves nothing behind: the folder appears when it is whole.
    with stoppable() as stop, stop.free():
        imported = import_dataset(asked, Path(), arguments.n_jobs)
    _say_notes(imported.notes)
    if arguments.json:
        print(json.dumps(imported.funnel))
        return
    show(page(imported.funnel))
    n_rows = sum(part["out"]["rows"] for part in imported.funnel["parts"].values())
    there = "wrote" if imported.fresh else "already there:"
    print(f"{there} {format_count(n_rows, 'row')} in {imported.folder}")


def _vary(arguments: argparse.Namespace) -> None:
    from vsp.datasets.apply_variant import Asked, vary

    for option in ("variant", "out"):
        if getattr(arguments, option) is None:
            raise ConfigError(f"--of {arguments.of} says no --{option}; add it")
    asked = Asked(arguments.of, arguments.variant, arguments.out, arguments.seed or 0)
    fresh, notes = vary(asked, arguments.n_jobs)
    _say_notes(notes)
    there = "wrote" if fresh else "already there:"
    print(f"{there} {arguments.out}, {arguments.variant} of {arguments.of}")


def dataset_show(arguments: argparse.Namespace) -> None:
    from vsp.datasets.contact_sheet import draw
    from vsp.datasets.summary import as_json, page, show
    from vsp.utils.terminal import show as print_page
    from vsp.utils.text import format_count

    path = arguments.sheet or arguments.dataset / "sheet.png"
    shown = show(arguments.dataset, arguments.n, arguments.seed)
    problems = draw(arguments.dataset, shown.rows, path) if shown.rows else []
    if arguments.json:
        sheet = {"sheet": str(path) if shown.rows else None, "problems": problems}
        print(json.dumps({**as_json(shown), **sheet}))
        return
    print_page(page(shown))
    more = problems[_PROBLEMS:]
    _say_notes(problems[:_PROBLEMS] + [f"{len(more)} more, which stand on the sheet"] * bool(more))
    if shown.rows:
        rows = format_count(len(shown.rows), "row")
        print(f"\nwrote {path}: {rows}, the subject red, the reference blue")


def plan(arguments: argparse.Namespace) -> None:
    from vsp.extraction.plan import plan_run
    from vsp.reporting.plan_summary import plan_lines

    # Stopped, it leaves nothing behind: half a run may be a large reserved array.
    with stoppable() as stop, stop.free():
        planned = plan_run(_request(arguments), Path())
    _say_notes(planned.notes)
    for line in plan_lines(planned):
        print(line)


def extract(arguments: argparse.Namespace) -> None:
    from vsp.extraction.extract import extract, outcome
    from vsp.storage.run import find_run

    run = find_run(arguments.run, Path())
    shards = run.shards if arguments.shard is None else [run.shard(i) for i in arguments.shard]
    extract(run, shards, arguments.retry_failed, arguments.workers)
    print(outcome(run, shards))


def submit(arguments: argparse.Namespace) -> None:
    from vsp.cluster.submit import submit
    from vsp.storage.run import find_run

    run = find_run(arguments.run, Path())
    submit(run, _profile(arguments.profile), _submit_options(arguments), _say)


def resume(arguments: argparse.Namespace) -> None:
    from vsp.cluster.submit import resume
    from vsp.storage.run import find_run

    run = find_run(arguments.run, Path())
    resume(run, _profile(arguments.profile), _submit_options(arguments), _say)


def _submit_options(arguments: argparse.Namespace) -> Options:
    from vsp.cluster.submit import Options

    return Options(
        stages=arguments.stages,
        after=arguments.after,
        probe_tasks=arguments.probe_tasks,
        retry_failed=arguments.retry_failed,
        dry_run=arguments.dry_run,
    )


def _say_notes(notes: Sequence[str]) -> None:
    for note in notes:
        print(f"note: {note}", file=sys.stderr)


def _say(line: str) -> None:
    print(line, flush=True)  # a stage that runs here prints to the same place


def status(arguments: argparse.Namespace) -> None:
    from vsp.cluster.jobs import scheduler_of, task_states
    from vsp.cluster.status import Status, as_json, commands, page, status
    from vsp.storage.run import find_run
    from vsp.utils.terminal import show, watch

    run = find_run(arguments.run, Path())
    profile = _profile(arguments.profile)
    scheduler = scheduler_of(profile)

    def look() -> Status:
        ledgers = run.ledgers()
        return status(run, ledgers, task_states(run, scheduler, ledgers))

    def pages() -> RenderableType:
        found = look()
        slurm = profile.scheduler != "local" and shutil.which("sbatch") is not None
        return page(found, arguments.all, commands(run, found, slurm, arguments.run))

    if arguments.json:
        print(json.dumps(as_json(look())))
    elif arguments.watch is not None:
        watch(pages, arguments.watch)
    else:
        show(pages())


def logs(arguments: argparse.Namespace) -> None:
    from vsp.cluster.jobs import log_folder, scheduler_of, task_states
    from vsp.cluster.logs import tails
    from vsp.cluster.status import status
    from vsp.storage.run import find_run

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


def verify(arguments: argparse.Namespace) -> None:
    from vsp.errors import StoreError
    from vsp.extraction.verify import repair, verify
    from vsp.storage.run import find_run
    from vsp.utils.text import format_ranges

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
    where = [f"shard {shard}: rows {format_ranges(rows)}" for shard, rows in found.bad.items()]
    named = _named(arguments)
    if not arguments.repair:
        raise StoreError(
            f"run {run.name}: {found.n_bad} rows were damaged on disk since they were written; "
            f"`vsp verify{named} --repair` puts them back to missing",
            where,
        )
    repair(run, found.bad)
    print(*where, sep="\n")
    print(
        f"these {found.n_bad} rows are missing now; `vsp resume{named}` or `vsp extract{named}` "
        "takes them again"
    )


def _named(arguments: argparse.Namespace) -> str:
    """How a command is told the run that this one was told; nothing for the newest."""
    return f" --run {shlex.quote(arguments.run)}" if arguments.run else ""


def probe(arguments: argparse.Namespace) -> None:
    from vsp.evaluation.probe_run import Settings, probe_part, probe_run, usable_jobs
    from vsp.storage.run import find_run

    run = find_run(arguments.run, Path())
    n_jobs = usable_jobs(arguments.n_jobs)
    if n_jobs < arguments.n_jobs:
        _say_notes([f"{n_jobs} of {arguments.n_jobs} jobs, one a core"])
    settings = Settings(
        probe=arguments.probe,
        treatment=arguments.treatment or "",
        strengths=tuple(arguments.grid),
        tolerance=arguments.tolerance,
        max_iter=arguments.max_iter,
        folds=arguments.folds,
        repeats=arguments.repeats,
        permutations=arguments.permutations,
        controls=arguments.controls,
        curve=not arguments.no_curve,
        random=not arguments.no_random,
        seed=arguments.seed,
        resamples=arguments.resamples,
    )
    if arguments.part is not None:
        layers, folder = probe_part(run, settings, n_jobs, arguments.part, arguments.partial)
        print(_part_line(arguments.part, layers, run.plan.n_layers, folder))
        return
    results = probe_run(run, settings, n_jobs, arguments.partial, arguments.layers)
    rows = results.summary()["rows"]
    if rows["used"] < rows["planned"]:
        print(f"left out {rows['failed']} failed and {rows['missing']} missing rows")
    print(f"wrote {results.folder}; `vsp report{_named(arguments)}` shows it")


def _part_line(part: tuple[int, int], layers: range, n_layers: int, folder: Path) -> str:
    which = f"part {part[0]}/{part[1]}"
    if not layers:
        return f"{which} is empty, there are {n_layers} layers; no results written"
    return (
        f"{which}: layers {layers[0]} to {layers[-1]} of {n_layers} are in {folder}; no results "
        "written, `vsp probe` merges the parts"
    )


def report(arguments: argparse.Namespace) -> None:
    from vsp.reporting.probe_report import report_json, report_table
    from vsp.storage.results import find_results
    from vsp.utils.terminal import show

    results = find_results(arguments.run, Path())
    if arguments.plot:
        from vsp.reporting.curve_plot import plot

        plot(results, arguments.plot)
        print(f"wrote {arguments.plot}", file=sys.stderr)
    if arguments.json:
        print(json.dumps(report_json(results)))
    else:
        show(report_table(results))


def compare(arguments: argparse.Namespace) -> None:
    from dataclasses import asdict

    from vsp.evaluation.compare import Settings, compare
    from vsp.reporting.comparison import comparison_table
    from vsp.storage.results import find_results
    from vsp.utils.terminal import show

    runs = [(name, find_results(name, Path())) for name in arguments.runs]
    pairs = compare(runs, Settings(seed=arguments.seed))
    if arguments.json:
        print(json.dumps([asdict(pair) for pair in pairs]))
    else:
        show(comparison_table(pairs))


def bench(arguments: argparse.Namespace) -> None:
    from dataclasses import asdict

    from vsp.extraction.bench import Asked, bench
    from vsp.reporting.bench_tables import bench_table
    from vsp.storage.run import find_run
    from vsp.utils.terminal import show

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


def models(arguments: argparse.Namespace) -> None:
    from vsp.models import FAMILIES, catalog
    from vsp.reporting.model_list import models_json, models_table
    from vsp.utils.terminal import show

    entries = catalog.entries(Path())
    if arguments.json:
        print(json.dumps(models_json(entries)))
    else:
        show(models_table(entries, FAMILIES.names()))


def _model(arguments: argparse.Namespace) -> ModelConfig:
    from vsp.models import catalog

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
    """The scheduler profile of that file, or else of `jobs/slurm.yaml`."""
    from vsp.config import Profile, parse, read_yaml
    from vsp.utils.config_files import find_config

    if path is None:
        path = find_config(str(PROFILE), "", Path())
    return parse(Profile, read_yaml(path), str(path)) if path else Profile()


def _request(arguments: argparse.Namespace) -> PlanRequest:
    from vsp.extraction.plan import PlanRequest

    return PlanRequest(
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
