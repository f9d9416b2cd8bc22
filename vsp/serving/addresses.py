"""What the address of a request names. No address is a path of the machine.

    /                       the index
    /run/NAME               the results of a run that were written last
    /run/NAME/SETTING       those of one setting of the probe, such as /run/small/logistic
    /study/NAME             a study

The names are compared with those of the folders that the index lists, so that `..`, an encoded slash
or the path of another folder names nothing.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from urllib.parse import quote, unquote_to_bytes

_MOST = 2000  # characters; no address of the index is as long
_ENCODED = re.compile(r"%[0-9A-Fa-f]{2}|[^%]")
_NEVER = frozenset("/\0")  # in a part, after it was decoded

RUN, STUDY = "run", "study"


@dataclass(frozen=True, slots=True)
class Address:
    """What a page is about."""

    kind: str = ""  # empty: the index
    name: str = ""
    setting: str = ""  # folder of the results below `results/NAME/`; empty: the newest

    def path(self) -> str:
        parts = (self.kind, self.name, *self.setting.split("/"))
        return "/" + "/".join(quote(os.fsencode(part), safe="") for part in parts if part)


def parse_address(target: str) -> Address | None:
    """The address in the first line of a request; None if it is none of the forms above.

    A query is left out: no page depends on one.
    """
    path = target.partition("?")[0]
    if path == "/":
        return Address()
    if not path.startswith("/") or len(path) > _MOST:
        return None
    parts = [_decoded(part) for part in path[1:].split("/")]
    known = [part for part in parts if part]
    if len(known) != len(parts) or len(known) < 2:
        return None
    kind, name, *setting = known
    if kind not in (RUN, STUDY) or (kind == STUDY and setting):
        return None
    return Address(kind, name, "/".join(setting))


def _decoded(part: str) -> str | None:
    """The text of a part; None if it is no name of a folder."""
    if "".join(_ENCODED.findall(part)) != part:
        return None
    text = os.fsdecode(unquote_to_bytes(part))  # names of folders need not be UTF-8
    return None if text in (".", "..") or _NEVER & set(text) else text
