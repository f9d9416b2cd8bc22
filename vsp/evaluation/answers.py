"""The model's own answers: scores of the options of each row, and the option with the best one.

An option is scored by the log-likelihood of its text given image and prompt, in one of four ways:

- total: the log-likelihood itself
- per-token, per-character: the total divided by the length of the text, since longer texts are
  less likely
- corrected: the total minus that of the same prompt with a blank picture, so that an option is
  not chosen because its words are frequent (Holtzman et al., "Surface Form Competition: Why the
  Highest Probability Answer Isn't Always Right", 2021)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vsp.choices import AnswerScore
from vsp.datasets.prompts import label_words
from vsp.evaluation.scores import Floats

Totals = NDArray[np.floating[Any]]  # log-likelihoods [row, option]; nan: the row has no such option


@dataclass(frozen=True, slots=True)
class RowOptions:
    """The answer options of rows, and their log-likelihoods."""

    texts: Sequence[Sequence[str]]  # [row][option]
    total: Totals
    n_tokens: NDArray[np.integer[Any]]  # [row, option]
    n_characters: NDArray[np.integer[Any]]
    lens: NDArray[np.floating[Any]] | None = (
        None  # `total` read from each layer [layer, row, option]
    )
    prior: Totals | None = None  # `total` of the same prompts with a blank picture
    prior_lens: NDArray[np.floating[Any]] | None = None
    prior_source: str = ""  # the run with blank pictures; without `prior`, why there is none

    def scores(self, kind: AnswerScore) -> Floats | None:
        """Scores of one kind [row, option]; None if they need a prior and there is none."""
        return self._scored(kind, self.total, self.prior)

    def lens_scores(self, kind: AnswerScore, layer: int) -> Floats | None:
        """As `scores`, read from a layer; None if it was not stored."""
        if self.lens is None:
            return None
        prior = None if self.prior_lens is None else self.prior_lens[layer]
        return self._scored(kind, self.lens[layer], prior)

    def _scored(self, kind: AnswerScore, total: Totals, prior: Totals | None) -> Floats | None:
        exact = total.astype(np.float64)
        if kind == "total":
            return exact
        if kind == "corrected":
            return None if prior is None else _log_ratio(exact, prior)
        length = self.n_tokens if kind == "per-token" else self.n_characters
        return np.asarray(exact / np.maximum(length, 1))

    def take(self, rows: NDArray[np.intp]) -> RowOptions:
        """The options of these rows, in this order."""
        values: dict[str, Any] = {one.name: getattr(self, one.name) for one in fields(self)}
        for name in ("total", "n_tokens", "n_characters", "prior"):
            values[name] = None if values[name] is None else values[name][rows]
        for name in ("lens", "prior_lens"):
            values[name] = None if values[name] is None else values[name][:, rows]
        values["texts"] = [self.texts[row] for row in rows.tolist()]
        return RowOptions(**values)


def _log_ratio(total: Floats, prior: Totals) -> Floats:
    """`total` - `prior`; -inf if either likelihood is 0, so that the option is never preferred."""
    is_zero = np.isneginf(total) | np.isneginf(prior)
    return np.where(is_zero, -np.inf, np.where(is_zero, 0.0, total) - np.where(is_zero, 0.0, prior))


def best_option(scores: Totals) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """The option with the best score [row], and whether another one has the same score [row].

    `scores` are [row, option]. Of options with the same score it is the first; -1 for a row without
    options.
    """
    exists = ~np.isnan(scores)
    best = np.where(exists, scores, -np.inf).max(axis=1, keepdims=True, initial=-np.inf)
    is_best = exists & (scores == best)
    first = np.where(exists.any(axis=1), is_best.argmax(axis=1), -1)
    return first.astype(np.intp), np.asarray(is_best.sum(axis=1) > 1)


def margins(scores: Totals, is_label: NDArray[np.bool_]) -> Floats:
    """Score of the label's option minus the best score of the others [row].

    Positive if the answer is right, negative if it is wrong. `is_label` [row, option] says which
    option is the label; nan if none is, or if a likelihood of 0 leaves it undefined.
    """
    exists = ~np.isnan(scores)

    def best(chosen: NDArray[np.bool_]) -> Floats:
        kept = np.where(chosen & exists, scores, -np.inf)
        return np.asarray(kept.max(axis=1, initial=-np.inf), np.float64)

    of_label, of_others = best(is_label), best(~is_label)
    with np.errstate(invalid="ignore"):
        margin = of_label - of_others
    return np.where((is_label & exists).any(axis=1), margin, np.nan)


def name_options(
    texts: Sequence[Sequence[str]], classes: Sequence[str], n_options: int
) -> tuple[NDArray[np.intp], list[str]]:
    """The name of each option as an index [row, option], and all names.

    The names begin with `classes`; an option that is no class keeps its text. A class is found by
    the words that a prompt lists, also if the option begins with a capital letter. -1: no option.
    """
    exact = {label_words(name).strip(): k for k, name in reversed(list(enumerate(classes)))}
    by_capital = {_capital(text): k for text, k in reversed(list(exact.items()))}
    names, of_other = list(classes), dict[str, int]()
    of_texts: dict[tuple[str, ...], NDArray[np.intp]] = {}
    index = np.full((len(texts), n_options), -1, np.intp)
    for row, of_row in enumerate(texts):
        key = tuple(of_row)
        if key not in of_texts:
            codes = np.full(n_options, -1, np.intp)
            own = {exact[words] for text in key if (words := label_words(text.strip())) in exact}
            for option, text in enumerate(key):
                words = label_words(text.strip())
                code = exact.get(words, -1)
                if code < 0 and (by := by_capital.get(_capital(words), -1)) not in own:
                    code = by
                if code < 0:
                    code = of_other.setdefault(words, len(names))
                    names += [text.strip()] if code == len(names) else []
                codes[option] = code
            of_texts[key] = codes
        index[row] = of_texts[key]
    return index, names


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
