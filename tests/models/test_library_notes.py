"""Known notes of libraries stay out of logs; everything else that a library says is printed."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from vsp.models.library_notes import NOTES

_SAY = """
import logging, warnings
from vsp.models import load_family
from vsp.utils.quiet import saying
logger = logging.getLogger({logger!r})
with saying(False, {verbose}):
    load_family("fake"), load_family("fake")
    {say}
"""


def _printed(note, say, verbose=False):
    code = _SAY.format(logger=note.logger, verbose=verbose, say=say)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stderr


@pytest.mark.parametrize("note", NOTES, ids=lambda note: note.begins)
def test_a_known_note_is_left_out_unless_asked_for(note):
    say = f'logger.warning("{note.begins} from a place: %s", "why")'
    assert _printed(note, say) == ""
    assert _printed(note, say, verbose=True) == f"{note.begins} from a place: why\n"


def test_other_warnings_and_errors_of_the_same_library_are_printed():
    note = NOTES[0]
    for say, said in (
        ('logger.warning("the states are wrong")', "the states are wrong"),
        (f'logger.error("{note.begins}")', note.begins),
        (f'logging.getLogger("torch").warning("{note.begins}")', note.begins),
        ('warnings.warn("the states are wrong")', "the states are wrong"),
    ):
        assert said in _printed(note, say), say


def test_a_message_of_every_batch_is_printed_once():
    say = 'other = logging.getLogger("bitsandbytes.autograd._functions"); [other.warning("cast") for _ in "ab"]'
    assert _printed(NOTES[0], say) == "cast\n"


@pytest.mark.parametrize("note", NOTES, ids=lambda note: note.begins)
def test_the_library_still_has_the_note(note):
    """If a new version words it otherwise, the table needs the new words."""
    package, _, module = note.logger.partition(".")
    folder = Path(importlib.util.find_spec(package).origin).parent
    assert note.begins in (folder / f"{module.replace('.', '/')}.py").read_text()
