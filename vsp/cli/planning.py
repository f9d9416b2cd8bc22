"""`vsp plan`."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vsp.choices import LAST, MODULES, POSITIONS, STARTS
from vsp.cli.arguments import (
    add_command,
    add_model,
    add_profile,
    at_least,
    device_count,
    model_config,
    modules,
    positions,
    read_profile,
)
from vsp.cli.failed_plan import recorded_plan
from vsp.cli.output import print_cautions, print_line, terminal_width
from vsp.datasets.prompts import STYLES
from vsp.utils.signals import stoppable

if TYPE_CHECKING:
    from vsp.config import ModelConfig, Profile
    from vsp.extraction.plan import Planned
    from vsp.extraction.plan_request import PlanRequest


def add_commands(subparsers: Any) -> None:
    parser = add_command(
        subparsers,
        "plan",
        _plan,
        "check a dataset and a model, reserve disk space, and write the batch script",
        example="vsp plan --model llava15 --checkpoint /shared/llava-1.5-7b-hf --shards 8\n"
        "vsp plan --model small --dataset data/raw/demo",
        guide="docs/cluster.md",
        interrupted="the unfinished run was removed; the same command starts over",
    )
    computed = parser.add_argument_group("what is computed")
    add_model(computed, required=True)
    computed.add_argument(
        "--dataset",
        type=Path,
        default=Path("data/raw/spatial"),
        metavar="DIR",
        help="folder with metadata.json and images/ (default: %(default)s)",
    )
    computed.add_argument(
        "--prompt",
        choices=STYLES,
        help="prompt style (default: instruction, or dataset where the dataset has prompts "
        "but no questions)",
    )
    add_computed(computed)
    jobs = parser.add_argument_group("where and how it runs")
    jobs.add_argument(
        "--run", metavar="NAME", help="name of the run (default: from model and dataset)"
    )
    add_jobs(jobs)


def add_computed(group: argparse._ArgumentGroup) -> None:
    """Options for what a plan computes, besides the model, the dataset and the prompt."""
    group.add_argument(
        "--store-dtype",
        choices=("float16", "float32"),
        help="data type of the stored states (default: float32 if the model computes in "
        "float32, else float16)",
    )
    group.add_argument(
        "--batch-size",
        type=at_least(1),
        default=16,
        metavar="N",
        help="a batch holds as many tokens as N of the longest rows; if memory runs out, the "
        "batch is halved (default: %(default)s)",
    )
    group.add_argument(
        "--no-sharing",
        action="store_true",
        help="encode image and prompt anew for each row, even if rows share an image",
    )
    _add_recorded(group)
    group.add_argument(
        "--limit", type=at_least(1), metavar="N", help="use only the first N rows, for a trial"
    )
    group.add_argument(
        "--drop-unreadable",
        action="store_true",
        help="drop rows whose image or prompt cannot be used, instead of stopping with an error",
    )
    group.add_argument(
        "--keep-copies",
        action="store_true",
        help="keep the dataset's groups and splits although images are copies of each other (default: "
        "rows about copies are one group, and copies in several splits are an error)",
    )


def _add_recorded(group: argparse._ArgumentGroup) -> None:
    """Options for what a forward pass records."""
    group.add_argument(
        "--positions",
        type=positions,
        default=(LAST,),
        metavar="LIST",
        help=f"where in a prompt states are recorded, from {','.join(POSITIONS)}; the last "
        "token always is (default: last)",
    )
    group.add_argument(
        "--modules",
        type=modules,
        default=(),
        metavar="LIST",
        help=f"also record states ahead of the decoder, from {','.join(MODULES)}: all layers of the "
        "vision tower, and the projector's output; at image and boxes as --positions names them, by "
        "default at the image (default: none)",
    )
    group.add_argument(
        "--answers",
        action=argparse.BooleanOptionalAction,
        help="store the log-likelihood of each answer option (default: if no row has more than 16)",
    )
    group.add_argument(
        "--answer-start",
        choices=STARTS,
        default="auto",
        help="how an option joins the prompt: after a space or none, and with a capital letter or as "
        "the dataset writes it; asks for --answers (default: by the end of the template)",
    )
    group.add_argument(
        "--lens",
        action="store_true",
        help="also read the options' log-likelihoods from every layer, through the final norm and the "
        "head (logit lens); asks for --answers",
    )


def say_planned(planned: Planned) -> None:
    """Print a new run of several in one line, then the notes about it."""
    from vsp.utils.text import format_bytes, format_count

    run = planned.run
    n_bytes = sum(store.layout.n_bytes for store in run.stores.values())
    shards = format_count(len(run.shards), "shard")
    rows = format_count(run.plan.n_samples, "row")
    print_line(f"planned: {run.name}, {rows}, {shards}, {format_bytes(n_bytes)}")
    # The name itself is on the line above.
    notes = [one for one in planned.notes if not one.startswith("the run is named")]
    print_cautions([f"{run.name}: {note}" for note in notes])


def add_probe_tasks(parser: argparse.ArgumentParser) -> None:
    """Add --probe-tasks, for all runs that a command submits."""
    parser.add_argument(
        "--probe-tasks",
        type=at_least(0),
        default=0,
        metavar="N",
        help="fit the layers of each run in an array of N tasks; 0: in one task (default: 0)",
    )


def add_jobs(group: argparse._ArgumentGroup) -> None:
    """Options for the tasks of a run."""
    shards = group.add_mutually_exclusive_group()
    shards.add_argument("--shards", type=at_least(1), metavar="N", help="number of array tasks")
    shards.add_argument(
        "--shard-size",
        type=at_least(1),
        default=1024,
        metavar="N",
        help="approximate number of rows per array task (default: %(default)s)",
    )
    group.add_argument(
        "--devices",
        type=device_count,
        default=1,
        metavar="auto|N",
        help="split the layers of the language model over N GPUs of a node, or over all that a task "
        "sees (default: %(default)s)",
    )
    add_profile(group)


def _plan(arguments: argparse.Namespace) -> None:
    from vsp.extraction.plan import plan_run
    from vsp.reporting.plan_summary import plan_lines

    with stoppable() as stop:
        with recorded_plan(arguments.words, Path()):
            request = plan_request(
                arguments,
                model_config(arguments),
                arguments.dataset,
                arguments.prompt,
                read_profile(arguments.profile),
            )
            request = replace(request, name=arguments.run, model_name=arguments.model)
            with stop.free():  # a signal unwinds, so that the reserved array is removed
                planned = plan_run(request, Path(), stop.hold)
        arguments.interrupted = f"run {planned.run.name} is planned"
        print_cautions(planned.notes)
        for line in plan_lines(planned, arguments.words, terminal_width()):
            print_line(line)
        with stop.free():  # raises for a signal that came since the run has its name
            pass


def plan_request(
    arguments: argparse.Namespace,
    model: ModelConfig,
    dataset: Path,
    prompt: str | None,
    profile: Profile,
) -> PlanRequest:
    """The plan of a model, a dataset and a prompt, with the other options of the command."""
    from vsp.extraction.plan_request import PlanRequest

    return PlanRequest(
        dataset=dataset,
        model=model,
        prompt=prompt,
        store_dtype=arguments.store_dtype,
        n_shards=arguments.shards,
        shard_size=arguments.shard_size,
        batch_size=arguments.batch_size,
        share=not arguments.no_sharing,
        limit=arguments.limit,
        drop_unreadable=arguments.drop_unreadable,
        keep_copies=arguments.keep_copies,
        profile=profile,
        devices=arguments.devices,
        positions=arguments.positions,
        modules=arguments.modules,
        answers=arguments.answers,
        answer_start=arguments.answer_start,
        lens=arguments.lens,
    )
