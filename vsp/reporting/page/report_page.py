"""The page of one or several runs: its sections, in their order."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vsp.reporting.curve_plot import plot, plot_runs
from vsp.reporting.figure_file import STYLES
from vsp.reporting.names import run_title
from vsp.reporting.page.answer_section import answer_of, answers_section
from vsp.reporting.page.axes_section import axes_of_runs, axes_section
from vsp.reporting.page.confusion_section import confusion_section
from vsp.reporting.page.curves_section import curves_section
from vsp.reporting.page.document import page
from vsp.reporting.page.effects_section import effects_of_runs, effects_section
from vsp.reporting.page.gallery_section import GALLERY, gallery_section
from vsp.reporting.page.layers_section import layers_section
from vsp.reporting.page.methods_section import methods_section
from vsp.reporting.page.page_run import PageRun
from vsp.reporting.page.page_strata import PageStrata, strata_of_runs
from vsp.reporting.page.projection_section import projection_section
from vsp.reporting.page.rerun_section import rerun_section
from vsp.reporting.page.section import Page, Section
from vsp.reporting.page.strata_section import strata_section
from vsp.reporting.page.transfer_section import transfer_section
from vsp.utils.text import format_count

if TYPE_CHECKING:
    from vsp.evaluation.transfer import Transfer


def runs_page(
    runs: Sequence[PageRun],
    title: str = "",
    more: Sequence[Section] = (),
    transfers: Sequence[Transfer] = (),
    gallery: int = GALLERY,
    first_in_full: bool = False,
    with_states: bool = True,
    by: str | None = None,
) -> Page:
    """The page of these runs.

    `more` are sections of a study, which stand first; `gallery` is the largest number of rows in the
    gallery. `first_in_full`: only the first run has all curves, labels and layers, so that the page of
    many runs stays small. Without `with_states`, strata, projection and gallery are left out, and nothing
    is read but results. `by` is a field of the records: rows are shown by its values too. Without a
    `title`, it has the names of dataset and model, or the number of runs.
    """
    shown = _Shown(gallery if with_states else 0, first_in_full, with_states, by)
    lead = answer_of(runs[0]) if len(runs) == 1 else None
    sections = [*more, *_run_sections(runs, transfers, shown)]
    sections += [methods_section(runs, sections), rerun_section(runs)]
    figure = _figure(runs[:1] if first_in_full else runs)
    left_out = tuple(line for section in sections for line in section.left_out)
    return Page(page(title or _title(runs), sections, lead, figure), left_out)


@dataclass(frozen=True, slots=True)
class _Shown:
    """What of the runs is shown; see `runs_page`."""

    gallery: int
    first_in_full: bool
    with_states: bool
    by: str | None


def _run_sections(
    runs: Sequence[PageRun], transfers: Sequence[Transfer], shown: _Shown
) -> list[Section]:
    """The sections of runs, without those for which the runs have no data."""
    in_full = runs[:1] if shown.first_in_full else runs
    strata = strata_of_runs(runs, shown.by) if shown.with_states else PageStrata()
    found: list[Section | None] = [
        answers_section(runs),
        curves_section(runs, len(in_full)),
        confusion_section(in_full),
        strata_section(strata),
        transfer_section(transfers),
        axes_section(*axes_of_runs(runs)),
        effects_section(*effects_of_runs(runs)),
        projection_section(in_full, len(in_full) < len(runs)) if shown.with_states else None,
        gallery_section(runs, shown.gallery, shown.by),
        layers_section(in_full),
    ]
    return [section for section in found if section is not None]


def _title(runs: Sequence[PageRun]) -> str:
    if len(runs) == 1:
        return run_title(runs[0].summary)
    return f"{format_count(len(runs), 'run')}: {', '.join(run.name for run in runs)}"


def _figure(runs: Sequence[PageRun]) -> bytes:
    """The curves as an SVG, for browsers that run no script; of many runs, the first ones."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "curves.svg"
        if len(runs) == 1:
            plot(runs[0].results, path)
        else:
            plot_runs([(run.name, run.results) for run in runs[: len(STYLES)]], path)
        return path.read_bytes()
