"""The folder that a checkpoint is read from; the only place that asks a hub.

The libraries get a folder and never a name, so they ask no hub for each file.
"""

from __future__ import annotations

from pathlib import Path

from vsp.config import ModelConfig
from vsp.errors import ModelError
from vsp.models.checkpoints import (
    incomplete,
    is_hub_name,
    missing,
    on_disk,
    refuse_adapter_files,
    require_readable,
    unavailable,
)
from vsp.models.library_errors import library_errors

_TEXTS = ("*.json", "*.jinja", "*.model", "*.tiktoken", "*.txt")  # below any folder
_PATIENCE = 5  # seconds until a hub answers


def local_folder(config: ModelConfig) -> Path:
    """The checkpoint's folder, or that of its commit in the hub's cache.

    If there is neither, its configuration and tokenizer are downloaded, after one question whether
    the hub has it. Raises ModelError if it is not found, or if a file of it cannot be read.
    """
    if config.checkpoint is None:
        raise ModelError(f"model {config.family}: names no checkpoint; give one with --checkpoint")
    folder = on_disk(config) or _download_texts(config)
    refuse_adapter_files(folder)
    if not (folder / "config.json").exists():
        raise incomplete(config, "config.json: no such file")
    require_readable(folder)
    return folder


def _download_texts(config: ModelConfig) -> Path:
    name = str(config.checkpoint)
    if not is_hub_name(name):
        raise missing(config)
    from huggingface_hub import HfApi, snapshot_download

    with library_errors(lambda error: unavailable(config, error)):
        # A download tries five times; the question is asked once.
        commit = HfApi().model_info(name, revision=config.revision, timeout=_PATIENCE).sha
        return Path(snapshot_download(name, revision=commit, allow_patterns=list(_TEXTS)))
