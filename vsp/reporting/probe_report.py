"""Tables of what is on disk; computes nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from vsp.cluster.status import far
from vsp.config import ModelConfig, parse
from vsp.evaluation.bench_probe import CAREFUL, OURS, OURS_SCALED, RESEARCH, LayerBench, ProbeBench
from vsp.extraction.bench import Bench
from vsp.extraction.plan import Planned
from vsp.models.catalog import Entry
from vsp.models.memory import Memory
from vsp.storage.journal import Worst
from vsp.storage.results import LayerScore, Results
from vsp.storage.run import Plan
from vsp.utils.terminal import fact_table
from vsp.utils.text import format_ranges

if TYPE_CHECKING:
    from vsp.evaluation.compare import Difference, Pair

_BAR = 22  # characters for a score of 1
_HALF = 7  # of them for the largest difference
_CONFUSION = 47  # columns of the terminal for a confusion matrix
_CLASSES = 20  # rows of the table of classes


def as_json(results: Results) -> dict[str, Any]:
    """The summary and every layer's scores, for machines."""
    summary, scores = results.read()
    return {**summary, "layers": [asdict(score) for score in scores]}


def report_table(results: Results) -> RenderableType:
    """What a probed run found, 80 columns wide."""
    summary, scores = results.read()
    best = next(score for score in scores if score.layer == summary["best_layer"])
    parts: list[RenderableType] = [_facts(summary, best), Text(), _layers(summary, scores), Text()]
    parts += [_folded(note) for note in _notes(summary, scores)]
    parts += [Text(), _baselines(summary), Text(), _best(best)]
    parts += [_details(summary, scores, best)]
    if best.recall is not None:
        parts += [Text(), *_classes(best)]
    warnings = _warnings(summary, scores)
    if warnings:
        parts += [Text(), *(_folded(f"! {line}", style="yellow") for line in warnings)]
    return Group(*parts)


def compare_table(pairs: Sequence[Pair]) -> RenderableType:
    """Another run against the first, layer by layer, 80 columns wide."""
    parts: list[RenderableType] = []
    for pair in pairs:
        parts += [_compared(pair), Text(), _difference_table(pair), Text()]
        parts += [_folded(note) for note in _compare_notes(pair)] + [Text()]
    return Group(*parts[:-1])


def _compared(pair: Pair) -> Table:
    facts = {
        "first": pair.first,
        "other": pair.other,
        "rows": (
            f"{pair.n_rows} judged in both, in {pair.n_groups} groups; {pair.n_only_first} only in "
            f"first, {pair.n_only_other} only in other"
        ),
        "layers": "at equal relative depth, as one model has more" if pair.by_depth else "the same",
        "probe": pair.first_probe
        if _one_probe(pair)
        else f"{pair.first_probe}; in other {pair.other_probe}",
    }
    return fact_table(facts)


def _one_probe(pair: Pair) -> bool:
    return pair.first_probe == pair.other_probe


def _difference_table(pair: Pair) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    names = ["layer", "first", "other", "difference", f"{pair.confidence:.0%}", "p corr."]
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    largest = max(abs(one.difference) for one in pair.layers)
    for one in pair.layers:
        layer = f"{one.first_layer}:{one.other_layer}" if pair.by_depth else f"{one.first_layer}"
        table.add_row(layer, *_compared_figures(one, one.p_corrected), _two_sided(one, largest))
    layer = f"{pair.peak.first_layer}:{pair.peak.other_layer}"
    figures = _compared_figures(pair.peak, pair.peak.p)
    table.add_section()
    table.add_row(layer, *figures, Text("peaks"), style="bold green")
    return table


def _compared_figures(one: Difference, p: float) -> list[Text]:
    interval = f"[{one.low:+.3f}, {one.high:+.3f}]"
    figures = (f"{one.first_score:.3f}", f"{one.other_score:.3f}", f"{one.difference:+.3f}")
    return [Text(figure) for figure in (*figures, interval, f"{p:.4f}")]


