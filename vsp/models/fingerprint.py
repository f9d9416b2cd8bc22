"""Fingerprint of a checkpoint's files: a run detects that its checkpoint has changed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from vsp.config import ModelConfig
from vsp.models.checkpoints import FOLDERS, INDEX, on_disk, read_index, text_files
from vsp.utils.reading import open_regular

_LARGE, _FIRST = 16 << 20, 1 << 20  # bytes
_N_SAMPLES, _SAMPLE = 16, 64 << 10  # samples of a large file, bytes of each


def fingerprint(config: ModelConfig) -> dict[str, str]:
    """Size and SHA-256 of each file that the model is loaded from, by its path in the checkpoint.

    Only samples of large weight files are read: another training changes all weights, and a task
    should not read 15 GB twice. Empty for a model without a folder.
    """
    root = on_disk(config)
    if root is None:
        return {}
    digests: dict[str, str] = {}
    for name in FOLDERS:
        weights = set(_weights(root / name)) if config.weights == "checkpoint" else set()
        for path in sorted({*text_files(root / name), *weights}):
            digests[str(path.relative_to(root))] = _digest(path, sampled=path in weights)
    if config.adapter is not None:
        for path in sorted(Path(config.adapter).glob("adapter_*")):
            if path.is_file():
                digests[f"adapter/{path.name}"] = _digest(path, sampled=True)
    return digests


def _weights(folder: Path) -> Iterator[Path]:
    """The index and the weight files that it names; without an index, all weight files."""
    index = folder / INDEX
    if index.exists():
        names = ("model.safetensors", INDEX, *sorted(set(read_index(index).values())))
        yield from (folder / name for name in names if os.path.isfile(folder / name))  # noqa: PTH113
    else:
        tensors = list(folder.glob("*.safetensors"))
        yield from tensors or folder.glob("pytorch_model.bin")


def _digest(path: Path, sampled: bool) -> str:
    digest = hashlib.sha256()
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if sampled and size >= _LARGE:
            digest.update(file.read(_FIRST))
            for i in range(_N_SAMPLES):  # the last sample is the end of the file
                file.seek(i * (size - _SAMPLE) // (_N_SAMPLES - 1))
                digest.update(file.read(_SAMPLE))
        else:
            while block := file.read(_FIRST):
                digest.update(block)
    return f"{size}:{digest.hexdigest()}"
