"""The part of the page about a study: the figures of its runs, and the file that makes it again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from vsp.reporting.page.elements import disclosure, facts, paragraphs, table
from vsp.reporting.page.markup import Html, joined, tag
from vsp.reporting.page.messages import without_folders
from vsp.reporting.page.page_run import PageRun
from vsp.reporting.page.rerun_commands import place_of
from vsp.reporting.page.section import Section, Table
from vsp.reporting.study_facts import FIGURES_NOTE, RoleFacts, StudyFacts, selected_layer
from vsp.storage.study import Study, study_yaml

_COLUMNS = ("role", "run", "peak", "low", "high", "layer", "chance", "words", "says")


def study_section(found: StudyFacts, run: PageRun) -> Section:
    """The runs of a study, and reasons to read its figures with care.

    `run` is one of them; it knows the folders of the machine, of which the page shows none.
    """
    study = _without_folders(found.study, run)
    cautions = [without_folders(one, run) for one in found.cautions]
    statistics = dict.fromkeys(one.summary["statistic"] for one in found.runs if one.summary)
    caption = f"The runs of the study: {' or '.join(statistics) or 'no results yet'}"
    rows = [_row(one) for one in found.runs]
    parts = [
        facts({"study": study.name, "model": study.model, "dataset": study.dataset}),
        table(Table(_COLUMNS, rows, caption)),
        paragraphs([FIGURES_NOTE]),
        paragraphs([f"{one[:1].upper()}{one[1:]}." for one in cautions], class_="caution"),
        disclosure(
            f"The file from which vsp study {study.name} makes all of it again",
            paragraphs(
                [
                    f"studies/{study.name}.yaml; what lies outside the project folder has its name alone."
                ]
            ),
            _code(study_yaml(study)),
        ),
    ]
    return Section("study", "The study", joined(parts))


def _without_folders(study: Study, run: PageRun) -> Study:
    """The study with paths relative to the project folder, or their last part."""
    options = {
        name: place_of(value, run) if isinstance(value, str) else value
        for name, value in study.options.items()
    }
    return replace(
        study,
        model=place_of(study.model, run),
        dataset=place_of(study.dataset, run),
        on=tuple(place_of(one, run) for one in study.on),
        options=options,
    )


def _code(text: str) -> Html:
    return tag("pre", tag("code", text), tabindex=0)


def _row(one: RoleFacts) -> tuple[str | int | float | None, ...]:
    peak = one.summary["peak"] if one.summary else {}
    layer = selected_layer(one.summary) if one.summary else None
    figures = (peak.get("estimate"), peak.get("low"), peak.get("high"), layer)
    scores = (one.summary.get("chance"), _score(one.words), _score(one.says))
    return (one.role, one.listed.name, *figures, *scores)


def _score(found: Mapping[str, Any] | None) -> float | None:
    return None if found is None else found["score"]
