"""The directions of relations on the page, in a headless Chromium."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from helpers.page_results import rich_results, write_page
from helpers.twin_runs import direction, planted, twin_runs

from vsp.evaluation.axes import AxesSettings, relation_axes
from vsp.storage.axes import write_axes
from vsp.storage.sealed_summary import identity_of

AXES = {
    "left_of": direction(),
    "above": direction(np.pi / 2),
    "in_front_of": direction(np.pi * 0.6),
}


@pytest.fixture(scope="module")
def shown(open_page, tmp_path_factory):
    """A run with three axes in layer 1 and none in layer 0."""
    work = tmp_path_factory.mktemp("axes")
    settings = AxesSettings(resamples=100, flips=99)
    run, twin = twin_runs(work, planted(AXES, (0.0, 2.0), n_rows=300))
    axes, _ = relation_axes(run, twin, settings=settings)
    results = rich_results(work / "page" / "one")
    write_axes(replace(axes, identity=identity_of(results.summary())), results.home)
    with open_page(write_page(work / "page.html", [results])) as opened:
        yield opened


def test_the_axes_are_drawn_and_chosen_with_the_keyboard(shown):
    assert shown.errors == []
    assert shown.marks("axes-coherence", "line") == shown.marks("axes-coherence", "area") == 3
    assert shown.marks("axes-coherence", "symbol") == 6
    shown.page.locator("input[data-chart=axes-coherence][value='above/below']").focus()
    shown.page.keyboard.press("Space")
    shown.settle()
    assert shown.marks("axes-coherence", "line") == 2
    shown.page.keyboard.press("Space")
    shown.settle()


def test_the_cosines_are_those_of_the_chosen_layer(shown):
    def texts():
        return shown.page.locator("#chart-axes-cosines .mark-text text").all_text_contents()

    assert shown.marks("axes-cosines", "rect") == 9
    assert texts().count("1.000") == 3
    shown.page.locator("select[data-chart=axes-cosines]").select_option("0")
    shown.settle()
    assert texts().count("–") == 9
    shown.page.locator("select[data-chart=axes-cosines]").select_option("1")
    shown.settle()


def test_axe_finds_no_serious_violation_with_axes(shown):
    shown.page.evaluate("document.querySelectorAll('details').forEach((one) => one.open = true)")
    assert shown.violations() == []
