"""A contact sheet: some rows of a dataset as pictures, with boxes and captions, in one PNG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from vsp.datasets import metadata, prompts, questions
from vsp.errors import ConfigError, DatasetError
from vsp.utils.files import write_aside
from vsp.utils.images import open_rgb
from vsp.utils.text import format_count

_SIDE = 280  # of a picture's place, pixels
_LINE = 19  # of text
_GAP = 14
_SIZE, _SMALL = 13, 11  # of letters, pixels
_LONGEST = 200  # of a text, characters: more has no room
_COLUMNS = 6
_TEXT, _LIGHT, _PAPER, _FRAME, _RIM = "#222222", "#767676", "white", "#f0f0f0", "#cccccc"
# Told apart without red and green.
_COLORS = {"subject": "#d1495b", "reference": "#00628b"}
# In the order in which boxes are drawn: the subject's over those it is compared with.
_BOXED = {"second": _COLORS["reference"], **dict(reversed(_COLORS.items()))}

Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class SheetRow:
    """A row to be drawn."""

    id: str
    label: str
    record: dict[str, Any]


def draw_sheet(dataset: Path, rows: Sequence[SheetRow], path: Path) -> list[str]:
    """Write the sheet; what is wrong with its pictures and boxes comes back."""
    if path.suffix.lower() != ".png":
        raise ConfigError(f"sheet {str(path)!r}: ends in {path.suffix!r}; use .png")
    columns = min(_COLUMNS, len(rows))
    n_lines = -(-len(rows) // columns)
    width, height = _SIDE + _GAP, _SIDE + 3 * _LINE + _GAP
    sheet = Image.new("RGB", (columns * width + _GAP, n_lines * height + _GAP + _LINE), _PAPER)
    title = f"{dataset.absolute().name} · {format_count(len(rows), 'row')} · subject red, reference blue"
    room = sheet.width - 2 * _GAP
    ImageDraw.Draw(sheet).text((_GAP, 9), _fitted(title, room), _LIGHT, _font(_SIZE))
    problems: list[str] = []
    for place, row in enumerate(rows):
        cell, wrong = _cell(dataset, row)
        sheet.paste(
            cell, (_GAP + place % columns * width, _GAP + _LINE + place // columns * height)
        )
        problems += [f"row {row.id!r}: {one}" for one in wrong]
    with write_aside(path) as file:
        sheet.save(file, format="PNG", optimize=True)
    return problems


def _cell(dataset: Path, row: SheetRow) -> tuple[Image.Image, list[str]]:
    """A picture in its place, with two lines below it."""
    cell = Image.new("RGB", (_SIDE, _SIDE + 3 * _LINE), _PAPER)
    canvas = ImageDraw.Draw(cell)
    canvas.rectangle((0, 0, _SIDE - 1, _SIDE - 1), _FRAME)
    wrong: list[str] = []
    try:
        picture, _ = open_rgb(dataset / "images" / metadata.text_of(row.record, "image_filename"))
    except DatasetError as error:
        wrong.append(str(error))
        _draw_none(canvas)
    else:
        _draw_picture(cell, dataset, row.record, picture, wrong)
        canvas.rectangle((0, 0, _SIDE - 1, _SIDE - 1), outline=_RIM)
    _draw_caption(canvas, row, wrong)
    return cell, wrong


def _draw_none(canvas: ImageDraw.ImageDraw) -> None:
    last = _SIDE - 1
    for line in ((0, 0, last, last), (0, last, last, 0)):
        canvas.line(line, _RIM, 2)
    canvas.rectangle((0, 0, last, last), outline=_RIM, width=2)
    canvas.text(
        (_SIDE / 2, _SIDE / 2), " no picture ", _LIGHT, _font(16), anchor="mm",
        stroke_width=8, stroke_fill=_FRAME,
    )  # fmt: skip


def _draw_picture(
    cell: Image.Image,
    dataset: Path,
    record: dict[str, Any],
    picture: Image.Image,
    wrong: list[str],
) -> None:
    scale = _SIDE / max(picture.size)
    width, height = (max(1, round(edge * scale)) for edge in picture.size)
    small = picture.resize((width, height), Image.Resampling.LANCZOS)
    canvas = ImageDraw.Draw(small)
    for part, color in _BOXED.items():
        try:
            boxes = _boxes(dataset, record, part)
        except DatasetError as error:
            wrong.append(str(error))
            continue
        for box in boxes:
            wrong += _outside(part, box, picture.size)
            _draw_box(canvas, [edge * scale for edge in box], color)
    cell.paste(small, ((_SIDE - width) // 2, (_SIDE - height) // 2))


def _draw_box(canvas: ImageDraw.ImageDraw, edges: Sequence[float], color: str) -> None:
    """With a light rim, so that it shows on any picture; a wrong one as far as it can be seen."""
    left, right = sorted(edges[0::2])
    top, bottom = sorted(edges[1::2])
    canvas.rectangle((left - 1, top - 1, right + 1, bottom + 1), outline="white", width=5)
    canvas.rectangle((left, top, right, bottom), outline=color, width=3)


def _boxes(dataset: Path, record: dict[str, Any], part: str) -> list[Box]:
    """Of the regions that the record names, if any; around what a mask covers."""
    if f"{part}_mask" in record:
        mask, _ = open_rgb(dataset / "masks" / metadata.text_of(record, f"{part}_mask"))
        around = mask.getbbox()
        if around is None:
            raise DatasetError(f"{part}_mask is black everywhere")
        return [around]
    if f"{part}_boxes" in record:
        found = metadata.boxes_of(record, f"{part}_boxes")
    else:
        found = [metadata.box_of(record, f"{part}_box")] if f"{part}_box" in record else []
    return [(left, top, right, bottom) for left, top, right, bottom in found]


def _outside(part: str, box: Box, size: tuple[int, int]) -> list[str]:
    left, top, right, bottom = box
    if left >= right or top >= bottom:
        return [f"{part}_box {_figures(box)} is empty or inverted"]
    if not (left >= 0 and top >= 0 and right <= size[0] and bottom <= size[1]):
        return [f"{part}_box {_figures(box)} is not inside the picture, {size[0]} × {size[1]}"]
    return []


def _figures(box: Box) -> str:
    return f"[{', '.join(f'{edge:g}' for edge in box)}]"


def _draw_caption(canvas: ImageDraw.ImageDraw, row: SheetRow, wrong: Sequence[str]) -> None:
    """Subject – label – reference, then id and split, then what is wrong."""
    x, y = 0.0, _SIDE + 3
    for text, color in _words(row):
        canvas.text((x, y), text, color, _font(_SIZE))
        x += _width(text)
    small = " · ".join(part for part in (row.id, metadata.split_of(row.record)) if part)
    canvas.text((0, y + _LINE), _fitted(small, _SIDE, _SMALL), _LIGHT, _font(_SMALL))
    text = _fitted("; ".join(wrong), _SIDE, _SMALL)
    canvas.text((0, y + 2 * _LINE - 2), text, _COLORS["subject"], _font(_SMALL))


def _words(row: SheetRow) -> list[tuple[str, str]]:
    """Pieces of a line with their colours; names are cut where there is no room for them."""
    fields = questions.fields_of(row.record)
    label = f" – {_fitted(prompts.label_words(row.label), _SIDE / 2)}"
    if not fields.keys() >= _COLORS.keys():
        asked = str(fields.get("shape", row.record.get("prompt", "")))
        return [(_fitted(asked, _SIDE - _width(label)), _LIGHT), (label, _TEXT)]
    label = f"{label} – "
    room = _SIDE - _width(label)
    named = ", ".join(fields[part] for part in ("reference", "second") if part in fields)
    reference = _fitted(named, room)
    subject = _fitted(fields["subject"], max(room / 2, room - _width(reference)))
    reference = _fitted(named, room - _width(subject))
    # In the colour of its box: the name of a thing without one may itself be a colour.
    colors = {
        part: color if {f"{part}_box", f"{part}_mask"} & row.record.keys() else _TEXT
        for part, color in _COLORS.items()
    }
    return [(subject, colors["subject"]), (label, _LIGHT), (reference, colors["reference"])]


def _width(text: str) -> float:
    return _font(_SIZE).getlength(text)


def _fitted(text: str, room: float, size: int = _SIZE) -> str:
    """As much of the text as there is room for, in pixels; in one line, whatever it is."""
    text = " ".join(text[:_LONGEST].encode(errors="replace").decode().split())
    if _font(size).getlength(text) <= room:
        return text
    while text and _font(size).getlength(f"{text}…") > room:
        text = text[:-1]
    return f"{text.rstrip()}…"


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    """Pillow's own has no accents and no dash."""
    import matplotlib

    path = f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans.ttf"
    # The same pixels wherever it runs, whatever libraries for scripts are there.
    return ImageFont.truetype(path, size, layout_engine=ImageFont.Layout.BASIC)
