"""The page, the tables and the JSON of `vsp effects`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Group, RenderableType

from vsp.errors import ConfigError
from vsp.reporting.columns import Column, FittingTable, figure_cells
from vsp.reporting.effects_words import (
    about_words,
    change_meaning,
    claim_p,
    effects_cautions,
    effects_sentence,
    flip_meaning,
    left_out_words,
    setting_name,
    shown_scale,
    signed,
    signed_interval,
    verdict_word,
)
from vsp.reporting.escaping import csv_text_line
from vsp.reporting.table_files import Column as PaperColumn
from vsp.reporting.table_files import Estimate, PaperTable, Row
from vsp.storage.found_effects import PATCH, STEER, UNRELATED, effects_json
from vsp.utils.terminal import fact_table, folded_text, text_line
from vsp.utils.text import format_count, format_ranges

if TYPE_CHECKING:
    from vsp.storage.found_effects import Floats, FoundEffects

_FIGURES = (
    "change", "change_low", "change_high", "flip", "flip_low", "flip_high", "n_open", "excess",
    "excess_low", "excess_high", "over_unrelated", "over_unrelated_low", "over_unrelated_high",
    "rank", "p_random", "p_random_corrected", "p", "p_corrected",
)  # fmt: skip
_COLUMNS = ("run", "of_run", "kind", "position", "layer", "setting", "scale", "n_random", *_FIGURES)


def effects_page(found: FoundEffects, scale: float | None = None) -> RenderableType:
    """The answer, the rows that count, and the figures by layer; of directions, at one scale."""
    shown = shown_settings(found, scale)
    parts: list[RenderableType] = [folded_text(effects_sentence(found), style="bold")]
    parts += [folded_text(f"! {note}", style="yellow") for note in effects_cautions(found)]
    parts += [text_line(), fact_table(_facts(found)), text_line()]
    if found.kind == PATCH:
        parts += [_patch_table(found), text_line()]
    else:
        for setting in shown:
            parts += [text_line(f"{setting_name(found, setting)}:", style="bold")]
            parts += [_layer_table(found, setting), text_line()]
    parts += [folded_text(line) for line in effects_notes(found)]
    return Group(*parts)


def shown_settings(found: FoundEffects, scale: float | None = None) -> list[int]:
    """The tested settings of a scale, by default of the one with effects in the most layers.

    Raises ConfigError if there is no such scale.
    """
    scales = sorted({one.scale for one in found.settings})
    if scale is not None and (found.kind != STEER or scale not in scales):
        has = ", ".join(f"{one:g}" for one in scales)
        raise ConfigError(f"--scale {scale:g}: was not computed; choose from {has}")
    chosen = shown_scale(found) if scale is None else scale
    return [
        i
        for i, one in enumerate(found.settings)
        if not one.is_control and (chosen is None or one.scale == chosen)
    ]


def _facts(found: FoundEffects) -> dict[str, str | list[str]]:
    scales = sorted({one.scale for one in found.settings})
    facts: dict[str, str | list[str]] = {
        "run": found.run,
        "changed": about_words(found),
        "layers": format_ranges(found.layers),
        "rows": f"{format_count(found.n_rows, 'row')} in {format_count(found.n_groups, 'group')}",
    }
    if found.kind == STEER:
        facts["scales"] = ", ".join(f"{one:g}" for one in scales)
    if found.kind != PATCH:
        facts["controls"] = controls_words(found)
    if found.left_out:
        facts["left out"] = left_out_words(found)
    return facts


def controls_words(found: FoundEffects) -> str:
    """The controls beside what was tested: "20 random at each scale, unrelated"."""
    counts = sorted({found.n_random(found.settings[i].scale) for i in found.tested})
    words = (
        f"{' to '.join(map(str, dict.fromkeys((counts[0], counts[-1]))))} random"
        if counts
        else "none"
    )
    has_unrelated = any(one.name == UNRELATED for one in found.settings)
    return words + (", the direction of an unrelated label" if has_unrelated else "")


def _layer_table(found: FoundEffects, setting: int) -> FittingTable:
    """A row for each layer; on a narrow terminal, other scales go first, then intervals."""
    figures, level = found.figures, f"{found.confidence:.0%}"
    passed = found.passed()[:, setting]
    stars = ["*" if one else " " for one in passed]
    random = figures.change[:, setting] - figures.excess[:, setting]
    over = figures.over_unrelated[:, setting]
    columns = [
        Column("layer", figure_cells([str(layer) for layer in found.layers])),
        Column("change", _starred(figures.change[:, setting], stars)),
        Column(level, _intervals(figures.change_low, figures.change_high, setting), 4),
        Column("flips", figure_cells([_percent(one) for one in figures.flip[:, setting]])),
        Column(f"{level} of flips", _shares(found, setting), 5),
        Column("random", figure_cells(list(map(signed, random))), 2),
        Column("rank", figure_cells([_count(one) for one in figures.rank[:, setting]]), 1),
        Column("p corr.", figure_cells([_p(one) for one in claim_p(found)[:, setting]]), 3),
    ]
    if not np.isnan(over).all():
        unrelated = figures.change[:, setting] - over
        columns.append(Column("unrelated", figure_cells(list(map(signed, unrelated))), 6))
    own = found.settings[setting]
    others = [
        i for i, one in enumerate(found.settings) if one.name == own.name and i != setting
    ]  # fmt: skip
    for rank, i in enumerate(sorted(others, key=lambda i: found.settings[i].scale), 7):
        head = f"× {found.settings[i].scale:g}"
        columns.append(Column(head, figure_cells(list(map(signed, figures.change[:, i]))), rank))
    return FittingTable(columns, ["bold green" if one else "" for one in passed], gap=2)


def _patch_table(found: FoundEffects) -> FittingTable:
    """A row for each layer, a column of changes for each group of tokens, then flips and intervals."""
    figures, passed = found.figures, found.passed()
    level = f"{found.confidence:.0%}"
    columns = [Column("layer", figure_cells([str(layer) for layer in found.layers]))]
    for i in range(len(found.settings)):
        name = found.settings[i].name
        stars = ["*" if one else " " for one in passed[:, i]]
        flips = figure_cells([_percent(one) for one in figures.flip[:, i]])
        bounds = _intervals(figures.change_low, figures.change_high, i)
        columns += [
            Column(name, _starred(figures.change[:, i], stars), rank=i),
            Column(f"flips of {name}", flips, rank=100 + i),
            Column(f"{level} of {name}", bounds, rank=200 + i),
        ]
    return FittingTable(columns, ["bold green" if one.any() else "" for one in passed])


def _starred(values: Floats, stars: Sequence[str]) -> list[RenderableType]:
    return figure_cells([signed(one) + star for one, star in zip(values, stars, strict=True)])


def _intervals(low: Floats, high: Floats, setting: int) -> list[RenderableType]:
    pairs = zip(low[:, setting], high[:, setting], strict=True)
    return figure_cells([signed_interval(*pair) for pair in pairs])


def _shares(found: FoundEffects, setting: int) -> list[RenderableType]:
    pairs = zip(
        found.figures.flip_low[:, setting], found.figures.flip_high[:, setting], strict=True
    )
    return figure_cells(
        ["–" if np.isnan(low) else f"[{100 * low:.1f}, {100 * high:.1f}]" for low, high in pairs]
    )


def _percent(share: float) -> str:
    return "–" if np.isnan(share) else f"{100 * share:.1f}%"


def _count(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.0f}"


def _p(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.4f}"


def effects_notes(found: FoundEffects) -> list[str]:
    """What the columns are, and how an effect is shown."""
    notes = [f"{change_meaning(found)} {_capital(flip_meaning(found))}"]
    draws = f"Brackets: {found.confidence:.0%} intervals, {found.resamples:,} resamples of groups."
    if found.kind == PATCH:
        return [
            *notes,
            f"{draws} *: p < {found.level:g}, sign flips of groups, corrected over all layers and tokens.",
        ]
    what, of = "direction", "directions of equal length and scale"
    if found.kind != STEER:
        what, of = "subspace", "subspaces of equal rank"
    return [
        *notes,
        f"random: mean change by random {of}; rank: of the change among theirs, 1 is the largest.",
        f"{draws} p corr.: the larger p of two tests, the rank among random ones and sign flips of groups, "
        f"each corrected over all layers and scales. *: p corr. < {found.level:g}, and change above 0.",
        f"Beating random {what}s shows that the answers depend on this {what} more than on an arbitrary one; it "
        "does not show that no other does more.",
    ]


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def effects_page_json(found: FoundEffects) -> dict[str, Any]:
    """The answer and all figures."""
    return {
        "answer": effects_sentence(found),
        "verdict": verdict_word(found) or None,
        "notes": effects_cautions(found),
        "passed": found.passed().tolist(),
        **effects_json(found),
    }


def effects_csv(found: FoundEffects) -> Iterator[bytes]:
    """A line for each layer and setting."""
    yield csv_text_line(*_COLUMNS)
    for entry, layer in enumerate(found.layers):
        for i, one in enumerate(found.settings):
            head = found.run, found.of_run, found.kind, found.position, layer, one.name, one.scale
            figures = [_cell(getattr(found.figures, name)[entry, i]) for name in _FIGURES]
            yield csv_text_line(*head, found.n_random(one.scale), *figures)


def _cell(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def effects_table(
    found: FoundEffects, scale: float | None = None, title: str | None = None
) -> PaperTable:
    """Change and flips of the shown settings, by layer."""
    shown = (
        list(range(len(found.settings))) if found.kind == PATCH else shown_settings(found, scale)
    )
    figures, passed, rows = found.figures, found.passed(), []
    for entry, layer in enumerate(found.layers):
        cells, bold = [], []
        for k, i in enumerate(shown):
            change = figures.change, figures.change_low, figures.change_high
            flip = figures.flip, figures.flip_low, figures.flip_high
            cells += [Estimate(*(_cell(one[entry, i]) for one in of)) for of in (change, flip)]
            bold += [2 * k + 1, 2 * k + 2] if passed[entry, i] else []
        rows.append(Row((str(layer), *cells), bold=tuple(bold)))
    columns = [PaperColumn("layer")]
    for i in shown:
        name = setting_name(found, i)
        columns += [
            PaperColumn(f"change, {name}", 3, signed=True),
            PaperColumn(f"flips, {name}", 3),
        ]
    title = f"Effects of {found.run}" if title is None else title
    words = [*([title] if title else []), *effects_notes(found)[0].rstrip(".").split(". ")]
    words.append(f"Brackets: {found.confidence:.0%} intervals. Bold: corrected p < {found.level:g}")
    return PaperTable(
        f"{'. '.join(words)}.", f"effects-{found.run}", tuple(columns), (tuple(rows),)
    )
