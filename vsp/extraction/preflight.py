"""What `vsp plan` checks before a run exists: every image, every prompt, and all token counts."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import groupby
from operator import attrgetter

from PIL import Image

from vsp.choices import LAST
from vsp.datasets.image_copies import CopyFinder, Signature, signature
from vsp.errors import DatasetError, InputError
from vsp.extraction.answer_options import NO_ANSWERS, OptionTokens
from vsp.extraction.positions import NAMES, places_of
from vsp.extraction.preprocess import make_picture, make_row
from vsp.models.contract import Picture, Processor, TokenizedPrompt, count_shared
from vsp.models.pixels import n_values
from vsp.storage.manifest import Sample
from vsp.utils.garbage import garbage_collection_paused
from vsp.utils.images import open_rgb
from vsp.utils.progress import progress
from vsp.utils.text import first_lines

_IMAGES_AT_ONCE = 1024  # submitted to the threads together
_CACHED_PROMPTS = 1 << 16  # prompts whose tokens are kept in memory


@dataclass(frozen=True, slots=True)
class CheckedImage:
    """The facts of an image file that a plan needs; `problem` if it cannot be used."""

    sha256: str
    size: tuple[int, int]  # width, height
    problem: str = ""


def check_images(paths: Iterable[str], copies: CopyFinder) -> dict[str, CheckedImage]:
    """Decode every image, in threads: path → its facts. `copies` takes the readable images."""
    left, images = list(paths), {}
    with (
        ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool,
        progress("check", "images", len(left)) as advance,
    ):
        for start in range(0, len(left), _IMAGES_AT_ONCE):
            some = left[start : start + _IMAGES_AT_ONCE]
            for path, (image, signed) in zip(some, pool.map(_check_image, some), strict=True):
                images[path] = image
                if signed is not None:
                    copies.add(path, image.sha256, signed)
                advance(1)
    return images


def _check_image(path: str) -> tuple[CheckedImage, Signature | None]:
    try:
        image, digest = open_rgb(path)
    except DatasetError as error:
        return CheckedImage("", (0, 0), str(error)), None
    return CheckedImage(digest, image.size), signature(image)


def check_prompts(
    samples: Sequence[Sample], processor: Processor, family: str, marker: str
) -> None:
    """Raise DatasetError for a prompt with text that the model reads as a special token.

    `marker` is the family's region marker, which is allowed.
    """
    for sample in samples:
        text = sample.prompt.replace(marker, "") if marker else sample.prompt
        reserved = processor.reserved(text)
        if reserved:
            raise DatasetError(
                f"sample {sample.id!r}: its prompt holds {reserved!r}, which {family} reads as a "
                "token of its own; reword it"
            )


@garbage_collection_paused()
def check_rows(
    samples: list[Sample],
    images: Mapping[str, CheckedImage],
    counter: TokenCounter,
    drop_unreadable: bool,
) -> list[str]:
    """Count the tokens of all rows, in place; rows that cannot be used are removed.

    Returns notes about the removed rows. Raises DatasetError if there are any and
    `drop_unreadable` is False, or if no row is left.
    """
    problems = [image.problem for image in images.values() if image.problem]
    n_rows, n_kept = len(samples), 0
    with progress("count tokens", "rows", n_rows) as advance:
        for path, group in groupby(samples, key=attrgetter("image")):
            rows = list(group)
            if not images[path].problem:
                # Overwrite rows already read: a second list of a million would not fit in memory.
                for sample in counter.count(rows, images[path], problems):
                    samples[n_kept] = sample
                    n_kept += 1
            advance(len(rows))
    del samples[n_kept:]
    n_lost = n_rows - n_kept
    # A missing folder alone gives a problem for each of its images.
    first = first_lines(problems, len(problems))
    if problems and not drop_unreadable:
        raise DatasetError(
            f"{len(problems)} images or prompts, for {n_lost} of {n_rows} rows, cannot be "
            "used; correct them or plan with --drop-unreadable",
            details=first,
        )
    if not samples:
        raise DatasetError("no row can be used; name another folder with --dataset", first)
    notes = [f"dropped: {problem}" for problem in first]
    if problems:
        notes.append(f"dropped {n_lost} of {n_rows} rows in all")
    return notes


# Position → index of a token, or number of tokens.
TokensOf = tuple[tuple[str, int], ...]


class TokenCounter:
    """Counts the tokens of rows, and finds those of options and positions.

    Image tokens depend on the image's size only, prompt tokens on size and text; both are cached.
    """

    def __init__(
        self,
        processor: Processor,
        share: bool,
        options: OptionTokens | None = None,
        positions: Sequence[str] = (LAST,),
    ) -> None:
        """`options` also finds the tokens of each row's options, None: no answers.

        If they are not required, `why_no_answers` says after the count why not all can be read; rows
        counted before may have tokens of options.
        """
        self.why_no_answers = ""
        self._processor = processor
        self._share = share
        self._options = options
        self._positions = [position for position in positions if position != LAST]
        self._pictures: list[Picture] = []  # blank pictures that differ in tokens or text
        self._number: dict[tuple[int, int], int] = {}  # size → place in `_pictures`
        self._blank_with_depth = lru_cache(1)(self._blank)
        self._cached_prompt = lru_cache(_CACHED_PROMPTS)(self._prompt)
        self.n_values = 0  # input values of the largest picture

    def count(
        self, samples: Sequence[Sample], image: CheckedImage, problems: list[str]
    ) -> Iterator[Sample]:
        """Yield the samples about one image with `image_sha256` and all counts of tokens set.

        A sample that cannot be used is skipped, and its problem is added to `problems`.
        """
        good: list[tuple[Sample, int, TokenizedPrompt, TokensOf]] = []
        for sample in samples:
            try:
                split = self._tail(sample, image.size)
                good.append((sample, *split, self._tokens_of(sample, image.size)))
            except (DatasetError, InputError) as error:
                problems.append(f"row {sample.id!r}: {error}")
        n_shared = 0
        if self._share and len(good) > 1:
            n_shared = good[0][1] + count_shared([tail for _, _, tail, _ in good])
        for sample, n_ahead, tail, tokens_of in good:
            yield Sample(  # dataclasses.replace is slower: 3 s for a million rows
                id=sample.id,
                image=sample.image,
                prompt=sample.prompt,
                label=sample.label,
                group=sample.group,
                split=sample.split,
                image_sha256=image.sha256,
                n_tokens=n_ahead + len(tail.tokens),
                n_shared=n_shared,
                regions=sample.regions,
                depth=sample.depth,
                subject=sample.subject,
                reference=sample.reference,
                subject_box=sample.subject_box,
                reference_box=sample.reference_box,
                image_size=image.size,
                options=sample.options,
                option_tokens=tail.options,
                tokens_of=tokens_of,
            )

    def tail(self, sample: Sample) -> tuple[int, TokenizedPrompt]:
        """Of a counted sample: the number of the picture's tokens but the last, and the others."""
        width, height = sample.image_size
        return self._tail(sample, (width, height))

    def _tail(self, sample: Sample, size: tuple[int, int]) -> tuple[int, TokenizedPrompt]:
        """The sample's tokens as `_split_off_picture` gives them."""
        if not sample.regions:
            number = self._picture_number(size)
            return self._cached_prompt(number, sample.prompt, sample.options)
        blank = self._blank_of(sample, size)
        row = make_row(self._processor, blank, sample, size)
        return self._with_options(blank, row, sample.prompt, sample.options)

    def _prompt(
        self, picture_number: int, prompt: str, options: tuple[str, ...]
    ) -> tuple[int, TokenizedPrompt]:
        blank = self._pictures[picture_number]
        return self._with_options(blank, self._processor.row(blank, prompt), prompt, options)

    def _with_options(
        self, blank: Picture, row: TokenizedPrompt, prompt: str, options: tuple[str, ...]
    ) -> tuple[int, TokenizedPrompt]:
        n_ahead, tail = _split_off_picture(blank, row)
        if self._options is None or self.why_no_answers:
            return n_ahead, tail
        try:
            tokens = self._options.of_row(blank, row, prompt, options)
        except InputError as error:
            if self._options.required:
                raise
            self.why_no_answers = f"{NO_ANSWERS}: {error}"
            return n_ahead, tail
        return n_ahead, replace(tail, options=tokens)

    def _tokens_of(self, sample: Sample, size: tuple[int, int]) -> TokensOf:
        """Of each position but the last token: index of a name's token, or number of tokens."""
        if not self._positions:
            return ()
        blank = self._blank_of(sample, size)
        row = make_row(self._processor, blank, sample, size)
        places = places_of(self._processor, blank, row, sample, size, self._positions)
        return tuple(
            (position, at[0] if position in NAMES else len(at)) for position, at in places.items()
        )

    def _blank_of(self, sample: Sample, size: tuple[int, int]) -> Picture:
        if sample.depth:
            return self._blank_with_depth(size, sample.depth)
        return self._pictures[self._picture_number(size)]

    def _picture_number(self, size: tuple[int, int]) -> int:
        if size not in self._number:
            blank = replace(self._blank(size), arrays={})  # sizes may be many: keep tokens only
            if blank not in self._pictures:
                self._pictures.append(blank)
            self._number[size] = self._pictures.index(blank)
        return self._number[size]

    def _blank(self, size: tuple[int, int], depth: str = "") -> Picture:
        blank = make_picture(self._processor, Image.new("RGB", size), depth)
        self.n_values = max(self.n_values, n_values(blank))
        return blank


def _split_off_picture(picture: Picture, row: TokenizedPrompt) -> tuple[int, TokenizedPrompt]:
    """The number of the picture's tokens but the last, and the row without them.

    All rows about a picture begin with these tokens, so caching them for each would waste memory.
    """
    n_ahead = max(len(picture.tokens) - 1, 0)
    return n_ahead, TokenizedPrompt(row.tokens[n_ahead:], row.n_common - n_ahead)
