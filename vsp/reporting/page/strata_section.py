"""Strata: scores of probe and answer for the values of a field, and the gaps between them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from vsp.escaping import one_line
from vsp.evaluation.strata import Gap, Share, Strata
from vsp.reporting.page.elements import disclosure, paragraphs, table
from vsp.reporting.page.markup import Html, joined, tag
from vsp.reporting.page.page_strata import PageStrata
from vsp.reporting.page.section import Cell, Chart, Control, Option, Section, Sentence, Table
from vsp.reporting.strata_page import strata_notes

Spec = dict[str, Any]
_Found = Sequence[tuple[str, Strata]]  # name of a run on the page, and its strata
_STEP = 40  # pixels of a stratum

_KNOWS, _SAYS = "probe (knows)", "model's answer (says)"
_COLORS = {_KNOWS: 1, _SAYS: 4}  # as in the curves


def strata_section(strata: PageStrata) -> Section | None:
    """A chart with a list of fields and, for several runs, of runs; None without strata."""
    found = strata.found
    if not found:
        said = strata.left_out or strata.notes
        body = _not_shown(strata)
        return Section("strata", _TITLE, body, left_out=strata.left_out) if said else None
    gaps = [row for name, one in found for row in _gap_rows(name, one)]
    charts = _charts(strata)
    return Section(
        "strata",
        _TITLE,
        joined([*(tag("p", line) for line in _sentences(*found[0])), _not_shown(strata)]),
        charts=charts,
        after_html=joined([
            table(Table(_GAP_COLUMNS, gaps, "Gaps: the first stratum minus the other"))
            if gaps else None,
            disclosure("What the strata are", paragraphs(_notes(strata)), open_=not charts),
        ]),
        methods=[_METHOD] if gaps else [],
        left_out=strata.left_out,
    )  # fmt: skip


_TITLE = "Strata of the rows"
_METHOD = Sentence(
    "Gaps between strata have intervals from resampled groups and p values from sign flips of groups, corrected "
    "over the gaps of a field by Holm's method.",
    ("bootstrap", "holm"),
)


def _not_shown(strata: PageStrata) -> Html:
    return paragraphs([f"Not shown: {one}." for one in strata.notes])


def _sentences(name: str, strata: Strata) -> list[str]:
    """The gap between two strata of the first run, in words."""
    if len(strata.gaps) != 1:
        return []
    (gap,) = strata.gaps
    whose = [("the probe", gap.knows), ("the model's own answers", gap.says)]
    said = [
        f"{_signed(one.value)} [{_signed(one.low)}, {_signed(one.high)}] of {who}"
        for who, one in whose
        if one is not None
    ]
    return [
        f"Accuracy by {_plain(strata.field)} of {name}, {_plain(gap.first)} minus {_plain(gap.other)}: "
        f"{' and '.join(said)}."
    ]


def _signed(value: float) -> str:
    return f"{value:+.3f}"


def _plain(text: str) -> str:
    return one_line(text)


def _notes(strata: PageStrata) -> Iterator[str]:
    """What the strata are, with the runs of which the same is said."""
    of_line: dict[tuple[str, str], list[str]] = {}
    for name, one in strata.found:
        for note in strata_notes(one):
            of_line.setdefault((one.field, note), []).append(name)
    several = len({name for name, _ in strata.found}) > 1
    for (field, note), names in of_line.items():
        about = ", ".join([_plain(field), *names]) if several else _plain(field)
        yield note if note.startswith(f"{field}:") else f"{about}: {note}"


def _charts(strata: PageStrata) -> list[Chart]:
    """A chart for each field with figures."""
    charts = []
    for number, field in enumerate(strata.fields):
        of_field = [(name, one) for name, one in strata.found if one.field == field]
        if any(one.knows for _, of in of_field for one in of.strata):
            charts.append(_chart(f"strata-{number}", field, of_field))
    return charts


def _chart(key: str, field: str, found: _Found) -> Chart:
    controls = _controls(found)
    return Chart(
        key,
        _spec(found, controls),
        f"Accuracy by {_plain(field)}",
        f"Points are shares of right test rows with their {found[0][1].confidence:.0%} interval.",
        Table(
            ("stratum", "run", "rows", "groups", "knows", "low", "high", "says", "low", "high"),
            [row for name, one in found for row in _rows(name, one)],
        ),
        controls,
        height="low",
    )


def _controls(found: _Found) -> list[Control]:
    names = [name for name, _ in found]
    controls = []
    if len(names) > 1:
        runs = [Option(name, name, name == names[0]) for name in names]
        controls.append(Control("run", "Run", runs, one=True))
    if any(one.says_rows for _, one in found):
        kinds = [Option(kind, kind, color=color) for kind, color in _COLORS.items()]
        controls.append(Control("kinds", "Show", kinds))
    return controls


def _rows(name: str, strata: Strata) -> Iterator[list[Cell]]:
    for one in strata.strata:
        figures = (*_figures(one.knows), *_figures(one.says))
        yield [_plain(one.name), name, one.n_rows, one.n_groups, *figures]


_GAP_COLUMNS = (
    "first", "other", "by", "run", "knows gap", "low", "high", "corrected p", "says gap", "low", "high",
    "corrected p",
)  # fmt: skip


def _gap_rows(name: str, strata: Strata) -> Iterator[list[Cell]]:
    for gap in strata.gaps:
        ends = _plain(gap.first), _plain(gap.other) or "others"
        yield [*ends, _plain(strata.field), name, *_gap_figures(gap)]


def _gap_figures(gap: Gap) -> list[Cell]:
    return [
        cell
        for one in (gap.knows, gap.says)
        for cell in (*_figures(one), None if one is None else one.p_corrected)
    ]


def _figures(one: Share | None) -> tuple[Cell, ...]:
    return (None, None, None) if one is None else (one.value, one.low, one.high)


def _spec(found: _Found, controls: Sequence[Control]) -> Spec:
    params: list[Spec] = []
    tests = []
    for one in controls:
        chosen = [option.value for option in one.options if option.chosen]
        params.append({"name": one.parameter, "value": chosen[0] if one.one else chosen})
        tests.append(_TESTS[one.parameter])
    place = {
        "field": "stratum", "type": "nominal", "sort": None,
        "axis": {"title": None, "domain": False, "ticks": False, "labelLimit": 150, "minExtent": 90},
    }  # fmt: skip
    value = {
        "field": "value", "type": "quantitative", "scale": {"domain": [0, 1]},
        "axis": {"title": "share of right rows", "format": ".1f", "tickCount": 6, "domain": False},
    }  # fmt: skip
    color = {"field": "color", "type": "nominal", "scale": None}
    tips = [
        {"field": field, "title": title}
        for field, title in (("stratum", "stratum"), ("kind", "of"), ("text", "accuracy"), ("n", "rows"))
    ]  # fmt: skip
    common = {
        "y": place,
        "yOffset": {"field": "kind", "sort": None},
        "tooltip": tips,
        "stroke": color,
    }
    return {
        "width": "container",
        "height": _STEP * max(sum(bool(one.knows) for one in of.strata) for _, of in found),
        "data": {"values": list(_values(found))},
        "params": params,
        "transform": [{"filter": " && ".join(tests) or "true"}],
        "layer": [
            {
                "mark": {"type": "rule", "strokeWidth": 2},
                "encoding": {**common, "x": {**value, "field": "low"}, "x2": {"field": "high"}},
            },
            {
                "mark": {"type": "point", "filled": True, "size": 60, "opacity": 1},
                "encoding": {**common, "x": value, "fill": color},
            },
        ],
    }


_TESTS = {
    "run": "datum.run === run",
    "kinds": "indexof(kinds, datum.kind) >= 0",
}


def _values(found: _Found) -> Iterator[Spec]:
    for name, of in found:
        for one in of.strata:
            for kind, share in ((_KNOWS, one.knows), (_SAYS, one.says)):
                if share is None:
                    continue
                yield {
                    "run": name, "stratum": _plain(one.name), "kind": kind, "value": share.value,
                    "low": share.low, "high": share.high, "n": one.n_rows,
                    "color": f"var(--c{_COLORS[kind]})",
                    "text": f"{share.value:.3f} [{share.low:.3f}, {share.high:.3f}]",
                }  # fmt: skip
