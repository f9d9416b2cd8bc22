"""Names of runs: model and dataset as the user typed them, and what differs from an earlier run.

`vsp plan --model mine --dataset data/raw/q` makes the run mine-q. If there is a run of that name with
another quantization or prompt, the new name says so: mine-q-4bit, mine-q-question. A number is added
only if nothing differs that a name can say.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path, PurePath
from types import MappingProxyType
from typing import Any

from vsp.choices import LAST
from vsp.config import NAME_PATTERN, ModelConfig, parse
from vsp.errors import ConfigError, RunError, VspError
from vsp.storage.effects import Effects
from vsp.storage.plan import Plan
from vsp.storage.run import Run
from vsp.storage.stored_settings import stored_settings
from vsp.utils.text import format_ranges

_STEM_LENGTH = 90  # of a name before a number; NAME_PATTERN allows 100
_MOST_WORDS = 3  # that name differences; with more, a number is clearer
_AUTO = "auto"  # a family that says nothing about the model


def check_name(name: str, work: Path) -> None:
    """Raise an error unless a run can be planned under the name that the user gave."""
    if not re.fullmatch(NAME_PATTERN, name):
        raise ConfigError(f"run {name!r}: use letters, digits, '.', '_' and '-' only")
    folder = work / "scratch" / name
    if os.path.lexists(folder):
        raise RunError(f"{folder}: exists already; remove it or choose another --run")


def stem_of(model: ModelConfig, typed: str, dataset: Path) -> str:
    """The first name that a run gets: the model as typed, and the name of the dataset's folder."""
    named = PurePath(typed).stem if "/" in typed or typed.endswith(".yaml") else typed
    if named in ("", _AUTO) and model.checkpoint:
        named = PurePath(model.checkpoint).name
    return _plain(f"{named or model.family}-{dataset.absolute().name}")[:_STEM_LENGTH]


def new_name(
    stem: str, plan: Plan, work: Path, others: Mapping[str, Plan] = MappingProxyType({})
) -> tuple[str, str]:
    """An unused name for a run with this plan, and a note if it is not the stem alone.

    `plan` is complete but for its name and its manifest. A name counts as used if a run has it, or if
    results have it that are not of the same settings. `others` are plans by name that are not written
    yet.
    """
    if _is_free(stem, plan, work, others):
        return stem, ""
    other = others.get(stem) or _plan_of(stem, work)
    words = [] if other is None else differences(plan, other)
    if 0 < len(words) <= _MOST_WORDS:
        said = _plain("-".join((stem, *words)))
        if len(said) <= _STEM_LENGTH:
            return _numbered(said, plan, work, others, f"{stem} exists with other settings")
    return _numbered(stem, plan, work, others, f"{stem} exists")


def _numbered(
    stem: str, plan: Plan, work: Path, others: Mapping[str, Plan], why: str
) -> tuple[str, str]:
    name, n = stem, 1
    while not _is_free(name, plan, work, others):
        n += 1
        name = f"{stem}-{n}"
    return name, f"the run is named {name}, because {why}"


def _is_free(name: str, plan: Plan, work: Path, others: Mapping[str, Plan]) -> bool:
    if name in others or os.path.lexists(work / "scratch" / name):
        return False
    if not os.path.lexists(work / "results" / name):
        return True
    other = _plan_of(name, work)
    return other is not None and is_same(plan, other)


def _plan_of(name: str, work: Path) -> Plan | None:
    """The plan of the run of that name, or of its results; None if neither can be read."""
    with suppress(VspError):
        return Run.open(work / "scratch" / name).plan
    for one in stored_settings(work / "results" / name):
        with suppress(VspError):
            return parse(Plan, one.values.get("plan"), str(one.results.folder))
    return None


def is_same(plan: Plan, other: Plan) -> bool:
    """Whether two plans have the same settings; their rows are not compared."""
    return (
        not differences(plan, other)
        and plan.n_samples == other.n_samples
        and plan.checkpoint_files == other.checkpoint_files
    )


def differences(plan: Plan, other: Plan) -> list[str]:
    """Words for each setting in which `plan` differs from `other`: ["4bit", "question"]."""
    return [
        *_of_model(plan.model, other.model),
        *_of_rows(plan, other),
        *_of_store(plan, other),
        *_of_effects(plan.effects, other.effects),
    ]


