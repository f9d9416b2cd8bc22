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

from vsp.config import parse
from vsp.errors import ConfigError
from vsp.storage.run import Plan

Figure = Annotated[float, Field(ge=-1e100, le=1e100)]  # beyond it, the width of a bar overflows
Count = Annotated[int, Field(ge=0, le=2**53)]
LayerName = Annotated[str, StringConstraints(pattern=r"^[0-9]{1,6}$")]
CHECKED = ConfigDict(strict=True, extra="allow", allow_inf_nan=False)


class _Values(BaseModel):
    model_config = CHECKED


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


class _Peak(_Interval):
    estimate: Figure
    naive: Figure
    layers: Annotated[dict[LayerName, Count], Field(min_length=1)]


class _ComparedProbe(_Values):
    probe: str
    treatment: str
    target: str


class _ComparedPlan(_Values):
    n_layers: Count
    variants: list[str] = []


class ComparedSummary(_Values):
    """The values of summary.json that a comparison needs."""

    probe: _ComparedProbe
    plan: _ComparedPlan
    statistic: str
    best_layer: Count


class Summary(_Values):
    """The values of summary.json that pages and plots need."""

    run: str
    plan: dict[str, Any]
    rows: _Rows
    failed_reasons: dict[str, Count]
    batching: _BatchEffect | None
    split: str
    probe: _Probe
    statistic: str
    confidence: Figure
    resamples: Count
    n_permutations: Count
    n_movable: Count | None  # None: no permutations
    n_groups: Count
    n_prompt_known: Count | None = None
    equal_states: Count = 0  # older versions did not look for them
    chance: Figure
    best_layer: Count
    best_over_prompt: _Difference | None
    n_fits: Count
    n_uncertified: Count
    max_gap: Figure | None
    tolerance: Figure
    peak: _Peak | None
    baselines: dict[str, _Score | None]

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