def _two_sided(one: Difference, largest: float) -> Text:
    """A bar from the middle, the largest difference to the edge; light where it could be none."""
    cells = ["·"] * (2 * _HALF + 1)
    reach = round(_HALF * one.difference / largest) if largest else 0
    block = "▒" if one.low <= 0 <= one.high else "█"
    for cell in range(min(reach, 0), max(reach, 0) + 1):
        cells[_HALF + cell] = block
    cells[_HALF] = "│"
    return Text("".join(cells))


def _compare_notes(pair: Pair) -> list[str]:
    flips = "every exchange" if pair.n_flips == 2**pair.n_groups else f"{pair.n_flips} exchanges"
    notes = [
        f"{pair.statistic} on the rows of both, other less first; {pair.confidence:.0%} intervals "
        "resample whole groups, of each layer alone; ▒ perhaps none",
        f"p corr.: {flips} of the runs within groups, against the largest of all layers, in standard errors",
    ]
    if not _one_probe(pair):
        notes.append("the runs were read by different probes: that is part of every difference")
    if pair.n_relabelled:
        notes.append(
            f"{pair.n_relabelled} rows have another label in other, as its dataset is a variant: "
            "compared is who is right"
        )
    if not pair.same_splits:
        notes.append(
            "rows were split in other ways: intervals and p allow for the most that matters"
        )
    if pair.by_depth:
        notes.append("2:4 is layer 2 of first and layer 4 of other")
    if pair.peak_unseen:
        notes.append("peaks: each row judged at the layer that other rows chose; p of this alone")
    else:
        notes.append(
            "peaks: each run's best layer, chosen on rows that it is judged on here; p of this alone"
        )
    return notes


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


def bench_probe_table(bench: ProbeBench) -> RenderableType:
    """CPU seconds and exactness of each way to a probe, 80 columns wide."""
    parts: list[RenderableType] = []
    for layer in bench.layers:
        size = f"{layer.n_rows:,} rows × {layer.hidden:,}, {layer.n_classes} classes"
        parts += [Text(f"{layer.title}: {size}, C = {bench.C:g}", style="bold"), _probe_ways(layer)]
        if layer.programme is not None:
            timed = layer.programme
            parts.append(
                Text(
                    f"all {timed.n_fits} fits of its statistics: {timed.seconds:,.1f} s, "
                    f"{timed.of_research:.3g} of one fit of the research code; "
                    f"gaps ≤ {timed.worst_gap:.1g}"
                )
            )
        parts.append(Text())
    pairs = [("one fit, research code over vsp", bench.slower(RESEARCH, OURS))]
    pairs.append(("one fit, careful over vsp, standardised", bench.slower(CAREFUL, OURS_SCALED)))
    if (programme := bench.programme()) is not None:
        pairs.append(("research code's one fit over vsp's programme", programme))
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("CPU time")
    for column in ("median layer", "all layers"):
        table.add_column(column, justify="right")
    for name, ratio in pairs:
        table.add_row(name, f"{ratio['median']:,.1f}×", f"{ratio['summed']:,.1f}×")
    return Group(*parts, table, Text(), Text(_BENCH_PROBE_NOTE))


_BENCH_PROBE_NOTE = """\
CPU s      of one core, from stored states to the fitted probe
above      objective over the least known, relative, of the worst class
certified  bound on that which a duality gap gives; stopped: out of iterations
agree      rows kept back where it predicts as the exact probe does"""


def _probe_ways(layer: LayerBench) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("way")
    for column in ("CPU s", "× vsp", "above", "certified", "agree"):
        table.add_column(column, justify="right")
    for way in layer.ways:
        gap = "" if way.gap is None else f"{way.gap:.1e}"
        if not way.converged:
            gap = gap or "stopped"
        table.add_row(
            way.name,
            f"{way.seconds:,.2f}",
            f"{way.slower:,.1f}",
            f"{way.above:.1e}",
            gap,
            f"{100 * way.agree:.1f} %",
        )
    return table


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


def run_title(summary: Mapping[str, Any]) -> str:
    """Dataset and model, in a line."""
    plan = _plan(summary)
    return f"{Path(plan.dataset).name} · {_model(plan.model)}"


