"""What can go wrong, and the exit code of each: the numbers of the command line."""

from __future__ import annotations

OK = 0
USAGE = 2
NEEDS_KEY = 4
NOT_FOUND = 10
CANNOT_OPEN = 11
DAMAGED = 15
TRUNCATED = 16
UNANCHORED = 17
IO = 18


class Stop(Exception):
    """Ends the run with an exit code and a sentence."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


class CannotOpen(Exception):
    """Sealed bytes that the key at hand does not open."""


class Malformed(Exception):
    """Bytes that are not what FORMAT.md says they are."""


class FromTheFuture(Malformed):
    """Bytes whose own check fits and whose version is none of FORMAT.md's."""

    def __init__(self, text: str, size: int = 0) -> None:
        super().__init__(text)
        self.size = size
