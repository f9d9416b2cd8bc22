"""Results with everything that a page of the browser shows, and pages of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from helpers import made
from numpy.typing import NDArray

from vsp.reporting.page.page_run import read_page_run
from vsp.reporting.page.report_page import runs_page
from vsp.storage.layer_score import LayerScore
from vsp.storage.results import Results

# Names that would be markup, code, an attribute's end or a member of every object.
HOSTILE = (
    "</script><script>window.broken = 1</script>",
    "<img src=x onerror='window.broken = 1'>",
    "a\"b'c & d ${window.broken = 1} {{1}}",
    "__proto__",
)


def rich_results(
    folder: Path,
    labels: Sequence[str] = (),
    rows: dict[str, NDArray[Any]] | None = None,
    **changes: Any,
) -> Results:
    """Results with answers, a lens, control tasks and confusion, with these four labels.

    `rows` are the arrays of predictions; by default, those of 13 layers.
    """
    rows = made.predictions(made.accuracies(13)) if rows is None else rows
    scores = [_with_lens(_renamed(one, labels or made.NAMES)) for one in made.scores(rows)]
    values = {"says": says(labels or made.NAMES), "no_answers": "", **changes}
    peak = made.peak(max(scores, key=lambda one: one.score), True)
    return made.made(folder, rows, scores, **{"peak": peak, **values})


def score(value: float, half: float = 0.05) -> dict[str, float]:
    return {"score": value, "low": value - half, "high": value + half}


def says(labels: Sequence[str]) -> dict[str, Any]:
    """Invented figures of the model's own answers."""
    figures = {"says": score(0.61), "knows": score(0.83), "difference": made.interval(0.22)}
    recall = {name: {"says": {**score(0.6), "n": 60}, "knows": None} for name in labels}
    return {
        "score": "total", "statistic": "accuracy", "n_rows": 238, "n_no_label": 2, "n_ties": 1,
        "prior": "no run of the same dataset with blank pictures is at hand",
        "scores": {"total": score(0.61), "per-token": None, "per-character": None, "corrected": None},
        "figures": {"accuracy": figures}, "recall": recall,
        "table": {"both": 130.0, "only_knows": 67.5, "only_says": 15.0, "neither": 25.5},
        "test": {"p": 0.0005, "n_flips": 1999, "p_rows": 1e-9},
        "agreement": {"share": score(0.6), "kappa": 0.45},
    }  # fmt: skip


def write_page(path: Path, results: Sequence[Results], **options: Any) -> Path:
    """The page of these results, in a file."""
    runs = [read_page_run(one.name, one) for one in results]
    path.write_text(runs_page(runs, **options).text, encoding="utf-8", newline="")
    return path


def _renamed(one: LayerScore, labels: Sequence[str]) -> LayerScore:
    by_label = {
        field: dict(zip(labels, getattr(one, field).values(), strict=True))
        for field in ("recall", "precision")
    }
    return replace(one, **by_label)


def _with_lens(one: LayerScore) -> LayerScore:
    return replace(one, lens=score(0.3 + one.layer / 40))
