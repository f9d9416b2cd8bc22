"""The options of `vsp plan`, and the run that was planned with the same ones before."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from vsp.choices import LAST, Module, Position, Start
from vsp.config import Devices, ModelConfig, Profile, StoreDtype
from vsp.errors import VspError
from vsp.models.checkpoints import pinned
from vsp.models.fingerprint import fingerprint
from vsp.storage.run import Run, newest
from vsp.utils.files import json_sha256, sha256
from vsp.utils.reading import open_regular, read_json

RECORD = "request.json"  # in the folder of a run
_METADATA = "metadata.json"
# Options that change neither the rows nor what is computed of them.
_NO_CONTENT = {"name", "model_name", "profile", "dataset", "model"}
_LATER = {"rows_of": None}  # options that older plans do not have, and what they mean there


@dataclass(frozen=True, slots=True)
class PlanRequest:
    """The options of `vsp plan`."""

    dataset: Path
    model: ModelConfig
    prompt: str | None = None  # style; None: "instruction" if the records allow it
    store_dtype: StoreDtype | None = None  # None: float32 if the model computes in it, else float16
    n_shards: int | None = None
    shard_size: int = 1024
    batch_size: int = 16
    share: bool = True  # compute the common beginning of rows about one image once
    limit: int | None = None  # plan only the first rows
    rows_of: str | None = None  # a run whose rows, order and groups the new run has
    name: str | None = None
    model_name: str = ""  # as the user typed it, for the name of the run; "": that of the family
    drop_unreadable: bool = False
    keep_copies: bool = False  # keep groups and splits although images are copies of each other
    devices: Devices = 1  # GPUs that each task splits the model over
    positions: tuple[Position, ...] = (LAST,)
    modules: tuple[Module, ...] = ()  # ahead of the decoder, whose states are stored too
    answers: bool | None = None  # store log-likelihoods of options; None: if they are few
    answer_start: Start = "auto"  # how an option joins the prompt
    lens: bool = False  # also read the options from every layer
    profile: Profile = field(default_factory=Profile)


def request_key(request: PlanRequest) -> str:
    """SHA-256 of all options that decide what is planned, and of the records of the dataset."""
    options = {
        name: one
        for name, one in asdict(request).items()
        if name not in _NO_CONTENT and (name not in _LATER or one != _LATER[name])
    }
    model = pinned(request.model).model_dump(mode="json", exclude={"frame"})
    dataset = os.path.abspath(request.dataset)  # noqa: PTH100 - links stay links
    records = ""
    with suppress(OSError), open_regular(request.dataset / _METADATA) as file:
        records = sha256(file)
    return json_sha256([options, model, dataset, records])


def planned_before(request: PlanRequest, work: Path) -> Run | None:
    """The newest run of a plan with the same options, records and checkpoint; None if there is none.

    Pictures are not compared: the extraction compares them with the plan.
    """
    keys = {request_key(request), request_key(replace(request, prompt=None))}
    plans = []
    for path in (work / "scratch").glob(f"*/{RECORD}"):
        with suppress(OSError, ValueError, AttributeError, TypeError, RecursionError):
            if read_json(path).get("sha256") in keys and (path.parent / "plan.json").exists():
                plans.append(path.parent / "plan.json")
    while plans:
        latest = newest(plans)
        plans.remove(latest)
        with suppress(VspError):
            run = Run.open(latest.parent)
            run.check_checkpoint(fingerprint(run.plan.model))
            if request.prompt in (None, run.plan.prompt):
                return run
    return None
