"""Dtypes and shapes of the tensors in the weight files of a checkpoint, without reading weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from vsp.errors import ModelError
from vsp.utils.reading import open_regular, unreadable
from vsp.utils.safetensors_header import HeaderError, Shape, read_file_header


class Header(NamedTuple):
    """Dtype and shape of a tensor, from the header of a safetensors file."""

    dtype: str  # as safetensors writes it: F16, BF16, I8, …
    shape: Shape


def read_headers(files: Sequence[Path]) -> dict[Path, dict[str, Header]]:
    """Each tensor's dtype and shape by its name, for each file that is whole; opens each file once.

    Left out are files that do not exist, end before their header says, or have no header in JSON, such
    as a Git LFS pointer. Raises ModelError, one line that names the file, if a header
    breaks a rule of the format.
    """
    found = ((path, _read_header(path)) for path in files)
    return {path: header for path, header in found if header is not None}


def join_headers(headers: Mapping[Path, Mapping[str, Header]]) -> dict[str, Header]:
    """The tensors of all files. Raises ModelError if two files hold a tensor of the same name."""
    joined: dict[str, Header] = {}
    for path, found in headers.items():
        twice = sorted(found.keys() & joined.keys())
        if twice:
            raise ModelError(
                f"{path}: holds {twice[0]!r}, which another weight file holds too; save the checkpoint "
                "again"
            )
        joined |= found
    return joined


def _read_header(path: Path) -> dict[str, Header] | None:
    """Dtype and shape of each tensor of a file; None if the file is missing or cut short."""
    try:
        with open_regular(path) as file:
            header = read_file_header(file)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ModelError(f"{path}: {unreadable(error)}; download it again") from None
    except HeaderError as error:
        raise ModelError(f"{path}: its header {error}; download it again") from None
    if header is None:
        return None
    return {name: Header(one.dtype, one.shape) for name, one in header.tensors.items()}