def peak_words(summary: Mapping[str, Any]) -> str:
    """The layer that splits chose, and the score on rows that had no part in it."""
    peak = summary["peak"]
    times = sorted(peak["layers"].items(), key=lambda one: (-one[1], int(one[0])))
    n_splits = sum(peak["layers"].values())
    (layer, n), others = times[0], times[1:3]
    also = ", ".join(f"{one} in {k}" for one, k in others) + (", others less" if times[3:] else "")
    return (
        f"layer {layer} chosen in {n} of {n_splits} split{'s' * (n_splits > 1)}"
        f"{f' ({also})' if also else ''}; {_figure(peak['estimate'])} {_interval(peak)} on rows "
        "that did not choose it"
    )


def _facts(summary: Mapping[str, Any], best: LayerScore) -> Table:
    plan, rows = _plan(summary), summary["rows"]
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
        "split": f"{summary['split']}; {best.n_train} rows to fit, {best.n_test} to judge",
        "probe": _probe(summary["probe"]),
        "fits": _fits(summary),
    }
    if summary["peak"] is not None:
        naive = f"the largest of the plain estimates is {_figure(summary['peak']['naive'])}"
        facts["peak"] = f"{peak_words(summary)}; {naive}"
    return fact_table(facts)


def _probe(card: Mapping[str, Any]) -> str:
    words = [card["probe"], f"treatment {card['treatment']}"]
    words += {"sigmoid": ["one against the rest"], "softmax": ["softmax"]}.get(card["link"], [])
    grid = card["grid"]
    if card["parameter"] and grid is None:
        words.append(f"{card['parameter']} chosen in the training rows, of each layer's own grid")
    elif card["parameter"] and len(grid) > 1:
        listed = " ".join(f"{value:g}" for value in grid)
        words.append(f"{card['parameter']} chosen in the training rows of {listed}")
    elif card["parameter"]:
        words.append(f"{card['parameter']} = {grid[0]:g}")
    return ", ".join(words)


def _fits(summary: Mapping[str, Any]) -> str:
    n_fits, n_bad, gap = summary["n_fits"], summary["n_uncertified"], summary["max_gap"]
    if n_bad and gap is None:  # of a probe that has no certificate
        return f"{n_bad} of {n_fits} fits stopped before they had converged"
    if n_bad:
        worst = f"; the largest is {gap:.1g}"
        return f"{n_bad} of {n_fits} fits did not reach a gap of {summary['tolerance']:g}{worst}"
    return f"{n_fits} fits" if gap is None else f"all {n_fits} fits exact to a gap of {gap:.1g}"


def _layers(summary: Mapping[str, Any], scores: Sequence[LayerScore]) -> Table:
    """A row for each layer; a column that no layer has a figure for is left out."""
    columns: dict[str, Callable[[LayerScore], str]] = {
        "layer": lambda score: str(score.layer),
        summary["statistic"]: lambda score: _figure(score.score),
        f"{summary['confidence']:.0%}": lambda score: _interval(asdict(score)),
    }
    if any(score.rmse is not None for score in scores):
        columns["RMSE"] = lambda score: "–" if score.rmse is None else f"{score.rmse:#.3g}"
    if any(score.selectivity is not None for score in scores):
        columns["select."] = lambda score: _figure(score.selectivity)
    if any(score.p_corrected is not None for score in scores):
        columns["p corr."] = lambda score: _figure(score.p_corrected)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    width = _BAR if len(columns) < 6 else _BAR - 8
    for score in scores:
        best = score.layer == summary["best_layer"]
        bar = _bar(score, width) + Text(" best" if best else "")
        cells = [Text(figure(score)) for figure in columns.values()]
        table.add_row(*cells, bar, style="bold green" if best else "")
    return table


def _bar(score: LayerScore, width: int) -> Text:
    """A bar of the score from 0 to 1, its interval light, with a mark where chance is."""
    sure, perhaps = (
        round(width * (score.score if one is None else one)) for one in (score.low, score.high)
    )
    cells = ["█" if i < sure else "▒" if i < perhaps else "·" for i in range(width)]
    if score.chance >= 0:
        cells[min(round(width * score.chance), width - 1)] = "│"
    return Text("".join(cells))


