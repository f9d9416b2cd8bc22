"""The lines that `vsp plan` prints: the new run, its size and the next command."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

from vsp.choices import split_position
from vsp.models import load_family
from vsp.reporting.formatting import format_model, shorten_path
from vsp.utils.text import format_bytes
from vsp.utils.wrapping import wrapped_lines

if TYPE_CHECKING:
    from vsp.extraction.plan import Planned
    from vsp.models.memory import Memory
    from vsp.storage.plan import Plan

_NAME = 9  # characters of the column of names


def plan_lines(planned: Planned, words: Sequence[str], width: int | None = None) -> list[str]:
    """The facts of a new run, its needs of disk and memory, and the commands that start it.

    `words` are those of the command that planned it. Facts are wrapped to `width`; commands are not,
    so that they can be copied.
    """
    plan, layout = planned.run.plan, planned.run.store.layout
    n_bytes = sum(store.layout.n_bytes for store in planned.run.stores.values())
    sizes = sorted(shard.stop - shard.start for shard in planned.run.shards)
    rows = str(sizes[0]) if sizes[0] == sizes[-1] else f"{sizes[0]} to {sizes[-1]}"
    facts = {
        "run": [f"{plan.name}, in {planned.run.folder}"],
        "model": [f"{format_model(plan.model)}, computes in {plan.compute_dtype}"],
        "dataset": [
            f"{shorten_path(plan.dataset)}: {plan.n_samples} rows, {len(plan.labels)} labels",
            *(f"images also in {shorten_path(str(folder))}" for folder in planned.image_folders),
        ],
        "prompt": [f"{plan.prompt}, first prompt: {planned.first_prompt!r}"],
        "shards": [f"{len(sizes)} of {rows} rows, batches of {plan.batch_tokens} tokens"],
        "array": [
            f"{list(layout.shape)} [layer, sample, hidden] {plan.dtype}",
            *_positions(planned),
        ],
        "answers": _answer_lines(plan),
        "disk": [f"{format_bytes(n_bytes)} reserved, {format_bytes(planned.free_bytes)} left free"],
        "memory": _memory_lines(planned),
        "next": [
            *planned.commands,
            "or, with all later stages: vsp submit",
            "or, on this machine: vsp extract",
        ],
        "baseline": _untrained_lines(planned, words),
    }
    return [
        f"{'' if i else name:<{_NAME - 1}} {line}"
        for name, lines in facts.items()
        for i, line in enumerate(_wrapped(name, lines, width))
    ]


def _wrapped(name: str, lines: Sequence[str], width: int | None) -> list[str]:
    if width is None or name == "next":
        return list(lines)
    room = max(width - _NAME, _NAME)
    return [part for line in lines for part in wrapped_lines(line, room)]


def _positions(planned: Planned) -> list[str]:
    """A line about the positions, if there are more than the last token; one for each module."""
    run = planned.run
    by_module: dict[str, list[str]] = {}
    for position in run.plan.stored_positions:
        by_module.setdefault(split_position(position)[0], []).append(position)
    of_decoder = by_module.pop("")
    lines = [f"one for each position: {', '.join(of_decoder)}"] if len(of_decoder) > 1 else []
    for positions in by_module.values():
        shape = list(run.states(positions[0]).layout.shape)
        lines.append(f"{shape} for each of: {', '.join(positions)}")
    return lines


def _answer_lines(plan: Plan) -> list[str]:
    """The options, as they join the prompt, and their numbers of tokens."""
    answers = plan.answers
    if answers is None:
        return ["not stored"]
    lens = ", also read from every layer (logit lens)" if answers.lens else ""
    if not answers.options:
        return [f"up to {answers.n_options} options, those of each row{lens}"]
    shown = [f"{option.text!r} ({len(option.tokens)})" for option in answers.options]
    return [f"options (tokens): {', '.join(shown)}{lens}"]


def _untrained_lines(planned: Planned, words: Sequence[str]) -> list[str]:
    """The command that plans the untrained model on the same rows, if the model has one."""
    model = planned.run.plan.model
    has_untrained = load_family(model.family).has_untrained and model.adapter is None
    if model.weights == "random" or not has_untrained:
        return []
    named = {i for i, word in enumerate(words) if word in ("--run", "--weights")}
    kept = [
        word
        for i, word in enumerate(words)
        if not {i, i - 1} & named and not word.startswith(("--run=", "--weights="))
    ]
    name = f"{planned.run.plan.name}-untrained"
    command = shlex.join(["vsp", *kept, "--weights", "random", "--run", name])
    return [
        "the untrained model on the same rows; plan, extract and probe it before this run:",
        command,
    ]


def _memory_lines(planned: Planned) -> list[str]:
    """Memory of each device, and the modules that are not quantized."""
    memory = planned.memory
    if memory is None:
        return []
    line = _weights_and_batch(planned, memory)
    if planned.run.plan.model.quantized_as == "none":
        return [line]
    names = ", ".join(name.rpartition(".")[2] for name in memory.unquantized)
    full = format_bytes(sum(memory.unquantized.values()))
    return [line, f"{full} of the weights are not quantized: {names}"]


def _weights_and_batch(planned: Planned, memory: Memory) -> str:
    weights, batch = format_bytes(memory.weights), format_bytes(memory.batch)
    if planned.device_weights:
        each = " + ".join(format_bytes(n) for n in planned.device_weights)
        return f"{each} weights on {len(planned.device_weights)} GPUs + about {batch} per batch on each"
    if planned.run.plan.devices == "auto":
        return f"{weights} weights, divided among a task's GPUs, + about {batch} per batch on each"
    return f"{weights} weights + about {batch} per batch"
