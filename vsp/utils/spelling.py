"""Find the known words and names that a misspelt text probably means."""

from __future__ import annotations

from collections.abc import Collection, Iterable

_LONG = 7  # letters of a word in which two wrong letters are still a typing error
_CUTOFF = 0.6  # similarity from which difflib calls two names close
_MOST_KNOWN, _SHOWN = 16, 6  # of more known names than that, an error shows these many
_AS_NEAR = 0.15  # names this much less similar than the nearest are left out


def nearest_names(name: str, known: Iterable[str], most: int = 3) -> list[str]:
    """Up to `most` known names that `name` may mean, the nearest first.

    Names that begin with `name` come before all others. Capitals count as small letters, "_" as "-".
    """
    from difflib import SequenceMatcher, get_close_matches  # a command without errors needs neither

    plain = {_plain(one): one for one in sorted(known)}
    wanted = _plain(name)
    begun = [one for one in plain if len(wanted) > 1 and one.startswith(wanted)]
    if begun:
        return [plain[one] for one in begun[:most]]
    close = get_close_matches(wanted, plain, most, _CUTOFF)
    ratios = [SequenceMatcher(None, one, wanted).ratio() for one in close]
    near = [one for one, ratio in zip(close, ratios, strict=True) if ratio > ratios[0] - _AS_NEAR]
    return [plain[one] for one in near]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """ "did you mean a or b?", or "" if no known name is near."""
    nearest = nearest_names(name, known)
    return f"did you mean {' or '.join(nearest)}?" if nearest else ""


def unknown_name(what: str, name: str, known: Collection[str]) -> str:
    """The message for a name that is not known: the nearest names, and those that are known.

    Of many known names, a few are shown, the nearest first.
    """
    near = did_you_mean(name, known)
    return f"{what} {name!r} is not known; {f'{near} ' if near else ''}known: {some_names(name, known)}"


def some_names(name: str, known: Collection[str], most: int = _MOST_KNOWN) -> str:
    """The known names in a line; of more than `most`, a few of them, the nearest first, and the number."""
    if len(known) <= most:
        return ", ".join(known)
    shown = list(dict.fromkeys([*nearest_names(name, known), *known]))[: min(most, _SHOWN)]
    return f"{', '.join(shown)}, … ({len(known)} in all)"


def _plain(name: str) -> str:
    return name.lower().replace("_", "-")


def misspelt(text: str, known: Iterable[str]) -> str:
    """The text of `known` that `text` is with the fewest typing errors; "" if none is near.

    Each word may have one wrong, missing, added or exchanged letter, a long word two, but none in
    its first letter: "in" is not meant as "on". A space may be missing.
    """
    nearest, fewest = "", 0
    for one in known:
        n = _n_errors(text, one)
        if n and (not nearest or n < fewest):
            nearest, fewest = one, n
    return nearest


def _n_errors(text: str, other: str) -> int:
    """Typing errors that turn one text into the other; 0 if they are equal or too different."""
    if text[:1] != other[:1] or abs(len(text) - len(other)) > _LONG:
        return 0
    words, others = text.split(), other.split()
    if len(words) != len(others):
        return int("".join(words) == "".join(others))
    total = 0
    for a, b in zip(words, others, strict=True):
        if a != b:
            n = _n_edits(a, b) if a[0] == b[0] and abs(len(a) - len(b)) <= 2 else 3
            if n > 1 + (len(b) >= _LONG) or max(len(a), len(b)) < 3:
                return 0
            total += n
    return total


def _n_edits(a: str, b: str) -> int:
    """Letters to replace, insert, delete, or exchange with their neighbour, to turn `a` into `b`."""
    before, last = [0] * (len(b) + 1), list(range(len(b) + 1))
    for i, letter in enumerate(a, 1):
        row = [i]
        for j, other in enumerate(b, 1):
            n = min(last[j] + 1, row[-1] + 1, last[j - 1] + (letter != other))
            if i > 1 and j > 1 and letter == b[j - 2] and a[i - 2] == other:
                n = min(n, before[j - 2] + 1)
            row.append(n)
        before, last = last, row
    return last[-1]
