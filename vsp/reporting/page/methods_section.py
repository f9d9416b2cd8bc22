"""The methods paragraphs and the list of what they cite."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from vsp.reporting.page.markup import Html, joined, tag
from vsp.reporting.page.methods import citations, probe_sentences, states_sentences
from vsp.reporting.page.page_run import PageRun
from vsp.reporting.page.references import REFERENCES
from vsp.reporting.page.section import Section, Sentence

_Part = Callable[[PageRun], Iterator[Sentence]]


def methods_section(runs: Sequence[PageRun], others: Sequence[Section] = ()) -> Section:
    """What was done, for the methods section of a paper. Runs with equal words share a paragraph.

    `others` are the other sections of the page, whose own methods come last.
    """
    of_sections = [sentence for section in others for sentence in section.methods]
    keys: dict[str, int] = {}  # in the order of their first mention → number
    for part in (states_sentences, probe_sentences):
        for run in runs:
            for key in citations(part(run), run) if part is probe_sentences else _cited(part(run)):
                keys.setdefault(key, len(keys) + 1)
    for key in _cited(iter(of_sections)):
        keys.setdefault(key, len(keys) + 1)
    body = [
        paragraph
        for part in (states_sentences, probe_sentences)
        for paragraph in _paragraphs(runs, part, keys)
    ]
    if of_sections:
        body.append(tag("p", joined(_sentences(iter(of_sections), keys))))
    listed = [tag("li", REFERENCES[key], id=f"reference-{number}") for key, number in keys.items()]
    references = [tag("h3", "References"), tag("ol", *listed)] if listed else []
    return Section("methods", "Methods", joined([*body, *references]))


def _cited(sentences: Iterator[Sentence]) -> list[str]:
    return [key for sentence in sentences for key in sentence.cites]


def _paragraphs(runs: Sequence[PageRun], part: _Part, keys: dict[str, int]) -> list[Html]:
    """A paragraph for each different text, with the names of its runs if there are several."""
    of_text: dict[Html, list[str]] = {}
    for run in runs:
        of_text.setdefault(joined(_sentences(part(run), keys)), []).append(run.name)
    if len(runs) == 1 or (len(of_text) == 1 and len(runs) > 1):
        return [tag("p", body) for body in of_text]
    return [
        tag("p", tag("strong", f"{', '.join(names)}: "), body) for body, names in of_text.items()
    ]


def _sentences(sentences: Iterator[Sentence], keys: dict[str, int]) -> Iterator[Html]:
    for sentence in sentences:
        links = [
            tag("a", f"[{keys[key]}]", href=f"#reference-{keys[key]}") for key in sentence.cites
        ]
        words = sentence.text.removesuffix(".")
        yield joined([words, *(joined([" ", link]) for link in links), ". "])
