"""Makes text from files, names and errors harmless to print.

A terminal obeys some characters: ESC and C1 begin commands that move the cursor, change the title or
write the clipboard, and bidi controls show text in another order than it has. Files and names that
come from others may hold them. They are printed as Python writes them in a string: \\x1b, \\u202e.
"""

from __future__ import annotations

import re

# Everything else stays: letters of every script with their marks and joiners (U+200C, U+200D), emoji
# and private use.
_OBEYED = (
    "\x00-\x08\x0b-\x1f\x7f"  # C0 without tab and newline, DEL
    "\x80-\x9f"  # C1
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # bidi marks, embeddings, overrides, isolates
    "\u2028\u2029"  # line and paragraph separators
    "\u206a-\u206f\ufeff\ufff9-\ufffb\U0001d173-\U0001d17a"  # other format controls
    "\ufffe\uffff"  # no characters
    "\ud800-\udfff"  # halves of a pair: JSON allows them, and file names that are not UTF-8 give them
    "\U000e0000-\U000e007f"  # tags, an invisible copy of ASCII
)
_IN_TEXT = re.compile(f"[{_OBEYED}]")
_IN_LINE = re.compile(f"[\t\n{_OBEYED}]")
_SHORT = {"\t": r"\t", "\n": r"\n", "\r": r"\r"}


def escaped(text: str) -> str:
    """The text with visible escapes for characters that a terminal obeys; newline and tab stay.

    Escaping the result again changes nothing.
    """
    return _IN_TEXT.sub(_escape, text)


def one_line(text: str) -> str:
    """As `escaped`, and newline and tab are escaped as well: a name cannot begin a line of its own."""
    return _IN_LINE.sub(_escape, text)


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    if found[0] in _SHORT:
        return _SHORT[found[0]]
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