def _of_model(model: ModelConfig, other: ModelConfig) -> Iterator[str]:
    if model.weights != other.weights:
        yield "untrained" if model.weights == "random" else "trained"
    if model.checkpoint != other.checkpoint or model.family != other.family:
        yield PurePath(model.checkpoint or model.family).name
    elif model.revision != other.revision:
        yield f"revision-{(model.revision or 'default')[:7]}"
    if model.adapter != other.adapter:
        yield PurePath(model.adapter).name if model.adapter else "no-adapter"
    if model.quantized_as != other.quantized_as:
        yield "unquantized" if model.quantized_as == "none" else model.quantized_as
    if model.dtype != other.dtype:
        yield model.dtype
    for key in sorted({*model.options, *other.options}):
        if model.options.get(key) != other.options.get(key):
            yield f"{key}-{model.options.get(key, 'default')}"
    same_files = (model.checkpoint, model.adapter) == (other.checkpoint, other.adapter)
    if same_files and (model.template, model.frame) != (other.template, other.frame):
        yield "template"


def _of_rows(plan: Plan, other: Plan) -> Iterator[str]:
    if plan.variants != other.variants:
        yield "-".join(one for one in plan.variants if one not in other.variants) or "original"
    elif plan.dataset != other.dataset:
        yield _folder_word(plan.dataset, other.dataset)
    elif plan.n_samples != other.n_samples:
        yield f"{plan.n_samples}rows"
    if plan.prompt != other.prompt:
        yield plan.prompt


def _folder_word(dataset: str, other: str) -> str:
    """The last part of a path that the other path does not have at that place."""
    parts, others = PurePath(dataset).parts[::-1], PurePath(other).parts[::-1]
    for part, same in zip(parts, others, strict=False):
        if part != same:
            return part
    return parts[min(len(others), len(parts) - 1)]


def _of_store(plan: Plan, other: Plan) -> Iterator[str]:
    yield from _added(plan.positions, other.positions, LAST)
    yield from _added(plan.modules, other.modules, "no-modules")
    if plan.dtype != other.dtype and plan.compute_dtype == other.compute_dtype:
        yield f"stored-{plan.dtype}"
    if (plan.answers is None) != (other.answers is None):
        yield "no-answers" if plan.answers is None else "answers"
    elif plan.answers is not None and other.answers is not None:
        if plan.answers.start != other.answers.start:
            yield f"start-{plan.answers.start}"
        if plan.answers.lens != other.answers.lens:
            yield "lens" if plan.answers.lens else "no-lens"
    if plan.batch_size != other.batch_size:
        yield f"batch{plan.batch_size}"
    if plan.share != other.share:
        yield "sharing" if plan.share else "no-sharing"
    same_rows = plan.n_samples == other.n_samples
    if same_rows and len(plan.shard_starts) != len(other.shard_starts):
        yield f"{len(plan.shard_starts)}shards"


def _of_effects(effects: Effects | None, other: Effects | None) -> Iterator[str]:
    if effects is None or other is None:
        if effects != other:
            yield "states" if effects is None else effects.kind
        return
    if effects.kind != other.kind:
        yield effects.kind
    if effects.variant_id != other.variant_id:
        yield effects.variant or "no-variant"
    if effects.layers != other.layers:
        yield f"layers-{format_ranges(effects.layers).replace(',', '_')}"
    if effects.position != other.position:
        yield effects.position
    if effects.seed != other.seed:
        yield f"seed{effects.seed}"
    yield from _of_settings(effects, other)


def _of_settings(effects: Effects, other: Effects) -> Iterator[str]:
    """Words for settings that differ: their tokens, their scales or their names."""
    if effects.kind == "patch":
        tokens, other_tokens = (
            [one.name for one in each.settings[1:]] for each in (effects, other)
        )
        yield from _added(tokens, other_tokens, "fewer-tokens")
        return
    scales = [{one.scale for one in each.settings[1:]} for each in (effects, other)]
    if scales[0] != scales[1]:
        yield f"scale-{'_'.join(f'{one:g}' for one in sorted(scales[0]))}"
    own, others = ({one.name for one in each.settings} for each in (effects, other))
    if own != others:
        yield f"{len(own) - 1}settings"


def _added(names: Sequence[Any], others: Sequence[Any], none: str) -> Iterator[str]:
    """One word with the names that `others` lack; `none` if `others` lack none."""
    if set(names) != set(others):
        yield "-".join(str(one) for one in names if one not in others) or none


def _plain(text: str) -> str:
    """The text with a dash for each character that a name cannot have."""
    plain = re.sub(r"[^A-Za-z0-9._-]", "-", text)
    return plain if plain[:1].isalnum() else f"run{plain}"
