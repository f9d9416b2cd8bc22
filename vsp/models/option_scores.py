"""Log-likelihoods of answer options, read from the logits of the states that predict their tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from vsp.errors import ModelError
from vsp.models.device_copies import copy_to_device, copy_to_host
from vsp.models.prompt_tree import Bundle

VALUES_AT_ONCE = 1 << 26  # logits that are converted to float32 together


class OptionReader:
    """Which states predict the tokens of all options of a bundle, and how their logits are summed.

    An option's first token is predicted by the last token of its prompt, each further one by the
    token before it.
    """

    def __init__(self, bundle: Bundle, n_options: int, norm: nn.Module, head: Any) -> None:
        if head is None:
            raise ModelError("it has no head that predicts tokens; use --no-answers")
        self._norm, self._head = norm, head
        self._shape = len(bundle.rows), n_options
        numbers: dict[tuple[int, int], int] = {}  # sequence and position → query
        queries, tokens, targets = [], [], []
        for row, (place, at) in enumerate(zip(bundle.rows, bundle.options, strict=True)):
            for number, option in enumerate(place.row.options):
                for n, token in enumerate(option):
                    queries.append(numbers.setdefault(at[option[:n]], len(numbers)))
                    tokens.append(token)
                    targets.append(row * n_options + number)
        self.places = list(numbers)  # sequence and position of each query
        self._queries, self._tokens = np.array(queries, np.int64), np.array(tokens, np.int64)
        self._targets = np.array(targets, np.int64)
        self._n_layers = 1

    @contextmanager
    def asking(self, queries: Sequence[torch.Tensor], lens: bool) -> Iterator[None]:
        """Give the head the queries of the last layer, with `lens` of all layers, during a pass.

        `queries` are [query, hidden] by layer; the pass fills them before the head is called. So
        the head works on a few states, and what a model does to its logits applies to all layers.
        """

        def replace(_module: nn.Module, args: Any) -> Any:
            *before, last = queries
            norm = self._norm.forward  # not the hooks, which record what the norm gives
            layers = [norm(states.to(last.device)) for states in before] if lens else []
            self._n_layers = len(layers) + 1
            return torch.cat([*layers, last])[None].to(args[0].device), *args[1:]

        hook = self._head.register_forward_pre_hook(replace)
        try:
            yield
        finally:
            hook.remove()

    def scores(
        self, logits: torch.Tensor
    ) -> Callable[[], tuple[NDArray[np.float32], NDArray[np.float32] | None]]:
        """Start copying the log-probabilities; a function that waits and sums them.

        It returns [row, option] of the last layer, and [layer, row, option] if all were asked.
        """
        n_layers = self._n_layers
        by_layer = logits.reshape(n_layers, len(self.places), logits.shape[-1])
        queries, tokens = (
            copy_to_device(one, logits.device) for one in (self._queries, self._tokens)
        )
        total = torch.stack([_log_normalizers(one) for one in by_layer])
        chosen = by_layer[:, queries, tokens].float() - total[:, queries]
        copied = copy_to_host(chosen)

        def wait() -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
            sums = self._sums(copied())
            return sums[-1], sums if n_layers > 1 else None

        return wait

    def _sums(self, values: NDArray[np.floating]) -> NDArray[np.float32]:
        """[layer, row, option] from log-probabilities [layer, token]; NaN where there is no option.

        A value that is not a number becomes −inf, so that it does not look like a missing option.
        """
        sums = np.zeros((len(values), self._shape[0] * self._shape[1]))
        for layer, of_tokens in zip(sums, values, strict=True):
            np.add.at(layer, self._targets, of_tokens)
        sums[np.isnan(sums)] = -np.inf
        missing = np.ones(sums.shape[1], bool)
        missing[self._targets] = False
        sums[:, missing] = np.nan
        return sums.reshape(len(values), *self._shape).astype(np.float32)


def _log_normalizers(logits: torch.Tensor) -> torch.Tensor:
    """log Σ exp of each row of logits [query, token], in float32, a few rows at a time."""
    n_rows = max(1, VALUES_AT_ONCE // logits.shape[-1])
    return torch.cat([some.float().logsumexp(-1) for some in logits.split(n_rows)])
