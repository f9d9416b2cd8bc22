"""Files of states as other programs write them: the research project, torch scripts and vLLM."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

NAMES = np.array(["above", "below", "left", "right"])


def research_arrays(
    n_rows: int = 120, n_layers: int = 3, hidden: int = 8, seed: int = 0, dtype: str = "f4"
) -> dict[str, NDArray[Any]]:
    """The arrays of the research project's files. Labels show more from layer to layer."""
    rng = np.random.default_rng(seed)
    label = np.arange(n_rows) % 4
    shown = np.linspace(0, 1.5, n_layers)[:, None] * rng.normal(size=(4, 1, hidden))[label]
    states = rng.normal(size=(n_rows, n_layers, hidden)) + shown
    images = np.array([f"image{i // 3}" for i in range(n_rows)])
    return {"representations": states.astype(dtype), "labels": NAMES[label], "image_ids": images}


def write_research(path: Path, **changes: Any) -> dict[str, NDArray[Any]]:
    """Write such a file, compressed; None leaves an array out. Returns its arrays."""
    arrays = {**research_arrays(), **changes}
    arrays = {name: array for name, array in arrays.items() if array is not None}
    np.savez_compressed(path, **arrays)
    return arrays


def write_pt(folder: Path, states: NDArray[Any], metas: list[dict[str, Any]], **how: Any) -> None:
    """Write a `.pt` file for each row of states [row, layer, hidden]."""
    import torch

    folder.mkdir()
    first, as_list = how.get("first", 0), how.get("as_list", False)
    for i, (row, meta) in enumerate(zip(states, metas, strict=True)):
        tensors = [
            torch.tensor(vector).to(getattr(torch, how.get("dtype", "float32"))) for vector in row
        ]
        layers = tensors if as_list else {first + k: one[None] for k, one in enumerate(tensors)}
        torch.save({"layers": layers, "meta": meta}, folder / f"{i:04}.pt")


def write_vllm(folder: Path, states: NDArray[Any], rows: list[dict[str, Any]]) -> None:
    """Write vLLM's files: the last of two tokens has the states [row, layer, hidden], as bfloat16."""
    import torch
    from safetensors.torch import save_file

    folder.mkdir()
    for i, row in enumerate(states):
        tokens = torch.tensor(np.stack([row * 0, row])).to(torch.bfloat16)
        tensors = {"hidden_states": tokens, "token_ids": torch.arange(2)}
        save_file(tensors, folder / f"request{i}.safetensors")
    lines = [json.dumps({"file": f"request{i}.safetensors", **row}) for i, row in enumerate(rows)]
    (folder / "rows.jsonl").write_text("\n".join(lines))
