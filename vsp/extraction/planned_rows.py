"""The rows of a plan: their order, pictures, answer options and tokens."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from PIL import Image

from vsp import models
from vsp.choices import module_positions
from vsp.datasets.image_copies import CopyFinder, ImageCopies
from vsp.datasets.picture_paths import why_without_images
from vsp.errors import ConfigError, DatasetError, ModelError
from vsp.extraction.answer_options import NO_ANSWERS, OptionTexts, OptionTokens, too_many_options
from vsp.extraction.copied_rows import copy_notes, join_groups
from vsp.extraction.plan_notes import crop_notes, label_notes
from vsp.extraction.plan_request import PlanRequest
from vsp.extraction.preflight import CheckedImage, TokenCounter, check_images, check_rows
from vsp.extraction.preprocess import make_picture
from vsp.extraction.same_rows import rows_of
from vsp.models.contract import Processor
from vsp.storage.manifest import Sample
from vsp.storage.plan import Answers
from vsp.storage.run import Run


class CheckedDatasets:
    """What was checked for one plan, for further plans: the pictures of datasets, and rows of a draft."""

    def __init__(self) -> None:
        self._rows: dict[str, list[Sample]] = {}
        self._checked: dict[tuple[str, ...], tuple[dict[str, CheckedImage], ImageCopies]] = {}

    def images(self, paths: Iterable[str]) -> tuple[dict[str, CheckedImage], ImageCopies]:
        """The facts of each image, and which are copies of each other."""
        key = tuple(paths)
        if key not in self._checked:
            with CopyFinder() as finder:
                self._checked[key] = check_images(key, finder), finder.find()
        return self._checked[key]

    @contextmanager
    def rows_known(self, name: str, samples: list[Sample]) -> Iterator[None]:
        """In the block, further plans take these rows of a run that is not written yet."""
        self._rows[name] = samples
        try:
            yield
        finally:
            del self._rows[name]

    def rows_of(self, name: str, work: Path) -> list[Sample]:
        """The rows of a run, which may not be written yet."""
        known = self._rows.get(name)
        return Run.open(work / "scratch" / name).all_samples() if known is None else known


@dataclass(frozen=True, slots=True)
class CheckedRows:
    """The rows of a plan in their order, and what was counted."""

    samples: list[Sample]
    answers: Answers | None
    counter: TokenCounter
    notes: tuple[str, ...]


def checked_rows(
    request: PlanRequest,
    processor: Processor,
    samples: list[Sample],
    labels: Sequence[str],
    work: Path,
    checked: CheckedDatasets,
) -> CheckedRows:
    """Sort and shorten the rows in place, check their pictures, and count their tokens."""
    notes: list[str] = []
    moved = request.rows_of is None and request.share and _sort_by_image(samples)
    if request.rows_of is not None:
        samples[:] = rows_of(request.rows_of, samples, checked.rows_of(request.rows_of, work))
    elif request.limit is not None:
        del samples[request.limit :]
    images, copies = _checked_images(request, samples, checked)
    options = _option_tokens(request, samples, labels, processor, notes)
    positions = (*request.positions, *module_positions(request.modules, request.positions))
    counter = TokenCounter(processor, request.share, options, positions)
    notes += check_rows(samples, images, counter, request.drop_unreadable)
    answers = _answers(request, samples, options, counter, notes)
    if processor.crops:
        notes += crop_notes(images.values(), request.model.family)
    notes += _joined_copies(request, samples, copies)
    if moved:
        notes.append("rows about one image were moved together; ids identify the rows")
    return CheckedRows(samples, answers, counter, (*notes, *label_notes(samples)))


def _option_tokens(
    request: PlanRequest,
    samples: Sequence[Sample],
    labels: Sequence[str],
    processor: Processor,
    notes: list[str],
) -> OptionTokens | None:
    """Finds the tokens of the answer options; None if the run stores no answers.

    A note is added if rows have too many options for the default, or if the checkpoint has no head.
    With --lens or --answer-start, raises ConfigError if the run stores no answers or too many options,
    ModelError if the checkpoint has no head.
    """
    asked = bool(request.answers or request.lens or request.answer_start != "auto")
    if request.answers is False:
        if asked:
            option = "--lens" if request.lens else f"--answer-start {request.answer_start}"
            raise ConfigError(f"{option} is about stored answers; leave out --no-answers")
        return None
    if problem := too_many_options(samples, labels, asked):
        notes.append(problem)
        return None
    if not models.has_head(request.model):
        no_head = f"checkpoint {request.model.checkpoint!r} has no head that predicts tokens"
        if asked:
            raise ModelError(f"{no_head} (lm_head); use a whole checkpoint, or --no-answers alone")
        notes.append(f"{NO_ANSWERS}: {no_head} (lm_head)")
        return None
    blank = make_picture(processor, Image.new("RGB", (64, 64)))  # text around it is always the same
    texts = OptionTexts.of(request.answer_start, labels, blank.around[1])
    return OptionTokens(processor, texts, required=asked)


def _answers(
    request: PlanRequest,
    samples: list[Sample],
    options: OptionTokens | None,
    counter: TokenCounter,
    notes: list[str],
) -> Answers | None:
    """The answer options of the plan, once all rows are counted; None with a note if there are none."""
    if counter.why_no_answers:
        notes.append(counter.why_no_answers)
        samples[:] = [replace(sample, option_tokens=()) for sample in samples]
        return None
    return None if options is None else options.answers(samples, request.lens)


def _checked_images(
    request: PlanRequest, samples: Sequence[Sample], checked: CheckedDatasets
) -> tuple[dict[str, CheckedImage], ImageCopies]:
    """The facts of each image, and which are copies of each other.

    Raises DatasetError if the dataset has no image at all.
    """
    paths = dict.fromkeys(sample.image for sample in samples)
    why = why_without_images(request.dataset, paths)
    if why:
        raise DatasetError(why)
    return checked.images(paths)


def _joined_copies(request: PlanRequest, samples: list[Sample], copies: ImageCopies) -> list[str]:
    """Put the rows about copies into one group, in place, unless they are kept; notes about them."""
    if request.rows_of is not None:  # it decided the groups
        return []
    notes = copy_notes(samples, copies, request.keep_copies)
    if not request.keep_copies:
        join_groups(samples, copies)
    return notes


def _sort_by_image(samples: list[Sample]) -> bool:
    """Sort rows in place so that those about one image are neighbours; images keep their order.

    Returns whether any row moved.
    """
    places: dict[str, int] = {}
    for sample in samples:
        places.setdefault(sample.image, len(places))
    ordered = all(places[one.image] <= places[next_.image] for one, next_ in pairwise(samples))
    samples.sort(key=lambda sample: places[sample.image])
    return not ordered
