"""A contact sheet: some rows of a dataset as pictures with boxes and captions, in one PNG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from math import ceil, floor
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from vsp.datasets import metadata, prompts, questions
from vsp.datasets.picture_paths import PicturePaths
from vsp.errors import ConfigError, DatasetError
from vsp.escaping import one_line
from vsp.utils.files import write_aside
from vsp.utils.images import open_rgb
from vsp.utils.text import format_count

# Lengths are in pixels.
_SIDE = 280  # side of the square that a picture fits into
_LINE = 19  # height of a line of text
_GAP = 14  # between cells
_FONT_SIZE, _SMALL_FONT = 13, 11
_MAX_TEXT = 200  # longer texts are cut before they are measured; they fit no cell
_COLUMNS = 6
_CLEAR = 2  # between a box and its frame, which has a white rim
_STROKE = 3  # width of a frame
_TEXT, _LIGHT, _PAPER, _FRAME, _RIM = "#222222", "#767676", "white", "#f0f0f0", "#cccccc"
# These two colours can be told apart without seeing red and green.
_COLORS = {"subject": "#d1495b", "reference": "#00628b"}
# In the order of drawing: the subject's box is above the boxes of the others.
_BOXED = {
    "second": _COLORS["reference"],
    **dict(reversed(_COLORS.items())),
    "regions": _COLORS["subject"],
}
_LEGEND = {"subject": "subject red", "regions": "regions red", "reference": "reference blue"}

Box = tuple[float, float, float, float]  # left, top, right, bottom


@dataclass(frozen=True, slots=True)
class SheetRow:
    """A row of a dataset that a sheet shows."""

    id: str
    label: str
    record: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Sheet:
    """What a sheet shows besides its pictures."""

    problems: list[str]  # of pictures and boxes
    legend: str  # colours of the boxes: "subject red, reference blue"; empty without boxes


def draw_sheet(dataset: Path, rows: Sequence[SheetRow], path: Path) -> Sheet:
    """Write the sheet as a PNG.

    Raises ConfigError if `path` does not end in .png.
    """
    if path.suffix.lower() != ".png":
        raise ConfigError(f"sheet {str(path)!r}: ends in {path.suffix!r}; use .png")
    columns = min(_COLUMNS, len(rows))
    width, height = _SIDE + _GAP, _SIDE + 3 * _LINE + _GAP
    sheet = _empty_sheet(columns * width, -(-len(rows) // columns) * height)
    problems: list[str] = []
    paths, boxed = PicturePaths(dataset), set[str]()
    for i, row in enumerate(rows):
        cell, row_problems = _draw_cell(paths, row, boxed)
        sheet.paste(cell, (_GAP + i % columns * width, _GAP + _LINE + i // columns * height))
        problems += [f"row {row.id!r}: {problem}" for problem in row_problems]
    legend = ", ".join(text for part, text in _LEGEND.items() if part in boxed)
    title = (dataset.absolute().name, format_count(len(rows), "row"), legend)
    fitted = _fit(" · ".join(filter(None, title)), sheet.width - 2 * _GAP)
    ImageDraw.Draw(sheet).text((_GAP, 9), fitted, _LIGHT, _font(_FONT_SIZE))
    with write_aside(path) as file:
        sheet.save(file, format="PNG", optimize=True)
    return Sheet(problems, legend)


def _empty_sheet(width: int, height: int) -> Image.Image:
    """A sheet for cells of this total size, with room for a title and a margin."""
    return Image.new("RGB", (width + _GAP, height + _GAP + _LINE), _PAPER)


def _draw_cell(
    paths: PicturePaths, row: SheetRow, boxed: set[str]
) -> tuple[Image.Image, list[str]]:
    """A picture with three lines of text below it, and the problems of the row.

    `boxed` takes the parts whose boxes are drawn.
    """
    cell = Image.new("RGB", (_SIDE, _SIDE + 3 * _LINE), _PAPER)
    canvas = ImageDraw.Draw(cell)
    canvas.rectangle((0, 0, _SIDE - 1, _SIDE - 1), _FRAME)
    problems: list[str] = []
    try:
        picture = _open(paths, row.record, "image_filename")
    except DatasetError as error:
        problems.append(str(error))
        _draw_placeholder(canvas)
    else:
        boxed |= _draw_picture(cell, paths, row.record, picture, problems)
        canvas.rectangle((0, 0, _SIDE - 1, _SIDE - 1), outline=_RIM)
    _draw_caption(canvas, row, problems)
    return cell, problems


def _open(paths: PicturePaths, record: dict[str, Any], key: str) -> Image.Image:
    return open_rgb(paths.path(key, metadata.text_of(record, key)))[0]


def _draw_placeholder(canvas: ImageDraw.ImageDraw) -> None:
    """A crossed square for a picture that cannot be read."""
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
    paths: PicturePaths,
    record: dict[str, Any],
    picture: Image.Image,
    problems: list[str],
) -> set[str]:
    """Draw the picture with its boxes; gives the parts with boxes. `problems` takes wrong boxes."""
    scale = _SIDE / max(picture.size)
    width, height = (max(1, round(edge * scale)) for edge in picture.size)
    small = picture.resize((width, height), Image.Resampling.LANCZOS)
    boxed = set()
    for part, color in _BOXED.items():
        try:
            boxes = _boxes(paths, record, part)
        except DatasetError as error:
            problems.append(str(error))
            continue
        for box in boxes:
            problems += _box_problems(part, box, picture.size)
            _draw_frame(small, [edge * scale for edge in box], color)
            boxed.add(part)
    cell.paste(small, ((_SIDE - width) // 2, (_SIDE - height) // 2))
    return boxed


def _draw_frame(picture: Image.Image, edges: Sequence[float], color: str) -> None:
    """A frame around a box, with room between them: what is in the box stays whole.

    The frame has a white rim, which makes it visible on any picture, and ends at the picture's edge.
    An inverted box is framed too.
    """
    left, right = sorted(edges[0::2])
    top, bottom = sorted(edges[1::2])
    last = picture.width - 1, picture.height - 1
    # The last pixels of the frame; those of the box are up to right - 1 and bottom - 1.
    out = _CLEAR + _STROKE
    corner = [
        min(max(0, floor(edge) - out), max(0, end - _STROKE))
        for edge, end in zip((left, top), last, strict=True)
    ]
    other = [
        max(min(ceil(edge) - 1 + out, end), min(end, start + _STROKE))
        for edge, end, start in zip((right, bottom), last, corner, strict=True)
    ]
    canvas = ImageDraw.Draw(picture)
    rim = [edge - 1 for edge in corner] + [edge + 1 for edge in other]
    canvas.rectangle(rim, outline="white", width=_STROKE + 2)
    canvas.rectangle((*corner, *other), outline=color, width=_STROKE)


def _boxes(paths: PicturePaths, record: dict[str, Any], part: str) -> list[Box]:
    """The boxes of a part: the bounding box of its mask, or its boxes in the record, if any."""
    if part == "regions":
        regions = metadata.regions_of(record) if part in record else []
        return [
            _bounds(paths, {part: one}, part) if isinstance(one, str) else _box(one)
            for one in regions
        ]
    if f"{part}_mask" in record:
        return [_bounds(paths, record, f"{part}_mask")]
    if f"{part}_boxes" in record:
        boxes = metadata.boxes_of(record, f"{part}_boxes")
    else:
        boxes = [metadata.box_of(record, f"{part}_box")] if f"{part}_box" in record else []
    return [_box(box) for box in boxes]


def _box(edges: Sequence[float]) -> Box:
    left, top, right, bottom = edges
    return left, top, right, bottom


def _bounds(paths: PicturePaths, record: dict[str, Any], key: str) -> Box:
    bounds = _open(paths, record, key).getbbox()
    if bounds is None:
        raise DatasetError(f"{key} is black everywhere")
    return bounds


def _box_problems(part: str, box: Box, size: tuple[int, int]) -> list[str]:
    left, top, right, bottom = box
    if left >= right or top >= bottom:
        return [f"{part}_box {_format_box(box)} is empty or inverted"]
    if not (left >= 0 and top >= 0 and right <= size[0] and bottom <= size[1]):
        return [f"{part}_box {_format_box(box)} is not inside the picture, {size[0]} × {size[1]}"]
    return []


def _format_box(box: Box) -> str:
    return f"[{', '.join(f'{edge:g}' for edge in box)}]"


def _draw_caption(canvas: ImageDraw.ImageDraw, row: SheetRow, problems: Sequence[str]) -> None:
    """Three lines: subject – label – reference; id and split; problems."""
    x, y = 0.0, _SIDE + 3
    for text, color in _headline(row):
        canvas.text((x, y), text, color, _font(_FONT_SIZE))
        x += _width(text)
    small = " · ".join(part for part in (row.id, metadata.split_of(row.record)) if part)
    canvas.text((0, y + _LINE), _fit(small, _SIDE, _SMALL_FONT), _LIGHT, _font(_SMALL_FONT))
    text = _fit("; ".join(problems), _SIDE, _SMALL_FONT)
    canvas.text((0, y + 2 * _LINE - 2), text, _COLORS["subject"], _font(_SMALL_FONT))


def _headline(row: SheetRow) -> list[tuple[str, str]]:
    """The texts of the first line with their colours; long names are cut."""
    fields = questions.fields_of(row.record)
    label = f" – {_fit(prompts.label_words(row.label), _SIDE / 2)}"
    if not fields.keys() >= _COLORS.keys():
        about = str(fields.get("shape", row.record.get("prompt", "")))
        return [(_fit(about, _SIDE - _width(label)), _LIGHT), (label, _TEXT)]
    label = f"{label} – "
    room = _SIDE - _width(label)
    named = ", ".join(fields[part] for part in ("reference", "second") if part in fields)
    reference = _fit(named, room)
    subject = _fit(fields["subject"], max(room / 2, room - _width(reference)))
    reference = _fit(named, room - _width(subject))
    # A name has the colour of its box. Without a box it is dark: the name may itself be a colour.
    colors = {
        part: color if {f"{part}_box", f"{part}_mask"} & row.record.keys() else _TEXT
        for part, color in _COLORS.items()
    }
    return [(subject, colors["subject"]), (label, _LIGHT), (reference, colors["reference"])]


def _width(text: str) -> float:
    return _font(_FONT_SIZE).getlength(text)


def _fit(text: str, room: float, size: int = _FONT_SIZE) -> str:
    """The beginning of the text that fits into `room` pixels, as one line."""
    text = " ".join(one_line(text[:_MAX_TEXT]).split())
    if _font(size).getlength(text) <= room:
        return text
    while text and _font(size).getlength(f"{text}…") > room:
        text = text[:-1]
    return f"{text.rstrip()}…"


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu from matplotlib, as Pillow's own font has no accents and no dash."""
    import matplotlib

    path = f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans.ttf"
    # This layout engine gives the same pixels on every machine.
    return ImageFont.truetype(path, size, layout_engine=ImageFont.Layout.BASIC)
