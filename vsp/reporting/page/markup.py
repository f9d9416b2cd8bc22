"""Makes HTML. This is the only file that does: every text it is given stays text."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from html import escape
from typing import Any

from vsp.escaping import escaped

_VOID = frozenset({"br", "col", "hr", "img", "input", "link", "meta"})
_TAG = re.compile(r"[a-z][a-z0-9]*")
# What ends a script element, begins a comment or ends a line in JavaScript, as JSON escapes.
_IN_SCRIPT = {sign: f"\\u{ord(sign):04x}" for sign in "<>&\u2028\u2029"}


class Html(str):
    """Text that is HTML already. Only the functions of this file make it."""

    __slots__ = ()


Child = str | None | Iterable["Child"]  # a plain str is text and is escaped; None is left out


def tag(name: str, /, *children: Child, **attributes: str | int | float | bool | None) -> Html:
    """An element. `class_` is the attribute class, `data_chart` is data-chart.

    True is an attribute without a value; None and False leave it out. Raises ValueError for an element
    or attribute that would run code, since none is needed.
    """
    if not _TAG.fullmatch(name):
        raise ValueError(f"{name!r} is not the name of an element")
    opened = f"<{name}{''.join(_attribute(*item) for item in attributes.items())}>"
    return Html(opened if name in _VOID else f"{opened}{joined(children)}</{name}>")


def joined(children: Iterable[Child]) -> Html:
    """The children one after the other; plain texts are escaped."""
    return Html("".join(map(_child, children)))


def text(value: str) -> Html:
    """The text as HTML that shows it. Characters that a browser obeys, as bidi controls, are visible."""
    return Html(escape(escaped(value)))


def json_block(identifier: str, value: Any) -> Html:
    """Data for a script, in an element that no browser runs. Floats keep all digits."""
    body = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    body = "".join(_IN_SCRIPT.get(sign, sign) for sign in body)
    return Html(
        f'<script type="application/json" id="{escape(identifier)}">'
        f"{body.encode(errors='backslashreplace').decode()}</script>"
    )


def own_script(body: str) -> Html:
    """A script of this package; its body is shipped, not data."""
    if re.search(r"</script|<!--", body, re.IGNORECASE) or "\r" in body:
        raise ValueError("a script must not hold </script, <!-- or a carriage return")
    return Html(f"<script>{body}</script>")


def own_style(body: str) -> Html:
    """A style sheet of this package; its body is shipped, not data."""
    if "<" in body or "\r" in body:
        raise ValueError("a style sheet must not hold < or a carriage return")
    return Html(f"<style>{body}</style>")


def _child(child: Child) -> str:
    if child is None:
        return ""
    if isinstance(child, Html):
        return child
    return text(child) if isinstance(child, str) else joined(child)


def _attribute(name: str, value: str | int | float | bool | None) -> str:
    name = name.rstrip("_").replace("_", "-")
    if name.startswith("on") or name in ("style", "srcdoc"):
        raise ValueError(f"the page has no attribute {name}")
    if value is None or value is False:
        return ""
    return f" {name}" if value is True else f' {name}="{text(str(value))}"'
