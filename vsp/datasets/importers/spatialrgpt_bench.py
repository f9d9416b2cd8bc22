"""Read SpatialRGPT-Bench: questions about regions of a photograph, as JSON or as Parquet.

    {"id", "image_info": {"file_path", "height", "width"}, "text_q": "Is Region [0] behind Region [1]?",
     "conversations": [{"value": "Is <mask> behind <mask>?"}, {"value": "No."}],
     "qa_info": {"type": "qualitative", "category": "behind_predicate"},
     "rle": [COCO's run lengths of each region], "bbox": [[left, top, right, bottom], …]}

A field may also be written as text, and `image` may hold the picture itself. Each pair of
`conversations` is a row. Its question is the prompt. A question without `<mask>` is replaced by
`text_q`, with a `<mask>` for each "Region [0]" or "<region0>". Masks become files of the dataset; boxes
are cut to the image, as the benchmark's own evaluation does.

Labels of qualitative questions are yes, no, or the region that an answer names: "region 1". Answers
that are quantities, "6.91 feet" or "2 o'clock", are left out. The option `answer=quantitative` takes
these instead: metres with two decimals, "2.11", or the hour, "2 o'clock".
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from reprlib import repr as shortened
from typing import Any

from vsp.datasets.importers.annotations import Beginning, Box, Importer, Picture, Relation
from vsp.datasets.importers.arrow_files import arrow_rows, is_arrow
from vsp.datasets.importers.checked_fields import entry, number
from vsp.datasets.importers.embedded import picture_cell
from vsp.datasets.importers.file_rows import json_rows
from vsp.datasets.importers.funnel import NO_PLAIN_ANSWER, OTHER_ANSWER
from vsp.datasets.importers.group_rows import (
    AnnotatedRow,
    group_into_pictures,
    placed_row,
    rows_of_files,
)
from vsp.datasets.importers.options import chosen
from vsp.datasets.importers.run_lengths import RunLengths, read_run_lengths
from vsp.datasets.row_problems import RowProblems
from vsp.errors import DatasetError

_FIELDS = {"id", "image", "image_info", "text_q", "qa_info", "conversations", "rle", "bbox"}
_NEEDED = {"image_info", "conversations"}
_ANSWERS, _REGIONS = ("qualitative", "quantitative"), ("rle", "bbox")
_LONGEST = 1 << 18  # characters of a field that is text
_MAX_REGIONS = 64
_MASK = "<mask>"
_REGION = re.compile(r"<region\s*(\d{1,3})>|\bregion\s*\[(\d{1,3})\]", re.IGNORECASE)
_YES = re.compile(r"(yes|indeed|correct|true|that is true)\b", re.IGNORECASE)
_NO = re.compile(r"(no|incorrect|false|that is false|in fact|actually)\b", re.IGNORECASE)
_SAYS_YES = re.compile(r"\byes\b", re.IGNORECASE)
_HOUR = re.compile(r"\b(\d{1,2})\s*o.?clock", re.IGNORECASE)
_METRES = {
    "m": 1.0, "meter": 1.0, "metre": 1.0, "cm": 0.01, "centimeter": 0.01, "centimetre": 0.01,
    "mm": 0.001, "millimeter": 0.001, "millimetre": 0.001, "ft": 0.3048, "foot": 0.3048,
    "feet": 0.3048, "in": 0.0254, "inch": 0.0254, "inche": 0.0254, "yard": 0.9144,
}  # fmt: skip
# A number within a longer one, as in "1,200.5 feet", is none.
_LENGTH = re.compile(
    rf"(?<![\d.,])(\d{{1,9}}(?:\.\d{{1,9}})?)\s*({'|'.join(_METRES)})s?\b", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class _Answer:
    """An answer as values of `Relation`."""

    label: str = ""
    options: tuple[str, ...] = ()
    unusable: str = ""


def read(files: Sequence[tuple[str, Path]], options: Mapping[str, str]) -> Iterator[Picture]:
    """Yield pictures in the order of their first rows.

    Raises DatasetError, with file and record, if rows are invalid, ConfigError if an option is.
    """
    return group_into_pictures(rows_of_files(files, partial(_rows, options)))


def read_embedded(
    files: Sequence[tuple[str, Path]], options: Mapping[str, str]
) -> Iterator[tuple[str, bytes]]:
    """Yield name and bytes of the pictures in the files. Invalid rows are left to `read`."""
    left = RowProblems()
    for _, path in files:
        for _, record in _records(path, left):
            picture = left.caught(_picture, record)
            if picture is not None and picture[1]:
                yield picture


def read_masks(
    files: Sequence[tuple[str, Path]], options: Mapping[str, str]
) -> Iterator[tuple[str, bytes]]:
    """Yield name and PNG of the masks in the files. Invalid rows are left to `read`."""
    kind = chosen(options, "regions", _REGIONS)
    left = RowProblems()
    for _, path in files:
        for _, record in _records(path, left):
            for region in left.caught(_regions, record, kind) or ():
                if isinstance(region, RunLengths):
                    yield region.file_name, region.png()


def _recognises(start: Beginning) -> bool:
    return start.names >= _NEEDED


IMPORTER = Importer(
    read,
    relations="",
    options=("answer", "regions"),
    read_embedded=read_embedded,
    read_masks=read_masks,
    recognises=_recognises,
)


def _rows(
    options: Mapping[str, str], split: str, path: Path, problems: RowProblems
) -> Iterator[AnnotatedRow]:
    kinds = chosen(options, "answer", _ANSWERS), chosen(options, "regions", _REGIONS)
    for place, record in _records(path, problems):
        turns = problems.caught(_turns, record, f"{path}: {place}", last=False) or []
        for index, turn in enumerate(turns):
            suffix = f"/{index}" if len(turns) > 1 else ""
            row = problems.caught(placed_row, path, place, _row, record, turn, suffix, split, kinds)
            if row is not None:
                yield row


def _records(path: Path, problems: RowProblems) -> Iterator[tuple[str, dict[str, Any]]]:
    return arrow_rows(path, _FIELDS.__contains__) if is_arrow(path) else json_rows(path, problems)


def _turns(record: dict[str, Any], where: str) -> list[tuple[str, str]]:
    """Questions and answers."""
    if not record.keys() >= _NEEDED:
        raise DatasetError(
            f"{where} is {shortened(record)}; rows of SpatialRGPT-Bench have image_info, text_q, "
            "qa_info, conversations, and rle or bbox"
        )
    turns = _value(record, "conversations")
    if not isinstance(turns, list) or not turns or len(turns) % 2:
        raise DatasetError(f"{where} has conversations that are not pairs of question and answer")
    texts = [str(entry(turn, "value", where, str)).strip() for turn in turns]
    return list(zip(texts[::2], texts[1::2], strict=True))


def _row(
    record: dict[str, Any],
    turn: tuple[str, str],
    suffix: str,
    split: str,
    kinds: tuple[str, str],
) -> AnnotatedRow:
    question, said = turn
    prompt, names = _prompt(question, "" if suffix else record.get("text_q"))
    regions = _regions(record, kinds[1]) if names else []
    places = _from_0(names, len(regions))
    answer = _answer(said, _value(record, "qa_info"), kinds[0], names)
    named = [one.file_name if isinstance(one, RunLengths) else one for one in regions]
    relation = Relation(
        None,
        "",
        None,
        id=f"{record['id']}{suffix}" if record.get("id") not in (None, "") else "",
        prompt=prompt,
        label=answer.label,
        options=answer.options,
        regions=tuple(named[place] for place in places),
        unusable=answer.unusable,
    )
    return AnnotatedRow(_picture(record)[0], relation, split)


def _prompt(question: str, text_q: Any) -> tuple[str, list[int]]:
    """The prompt with a marker for each region, and the numbers of the regions; -1 is the next one."""
    question = question.replace("<image>", "").strip()
    text = text_q.strip() if isinstance(text_q, str) else ""
    named = [int(one[1] or one[2]) for one in _REGION.finditer(text)]
    n_markers = question.count(_MASK)
    if n_markers:
        return question, named if len(named) == n_markers else [-1] * n_markers
    text = text or question
    named = [int(one[1] or one[2]) for one in _REGION.finditer(text)]
    prompt = _REGION.sub(_MASK, text)
    return prompt, named or [-1] * prompt.count(_MASK)


def _from_0(places: list[int], n_regions: int) -> list[int]:
    """The indices of the regions; a question may count them from 1, or only in its order."""
    if places and set(places) == {-1}:
        if len(places) != n_regions:
            raise DatasetError(
                f"has {len(places)} {_MASK} and {n_regions} regions; number them in text_q"
            )
        return list(range(n_regions))
    if places and 0 not in places and max(places) == n_regions:
        places = [place - 1 for place in places]
    if places and max(places) >= n_regions:
        raise DatasetError(f"names region {max(places)}, but it has {n_regions} regions")
    return places


def _regions(record: dict[str, Any], kind: str) -> list[RunLengths | Box]:
    """The masks of a record, or its boxes if it has no masks or `kind` is bbox."""
    masks = _value(record, "rle") if kind == "rle" else None
    if masks:
        if not isinstance(masks, list) or len(masks) > _MAX_REGIONS:
            raise DatasetError(f"has rle {shortened(masks)}; write a mask for each region")
        regions = [read_run_lengths(mask) for mask in masks]
        height, width = _size(record)
        for mask in regions:
            if (mask.height, mask.width) != (height, width):
                raise DatasetError(
                    f"has a mask of {mask.width} × {mask.height} pixels, its image {width} × {height}"
                )
        return list(regions)
    boxes = _value(record, "bbox")
    if not isinstance(boxes, list) or not 0 < len(boxes) <= _MAX_REGIONS:
        raise DatasetError(f"has bbox {shortened(boxes)}; write a box for each region")
    return [_box(box, _size(record)) for box in boxes]


def _box(box: Any, size: tuple[int, int]) -> Box:
    if not isinstance(box, list) or len(box) != 4:
        raise DatasetError(f"has the box {shortened(box)}; write [left, top, right, bottom]")
    edges = [number(edge, "bbox", "the box") for edge in box]
    height, width = size
    left, right = (min(max(edge, 0), width) for edge in edges[0::2])
    top, bottom = (min(max(edge, 0), height) for edge in edges[1::2])
    if left >= right or top >= bottom:
        raise DatasetError(f"has the box {box}, of which nothing is in the image")
    return left, top, right, bottom


def _size(record: dict[str, Any]) -> tuple[int, int]:
    info = _value(record, "image_info")
    sides: list[Any] = (
        [info.get(side) for side in ("height", "width")] if isinstance(info, dict) else []
    )
    if not sides or not all(type(side) is int and side > 0 for side in sides):
        raise DatasetError(f"has image_info {shortened(info)}; write file_path, height and width")
    return sides[0], sides[1]


def _picture(record: dict[str, Any]) -> tuple[str, bytes]:
    """Name and bytes of the picture; no bytes if it is a file."""
    cell = picture_cell(record.get("image"))
    if isinstance(cell, tuple):
        return cell[0], cell[1]
    info = _value(record, "image_info")
    name = info.get("file_path") if isinstance(info, dict) else None
    if not isinstance(name, str) or not name.strip():
        raise DatasetError(f"has image_info {shortened(info)}; write file_path, height and width")
    return name.strip(), b""


def _answer(said: str, about: Any, wanted: str, names: Sequence[int]) -> _Answer:
    kind = about.get("type") if isinstance(about, dict) else None
    category = str(about.get("category", "")) if isinstance(about, dict) else ""
    if (kind or "qualitative") != wanted:
        return _Answer(unusable=OTHER_ANSWER)
    options: tuple[str, ...] = ()
    if wanted == "quantitative":
        label = _quantity(said)
    elif category.endswith("_choice"):
        label, options = _named_region(said), tuple(f"region {i}" for i in sorted(set(names)))
    else:
        label, options = _yes_or_no(said), ("yes", "no")
    if not label or (options and label not in options):
        return _Answer(unusable=NO_PLAIN_ANSWER)
    return _Answer(label, options if len(options) > 1 else ())


def _yes_or_no(said: str) -> str:
    """The answer by its first words; "" if there is none, or if a "no" is followed by a yes."""
    if _YES.match(said):
        return "yes"
    return "no" if _NO.match(said) and not _SAYS_YES.search(said) else ""


def _named_region(said: str) -> str:
    named = {int(one[1] or one[2]) for one in _REGION.finditer(said)}
    return f"region {named.pop()}" if len(named) == 1 else ""


def _quantity(said: str) -> str:
    """Metres or an hour; "" if the answer has none or several."""
    hours, lengths = _HOUR.findall(said), _LENGTH.findall(said)
    if len(hours) == 1 and not lengths:
        return f"{int(hours[0])} o'clock"
    if len(lengths) == 1 and not hours:
        return f"{float(lengths[0][0]) * _METRES[lengths[0][1].lower()]:.2f}"
    return ""


def _value(record: dict[str, Any], key: str) -> Any:
    """A field; one that is text is read as JSON, or as Python writes it."""
    value = record.get(key)
    if not isinstance(value, str) or not value.strip():
        return value
    if len(value) > _LONGEST:
        raise DatasetError(
            f"has a {key} of {len(value):,} characters; at most {_LONGEST:,} are read"
        )
    for parse in (json.loads, ast.literal_eval):
        try:
            return parse(value)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    raise DatasetError(f"has {key} {shortened(value)}, which is not JSON")
