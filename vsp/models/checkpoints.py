"""Finds checkpoints on this disk, checks that they are complete, and explains what is missing.

No model is loaded here. transformers is imported for details of errors only.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from vsp.config import ModelConfig
from vsp.errors import ModelError
from vsp.models import FAMILIES, load_family

# transformers raises these if it cannot build a part, or if a package is missing.
CANNOT_BUILD = (OSError, ValueError, TypeError, KeyError, AttributeError, ImportError)
INDEX = "model.safetensors.index.json"  # names the weight file of each tensor
_LONGEST_HEADER = 100_000_000  # bytes; the safetensors library has the same limit


def on_disk(config: ModelConfig) -> Path | None:
    """The checkpoint's folder, or the folder of its commit in the hub's cache; None if neither exists.

    Never uses the network.
    """
    if config.checkpoint is None:
        return None
    if Path(config.checkpoint).is_dir():
        return Path(config.checkpoint)
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        cached = try_to_load_from_cache(config.checkpoint, "config.json", revision=config.revision)
    except HFValidationError:  # the path of a folder that does not exist
        return None
    return Path(cached).parent if isinstance(cached, str) else None


def pinned(config: ModelConfig) -> ModelConfig:
    """The same configuration; for a checkpoint in the hub's cache, with its commit as revision."""
    folder = on_disk(config)
    if folder is None or Path(str(config.checkpoint)).is_dir():
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


def check_weights(config: ModelConfig, part: str = "") -> list[Path]:
    """The weight files of a checkpoint, or of a part of it. Raises ModelError unless all are complete.

    Array tasks load these files. They never download: there may be a thousand of them, and nodes
    often have no network.
    """
    folder = on_disk(config)
    if folder is None:
        raise _missing(config)
    names = _weight_files(folder / part, config)
    incomplete = [name for name in sorted(names) if not is_whole(folder / part / name)]
    if incomplete:
        broken = "; a download was interrupted" if _has_partial_download(folder) else ""
        raise ModelError(
            f"{folder / part}: {len(incomplete)} of {len(names)} weight files are missing or cut "
            f"short, for example {incomplete[0]}{broken}; {_fetch(config)}"
        )
    return [folder / part / name for name in sorted(names)]


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
    names = indexed_files(index)
    if not names:
        raise ModelError(f"{index}: lists no weight files; {_fetch(config)}")
    return names


def indexed_files(index: Path) -> set[str]:
    """The weight files that an index names; empty if the index is damaged."""
    try:
        names = set(json.loads(index.read_bytes())["weight_map"].values())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return set()
    return names if all(isinstance(name, str) for name in names) else set()


def is_whole(path: Path) -> bool:
    """Whether a file exists and, if it is safetensors, has the length that its header says."""
    try:
        size = path.stat().st_size
        if path.suffix != ".safetensors":
            return size > 0
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= min(size - 8, _LONGEST_HEADER):
                return False  # also the case for a Git LFS pointer
            header = json.loads(file.read(length))
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name[:2] != "__"]
        return bool(size >= 8 + length + max(ends, default=0))
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return False


def _has_partial_download(folder: Path) -> bool:
    """Whether the hub's client left an incomplete file, in its cache or in the folder."""
    places = (folder.parent.parent / "blobs", folder / ".cache/huggingface/download")
    return any(True for place in places for _ in place.rglob("*.incomplete"))


@contextmanager
def reading(config: ModelConfig, what: str) -> Iterator[None]:
    """Turn errors of transformers about a damaged or missing part into a ModelError."""
    try:
        yield
    except CANNOT_BUILD as error:
        if _is_gated(error):
            raise unreadable(config, error) from None
        raise ModelError(
            f"checkpoint {config.checkpoint!r}: its {what} cannot be read ({_short(error)}); "
            f"{_fetch(config)}"
        ) from None


def unreadable(config: ModelConfig, error: Exception) -> ModelError:
    """The error for a checkpoint that is neither on this disk nor available from the hub."""
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    name = str(config.checkpoint)
    if _is_gated(error):
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
            f"checkpoint {name!r} is not on the hub, or you have no access; correct the name, or "
            "`hf auth login`"
        )
    if Path(name).is_dir():
        return ModelError(f"checkpoint {name!r} cannot be read ({_short(error)}); {_fetch(config)}")
    return _missing(config, error)


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
        if model_type in load_family(name).processor.model_types:
            return name
    return "auto" if model_type in (*TESTED, *UNTESTED, *UNTESTED_WITH_TORCHVISION) else None


def _missing(config: ModelConfig, error: Exception | None = None) -> ModelError:
    from huggingface_hub.errors import LocalEntryNotFoundError

    name = str(config.checkpoint)
    nodes = "nodes without a network need HF_HUB_OFFLINE=1 (`environment` in jobs/slurm.yaml)"
    if not _is_hub_name(name):
        return ModelError(
            f"checkpoint {name!r} cannot be read; download it where there is a network: "
            f"`{_download(config)}`, or name another with --checkpoint"
        )
    # The message already says that it is not in the cache.
    known = error is None or _caused_by(error, LocalEntryNotFoundError)
    why = "" if known or error is None else f" ({_short(error)})"
    return ModelError(
        f"checkpoint {name!r} cannot be read{why}; download it where there is a network: "
        f"`{_download(config)}` with HF_HOME in a shared folder, or `{_download(config)} "
        f"--local-dir DIR` and --checkpoint DIR; {nodes}"
    )


def _fetch(config: ModelConfig) -> str:
    again = " again" if Path(str(config.checkpoint)).is_dir() else ""
    return f"download it{again}: `{_download(config)}`"


def _download(config: ModelConfig) -> str:
    name = str(config.checkpoint)
    if not _is_hub_name(name) or Path(name).is_dir():
        return f"hf download NAME --local-dir {name}"
    revision = "" if config.revision in (None, "main") else f" --revision {config.revision}"
    return f"hf download {name}{revision}"


def _is_hub_name(checkpoint: str) -> bool:
    return re.fullmatch(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?", checkpoint) is not None


def _is_gated(error: BaseException) -> bool:
    from huggingface_hub.errors import GatedRepoError

    return _caused_by(error, GatedRepoError)


def _caused_by(error: BaseException | None, kind: type[Exception]) -> bool:
    """Whether an error, or one of its causes, is of a kind."""
    while error is not None:
        if isinstance(error, kind):
            return True
        error = error.__cause__ or error.__context__
    return False


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