def _notes(summary: Mapping[str, Any], scores: Sequence[LayerScore]) -> list[str]:
    by_label = summary["probe"]["target"] == "label"
    what = "the commonest training label" if by_label else "the mean of the training rows"
    notes = [
        f"▒ {summary['confidence']:.0%} interval, {summary['resamples']} resamples of "
        f"{summary['n_groups']} groups; │ chance, {summary['chance']:.3f}: always saying {what}"
    ]
    if any(score.selectivity is not None for score in scores):
        notes.append(
            "select.: selectivity, score less that of control tasks (a random label for each prompt)"
        )
    if summary["n_permutations"]:
        notes.append(
            f"p corr.: {summary['n_permutations']} refits with permuted labels, against the "
            "largest score of all layers"
        )
    return notes


def _baselines(summary: Mapping[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("baseline")
    table.add_column(summary["statistic"], justify="right")
    table.add_column(f"{summary['confidence']:.0%}", justify="right")
    for name, baseline in summary["baselines"].items():
        if baseline is not None:
            table.add_row(name, _figure(baseline["score"]), Text(_interval(baseline)))
    return table


def _details(summary: Mapping[str, Any], scores: Sequence[LayerScore], best: LayerScore) -> Table:
    """Figures of one layer, by name; those that are not defined are left out."""
    balanced, f1 = _figure(best.balanced_accuracy), _figure(best.macro_f1)
    facts = {
        "score": f"{summary['statistic']} {_figure(best.score)} {_interval(asdict(best))}",
        "as good": _as_good(scores, best),
        "error": best.rmse is not None and f"RMSE {best.rmse:.4g}",
        "classes": best.macro_f1 is not None and f"balanced accuracy {balanced}, macro F1 {f1}",
        "calibration": best.brier is not None
        and f"ECE {_figure(best.ece)}, Brier {_figure(best.brier)}",
        "code length": best.code_bits is not None and _code(best.code_bits, best.compression),
        "curve": best.curve
        and ", ".join(f"{_figure(score)} of {rows:,.0f} rows" for rows, score in best.curve),
        "over layer 0": best.over_embedding is not None and _difference(best.over_embedding),
        "over prompts": summary["best_over_prompt"] is not None
        and _difference(summary["best_over_prompt"]),
        "control": best.control is not None
        and f"{_figure(best.control)}, selectivity {_figure(best.selectivity)}",
        summary["probe"]["parameter"]: best.strength is not None and _strengths(best),
    }
    return fact_table({name: fact for name, fact in facts.items() if fact})


def _code(bits: float, compression: float | None) -> str:
    words = f"{bits:,.0f} bits online"
    if not compression:
        return words
    times, than = (compression, "shorter") if compression >= 1 else (1 / compression, "longer")
    return f"{words}, {_figure(times, 2)} times {than} than the uniform code"


def _best(best: LayerScore) -> Text:
    heading = Text(f"best layer {best.layer}", style="bold")
    return heading.append(", which the training rows prefer", style="not bold")


def _as_good(scores: Sequence[LayerScore], best: LayerScore) -> str:
    """Layers whose paired difference to the best could be none."""
    others = {s.layer: s.below_best for s in scores if s is not best and s.below_best}
    near = [
        layer
        for layer, difference in others.items()
        if difference["high"] is not None and difference["high"] >= 0
    ]
    if not others:
        return ""
    if not near:
        return "no other layer: all score less on the same rows, by more than the interval"
    if len(near) > 1:
        return f"perhaps layers {format_ranges(near)} on the same rows"
    return f"perhaps layer {near[0]} on the same rows, {_difference(others[near[0]])}"


def _strengths(best: LayerScore) -> str:
    words = f"{best.strength:g} in the probe that is saved"
    if len(best.by_strength) < 2:
        return words
    times = Counter(best.strengths)
    splits = ", ".join(f"{value:g} in {n}" for value, n in sorted(times.items()))
    scores = ", ".join(f"{c}: {_figure(one['score'])}" for c, one in best.by_strength.items())
    return f"{words}; in the splits: {splits}" + (f"\nscore at each: {scores}" if scores else "")


def _classes(best: LayerScore) -> list[RenderableType]:
    """Recall, precision and confusion of each class; of very many, those read worst."""
    recall, precision = best.recall or {}, best.precision or {}
    names = list(recall)
    confusion = best.confusion if best.confusion and _fits_in(best.confusion) else None
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1, 0, 0))
    table.add_column("class", overflow="fold", max_width=24)
    columns = ["recall", "precision"]
    columns += [f"→{i + 1}" for i in range(len(names))] if confusion else []
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    shown = sorted(names, key=lambda name: recall[name])[:_CLASSES]
    for i, name in enumerate(names):
        if name in shown:
            counts = [str(n) if n else "·" for n in confusion[i]] if confusion else []
            number = f"{i + 1} " if confusion else ""
            figures = [_figure(recall[name]), _figure(precision.get(name)), *counts]
            table.add_row(Text(f"{number}{name}"), *figures)
    notes = []
    if confusion:
        notes.append("→1: rows of the class that are predicted as class 1")
    else:
        notes.append(f"confusion of {len(names)} classes: `vsp report --json` has it")
    if len(shown) < len(names):
        notes.append(f"the {len(shown)} of {len(names)} classes with the lowest recall are shown")
    return [table, *map(_folded, notes)]


