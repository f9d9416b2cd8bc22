"""`vsp patch`: plan a run of answers while states are taken from the paired rows of another run."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vsp.cli.arguments import add_command
from vsp.cli.effect_options import add_effect_options, chosen_layers, plan_and_say
from vsp.utils.spelling import unknown_name

if TYPE_CHECKING:
    from vsp.extraction.effects_plan import EffectsRequest
    from vsp.storage.run import Run

TOKENS = ("last", "subject", "reference", "image", "box", "all")


def add_commands(subparsers: Any) -> None:
    parser = add_command(
        subparsers,
        "patch",
        _patch,
        "plan the answers of a run while states are replaced by those of a variant's paired rows",
        example="vsp patch llava15-spatial llava15-spatial-mirrored --layers 8-20\n"
        "vsp patch llava15-spatial llava15-spatial-swapped --tokens last subject image",
        guide="docs/interventions.md",
        interrupted="the unfinished run was removed; the same command starts over",
    )
    parser.add_argument("run", metavar="RUN", help="run in scratch/, or its path")
    parser.add_argument(
        "variant",
        metavar="VARIANT-RUN",
        help="run of the same model on a variant of the dataset, such as mirrored or swapped; its rows "
        "are paired by id",
    )
    parser.add_argument(
        "--tokens",
        type=_tokens,
        nargs="+",
        default=["last"],
        metavar="NAME",
        help=f"tokens whose states are replaced, one group at a time, from {' '.join(TOKENS)}; box: "
        "the image tokens in the boxes of both objects (default: last)",
    )
    add_effect_options(parser, "the drawn rows")


def _tokens(text: str) -> str:
    if text not in TOKENS:
        raise argparse.ArgumentTypeError(unknown_name("tokens", text, TOKENS))
    return text


def _patch(arguments: argparse.Namespace) -> None:
    def request() -> tuple[EffectsRequest, list[str]]:
        from vsp.evaluation.effect_rows import check_pair
        from vsp.extraction.effects_plan import check_can_change
        from vsp.storage.run import find_run

        run, variant = (find_run(name, Path()) for name in (arguments.run, arguments.variant))
        for one in (run, variant):
            check_can_change(one, "patch")
        check_pair(run, variant)
        return _paired(arguments, run, variant)

    plan_and_say(arguments, request)


def _paired(
    arguments: argparse.Namespace, run: Run, variant: Run
) -> tuple[EffectsRequest, list[str]]:
    from vsp.evaluation.effect_rows import (
        choose_rows,
        other_label,
        pair_rows,
        rows_to_test,
    )
    from vsp.extraction.effects_plan import EffectsRequest
    from vsp.storage.effects import Setting

    donors, notes = pair_rows(run, variant)
    samples, others = run.all_samples(), variant.all_samples()
    tested = rows_to_test(samples)
    tested &= [row in donors for row in range(len(tested))]

    def target(row: int) -> str:
        return others[donors[row]].label

    tested, same = other_label(tested, samples, target)
    rows = choose_rows(run, tested, lambda row, _: target(row), arguments.rows, arguments.seed)
    request = EffectsRequest(
        run=run,
        kind="patch",
        layers=chosen_layers(run, arguments.layers),
        position="",
        settings=tuple(Setting(name=name, scale=1.0) for name in dict.fromkeys(arguments.tokens)),
        rows=rows.row,
        targets=rows.target,
        changes={},
        seed=arguments.seed,
        variant=variant,
        donors=[donors[row] for row in rows.row.tolist()],
    )
    return request, [*notes, *same, *rows.notes]
