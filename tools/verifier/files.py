"""Opening what lies in a home: regular files alone, so that a pipe or a device put there holds nothing up."""

from __future__ import annotations

import os
import stat
from typing import BinaryIO

from .errors import Malformed


def open_regular(path: str) -> BinaryIO:
    """A file of the home. Raises Malformed where something else has its name."""
    if stat.S_ISREG(os.stat(path).st_mode):
        # What was looked at may have been exchanged since: the descriptor decides, and opening never waits.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return os.fdopen(descriptor, "rb")
        os.close(descriptor)
    raise Malformed(f"{os.path.basename(path)} is no regular file")


def read_bounded(path: str, limit: int, outside: bool = False) -> bytes:
    """A whole small file. One that the caller brings from outside of the home may be a pipe."""
    with open(path, "rb") if outside else open_regular(path) as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise Malformed(f"{os.path.basename(path)} is longer than {limit} bytes")
    return data
