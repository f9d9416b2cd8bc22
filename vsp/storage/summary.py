"""The types of the values in summary.json that pages and plots show.

Results may come from a stranger: a file can match its digest and still hold text where a number
belongs. Keys that are not listed here are allowed, since they are only passed on.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    field_validator,
    model_validator,
)

from vsp.choices import ANSWER_SCORES, AnswerScore
from vsp.config import parse
from vsp.errors import ConfigError
from vsp.storage.plan import Plan

Figure = Annotated[float, Field(ge=-1e100, le=1e100)]  # beyond it, the width of a bar overflows
Count = Annotated[int, Field(ge=0, le=2**53)]
LayerName = Annotated[str, StringConstraints(pattern=r"^[0-9]{1,6}$")]


class _Values(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow", allow_inf_nan=False)


class _Rows(_Values):
    planned: Count
    done: Count
    failed: Count
    missing: Count
    used: Count
    train: Count
    test: Count


class _BatchEffect(_Values):
    model_config = ConfigDict(extra="forbid")
    n_rows: Count
    absolute: Annotated[list[Figure], Field(min_length=1)]
    relative: Annotated[list[Figure], Field(min_length=1)]


class _Probe(_Values):
    probe: str
    treatment: str
    parameter: str
    grid: list[Figure] | None
    target: str
    link: str
    parameters: dict[str, Any] = {}
    not_saved: list[Count] = []  # layers whose probes have no arrays

    @model_validator(mode="after")
    def _check_grid(self) -> _Probe:
        if self.parameter and self.grid == []:
            raise ValueError("grid is empty")
        return self


class _Interval(_Values):
    low: Figure | None
    high: Figure | None


class _Score(_Interval):
    score: Figure | None


class _Difference(_Interval):
    difference: Figure | None


class _Recall(_Score):
    n: Count


class _PairSide(_Values):
    """Accuracy on rows of seen or unseen pairs."""

    n: Count
    peak: _Score
    words: _Score | None = None


class _Pairs(_Values):
    kind: str  # name pair or prompt
    seen: _PairSide
    unseen: _PairSide


class _Control(_Values):
    score: _Difference | None
    control: _Difference | None
    selectivity: _Difference | None


class _Bounds(_Values):
    low: Figure
    high: Figure


class _ControlTasks(_Values):
    tasks: Count
    types: Count
    note: str


class _Peak(_Interval):
    """Figures of the peak; None: not defined for this target or probe, or switched off."""

    estimate: Figure
    naive: Figure
    over_training: _Bounds | None
    layers: Annotated[dict[LayerName, Count], Field(min_length=1)]
    over_chance: _Difference | None
    over_words: _Difference | None
    over_random: _Difference | None = None  # older results have none
    over_embedding: _Difference | None
    accuracy: Figure | None
    balanced_accuracy: Figure | None
    macro_f1: Figure | None
    recall: dict[str, _Recall | None] | None
    precision: dict[str, Figure | None] | None
    confusion: list[list[Count]] | None
    ece: Figure | None
    ece_null: Figure | None  # mean of calibrated probabilities
    ece_null_high: Figure | None  # and their 95 % quantile
    brier: Figure | None
    rmse: Figure | None
    pairs: _Pairs | None  # None: not labels, or one side has few rows
    controls: dict[str, _Control]

    @model_validator(mode="after")
    def _check_classes(self) -> _Peak:
        n = len(self.recall or {})
        confusion = self.confusion or []
        if len(confusion) != n or any(len(counts) != n for counts in confusion):
            raise ValueError("confusion has another number of classes than recall")
        return self


class _Said(_Values):
    """One score of the model's own answers and of the peak, on the same rows."""

    says: _Score
    knows: _Score
    difference: _Difference


class _SaidOfLabel(_Values):
    says: _Recall | None  # None: no row has the label
    knows: _Recall | None


class _RightOrWrong(_Values):
    """Rows by whether probe and answer are right, averaged over repeats."""

    both: Figure
    only_knows: Figure
    only_says: Figure
    neither: Figure


