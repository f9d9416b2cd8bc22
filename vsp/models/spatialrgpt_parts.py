"""The parts of a checkpoint of SpatialRGPT or plain VILA: their configurations and what is refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from vsp.config import ModelConfig
from vsp.errors import ModelError
from vsp.models.config_limits import read_model_config

MODEL_TYPES = ("llava_llama",)


def part_configs(config: ModelConfig, root: Path) -> tuple[Any, Any]:
    """Configurations of the language model and of the vision tower."""
    from vsp.models.outline import load_config

    return load_config(config, root / "llm"), load_config(config, root / "vision_tower")


def empty_parts(config: ModelConfig, root: Path, top: Mapping[str, Any]) -> Any:
    """The parts of the model on torch's meta device, with the whole tower."""
    import torch
    from torch import nn
    from transformers import LlamaForCausalLM, SiglipVisionModel

    from vsp.models.checkpoints import reading
    from vsp.models.vila_modules import Projector, RegionExtractor

    llm, tower = part_configs(config, root)
    sizes = (tower.hidden_size, llm.hidden_size)
    whole = nn.Module()
    with reading(config, "configuration"), torch.device("meta"):
        whole.llm = LlamaForCausalLM(llm)
        whole.vision_tower = SiglipVisionModel(tower)
    with torch.device("meta"):
        whole.mm_projector = Projector(projector_kind(root), *sizes)
        if top["enable_region"]:
            whole.region_extractor = RegionExtractor(*sizes)
    return whole


def before_cut(root: Path, top: Mapping[str, Any]) -> Callable[[str], bool]:
    """A function that is False for weights of the tower after its selected layer."""
    from vsp.models.weights import before_layer

    n_layers = n_used(root, top)
    return lambda name: before_layer(name, n_layers) and "head." not in name


def n_used(root: Path, top: Mapping[str, Any]) -> int:
    """The number of the tower's blocks up to the selected layer."""
    n_layers = int(read_model_config(root / "vision_tower/config.json")["num_hidden_layers"])
    layer = top["mm_vision_select_layer"]
    if not isinstance(layer, int) or not -n_layers - 1 <= layer <= n_layers:
        raise ModelError(
            f"{root}: mm_vision_select_layer {layer!r} is not one of the {n_layers} layers of the vision "
            "tower; correct it in config.json"
        )
    return range(n_layers + 1)[layer]


def cut_tower(tower: Any, top: Mapping[str, Any]) -> Any:
    """Remove the layers after the selected one; the selected layer."""
    # The index counts hidden states; number 0 is the embedding output.
    states = range(len(tower.encoder.layers) + 1)
    tower.encoder.layers = tower.encoder.layers[: states[top["mm_vision_select_layer"]]]
    return tower.encoder.layers[-1]


def small_parts(top: dict[str, Any]) -> tuple[str, ...]:
    return ("mm_projector", "region_extractor") if top["enable_region"] else ("mm_projector",)


def projector_kind(root: Path) -> str:
    return str(read_model_config(root / "mm_projector/config.json").get("mm_projector_type"))


def read_top(root: Path) -> dict[str, Any]:
    """The top-level configuration with defaults. Raises ModelError if it is not supported."""
    from vsp.models.checkpoints import refuse_adapter_files, suggest_family

    for part in ("llm", "vision_tower"):
        refuse_adapter_files(root / part)
    top = read_model_config(root / "config.json")
    kind = str(top.get("model_type"))
    if kind not in MODEL_TYPES:
        raise ModelError(
            f"{root}: its model_type is {kind!r}, not 'llava_llama'; {suggest_family(kind, 'spatialrgpt')}"
        )
    top.setdefault("mm_vision_select_layer", -2)
    top.setdefault("image_aspect_ratio", "resize")
    top.setdefault("enable_region", False)
    for reason, refused in _refusals(root, top):
        if refused:
            raise ModelError(f"{root}: {reason}; this checkpoint is not supported")
    path = root / "vision_tower/config.json"
    tower = read_model_config(path)
    for key in ("image_size", "patch_size", "num_hidden_layers"):
        if not isinstance(tower.get(key), int):
            raise ModelError(
                f"{path}: {key} is {tower.get(key)!r}, not a whole number; correct it, or download the "
                "checkpoint again"
            )
    return top


def _refusals(root: Path, top: dict[str, Any]) -> list[tuple[str, bool]]:
    """Reasons to refuse a checkpoint, and whether each applies."""
    tower = read_model_config(root / "vision_tower/config.json")
    llm = read_model_config(root / "llm/config.json")
    aspect = str(top["image_aspect_ratio"])
    feature = top.get("mm_vision_select_feature", "patch")
    reasons = [
        ("it tiles images at several scales (s2)", bool(top.get("s2"))),
        ("it tiles images dynamically (dynamic_s2)", bool(top.get("dynamic_s2"))),
        ("it selects patches (ps3)", bool(top.get("ps3"))),
        (f"image_aspect_ratio {aspect!r} is neither resize nor pad", aspect not in ("resize", "pad")),
        (f"its vision tower is a {tower.get('model_type')}, not a SigLIP",
         tower.get("model_type") != "siglip_vision_model"),
        (f"mm_vision_select_feature {feature!r} drops a token that SigLIP does not have",
         feature != "cls_patch"),
        (f"its language model is a {llm.get('model_type')}, not a Llama",
         llm.get("model_type") != "llama"),
        ("its language model is already quantised (for example AWQ)", "quantization_config" in llm),
        ("its vision tower is already quantised", "quantization_config" in tower),
    ]  # fmt: skip
    if top["enable_region"]:
        path = root / "region_extractor/config.json"
        kind = read_model_config(path).get("region_extractor_type") if path.exists() else None
        reasons += [
            ("enable_region is true but there is no folder region_extractor/", not path.exists()),
            (f"its region extractor is {kind!r}, not 'regiongpt'", kind != "regiongpt"),
        ]
    return reasons
