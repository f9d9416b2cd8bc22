"""What the sections of the page read of one run: its name, summary and scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vsp.choices import position_words
from vsp.errors import RunError
from vsp.escaping import one_line
from vsp.reporting.names import model_name, plan_of
from vsp.reporting.untrained import Untrained, read_untrained
from vsp.storage.layer_score import LayerScore
from vsp.storage.plan import Plan
from vsp.storage.results import Results
from vsp.storage.stored_settings import StoredSetting, stored_settings


@dataclass(frozen=True, slots=True)
class PageRun:
    """The results of a run as the page shows them."""

    name: str  # on the page, unique on it; one line
    results: Results
    summary: Mapping[str, Any]
    scores: Sequence[LayerScore]
    untrained: Untrained | None
    others: Sequence[PageRun] = ()  # the same setting of the probe at other positions of the prompt
    unreadable: Sequence[str] = ()  # why other results of the run cannot be read

    @property
    def plan(self) -> Plan:
        return plan_of(self.summary)

    @property
    def model(self) -> str:
        return model_name(self.plan.model)

    @property
    def position(self) -> str:
        """The position of the states, in words."""
        return position_words(self.summary["position"])

    @property
    def statistic(self) -> str:
        return str(self.summary["statistic"])

    @property
    def classes(self) -> list[str]:
        """The labels, in the order of the confusion matrix; empty for numbers."""
        return list(self.scores[0].recall or {})

    @property
    def selected(self) -> int:
        """The layer that training rows select."""
        return int(self.summary["best_layer"])


def read_page_run(name: str, results: Results) -> PageRun:
    """Read and check the results, and those of the same setting at other positions.

    Raises RunError as `Results.read` does, for these results alone.
    """
    summary, scores = results.read()
    name = one_line(name)
    others, unreadable = [], []
    for one in sorted(stored_settings(results.home), key=lambda one: one.name):
        try:
            if not one.values:
                one.results.summary()  # says why it cannot be read
            elif _differs_in_position(one, summary):
                others.append(_read(name, one.results))
        except RunError as error:
            unreadable.append(str(error))
    untrained = read_untrained(results, summary)
    return PageRun(name, results, summary, scores, untrained, others, unreadable)


def _read(name: str, results: Results) -> PageRun:
    summary, scores = results.read()
    return PageRun(name, results, summary, scores, None)


def _differs_in_position(one: StoredSetting, summary: Mapping[str, Any]) -> bool:
    """Whether stored results have another position, and else the setting of this summary."""
    own, its = (_without_position(values) for values in (summary, one.values))
    other = one.values.get("position") != summary["position"]
    return bool(other and own == its and one.values.get("run") == summary["run"])


def _without_position(values: Mapping[str, Any]) -> Any:
    settings = values.get("settings")
    if not isinstance(settings, dict):
        return None
    kept = {key: value for key, value in settings.items() if key != "position"}
    return kept, values.get("statistic"), values.get("identity")
