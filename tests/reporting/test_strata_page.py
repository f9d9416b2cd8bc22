"""The tables of `vsp report --by`: whole numbers at every width, and rows without figures are said."""

from __future__ import annotations

import re

import pytest
from helpers.terminals import printed

from vsp.evaluation.strata import Gap, Share, Strata, Stratum
from vsp.reporting.strata_page import strata_page

NAME = "a \x1b[1m very\n\u202elong name of a stratum " * 3


def _share(value, p=None):
    return Share(value, value - 0.05, value + 0.03, p, p)


def _strata():
    return Strata(
        run="r", field="size", meaning="", source="data", confidence=0.95, n_rows=1500, n_without=20,
        n_smaller=33, says_rows=1400,
        strata=(
            Stratum(NAME, 1234, 617, _share(0.812), _share(0.623)),
            Stratum("b", 200, 100, _share(0.712), _share(0.523)),
            Stratum("c", 6, 3, None, None),
        ),
        gaps=(Gap(NAME, "b", _share(0.1, 0.0125), _share(-0.1, 0.25)),),
    )  # fmt: skip


def _shown(width):
    return printed(strata_page(_strata()), width)


@pytest.mark.parametrize("width", [60, 80, 200])
def test_no_number_is_cut_at_any_width(width):
    page = _shown(width)
    assert max(len(line.rstrip()) for line in page.splitlines()) <= width
    assert not re.search(r"[\d.,]…", page)
    for figure in ("0.812", "0.623", "+0.100", "[+0.050, +0.130]", "1,234"):
        assert figure in page
    assert "\x1b" not in page
    assert "\u202e" not in page
    assert ("Not shown at this width" in page) == (width < 200)


def test_rows_without_figures_are_said():
    page = " ".join(_shown(80).split())
    assert "20 of 1,500 tested rows are in no stratum: their records have no size." in page
    assert "33 rows of smaller strata are not shown." in page
    assert "Too few rows for figures: c (6 rows)." in page
