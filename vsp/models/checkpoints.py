"""Finds checkpoints on this disk, checks that they are complete, and explains what is missing.

No model is loaded here. transformers is imported for details of errors only.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path

from vsp.config import ModelConfig
from vsp.errors import ConfigError, ModelError
from vsp.models import FAMILIES, load_family
from vsp.models.library_errors import library_errors, short
from vsp.models.safetensors_header import Header, read_headers
from vsp.utils.reading import read_json, unreadable
from vsp.utils.spelling import nearest_names
from vsp.utils.text import shorten

INDEX = "model.safetensors.index.json"  # names the weight file of each tensor
# Folders of a checkpoint that are read; a family's parts have their own folders.
FOLDERS = (
    "", "additional_chat_templates", "llm", "vision_tower", "mm_projector", "region_extractor",
)  # fmt: skip
# _READ: files of configurations, tokenizers and image processors. _UNREAD: exceptions to it.
_READ = ("*.json", "*.jinja", "*.model", "*.tiktoken", "merges.txt", "vocab.txt")
_UNREAD = ("*.index.json", "trainer_state.json", "*_results.json")
# _LOADED: those that the libraries open, by their names. _READ is wider, and a fingerprint holds it.
_LOADED = (
    "*config.json", "*.index.json", "added_tokens.json", "chat_template*.json", "normalizer.json",
    "special_tokens_map.json", "tekken.json", "tokenizer*.json", "vocab*", "merges*", "*.jinja",
    "*.model", "*.tiktoken",
)  # fmt: skip
_WEIGHTS = ("*.safetensors",)
_LONGEST_NAME = 255  # characters of a file's name; longer ones exist on no disk
_SHOWN = 100  # characters of a name in a message
_LARGEST = 1 << 26  # bytes of a file that is not weights; the largest tokenizers have 2^25


def on_disk(config: ModelConfig) -> Path | None:
    """The checkpoint's folder, or the folder of its commit in the hub's cache; None if neither exists.

    Never uses the network.
    """
    if config.checkpoint is None:
        return None
    if is_folder(config.checkpoint):
        return Path(config.checkpoint)
    if not is_hub_name(config.checkpoint):  # the path of a folder that does not exist
        return None
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(config.checkpoint, "config.json", revision=config.revision)
    return Path(cached).parent if isinstance(cached, str) else None


def is_folder(name: str) -> bool:
    """Whether a folder of this name exists; False for names that no file can have."""
    return os.path.isdir(name)  # noqa: PTH112 - Path raises OSError for a name that is too long


def text_files(folder: Path) -> Iterator[Path]:
    """The files in a folder of a checkpoint that say what the model and its processor are."""
    for pattern in _READ:
        for path in folder.glob(pattern):
            unread = path.name[0] == "." or _matches(path, _UNREAD)
            if not unread and path.is_file():
                yield path


def require_readable(root: Path) -> None:
    """Raise ModelError if a file of a checkpoint would block or fill the memory of whoever reads it.

    The libraries open these files by themselves, so all are checked before. No library reads the
    other files of the folders, such as results of the training.
    """
    for folder in (root / name for name in FOLDERS):
        for path in sorted(folder.iterdir()) if is_folder(str(folder)) else ():
            is_text, is_weights = (_matches(path, names) for names in (_LOADED, _WEIGHTS))
            if not is_text and not is_weights:
                continue
            try:
                status = path.stat()
            except OSError:
                continue  # a link to nothing: the libraries take it for a missing file
            if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
                raise ModelError(
                    f"{path}: is a pipe, a socket or a device, not a file; download the checkpoint "
                    "again"
                )
            if is_text and status.st_size > _LARGEST:
                raise ModelError(
                    f"{path}: has {status.st_size:,} bytes, more than the {_LARGEST:,} that are read of "
                    "such a file; download the checkpoint again"
                )


def _matches(path: Path, patterns: Sequence[str]) -> bool:
    return any(path.match(pattern) for pattern in patterns)


def pinned(config: ModelConfig) -> ModelConfig:
    """The same configuration; for a checkpoint in the hub's cache, with its commit as revision."""
    folder = on_disk(config)
    if folder is None or is_folder(str(config.checkpoint)):
        return config
    return config.model_copy(update={"revision": folder.name})


