"""Tables and plots of what is on disk; computes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from vsp.bench import Bench
from vsp.catalog import Entry
from vsp.config import ModelConfig, parse
from vsp.errors import ConfigError
from vsp.files import written_aside
from vsp.journal import Worst
from vsp.models.memory import Memory
from vsp.plan import Planned
from vsp.results import LayerScore, Results
from vsp.run import Plan
from vsp.status import far

_BAR = 28  # characters for an accuracy of 1


def as_json(results: Results) -> dict[str, Any]:
    """The summary and every layer's scores, for machines."""
    summary, scores = results.read()
    return {**summary, "layers": [asdict(score) for score in scores]}


def report_table(results: Results) -> RenderableType:
    """The summary of a probed run, 80 columns wide."""
    summary, scores = results.read()
    best = next(score for score in scores if score.layer == summary["best_layer"])
    notes = _notes(summary, best)
    return Group(_facts(summary), Text(), _layers(summary, scores), Text(), *notes)


def plan_lines(planned: Planned) -> list[str]:
    """What a new run is and will cost, and what to type next."""
    plan, layout = planned.run.plan, planned.run.store.layout
    sizes = sorted(shard.stop - shard.start for shard in planned.run.shards)
    rows = str(sizes[0]) if sizes[0] == sizes[-1] else f"{sizes[0]} to {sizes[-1]}"
    facts = {
        "run": f"{plan.name}, in {planned.run.folder}",
        "model": f"{_model(plan.model)}, computes in {plan.compute_dtype}",
        "dataset": f"{_near(plan.dataset)}: {plan.n_samples} rows, {len(plan.labels)} labels",
        "prompt": f"{plan.prompt}, the first: {planned.first_prompt!r}",
        "shards": f"{len(sizes)} of {rows} rows, batches of {plan.batch_tokens} tokens",
        "array": f"{list(layout.shape)} [layer, sample, hidden] {plan.dtype}",
        "disk": f"{_size(layout.n_bytes)} reserved, {_size(planned.free_bytes)} still free",
        "memory": _memory(planned.memory, plan.model.quantization),
        "next": "\n         ".join(planned.commands),
        "": "or, with what comes after it: vsp submit\n         or, on this machine: vsp extract",
    }
    return [f"{name:<8} {fact}" for name, fact in facts.items() if fact]


