"""What the sections of the page read of one run: its name, summary and scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vsp.reporting.names import model_name, plan_of
from vsp.reporting.untrained import Untrained, read_untrained
from vsp.storage.layer_score import LayerScore
from vsp.storage.plan import Plan
from vsp.storage.results import Results

N_COLORS = 8  # of the style sheet, for curves


@dataclass(frozen=True, slots=True)
class PageRun:
    """The results of a run as the page shows them."""

    name: str  # on the page, unique on it
    results: Results
    summary: Mapping[str, Any]
    scores: Sequence[LayerScore]
    untrained: Untrained | None

    @property
    def plan(self) -> Plan:
        return plan_of(self.summary)

    @property
    def model(self) -> str:
        return model_name(self.plan.model)


def read_page_run(name: str, results: Results) -> PageRun:
    """Read and check the results. Raises RunError as `Results.read` does."""
    summary, scores = results.read()
    return PageRun(name, results, summary, scores, read_untrained(results, summary))
