"""Features of the words of a row: of the two names, and of the prompt.

Columns are 0 or 1. A column that fewer than two rows have, or all of them, is left out: no probe can
learn anything from it. The most frequent columns are kept, at most `MAX_COLUMNS` and at most
`MAX_BYTES` in all; a million rows have 268 columns. Labels play no part in the choice.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csc_array, csr_array
from scipy.sparse import hstack as join_columns

from vsp.datasets.splitting import integer_codes
from vsp.evaluation.probed_rows import ProbedRows

MAX_COLUMNS = 2048
MAX_BYTES = 1 << 30  # of the features of a baseline
_MAX_PROMPTS = 20_000  # different prompts from which the n-grams are taken, drawn at random
_ROWS_AT_ONCE = 8192
# n-grams of words also tell which name comes first.
_N_GRAMS: tuple[dict[str, Any], ...] = (
    {"analyzer": "word", "ngram_range": (1, 2), "token_pattern": r"\w+"},
    {"analyzer": "char_wb", "ngram_range": (2, 4)},
)


def name_features(rows: ProbedRows) -> NDArray[np.float32]:
    """One column for each subject, each reference, and each ordered pair [row, column]."""
    pairs = np.char.add(np.char.add(rows.subject, "\n"), rows.reference)
    codes, n_columns = [], 0
    for text in (rows.subject, rows.reference, pairs):
        codes.append(integer_codes(text) + n_columns)
        n_columns = int(codes[-1].max()) + 1
    n_rows = len(rows.row)
    kept = _most_frequent(np.bincount(np.concatenate(codes)), n_rows, _n_columns(n_rows))
    place = np.full(n_columns, -1)
    place[kept] = np.arange(len(kept))
    features = np.zeros((n_rows, max(len(kept), 1)), np.float32)
    for code in codes:
        known = np.flatnonzero(place[code] >= 0)
        features[known, place[code[known]]] = 1
    return features


def prompt_features(rows: ProbedRows, seed: int) -> NDArray[np.float32]:
    """One column for each word, pair of words and sequence of 2–4 characters [row, column].

    Of columns that are equal in all rows the first one is kept, so a long word does not count
    more than a short one. If there are more than `_MAX_PROMPTS` different prompts, the columns are
    chosen on some of them.
    """
    vectorizers, kept = _chosen_n_grams(rows.prompt, seed)
    features = np.zeros((len(rows.prompt), max(len(kept), 1)), np.float32)
    for start in range(0, len(features), _ROWS_AT_ONCE):
        block = slice(start, start + _ROWS_AT_ONCE)
        prompts, place = np.unique(rows.prompt[block], return_inverse=True)
        present = join_columns([one.transform(prompts) for one in vectorizers], format="csr")
        features[block, : len(kept)] = present[:, kept].toarray()[place]
    return features


def _chosen_n_grams(prompt: NDArray[np.str_], seed: int) -> tuple[list[Any], NDArray[np.intp]]:
    """Vectorizers of words and of characters, and the chosen ones of their joint columns."""
    prompts, n_rows = np.unique(prompt, return_counts=True)
    if len(prompts) > _MAX_PROMPTS:
        drawn = np.random.default_rng(seed).choice(len(prompts), _MAX_PROMPTS, replace=False)
        prompts, n_rows = prompts[np.sort(drawn)], n_rows[np.sort(drawn)]
    vectorizers, present = [], []
    for vectorizer, matrix in _fitted_vectorizers(prompts):
        vectorizers.append(vectorizer)
        present.append(matrix)
    joint = csc_array(join_columns(present))
    first = np.zeros(joint.shape[1], dtype=bool)
    # Equal columns have the same product with a random vector, to the last bit.
    weights = np.random.default_rng(0).random(len(prompts))
    first[np.unique(joint.T @ weights, return_index=True)[1]] = True
    counts = np.where(first, joint.T @ n_rows, 0)
    limit, kept, start = _n_columns(len(prompt)), [], 0
    for matrix in present:
        stop, room = start + matrix.shape[1], limit // len(present)
        kept.append(start + _most_frequent(counts[start:stop], int(n_rows.sum()), room))
        start = stop
    return vectorizers, np.concatenate(kept)


def _fitted_vectorizers(prompts: NDArray[np.str_]) -> Iterator[tuple[Any, csr_array]]:
    """Each vectorizer that finds n-grams, and whether a prompt has each of them [prompt, n-gram]."""
    from sklearn.feature_extraction.text import CountVectorizer

    for options in _N_GRAMS:
        vectorizer = CountVectorizer(binary=True, dtype=np.float32, **options)
        analyze = vectorizer.build_analyzer()
        vocabulary = sorted({n_gram for prompt in prompts.tolist() for n_gram in analyze(prompt)})
        if vocabulary:  # none if all prompts are signs such as "?"
            vectorizer.set_params(vocabulary=vocabulary)
            yield vectorizer, vectorizer.transform(prompts)


def _n_columns(n_rows: int) -> int:
    return min(MAX_COLUMNS, MAX_BYTES // (4 * n_rows))


def _most_frequent(counts: NDArray[Any], n_rows: int, limit: int) -> NDArray[np.intp]:
    """Columns that two or more rows have, and not all; the most frequent first, at most `limit`."""
    usable = np.flatnonzero((counts >= 2) & (counts < n_rows))
    return usable[np.argsort(-counts[usable], kind="stable")[:limit]]
