"""summary.json of results: its format, its seal, and whose results it describes."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from vsp.choices import LAST
from vsp.config import parse
from vsp.errors import ConfigError
from vsp.storage.plan import Plan
from vsp.utils.files import json_sha256

FORMAT = 7  # of the folder
# Results of format 4 have neither answers nor positions; of format 5, no probes of folds, and not the
# arrays of predictions.npz that say which rows were fitted; of format 6, no folder for each setting.
FORMATS_WITHOUT_SETTING = (4, 5, 6)
READABLE = (*FORMATS_WITHOUT_SETTING, FORMAT)
SUMMARY = "summary.json"


def to_json(value: Any) -> Any:
    """Convert to types of JSON; numbers that are not finite become None."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): to_json(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json(one) for one in value]
    return value


def encode(values: Any) -> bytes:
    """JSON that people can read, in UTF-8."""
    return json.dumps(values, indent=1, ensure_ascii=False).encode() + b"\n"


def sealed(values: Mapping[str, Any], digests: Mapping[str, str]) -> dict[str, Any]:
    """The contents of summary.json: the summary and all digests, including its own."""
    seal = json_sha256([values, digests])
    return {"format": FORMAT, **values, "sha256": {**digests, SUMMARY: seal}}


def completed(values: Mapping[str, Any]) -> dict[str, Any]:
    """A summary of an older format with the values that it may lack; format 4 has the last token alone."""
    plan = values.get("plan")
    sizes = plan if isinstance(plan, dict) else {}
    return {
        "position": LAST,
        **{name: sizes.get(name) for name in ("n_layers", "hidden_size")},
        "says": None,
        "no_answers": "",
        **values,
    }


def json_object(body: bytes) -> dict[str, Any] | None:
    """The mapping in a JSON text; None if it is anything else."""
    try:
        values = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return values if isinstance(values, dict) else None


def identity_of(values: Any) -> str | None:
    """The identity of the plan whose results a summary is of; None if it does not say.

    Older summaries hold the plan alone, from which it follows.
    """
    if not isinstance(values, dict):
        return None
    identity = values.get("identity")
    if isinstance(identity, str):
        return identity
    try:
        return parse(Plan, values.get("plan"), SUMMARY).identity()
    except ConfigError:
        return None


def described(values: Mapping[str, Any]) -> str:
    """Name and date of the plan of a summary whose types are not checked yet."""
    plan = values.get("plan")
    plan = plan if isinstance(plan, dict) else {}
    name, created = str(values.get("run"))[:100], str(plan.get("created"))[:25]
    return f"run {name}, planned {created}"