def models_table(entries: Sequence[Entry], families: Sequence[str]) -> RenderableType:
    """The described models, 80 columns wide, a checkpoint below its model's name."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("model", overflow="fold")
    table.add_column("family", no_wrap=True)
    for column in ("layers", "hidden"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("quantized", no_wrap=True)
    for entry in entries:
        shape = entry.shape
        known = (str(shape.n_layers), str(shape.hidden_size)) if shape else ("–", "–")
        name = Text(f"{entry.name}\n", style="bold")
        name.append(f" {_near(entry.model.checkpoint or 'no checkpoint')}", style="not bold dim")
        table.add_row(name, entry.model.family, *known, entry.model.quantization)
    notes = [f"{entry.name} cannot be used: {entry.problem}" for entry in entries if entry.problem]
    if not entries:
        notes.append("configs/models/ holds no file here")
    elif not all(entry.shape for entry in entries):
        notes.append(
            "–: not on this disk. `hf download CHECKPOINT` fetches it into the cache (HF_HOME), "
            "with --local-dir DIR into a folder for --checkpoint DIR."
        )
    if any(entry.shape for entry in entries):
        notes.append("layers: the embedding output and each decoder layer")
    notes.append(f"families, for --model with --checkpoint: {', '.join(families)}")
    return Group(table, Text(), *(Text(note, overflow="fold") for note in notes))


def models_json(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    return [
        {
            "name": entry.name,
            **entry.model.model_dump(mode="json"),
            "n_layers": entry.shape and entry.shape.n_layers,
            "hidden_size": entry.shape and entry.shape.hidden_size,
            "problem": entry.problem or None,
        }
        for entry in entries
    ]


def bench_table(benches: Sequence[Bench], n_planned: int | None) -> RenderableType:
    """Rows per second of each way, 80 columns wide, and what the planned rows will take."""
    parts: list[RenderableType] = []
    for bench in benches:
        images = f"{bench.n_rows} {bench.title}, {bench.n_images} images"
        parts += [Text(images, style="bold"), _ways(bench)]
        if bench.difference is not None:
            off = f"states of all ways agree to {bench.difference:.1g} of their layer's largest"
            parts.append(Text(off))
        if bench.best is not None and bench.best.rows_per_second is not None:
            parts.append(Text(_forecast(bench, bench.best.rows_per_second, n_planned)))
        parts.append(Text())
    parts.append(Text(_BENCH_NOTE))
    return Group(*parts)


_BENCH_NOTE = """\
batch     as many tokens at once as that many of the longest rows have
× one     over rows/s of transformers, one by one
of bare   over the same forward passes alone: nothing read, kept or written
peak      memory beyond the weights"""


def _ways(bench: Bench) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("way")
    for column in ("batch", "rows/s", "× one", "of bare", "peak", "bare's peak"):
        table.add_column(column, justify="right")
    for way in bench.ways:
        table.add_row(
            way.name,
            str(way.batch),
            "no memory" if way.rows_per_second is None else f"{way.rows_per_second:,.1f}",
            "" if way.times_plain is None else f"{way.times_plain:.2f}",
            "" if way.of_bare is None else f"{way.of_bare:.2f}",
            "" if way.peak_bytes is None else _size(way.peak_bytes),
            "" if way.bare_peak_bytes is None else _size(way.bare_peak_bytes),
            style="bold" if way is bench.best else "",
        )
    return table


def _forecast(bench: Bench, rate: float, n_planned: int | None) -> str:
    n_rows = 1_000_000 if n_planned is None else n_planned
    hours = n_rows / rate / 3600
    time = f"{hours:,.1f} hours" if hours >= 1 else f"{60 * hours:,.1f} minutes"
    gpu = f", {hours:,.2f} GPU-hours" if bench.on_gpu else ""
    whose = "a million rows" if n_planned is None else f"the plan's {n_planned:,} rows"
    return f"{whose} take about {time} in one task at {rate:,.1f} rows/s{gpu}"


def plot(results: Results, path: Path) -> None:
    """Draw accuracy over layers with chance, as PNG or SVG by the file's ending."""
    if path.suffix not in (".png", ".svg"):
        raise ConfigError(f"plot {str(path)!r}: ends in {path.suffix!r}; use .png or .svg")
    import matplotlib

    matplotlib.use("Agg")
    # Text stays text in an SVG, and the same results give the same bytes.
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "vsp"})
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    summary, scores = results.read()
    layers = [score.layer for score in scores]
    best = scores[layers.index(summary["best_layer"])]
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(layers, [s.accuracy for s in scores], "o-", color="#0b5394", label="test accuracy")
    axes.plot(
        layers,
        [s.cv_accuracy for s in scores],
        "--",
        color="#6fa8dc",
        label="cross-validated in training rows",
    )
    axes.axhline(summary["chance"], color="#777777", linestyle=":", label="chance")
    axes.plot(
        best.layer,
        best.accuracy,
        "o",
        markersize=12,
        markerfacecolor="none",
        color="#cc0000",
        label=f"best layer {best.layer}: {best.accuracy:.3f}",
    )
    axes.set(xlabel="layer (0 = embedding output)", ylabel="accuracy", ylim=(0, 1.02))
    plan = _plan(summary)
    axes.set_title(f"{Path(plan.dataset).name} · {_model(plan.model)}", fontsize=10)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.3)
    axes.legend(frameon=False, fontsize=8)
    with written_aside(path) as file:
        metadata = {"Date": None} if path.suffix == ".svg" else {}
        figure.savefig(file, format=path.suffix[1:], dpi=150, metadata=metadata)


def _memory(memory: Memory | None, quantization: str) -> str:
    """What the device will hold, and which modules keep their precision."""
    if memory is None:
        return ""
    line = f"{_size(memory.weights)} weights + about {_size(memory.batch)} a batch"
    if quantization == "none":
        return line
    names = ", ".join(name.rpartition(".")[2] for name in memory.unquantized)
    full = _size(sum(memory.unquantized.values()))
    return f"{line}\n         {full} of the weights kept out of {quantization}: {names}"


