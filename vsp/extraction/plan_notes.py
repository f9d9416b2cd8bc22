"""Notes of `vsp plan`: facts that a user should know before the tasks start."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from vsp.config import Devices, ModelConfig, Profile
from vsp.datasets.scarce_labels import LabelGroups
from vsp.errors import RunError
from vsp.extraction.preflight import CheckedImage
from vsp.models.contract import Outline
from vsp.models.memory import fused_experts
from vsp.storage.manifest import Sample
from vsp.storage.run import Run
from vsp.storage.stored_settings import check_owner

_GPU_OPTIONS = ("gres", "gpus", "gpus_per_node", "gpus_per_task")  # of a profile


def gpu_notes(profile: Profile, n_needed: Devices) -> list[str]:
    """A note if a task gets fewer GPUs from Slurm than it needs."""
    if profile.scheduler != "slurm" or n_needed == "auto" or n_needed == 1:
        return []
    options = {"gres": profile.gres, **profile.further_options}
    asked = {key: str(options[key]) for key in _GPU_OPTIONS if options.get(key)}
    if any(_n_gpus(key, value) >= n_needed for key, value in asked.items()):
        return []
    words = " and ".join(f"`{key}: {value}`" for key, value in asked.items())
    said = f"the profile asks for {words}" if asked else "the profile has no `gres`"
    return [f"each task needs {n_needed} GPUs, and {said}: write `gres: gpu:{n_needed}` there"]


def _n_gpus(option: str, value: str) -> int:
    """Number of GPUs in a request: gres gpu:2, gpu:a100:2 or gpu; otherwise 2 or a100:2."""
    requests = [request.split(":") for request in value.split(",")]
    counts = [words[-1] for words in requests if option != "gres" or words[0] == "gpu"]
    return sum(int(count) if count.isdecimal() else 1 for count in counts)


def expert_notes(model: Outline | None, config: ModelConfig) -> list[str]:
    """A note about weights of the decoder that bitsandbytes leaves as they are."""
    if model is None or config.quantization == "none":
        return []
    n_tensors, share = fused_experts(model)
    if not n_tensors:
        return []
    return [
        f"{n_tensors} tensors with {share:.0%} of the language model's weights are fused experts, which "
        f"{config.quantization} quantization leaves in {model.dtype}"
    ]


def unfinished_plan_notes(scratch: Path) -> list[str]:
    """Notes about folders of other `vsp plan` processes; their arrays take up disk space."""
    return [
        f"{folder}: another `vsp plan` is running there or was killed; if none is, remove it"
        for folder in sorted(scratch.glob(".*/"))
        if re.fullmatch(r"\..+\.[a-z0-9_]{8}", folder.name)
    ]


def other_results_notes(run: Run) -> list[str]:
    """A note if the probe of a new run will refuse to replace the results of another plan."""
    try:
        check_owner(run.results, run.plan)
    except RunError as error:
        return [f"{error} (other --shards or another --batch-size make another plan too)"]
    return []


def label_notes(samples: Iterable[Sample]) -> list[str]:
    groups = LabelGroups()
    for sample in samples:
        groups.add(sample.label, sample.split, sample.group)
    return groups.notes()


def crop_notes(images: Iterable[CheckedImage], family: str) -> list[str]:
    n_cropped = sum(image.size[0] != image.size[1] for image in images)
    if not n_cropped:
        return []
    return [
        f"{n_cropped} images are not square; {family}'s own processor crops them to the middle, "
        "so the model does not see their edges"
    ]