def refuse_adapter_files(folder: Path) -> None:
    """Raise ModelError if a checkpoint's folder has adapter files.

    transformers would apply them where `peft` happens to be installed, and ignore them elsewhere.
    """
    names = ("adapter_config.json", "adapter_model.safetensors", "adapter_model.bin")
    found = [name for name in names if (folder / name).is_file()]
    if found:
        raise ModelError(
            f"{folder}: holds an adapter ({found[0]}); name the base model with --checkpoint and this "
            "folder with --adapter, or merge them (`model.merge_and_unload()`) into a new folder"
        )


def check_weights(config: ModelConfig, part: str = "") -> dict[Path, dict[str, Header]]:
    """The headers of the weight files of a checkpoint, or of a part of it, by file.

    Raises ModelError unless all files are complete. Array tasks load these files. They never
    download: there may be a thousand of them, and nodes often have no network.
    """
    folder = on_disk(config)
    if folder is None:
        raise missing(config)
    files = [folder / part / name for name in sorted(_weight_files(folder / part, config))]
    headers = read_headers(files)
    incomplete = [path.name for path in files if path not in headers]
    if incomplete:
        broken = "; a download was interrupted" if _has_partial_download(folder) else ""
        raise ModelError(
            f"{folder / part}: {len(incomplete)} of {len(files)} weight files are missing or cut "
            f"short, for example {shorten(incomplete[0], _SHOWN)}{broken}; {_fetch(config)}"
        )
    return headers


def _weight_files(folder: Path, config: ModelConfig) -> set[str]:
    """The files that transformers would load, in its order of preference."""
    if (folder / "model.safetensors").exists():
        return {"model.safetensors"}
    index = folder / INDEX
    pickled = sorted(folder.glob("*.bin"))
    if pickled and not index.exists() and not list(folder.glob("*.safetensors")):
        raise ModelError(
            f"{folder}: has its weights as pickles only ({pickled[0].name}), which vsp does not read; "
            'convert them: `python -c "from transformers import AutoModelForImageTextToText as M; '
            "M.from_pretrained('DIR').save_pretrained('NEW')\"`, and copy the other files to NEW"
        )
    if not index.exists():
        some = sorted(folder.glob("model-*-of-*.safetensors"))
        return {index.name, *(path.name for path in some)} if some else {"model.safetensors"}
    names = set(read_index(index).values())
    if not names:
        raise ModelError(f"{index}: lists no weight files; {_fetch(config)}")
    return names


def read_index(index: Path) -> dict[str, str]:
    """The weight file of each tensor, as an index says; empty if the index is damaged.

    Raises ModelError for an entry that is not the name of a file in the same folder.
    """
    try:
        entries = read_json(index)["weight_map"]
    except OSError as error:
        raise ModelError(f"{index}: {unreadable(error)}; download the checkpoint again") from None
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}
    if not isinstance(entries, dict):
        return {}
    for tensor, name in entries.items():
        if not isinstance(name, str) or not _is_plain(name):
            raise ModelError(
                f"{index}: weight_map names {shorten(repr(name), _SHOWN)} for "
                f"{shorten(repr(tensor), _SHOWN)}; write the name of a .safetensors file in the same "
                "folder"
            )
    return entries


def _is_plain(name: str) -> bool:
    plain = name.endswith(".safetensors") and not set(name) & {"/", "\\", "\0"}
    return plain and len(name) <= _LONGEST_NAME


def _has_partial_download(folder: Path) -> bool:
    """Whether the hub's client left an incomplete file, in its cache or in the folder."""
    places = (folder.parent.parent / "blobs", folder / ".cache/huggingface/download")
    return any(True for place in places for _ in place.rglob("*.incomplete"))


def reading(config: ModelConfig, what: str) -> AbstractContextManager[None]:
    """Turn errors of a library about a damaged or missing part into a ModelError."""
    return library_errors(
        lambda error: ModelError(
            f"checkpoint {config.checkpoint!r}: its {what} cannot be read ({short(error)}); "
            f"{_fetch(config)}"
        )
    )


def incomplete(config: ModelConfig, reason: str) -> ModelError:
    """The error for a checkpoint on this disk that lacks a file."""
    return ModelError(
        f"checkpoint {config.checkpoint!r} cannot be read ({reason}); {_fetch(config)}"
    )


