"""`vsp bench`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from vsp.cli.arguments import (
    add_command,
    add_json,
    add_model,
    add_run,
    add_workers,
    at_least,
    model_config,
)
from vsp.cli.output import print_json
from vsp.datasets.prompts import STYLES


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
    add_workers(parser)
    add_json(parser)


def _bench(arguments: argparse.Namespace) -> None:
    from dataclasses import asdict

    from vsp.extraction.bench import BenchRequest, bench
    from vsp.reporting.bench_tables import bench_page
    from vsp.storage.run import find_run
    from vsp.utils.terminal import show

    options = {
        "n_rows": arguments.rows,
        "batch_sizes": tuple(arguments.batch_size),
        "workers": arguments.workers,
    }
    n_planned = None
    if arguments.model is None:
        plan = find_run(arguments.run, Path()).plan
        n_planned = plan.n_samples
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