class _EqualAccuracies(_Values):
    """p values that probe and answer have the same accuracy."""

    p: Figure  # rows of a group may depend on each other
    n_flips: Count
    p_rows: Figure  # McNemar's exact test


class _Agreement(_Values):
    share: _Score
    kappa: Figure | None


class _Says(_Values):
    """The model's own answers beside the peak."""

    score: AnswerScore  # chooses the answer of a row
    statistic: str  # of `scores`, and of the lens
    n_rows: Count
    n_no_label: Count  # test rows whose label is none of their options; left out
    n_ties: Count  # rows of which two options have the best score
    prior: str  # the run with blank pictures, or why there is none
    no_lens: str = ""  # why a lens that the run stores was not read
    scores: dict[str, _Score | None]  # of the answers that each kind of score chooses
    figures: dict[str, _Said]  # by statistic
    recall: dict[str, _SaidOfLabel]
    table: _RightOrWrong
    test: _EqualAccuracies
    agreement: _Agreement

    @model_validator(mode="after")
    def _check_figures(self) -> _Says:
        if not {self.statistic, "accuracy"} <= self.figures.keys():
            raise ValueError("figures lack a statistic")
        if not set(ANSWER_SCORES) <= self.scores.keys():
            raise ValueError("scores lack a kind")
        return self


class _ComparedProbe(_Values):
    probe: str
    treatment: str
    target: str


class _ComparedPlan(_Values):
    variants: list[str] = []


class _ComparedSettings(_Values):
    seed: Count = 0


class ComparedSummary(_Values):
    """The values of summary.json that a comparison needs."""

    probe: _ComparedProbe
    plan: _ComparedPlan
    n_layers: Count
    settings: _ComparedSettings = _ComparedSettings()
    statistic: str
    best_layer: Count


class _TransferredProbe(_Values):
    probe: str
    treatment: str
    link: str
    classes: list[str] | None  # None: it reads a number
    parameters: dict[str, Any] = {}
    not_saved: list[Count] = []  # layers whose probes have no arrays


class TransferredSummary(_Values):
    """The values of summary.json that an evaluation on other states needs."""

    probe: _TransferredProbe
    plan: dict[str, Any]
    position: str
    hidden_size: Count
    statistic: str
    best_layer: Count


class _PortionErrors(_Values):
    """Fits of the learning curve in which an estimator of the user raised an error."""

    n: Count
    first: str


class _Settings(_Values):
    metric: str = ""  # as asked for; the statistic says which one it is


class Summary(_Values):
    """The values of summary.json that pages and plots need."""

    run: str
    plan: dict[str, Any]
    position: str  # of the states
    n_layers: Count
    hidden_size: Count
    rows: _Rows
    failed_reasons: dict[str, Count]
    batching: _BatchEffect | None
    split: str
    split_by: str  # image, pairs or names
    settings: _Settings = _Settings()
    probe: _Probe
    statistic: str
    confidence: Figure
    resamples: Count
    n_permutations: Count
    n_movable: Count | None  # None: no permutations
    n_within: Count | None  # tested rows whose label can be exchanged within their prompt
    controls: dict[str, _ControlTasks]  # of each control that was asked for, drawn or not
    capacity_chance: Figure | None  # share of the most frequent label of the training rows
    portion_errors: _PortionErrors | None = None
    n_without_boxes: Count
    n_groups: Count
    equal_states: Count
    chance: Figure
    best_layer: Count
    n_fits: Count
    n_uncertified: Count
    max_gap: Figure | None
    tolerance: Figure
    peak: _Peak
    baselines: dict[str, _Score | None]
    says: _Says | None  # the model's own answers
    no_answers: str  # why there are none
    untrained: str  # results of the untrained model, in the place of random features; "": none

    @model_validator(mode="after")
    def _check_permutations(self) -> Summary:
        if self.n_permutations and self.n_movable is None:
            raise ValueError("n_movable is missing")
        return self

    @field_validator("plan")
    @classmethod
    def _check_plan(cls, plan: dict[str, Any]) -> dict[str, Any]:
        try:
            parse(Plan, plan, "plan")
        except ConfigError as error:
            raise ValueError(str(error)) from None
        return plan
