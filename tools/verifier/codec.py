"""Reading little-endian fields one after another, with bounds and exhaustion."""

from __future__ import annotations

import struct
from typing import Any, Callable, Dict, List, Optional

from .errors import Malformed

# A list in a body cannot have more entries than the body has bytes, so its length needs no other bound.


class Reader:
    """A cursor over bytes. Every read is checked; `done` refuses what is left over."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, count: int) -> bytes:
        """The next `count` bytes."""
        if count > len(self.data) - self.at:
            raise Malformed(f"{count} bytes at {self.at} are more than there are")
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self, size: int) -> int:
        """An integer of `size` bytes."""
        return int.from_bytes(self.take(size), "little")

    def u8(self) -> int:
        return self.number(1)

    def u16(self) -> int:
        return self.number(2)

    def u32(self) -> int:
        return self.number(4)

    def u64(self) -> int:
        return self.number(8)

    def flag(self) -> bool:
        """One byte, 0 or 1: another value would not encode to itself."""
        value = self.u8()
        if value > 1:
            raise Malformed(f"{value} where 0 or 1 must stand")
        return value == 1

    def blob(self) -> bytes:
        """Length (8), bytes."""
        return self.take(self.u64())

    def text(self) -> str:
        """Length (8), UTF-8."""
        try:
            return self.blob().decode("utf-8")
        except UnicodeDecodeError:
            raise Malformed("a string is not UTF-8") from None

    def option(self, inner: Callable[[], Any]) -> Any:
        """0, or 1 and the value."""
        return inner() if self.flag() else None

    def list(self, inner: Callable[[], Any]) -> List[Any]:
        """Number (8), then the entries."""
        count = self.u64()
        if count > len(self.data) - self.at:
            raise Malformed(f"a list of {count} is longer than the bytes that are left")
        return [inner() for _ in range(count)]

    def labels(self) -> Dict[str, str]:
        """A map of strings to strings, its keys rising."""
        result: Dict[str, str] = {}
        before: Optional[bytes] = None
        for key, value in self.list(lambda: (self.text(), self.text())):
            raw = key.encode()
            if before is not None and raw <= before:
                raise Malformed("the keys of a map are not in order")
            before, result[key] = raw, value
        return result

    def variant(self, names: List[str]) -> str:
        """A variant number (4) of an enumeration without fields."""
        number = self.u32()
        if number >= len(names):
            raise Malformed(f"variant {number} is not known")
        return names[number]

    def done(self) -> None:
        """Nothing may follow."""
        if self.at != len(self.data):
            raise Malformed(f"{len(self.data) - self.at} bytes are left over")


def u32(value: int) -> bytes:
    """Four bytes, little-endian."""
    return struct.pack("<I", value)


def u64(value: int) -> bytes:
    """Eight bytes, little-endian."""
    return struct.pack("<Q", value)
