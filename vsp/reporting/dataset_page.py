"""`vsp dataset show`: the page about a dataset for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from rich.console import Group, RenderableType
from rich.table import Table

from vsp.datasets import prompts
from vsp.datasets.summary import DatasetSummary
from vsp.utils.terminal import fact_table, text_line
from vsp.utils.text import format_count

_MAX_LABELS = 20  # maximum number of rows in the label table
_MAX_MISSING = 3  # maximum number of missing images that are named
_MAX_PROMPT = 300  # maximum length of an example prompt


def dataset_page(summary: DatasetSummary) -> RenderableType:
    """The page of `vsp dataset show`, for 80 columns: facts, label counts, flags, example prompts."""
    parts: list[RenderableType] = [
        fact_table(_facts(summary)), text_line(), _label_table(summary), text_line()
    ]  # fmt: skip
    if summary.flags:
        parts += [_flag_table(summary), text_line()]
    parts += [text_line("Prompt of the first row, in each style that it supports", style="bold")]
    parts += [fact_table(_example_prompts(summary))]
    return Group(*parts)


def _facts(summary: DatasetSummary) -> dict[str, str]:
    rows_per_image = list(summary.images.values())
    n_sharing = sum(n for n in rows_per_image if n > 1)
    facts = {
        "dataset": str(summary.dataset),
        "origin": _origin(summary),
        "rows": f"{summary.n_rows:,} in {format_count(len(summary.groups), 'group')}",
        "images": (
            f"{len(rows_per_image):,}; rows per image: mean "
            f"{summary.n_rows / len(rows_per_image):.2f}, median {median(rows_per_image):g}, "
            f"maximum {max(rows_per_image):,}; {n_sharing / summary.n_rows:.1%} of rows share "
            "their image with another row"
        ),
        "images also in": ", ".join(map(str, summary.other_folders)),
        "missing images": _missing(summary),
        "regions": (
            f"{summary.n_regions:,} rows have a box or mask of both subject and reference, or of their "
            "own prompt"
            if summary.n_regions
            else ""
        ),
        "funnel": "funnel.json counts the rows that the import dropped, and dropped.csv lists them"
        if summary.has_funnel
        else "",
    }
    return {name: fact for name, fact in facts.items() if fact}


def _origin(summary: DatasetSummary) -> str:
    card = summary.card if isinstance(summary.card, dict) else {}
    if summary.variants:
        return f"{', then '.join(summary.variants)}; variant of {card.get('of')}"
    return ", ".join(f"{key} {card[key]}" for key in ("task", "source", "seed") if key in card)


def _missing(summary: DatasetSummary) -> str:
    if not summary.missing:
        return "none"
    named = ", ".join(summary.missing[:_MAX_MISSING])
    more = ", …" if len(summary.missing) > _MAX_MISSING else ""
    n_rows = sum(summary.images[name] for name in summary.missing)
    return (
        f"{len(summary.missing):,} of {len(summary.images):,} images, with {n_rows:,} of "
        f"{summary.n_rows:,} rows: {named}{more}"
    )


def _label_table(summary: DatasetSummary) -> Table:
    """Rows by label and split; rare labels are summed up if there are many."""
    splits, labels = summary.splits, summary.labels
    totals = {label: sum(summary.counts[label, split] for split in splits) for label in labels}
    shown = sorted(labels, key=lambda label: -totals[label])[:_MAX_LABELS]
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("label", overflow="fold", max_width=30)
    for name in (*(split or "no split" for split in splits), "all", "share"):
        table.add_column(name, justify="right", no_wrap=True)

    def add(name: str, summed: Sequence[str], style: str = "") -> None:
        counts = [sum(summary.counts[label, split] for label in summed) for split in splits]
        share = f"{sum(counts) / summary.n_rows:.1%}"
        cells = [f"{n:,}" for n in (*counts, sum(counts))]
        table.add_row(text_line(name), *cells, share, style=style)

    for label in labels:
        if label in shown:
            add(label, [label])
    others = [label for label in labels if label not in shown]
    if others:
        add(f"{len(others)} others", others)
    add("all", labels, "bold")
    return table


def _flag_table(summary: DatasetSummary) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("flag", overflow="fold")
    for name in ("rows", "share"):
        table.add_column(name, justify="right", no_wrap=True)
    for flag, n in summary.flags.most_common():
        table.add_row(text_line(flag), f"{n:,}", f"{n / summary.n_rows:.1%}")
    return table


def _example_prompts(summary: DatasetSummary) -> dict[str, str]:
    """The prompt of the first row by style, with the number of rows if not all support the style."""
    examples = {}
    for style, prompt in summary.prompts.items():
        n = summary.n_prompts if style == prompts.DATASET else summary.n_named
        coverage = "" if n == summary.n_rows else f"({n:,} of {summary.n_rows:,} rows) "
        cut = prompt if len(prompt) <= _MAX_PROMPT else f"{prompt[:_MAX_PROMPT]}…"
        examples[style] = coverage + cut.replace("\n", "⏎ ")
    return examples
