import sys
import unicodedata

import pytest

from vsp.errors import VspError
from vsp.escaping import escaped, one_line


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b]52;c;QUJD\x07", r"\x1b]52;c;QUJD\x07"),
        ("\x9b7m", r"\x9b7m"),
        ("\x7f\x00\r", r"\x7f\x00\r"),
        ("\u202eabc\u2066\u200f\u061c", r"\u202eabc\u2066\u200f\u061c"),
        ("\u2028\u2029\ufeff\ufffe", r"\u2028\u2029\ufeff\ufffe"),
        ("\ud800", r"\ud800"),
        ("\U000e0041", r"\U000e0041"),
    ],
)
def test_characters_that_a_terminal_obeys_are_shown_as_python_writes_them(text, shown):
    assert escaped(text) == one_line(text) == shown
    assert escaped(shown) == shown


@pytest.mark.parametrize(
    "text",
    [
        "plain ASCII ~!", "é ñ ß", "e\u0301", "中文 日本語 한국어", "עברית العربية",
        "می\u200cخواهم", "क्\u200dष", "👩\u200d👩\u200d👧 ❤\ufe0f 🏳\ufe0f\u200d🌈", "ไทย\u200b", "soft\u00adhyphen", "\ue0b0", "a\u00a0b",
    ],
)  # fmt: skip
def test_normal_text_of_every_script_stays(text):
    assert escaped(text) == one_line(text) == text


def test_newline_and_tab_stay_in_a_text_and_are_escaped_in_a_line():
    assert escaped("a\n\tb\r\n") == "a\n\tb\\r\n"
    assert one_line("a\n\tb\r\n") == r"a\n\tb\r\n"


def test_every_control_and_format_character_is_escaped_but_those_of_normal_text():
    kept = {
        chr(code)
        for code in range(sys.maxunicode + 1)
        if unicodedata.category(chr(code)) in ("Cc", "Cs", "Zl", "Zp", "Cf")
        and escaped(chr(code)) == chr(code)
    }
    assert not {
        one for one in kept if unicodedata.bidirectional(one) in ("LRO", "RLO", "LRE", "RLE")
    }
    assert {one for one in kept if unicodedata.category(one) != "Cf"} == {"\n", "\t"}
    # Joiners, the soft hyphen, and signs of Arabic, Kaithi, Egyptian and Duployan script.
    assert kept - {"\n", "\t"} <= {
        *"\u00ad\u200b\u200c\u200d\u2060\u2061\u2062\u2063\u2064\u180e\u070f\u08e2\u110bd\u110cd",
        *map(chr, (*range(0x600, 0x606), 0x6DD, 0x890, 0x891, 0x110BD, 0x110CD)),
        *map(chr, (*range(0x13430, 0x13440), *range(0x1BCA0, 0x1BCA4))),
    }


def test_an_error_is_one_line_without_commands():
    error = VspError("a\nnote: all is well\x1b[7m", ["\x9b\n"])
    assert str(error) == r"a\nnote: all is well\x1b[7m" and error.details == (r"\x9b\n",)
