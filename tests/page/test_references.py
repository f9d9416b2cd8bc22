"""References of the page: each is cited by some sentence, and years agree with docs and docstrings."""

from __future__ import annotations

import re
from functools import cache

import pytest
from helpers.paths import ROOT

from vsp.reporting.page.references import REFERENCES

_TEXTS = [
    path
    for pattern in ("docs/*.md", "vsp/**/*.py", "README.md")
    for path in sorted(ROOT.glob(pattern))
    if path.name != "references.py"
]


@cache
def _read():
    """Path → text in one line, of docs and docstrings."""
    return {
        path.relative_to(ROOT).as_posix(): re.sub(r"\s+", " ", path.read_text(encoding="utf-8"))
        for path in _TEXTS
    }


def _author_and_year(reference):
    """The family name of the first author, and the year."""
    authors, year = re.match(r"(.*?) \((\d{4})\)\. ", reference).groups()
    return re.split(r",| et al", authors)[0].split()[-1], year


def _years_of(author):
    """Years that stand behind a name, as "Dean & Pagano 2015", "Wang et al. 2024" or "Holm (1979)"."""
    others = r"(?:(?:, | & |, \w+ & )[A-Z]\w+|[,A-Z][\w, ]* & \w+| et al\.)*"
    found = {}
    for path, text in _read().items():
        if author not in text:
            continue
        for year in re.findall(rf"(?<!& )(?<!, )\b{author}{others},? \(?((?:19|20)\d\d)\b", text):
            found.setdefault(year, []).append(path)
    return found


@pytest.mark.parametrize("key", REFERENCES)
def test_the_year_of_a_reference_is_that_of_docs_and_docstrings(key):
    author, year = _author_and_year(REFERENCES[key])
    others = {"Liu": {"1989"}, "Dettmers": {"2022", "2023"}}.get(author, set())  # further papers
    assert _years_of(author).keys() <= {year, *others}, _years_of(author)


def test_years_are_found_in_docs_and_docstrings():
    assert _years_of("Marks") == {"2024": ["vsp/probes/mass_mean.py"]}
    assert "docs/statistics.md" in _years_of("Dean")["2015"] and _years_of("Bates").keys() == {
        "2024"
    }


def test_every_reference_is_cited_by_a_section_or_named_for_a_model():
    code = "".join(path.read_text() for path in (ROOT / "vsp/reporting/page").glob("*_section.py"))
    code += (ROOT / "vsp/reporting/page/methods.py").read_text()
    by_model = {"llava15", "qwen2", "spatialrgpt", "4bit", "8bit"}  # family and kind of weights
    assert [key for key in REFERENCES if f'"{key}"' not in code and key not in by_model] == []
