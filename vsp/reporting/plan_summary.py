"""The lines that `vsp plan` prints: the new run, its size, and the next command."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vsp.reporting.formatting import format_bytes, format_model, shorten_path

if TYPE_CHECKING:
    from vsp.extraction.plan import Planned
    from vsp.models.memory import Memory


def plan_lines(planned: Planned) -> list[str]:
    """What a new run is and will cost, and what to type next."""
    plan, layout = planned.run.plan, planned.run.store.layout
    sizes = sorted(shard.stop - shard.start for shard in planned.run.shards)
    rows = str(sizes[0]) if sizes[0] == sizes[-1] else f"{sizes[0]} to {sizes[-1]}"
    facts = {
        "run": f"{plan.name}, in {planned.run.folder}",
        "model": f"{format_model(plan.model)}, computes in {plan.compute_dtype}",
        "dataset": f"{shorten_path(plan.dataset)}: {plan.n_samples} rows, {len(plan.labels)} labels",
        "prompt": f"{plan.prompt}, the first: {planned.first_prompt!r}",
        "shards": f"{len(sizes)} of {rows} rows, batches of {plan.batch_tokens} tokens",
        "array": f"{list(layout.shape)} [layer, sample, hidden] {plan.dtype}",
        "disk": f"{format_bytes(layout.n_bytes)} reserved, {format_bytes(planned.free_bytes)} still free",
        "memory": _memory_fact(planned.memory, plan.model.quantization),
        "next": "\n         ".join(planned.commands),
        "": "or, with what comes after it: vsp submit\n         or, on this machine: vsp extract",
    }
    return [f"{name:<8} {fact}" for name, fact in facts.items() if fact]


def _memory_fact(memory: Memory | None, quantization: str) -> str:
    """What the device will hold, and which modules keep their precision."""
    if memory is None:
        return ""
    line = f"{format_bytes(memory.weights)} weights + about {format_bytes(memory.batch)} a batch"
    if quantization == "none":
        return line
    names = ", ".join(name.rpartition(".")[2] for name in memory.unquantized)
    full = format_bytes(sum(memory.unquantized.values()))
    return f"{line}\n         {full} of the weights kept out of {quantization}: {names}"
