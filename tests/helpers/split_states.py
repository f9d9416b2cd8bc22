"""Program: small models on one device and split over pretended ones. Prints what it saw as JSON.

It needs a process of its own, because torch keeps the pretended devices until the process ends.
Its argument is a JSON object: kind → family and checkpoint.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from typing import Any

import numpy as np
from PIL import Image

from vsp import models
from vsp.config import ModelConfig
from vsp.models.contract import Loaded, prompt_group
from vsp.models.memory import outline
from vsp.models.placement import device_map

PROMPTS = ["Where is the red circle?", "Up?", "Where is the blue square, left or right of it?"]


def run(loaded: Loaded) -> np.ndarray:
    """States [layer, row, hidden] of three prompts about one image, and of one about another."""
    rng = np.random.default_rng(0)
    groups = []
    for (width, height), prompts in (((448, 448), PROMPTS), ((60, 200), PROMPTS[:1])):
        image = Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8))
        picture = loaded.processor.picture(image)
        rows = [loaded.processor.row(picture, prompt) for prompt in prompts]
        groups.append(prompt_group(picture, rows))
    return loaded.model.forward(groups)().states["last"]


def misplaced(loaded: Loaded, placed: dict[str, str]) -> list[str]:
    """Weights that are not on the device of the map."""
    model: Any = loaded.model
    parts = {"llm.model": "_llm", "vision_tower": "_tower", "": "_model"}
    whole = {prefix: getattr(model, part) for prefix, part in parts.items() if hasattr(model, part)}
    wrong = []
    for prefix, module in whole.items():
        for name, weight in module.named_parameters(prefix=prefix):
            units = [one for one in placed if name == one or name.startswith(f"{one}.")]
            if [placed[one] for one in units] != [str(weight.device)]:
                wrong.append(name)
    return wrong


def compare(config: ModelConfig, n_devices: int, expected: np.ndarray) -> dict[str, Any]:
    from helpers.pretend_devices import PretendDevices

    devices = tuple(f"pretend:{i}" for i in range(n_devices))
    with PretendDevices() as pretended:
        loaded = models.load(config, devices)
        before = Counter(pretended.moves)
        states = run(loaded)
    moves = pretended.moves - before
    placed = device_map(outline(config), config.quantization, devices)
    return {
        "equal": bool((states == expected).all()),
        "moves": {f"{source} {target}": n for (source, target), n in moves.items()},
        "misplaced": misplaced(loaded, placed),
    }


def main() -> None:
    seen, kinds = {}, json.loads(sys.argv[1])
    for kind, (family, checkpoint) in kinds.items():
        full = {"quantization": "none", "dtype": "float32"}
        config = models.resolve(family, checkpoint=checkpoint, **full)
        expected = run(models.load(config))
        # Three devices have a first, a middle and a last one; two have no middle one.
        numbers = (2, 3) if kind == next(iter(kinds)) else (3,)
        seen[kind] = {n: compare(config, n, expected) for n in numbers}
    print(json.dumps(seen))


if __name__ == "__main__":
    main()
