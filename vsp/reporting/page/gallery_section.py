"""A gallery of tested rows: picture, prompt, label, predictions by layer and the model's own answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from vsp.evaluation.row_verdicts import RowVerdicts, chosen_rows, row_verdicts
from vsp.reporting.page.elements import paragraphs
from vsp.reporting.page.gallery_rows import gallery_data
from vsp.reporting.page.markup import Html, joined, tag
from vsp.reporting.page.page_run import PageRun
from vsp.reporting.page.section import Section
from vsp.utils.text import format_count

GALLERY = 200  # rows at most, unless --gallery says otherwise

_KINDS = {
    "": "all",
    "wrong": "wrong at the peak",
    "right": "right at the peak",
    "knows": "knows but does not say",
    "says": "says but does not know",
    "neither": "neither knows nor says",
}
_OF_ANSWERS = ("knows", "says", "neither")


def gallery_section(
    runs: Sequence[PageRun], n_rows: int = GALLERY, by: str | None = None
) -> Section | None:
    """Rows of the first run with labels, and what the other runs say of the same rows.

    None without such a run, and if `n_rows` is 0. `by` is a field whose strata rows are filtered by.
    """
    of_labels = [run for run in runs if run.classes]
    if not of_labels or not n_rows:
        return None
    run = of_labels[0]
    verdicts = row_verdicts(run.results)
    if not len(verdicts):
        return None
    chosen = chosen_rows(verdicts, n_rows)
    found = gallery_data(of_labels, verdicts, chosen, by)
    data = found.values
    lines = _introduction(run, verdicts, len(chosen), len(runs) > 1)
    lines += [*_of_further(found.further), *found.notes]
    body = joined(
        [
            paragraphs(lines),
            _controls(data, verdicts),
            tag("p", role="status", aria_live="polite", id="gallery-count"),
            tag("ol", id="gallery-rows", class_="gallery"),
            tag(
                "noscript", tag("p", "The gallery needs scripts, which this browser does not run.")
            ),
        ]
    )
    return Section(
        "gallery",
        "Rows to look at",
        body,
        data={"gallery": data},
        scripts=("gallery.js",),
        styles=("gallery.css",),
    )


def _introduction(run: PageRun, verdicts: RowVerdicts, n_shown: int, several: bool) -> list[str]:
    of_run = f" of {run.name}" if several else ""
    n_tested = format_count(len(verdicts), "tested row")
    if n_shown < len(verdicts):
        first = (
            f"{n_shown:,} of {n_tested}{of_run}, chosen evenly over labels and over right and wrong, so "
            f"shares of these rows are not those of the run. The other {len(verdicts) - n_shown:,} are "
            "left out, to keep the page small; --gallery N shows more."
        )
    else:
        first = f"All {n_tested}{of_run}."
    outer = run.results.arrays("predictions", ("outer",))["outer"]
    most = ", in most splits" if outer.max() > 0 else ""
    often = (
        f" A row is tested in {len(outer)} repeats; right means right in more than half of them."
        if len(outer) > 1
        else ""
    )
    peak = (
        f"The peak is the layer that training rows select: {run.selected}{most}. A strip has "
        f"layers {run.scores[0].layer} to {run.scores[-1].layer} from left to right: a full bar is right, a "
        "short one is wrong, and the triangle is under the peak."
    )
    lines = [first, f"{peak}{often}"]
    if verdicts.answer is None:
        lines.append(f"The model's own answers are not shown: {verdicts.no_answers}.")
    return lines


def _of_further(names: Sequence[str]) -> list[str]:
    """What a card shows of further runs."""
    if not names:
        return []
    return [
        f"A card also has the same row in {', '.join(names)}: its label there, and what that run's own probe "
        "and answers say. Choose a run under Picture of to see its pictures and prompts."
    ]


def _controls(data: Mapping[str, Any], verdicts: RowVerdicts) -> Html:
    kinds = {
        key: words
        for key, words in _KINDS.items()
        if key not in _OF_ANSWERS or (verdicts.answer is not None)
    }
    labels = sorted({row["label"] for row in data["rows"]})
    lists = [
        _list("kind", "Show", kinds),
        _list("label", "Label", {"": "all", **{f"={one}": one for one in labels}}),
    ]
    if data["strata"]:
        lists.append(_strata_list(data))
    if data["fields"]:
        names = {str(number): name for number, name in enumerate(data["fields"])}
        lists.append(_list("field", "Field", {"": "none", **names}))
        lists.append(_list("value", "Value", {"": "all"}, disabled=True))
    if len(data["runs"]) > 1:
        names = {str(k): one["name"] for k, one in enumerate(data["runs"])}
        lists.append(_list("picture", "Picture of", names))
    reset = tag("button", "Show all", type="button", id="gallery-reset", disabled=True)
    return tag("div", *lists, reset, class_="controls gallery-controls", id="gallery-controls")


def _strata_list(data: Mapping[str, Any]) -> Html:
    """The strata of the rows, by field, with the number of rows in each."""
    groups: list[Html] = [tag("option", "all", value="")]
    for place, name in enumerate(data["strata"]):
        counts = Counter(row["strata"][place] for row in data["rows"])
        options = [
            tag("option", f"{one or 'none'} ({counts[one]})", value=f"{place}={one or ''}")
            for one in sorted(counts, key=lambda one: (one is None, one or ""))
        ]
        groups.append(tag("optgroup", *options, label=name))
    chosen = tag("select", *groups, id="gallery-stratum", autocomplete="off")
    return tag("div", tag("label", "Stratum", for_="gallery-stratum"), chosen, class_="list")


def _list(key: str, title: str, options: Mapping[str, str], disabled: bool = False) -> Html:
    name = f"gallery-{key}"
    choices = [tag("option", words, value=value) for value, words in options.items()]
    chosen = tag("select", *choices, id=name, autocomplete="off", disabled=disabled)
    return tag("div", tag("label", title, for_=name), chosen, class_="list")