def _size(n_bytes: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if n_bytes < 1000:
            return f"{n_bytes:.3g} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:,.1f} TB"


def _facts(summary: dict[str, Any]) -> Table:
    plan, rows, settings = _plan(summary), summary["rows"], summary["settings"]
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    facts = {
        "run": summary["run"],
        "model": _model(plan.model),
        "dataset": f"{_near(plan.dataset)}, prompt {plan.prompt}",
        "rows": (
            f"{rows['done']} done, {rows['failed']} failed, {rows['missing']} missing "
            f"of {rows['planned']}"
        ),
        "states": (
            f"{plan.n_layers} layers × {plan.hidden_size}, computed in {plan.compute_dtype}, "
            f"kept in {plan.dtype}"
        ),
        "batching": far(Worst(**summary["batching"])) if summary["batching"] else "not compared",
        "split": f"{rows['train']} train, {rows['test']} test: {summary['split']}",
        "probe": (
            f"{settings['probe']}, one against the rest, L2 with C = {settings['C']:g}, "
            "standardised"
        ),
    }
    for name, fact in facts.items():
        table.add_row(name, Text(fact))
    return table


def _layers(summary: dict[str, Any], scores: Sequence[LayerScore]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("layer", "accuracy", "macro F1", "CV"):
        table.add_column(column, justify="right")
    table.add_column("")
    chance = round(summary["chance"] * _BAR)
    for score in scores:
        best = score.layer == summary["best_layer"]
        table.add_row(
            str(score.layer),
            f"{score.accuracy:.3f}",
            f"{score.macro_f1:.3f}",
            f"{score.cv_accuracy:.3f}",
            _bar(score.accuracy, chance) + (Text(" best") if best else Text()),
            style="bold green" if best else "",
        )
    return table


def _bar(accuracy: float, chance: int) -> Text:
    """A bar of the accuracy from 0 to 1 with a mark where chance is."""
    filled = round(accuracy * _BAR)
    cells = ["█" if i < filled else "·" for i in range(_BAR)]
    cells[min(chance, _BAR - 1)] = "│"
    return Text("".join(cells))


def _notes(summary: dict[str, Any], best: LayerScore) -> list[Text]:
    rows = summary["rows"]
    by_class = ", ".join(f"{label} {share:.2f}" for label, share in best.per_class.items())
    notes = [
        f"best layer {best.layer}: accuracy {best.accuracy:.3f} on the test rows; chosen by "
        "cross-validation (CV) in the training rows alone",
        f"by class there: {by_class}",
        f"│ marks chance, {summary['chance']:.3f}: always saying the commonest training label",
    ]
    if rows["used"] < rows["planned"]:
        notes.append(f"{rows['planned'] - rows['used']} rows failed or missing were left out")
    notes += _failed(rows["failed"], summary["failed_reasons"])
    if summary["n_not_converged"]:
        notes.append(
            f"{summary['n_not_converged']} of {summary['n_fits']} fits did not converge; "
            "raise --max-iter"
        )
    else:
        notes.append(f"all {summary['n_fits']} fits converged")
    return [Text(note, overflow="fold") for note in notes]


def _failed(n_failed: int, reasons: dict[str, int]) -> list[str]:
    """Why rows failed, in a line; the two commonest reasons."""
    if not n_failed:
        return []
    shown = dict(list(reasons.items())[:2])
    words = [f"{n} × {why}" for why, n in shown.items()]
    rest = n_failed - sum(shown.values())
    words += [f"{rest} for other reasons; `vsp status --json` has all"] if rest else []
    return ["failed rows: " + "; ".join(words)]


def _plan(summary: dict[str, Any]) -> Plan:
    return parse(Plan, summary["plan"], f"results of run {summary['run']}")


def _model(model: ModelConfig) -> str:
    checkpoint = _near(model.checkpoint) if model.checkpoint else "no checkpoint"
    return f"{model.family} ({checkpoint}), quantization {model.quantization}"


def _near(path: str) -> str:
    """A path as seen from the working directory, where it lies below it."""
    here = Path.cwd()
    return str(Path(path).relative_to(here)) if Path(path).is_relative_to(here) else path
