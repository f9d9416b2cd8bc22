"""The picture of a row: a file's name, or the picture itself in base64."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from vsp.datasets.importers.embedded import decode_picture, picture_cell
from vsp.datasets.importers.field_texts import plain_text, text_list
from vsp.errors import DatasetError
from vsp.utils.text import is_encodable


@dataclass(frozen=True, slots=True)
class RowPicture:
    """The first picture of a row."""

    name: str  # of the file; "": the row has no picture
    data: bytes = b""  # of a picture that the row contains
    several: bool = False  # whether the row has more pictures


def row_picture(fields: Iterable[Any]) -> RowPicture:
    """The picture in the fields of a row that may hold one.

    A field holds what `vsp.datasets.importers.embedded.picture_cell` reads, or a list of this, also
    as text. Empty fields do not count. Raises DatasetError for other values, and for a picture that
    cannot be decoded.
    """
    cells = [cell for field in fields for cell in _cells(field)]
    if not cells:
        return RowPicture("")
    name, data = _picture(cells[0])
    # Two fields, such as `image` and `image_path`, may name one picture.
    return RowPicture(name, data, several=any(cell != cells[0] for cell in cells))


def embedded_pictures(pictures: Iterable[RowPicture | None]) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of those pictures that rows contain; rows with several are dropped anyway."""
    for picture in pictures:
        if picture is not None and picture.data and not picture.several:
            yield picture.name, picture.data


def _cells(field: Any) -> Iterator[Any]:
    """The pictures in a field, without empty ones; of a text with a list, at most two."""
    if isinstance(field, str):
        field = text_list(field, most=2) or field
    for cell in field if isinstance(field, list) else [field]:
        if cell is not None and cell != "" and not (isinstance(cell, str) and cell.isspace()):
            yield cell


def _picture(cell: Any) -> tuple[str, bytes]:
    value = picture_cell(cell)
    if isinstance(value, tuple):
        name, data = value
        return name, data
    if not isinstance(value, str):
        return plain_text("image", value), b""
    if not is_encodable(value):
        raise DatasetError(f"has image {value!a}, which cannot be encoded; write another name")
    return decode_picture(value.strip()) or (value.strip(), b"")
