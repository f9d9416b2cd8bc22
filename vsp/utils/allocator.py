"""Tells glibc's memory allocator what to do with freed blocks."""

from __future__ import annotations

import ctypes

# Parameters of glibc's mallopt.
_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD = -3, -1
_LARGE = 1 << 25  # bytes; glibc takes no larger threshold


def keep_freed_blocks(below: int = _LARGE) -> None:
    """Keep freed blocks smaller than `below` bytes for later use, in this process and its children.

    By default glibc returns blocks of the size of a picture to the system, which clears the pages
    again for the next picture. Does nothing with another libc.
    """
    try:
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(_M_MMAP_THRESHOLD, below)
        libc.mallopt(_M_TRIM_THRESHOLD, 2 * below)  # the ratio that glibc uses
    except (OSError, AttributeError):
        return
