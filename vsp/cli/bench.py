"""`vsp bench`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vsp.choices import LAST, POSITIONS
from vsp.cli.arguments import (
    add_command,
    add_json,
    add_model,
    add_run,
    add_workers,
    at_least,
    model_config,
    positions,
)
from vsp.cli.chosen_run import chosen_run
from vsp.cli.output import print_json
from vsp.datasets.prompts import STYLES

if TYPE_CHECKING:
    from vsp.storage.plan import Plan


def add_commands(subparsers: Any) -> None:
    parser = add_command(
        subparsers,
        "bench",
        _bench,
        "measure a model's speed (rows per second) and memory on this machine",
        example="vsp bench\n"
        "vsp bench --model llava15 --checkpoint DIR --weights random --batch-size 16",
        guide="docs/performance.md",
        interrupted="no measurement was kept; the same command starts over",
    )
    add_run(parser)
    add_model(parser, required=False)
    parser.add_argument(
        "--dataset",
        type=Path,
        metavar="DIR",
        help="with --model: dataset to measure on (default: two generated sets, one with an "
        "image for each row, one with as many rows per image as VRD)",
    )
    parser.add_argument("--prompt", choices=STYLES, help="prompt style")
    parser.add_argument(
        "--rows",
        type=at_least(1),
        default=128,
        metavar="N",
        help="number of rows to measure (default: 128)",
    )
    parser.add_argument(
        "--batch-size",
        type=at_least(1),
        nargs="+",
        default=[4, 16, 64],
        metavar="N",
        help="batch sizes to try (default: 4 16 64)",
    )
    parser.add_argument(
        "--positions",
        type=positions,
        metavar="LIST",
        help=f"also measure the cost of each of these positions, from {','.join(POSITIONS)} (default: "
        "those of the run; with --model: none)",
    )
    parser.add_argument(
        "--no-answers",
        action="store_true",
        help="leave out the ways that store answers (default: as `vsp plan` would store them)",
    )
    add_workers(parser)
    add_json(parser)


def _recorded_by(plan: Plan, arguments: argparse.Namespace) -> dict[str, Any]:
    """What a run records, as options of a bench, unless the command line says otherwise."""
    options = {"positions": arguments.positions or plan.positions, "modules": plan.modules}
    if plan.answers is None or arguments.no_answers:
        return {**options, "answers": False}
    answers = {"answers": True, "answer_start": plan.answers.start, "lens": plan.answers.lens}
    return {**options, **answers}


def _bench(arguments: argparse.Namespace) -> None:
    from dataclasses import asdict

    from vsp.extraction.bench import BenchRequest, bench
    from vsp.reporting.bench_tables import bench_page
    from vsp.utils.terminal import show

    options = {
        "n_rows": arguments.rows,
        "batch_sizes": tuple(arguments.batch_size),
        "workers": arguments.workers,
        "positions": arguments.positions or (LAST,),
        "answers": False if arguments.no_answers else None,
    }
    n_planned = None
    if arguments.model is None:
        run = chosen_run(arguments)
        run.require_planned("bench")
        run.require_states("bench")
        plan = run.plan
        n_planned = plan.n_samples
        options |= _recorded_by(plan, arguments)
        request = BenchRequest(plan.model, Path(plan.dataset), plan.prompt, **options)
    else:
        request = BenchRequest(
            model_config(arguments), arguments.dataset, arguments.prompt, **options
        )
    benches = bench(request, Path("scratch"))
    if arguments.json:
        best = [b.best and asdict(b.best) for b in benches]
        print_json([{**asdict(b), "best": w} for b, w in zip(benches, best, strict=True)])
    else:
        show(bench_page(benches, n_planned))