def unavailable(config: ModelConfig, error: BaseException) -> ModelError:
    """The error for a checkpoint that is neither on this disk nor available from the hub."""
    from huggingface_hub.errors import (
        GatedRepoError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    name = str(config.checkpoint)
    if _caused_by(error, GatedRepoError):
        return ModelError(
            f"checkpoint {name!r} is gated: ask for access on https://huggingface.co/{name}, then "
            f"`hf auth login` and {_fetch(config)}"
        )
    if _caused_by(error, RevisionNotFoundError):
        return ModelError(
            f"checkpoint {name!r} has no revision {config.revision!r}; choose another with --revision"
        )
    if _caused_by(error, RepositoryNotFoundError):
        return ModelError(
            f"checkpoint {name!r} is neither a folder here nor on the hub, or you have no access; "
            f"{_nearest_folder(name)}correct the name, or `hf auth login`"
        )
    return missing(config, error)


def suggest_family(model_type: str, family: str) -> str:
    """Advice for a checkpoint that is not of `family`: the family that reads it, if any."""
    reader = _family_of(model_type)
    if reader in (None, family):
        return "name another with --checkpoint"
    return f"use --model {reader}, or name another with --checkpoint"


def other_family(config: ModelConfig, model_type: str, wanted: Sequence[str]) -> ModelError:
    kinds = " or ".join(wanted) or "one that transformers loads for image and text"
    return ModelError(
        f"checkpoint {config.checkpoint!r} has model type {model_type}, not {kinds}; "
        f"{suggest_family(model_type, config.family)}"
    )


def _family_of(model_type: str) -> str | None:
    """The family for checkpoints of a type; None if there is none."""
    from vsp.models.supported import TESTED, UNTESTED, UNTESTED_WITH_TORCHVISION

    for name in FAMILIES.names():
        with suppress(ConfigError):  # a package with a family that cannot be imported
            if model_type in load_family(name).processor.model_types:
                return name
    return "auto" if model_type in (*TESTED, *UNTESTED, *UNTESTED_WITH_TORCHVISION) else None


def missing(config: ModelConfig, error: BaseException | None = None) -> ModelError:
    """The error for a checkpoint that is not on this disk; `error`: why the hub was not reached."""
    from huggingface_hub.errors import OfflineModeIsEnabled

    name = str(config.checkpoint)
    nearest = _nearest_folder(name)
    if not is_hub_name(name):
        return ModelError(
            f"checkpoint {name[:_SHOWN]!r} is no folder here and no name on a hub; {nearest}download one "
            f"there, `hf download NAME --local-dir {name[:_SHOWN]}`, or name another with --checkpoint"
        )
    if error is None:
        why = ""
    elif _caused_by(error, OfflineModeIsEnabled):
        why = ", and HF_HUB_OFFLINE=1 keeps vsp from asking the hub"
    else:
        why = f", and the hub cannot be reached ({short(error)})"
    return ModelError(
        f"checkpoint {name!r} is neither a folder here nor in the hub's cache{why}; {nearest}download it "
        f"where there is a network: `{_download(config)}` with HF_HOME in a shared folder, or "
        f"`{_download(config)} --local-dir DIR` and --checkpoint DIR; nodes without a network need "
        "HF_HUB_OFFLINE=1 (`environment` in jobs/slurm.yaml)"
    )


def _nearest_folder(name: str) -> str:
    """Advice that names folders whose names are close to one that does not exist; "" if none is."""
    parent, last = os.path.split(name)
    try:
        folders = [one.name for one in os.scandir(parent or ".") if one.is_dir()]
    except (OSError, ValueError):
        return ""
    close = nearest_names(last, folders, 2)
    named = " or ".join(repr(str(Path(parent, one))) for one in close)
    return f"did you mean the folder {named}? Otherwise " if close else ""


def _fetch(config: ModelConfig) -> str:
    again = " again" if is_folder(str(config.checkpoint)) else ""
    return f"download it{again}: `{_download(config)}`"


def _download(config: ModelConfig) -> str:
    name = str(config.checkpoint)
    if not is_hub_name(name) or is_folder(name):
        return f"hf download NAME --local-dir {name}"
    revision = "" if config.revision in (None, "main") else f" --revision {config.revision}"
    return f"hf download {name}{revision}"


def is_hub_name(checkpoint: str) -> bool:
    """Whether this may be the name of a repository, by the rules of the hub."""
    plain = re.fullmatch(r"[A-Za-z0-9][\w.-]*(/[\w.-]*\w)?", checkpoint, re.ASCII)
    return plain is not None and len(checkpoint) <= 96 and not re.search(r"--|\.\.", checkpoint)


def _caused_by(error: BaseException | None, kind: type[Exception]) -> bool:
    """Whether an error, or one of its causes, is of a kind."""
    while error is not None:
        if isinstance(error, kind):
            return True
        error = error.__cause__ or error.__context__
    return False