def _fits_in(confusion: Sequence[Sequence[int]]) -> bool:
    digits = max(len(str(n)) for counts in confusion for n in counts)
    return len(confusion) * (1 + max(digits, len(f"→{len(confusion)}"))) <= _CONFUSION


def _warnings(summary: Mapping[str, Any], scores: Sequence[LayerScore]) -> list[str]:
    rows, parameter = summary["rows"], summary["probe"]["parameter"]
    lines = []
    n_edge, n_chosen = (
        sum(score.at_edge for score in scores), sum(len(score.strengths) for score in scores)
    )  # fmt: skip
    if n_edge:
        lines.append(
            f"{parameter} is at an end of the grid in {n_edge} of {n_chosen} choices; a wider "
            "grid may score higher"
        )
    if summary["n_permutations"] and summary["n_movable"] < rows["used"] / 2:
        lines.append(
            f"labels of {summary['n_movable']} of {rows['used']} rows can be permuted, as groups "
            "stay whole; p is larger than it would be with more groups alike"
        )
    known = summary.get("n_prompt_known")
    if scores[0].selectivity is not None and known is not None and known < rows["test"] / 2:
        lines.append(
            f"{known} of {rows['test']} judged rows have a prompt that their probe was fitted "
            "on; what it never saw no probe can have memorised, so selectivity says little here"
        )
    if rows["used"] < rows["planned"]:
        lines.append(f"{rows['planned'] - rows['used']} rows failed or missing were left out")
    return lines + _failed(rows["failed"], summary["failed_reasons"])


def _failed(n_failed: int, reasons: Mapping[str, int]) -> list[str]:
    """Why rows failed, in a line; the two commonest reasons."""
    if not n_failed:
        return []
    shown = dict(list(reasons.items())[:2])
    words = [f"{n} × {why}" for why, n in shown.items()]
    rest = n_failed - sum(shown.values())
    words += [f"{rest} for other reasons; `vsp status --json` has all"] if rest else []
    return ["failed rows: " + "; ".join(words)]


def _figure(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _interval(values: Mapping[str, Any]) -> str:
    low, high = values["low"], values["high"]
    return "–" if low is None or high is None else f"[{low:.3f}, {high:.3f}]"


def _difference(values: Mapping[str, Any]) -> str:
    return f"{values['difference']:+.3f} {_interval(values)}"


def _folded(text: str, style: str = "") -> Text:
    return Text(text, overflow="fold", style=style)


def _plan(summary: Mapping[str, Any]) -> Plan:
    return parse(Plan, summary["plan"], f"results of run {summary['run']}")


def _model(model: ModelConfig) -> str:
    checkpoint = _near(model.checkpoint) if model.checkpoint else "no checkpoint"
    return f"{model.family} ({checkpoint}), quantization {model.quantization}"


def _near(path: str) -> str:
    """A path as seen from the working directory, where it lies below it."""
    here = Path.cwd()
    return str(Path(path).relative_to(here)) if Path(path).is_relative_to(here) else path
