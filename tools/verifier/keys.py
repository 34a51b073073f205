"""Key ring, key files and key table: structure without keys, contents with the root key."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass, field
from typing import Dict, Iterator, List, Optional, Tuple

from .codec import Reader, u32, u64
from .crypto import argon2id, h, k, open_object, same, xchacha_open
from .errors import CannotOpen, Malformed
from .files import open_regular

MAX_SLOTS, MAX_LABEL, MAX_FURTHER = 16, 64, 7
WRAPPED_ROOT = 104
KEY_FILE = 72
# A ring with all slots, all further CA keys and very many epochs stays far below this.
MAX_RING = 16 << 20
TABLE_HEADER, TABLE_SLOT = 128, 80
FILE, PASSPHRASE, KEYSTORE, RECOVERY = 1, 2, 3, 4
KINDS = {FILE: "file", PASSPHRASE: "passphrase", KEYSTORE: "os-keystore", RECOVERY: "recovery"}


@dataclass
class KeySlot:
    """One way to the root key."""

    id: bytes
    kind: int
    created: int
    label: str
    salt: bytes
    memory_kib: int
    passes: int
    lanes: int
    head: bytes
    wrapped: bytes


@dataclass
class Ring:
    """A key ring file, its sealed part closed."""

    digest: bytes
    version: int
    ledger: bytes
    root_generation: int
    table_generation: int
    pinned: bytes
    slots: List[KeySlot]
    associated: bytes
    sealed: bytes


@dataclass
class Secrets:
    """What the sealed part of a ring holds."""

    ledger_key: bytes
    kek_salt: bytes
    ca_key: bytes
    epochs: List[bytes]
    ca_generation: Optional[int] = None
    further: Dict[int, bytes] = field(default_factory=dict)

    def kek(self, ledger: bytes) -> bytes:
        """The key that wraps slot keys in the table."""
        return k("key encryption key", [self.ca_key, ledger, self.kek_salt])


def parse_ring(data: bytes) -> Ring:
    """The structure of a key ring file."""
    read = Reader(data)
    if read.take(4) != b"PLKR":
        raise Malformed("the key ring does not begin with its magic")
    version = read.u16()
    if version not in (1, 2) or read.u16():
        raise Malformed(f"key ring version {version} is not known, or reserved bytes are not zero")
    ledger = read.take(16)
    root_generation, table_generation, pinned = read.u32(), read.u32(), read.take(4)
    count = read.u16()
    if count > MAX_SLOTS:
        raise Malformed(f"{count} key slots are more than there can be")
    slots = [_parse_slot(read) for _ in range(count)]
    ids = {slot.id for slot in slots}
    if len(ids) != count or pinned not in ids:
        raise Malformed("key slots share an id, or the pinned one is not there")
    associated = data[: read.at]
    sealed = read.take(read.u32())
    read.done()
    return Ring(h("key ring digest", data), version, ledger, root_generation, table_generation,
                pinned, slots, associated, sealed)


def _parse_slot(read: Reader) -> KeySlot:
    start = read.at
    id_, kind, created = read.take(4), read.u16(), read.u64()
    length = read.u16()
    if length > MAX_LABEL or kind not in KINDS:
        raise Malformed(f"a key slot has kind {kind} and a label of {length} bytes")
    try:
        label = read.take(length).decode("utf-8")
    except UnicodeDecodeError:
        raise Malformed("a key slot's label is not UTF-8") from None
    salt, memory, passes, lanes = b"", 0, 0, 0
    if kind == PASSPHRASE:
        salt, memory, passes, lanes = read.take(16), read.u32(), read.u32(), read.u32()
    head = read.data[start : read.at]
    return KeySlot(id_, kind, created, label, salt, memory, passes, lanes, head, read.take(WRAPPED_ROOT))


def parse_key_file(data: bytes) -> Tuple[bytes, bytes, int, bytes]:
    """Ledger id, slot id, root generation and slot key of a key file."""
    if len(data) != KEY_FILE or data[:4] != b"PLKF":
        raise Malformed("this is no key file")
    version, zero, ledger, slot, generation, key = struct.unpack_from("<HH16s4sI32s", data, 4)
    if not same(data[64:], h("key file check", data[:64])[:8]):
        raise Malformed("the key file's check does not fit")
    if version != 1 or zero:
        raise Malformed(f"key file version {version} is not known")
    return ledger, slot, generation, key


def unwrap_root(ring: Ring, slot: KeySlot, slot_key: bytes) -> bytes:
    """The root key, by one slot's key."""
    aad = ring.ledger + u32(ring.root_generation) + slot.head
    root = open_object(slot_key, slot.wrapped, aad)
    if len(root) != 32:
        raise CannotOpen("the wrapped root key has not 32 bytes")
    return root


def root_by_file(ring: Ring, data: bytes) -> bytes:
    """The root key, by a key file."""
    ledger, slot_id, generation, key = parse_key_file(data)
    if ledger != ring.ledger or generation != ring.root_generation:
        raise CannotOpen("the key file is of another ledger or of an older root key")
    for slot in ring.slots:
        if slot.id == slot_id and slot.kind == FILE:
            return unwrap_root(ring, slot, key)
    raise CannotOpen(f"the key ring has no file slot {slot_id.hex()}")


def root_by_passphrase(ring: Ring, passphrase: bytes) -> bytes:
    """The root key, by the first passphrase slot that opens."""
    slots = [slot for slot in ring.slots if slot.kind == PASSPHRASE]
    if not slots:
        raise CannotOpen("the key ring has no passphrase slot")
    for slot in slots:
        key = argon2id(passphrase, slot.salt, slot.memory_kib, slot.passes, slot.lanes)
        try:
            return unwrap_root(ring, slot, key)
        except CannotOpen:
            continue
    raise CannotOpen("the passphrase opens no slot")


def open_ring(ring: Ring, root: bytes) -> Secrets:
    """The sealed part, by the root key."""
    wrapping = k("root wrapping key", [root])
    read = Reader(open_object(wrapping, ring.sealed, ring.associated))
    ledger_key, salt, ca_key = read.take(32), read.take(32), read.take(read.u16())
    count = read.u32()
    epochs = [read.take(32) for _ in range(min(count, len(read.data) // 32 + 1))]
    secrets = Secrets(ledger_key, salt, ca_key, epochs)
    if ring.version == 2:
        secrets.ca_generation = read.u32()
        further = read.u16()
        if further > MAX_FURTHER:
            raise Malformed(f"{further} further CA keys are more than there can be")
        before = -1
        for _ in range(further):
            generation = read.u32()
            if generation <= before:
                raise Malformed("the generations of further CA keys do not rise")
            before, secrets.further[generation] = generation, read.take(read.u16())
    read.done()
    if not epochs:
        raise Malformed("the key ring holds no epoch")
    return secrets


@dataclass
class TableHeader:
    """The header of one copy of the key table."""

    ledger: bytes
    generation: int
    carried_out: int
    slots: int


class Table:
    """One copy of the key table, read slot by slot."""

    def __init__(self, path: str) -> None:
        self.name = os.path.basename(path)
        self.file = open_regular(path)
        size = self.file.seek(0, os.SEEK_END)
        self.file.seek(0)
        raw = self.file.read(TABLE_HEADER)
        if len(raw) < TABLE_HEADER or raw[:4] != b"PLKT":
            raise Malformed(f"{self.name} does not begin with a table's header")
        if raw[96:] != h("key table header", raw[:96]):
            raise Malformed(f"the check of {self.name}'s header does not fit")
        version, zero, ledger, generation, pad, carried = struct.unpack_from("<HH16sIIQ", raw, 4)
        if version != 1 or zero or pad or any(raw[40:96]):
            raise Malformed(f"{self.name}'s header is not canonical")
        self.trailing = (size - TABLE_HEADER) % TABLE_SLOT
        self.header = TableHeader(ledger, generation, carried, (size - TABLE_HEADER) // TABLE_SLOT)

    def slots(self) -> Iterator[bytes]:
        """All slots in order, 80 bytes each."""
        self.file.seek(TABLE_HEADER)
        for _ in range(self.header.slots):
            raw = self.file.read(TABLE_SLOT)
            if len(raw) < TABLE_SLOT:
                return
            yield raw

    def slot(self, number: int) -> bytes:
        """One slot; zeros where the file does not reach."""
        if number >= self.header.slots:
            return bytes(TABLE_SLOT)
        self.file.seek(TABLE_HEADER + number * TABLE_SLOT)
        return self.file.read(TABLE_SLOT).ljust(TABLE_SLOT, b"\0")

    def close(self) -> None:
        self.file.close()


def slot_state(raw: bytes, generation: int, number: int) -> Tuple[str, int]:
    """`empty`, `filled`, `shredded` with the event's number, or `damaged`."""
    if not any(raw):
        return "empty", 0
    if raw[72:] != h_slot(generation, number, raw[:72]):
        return "damaged", 0
    if raw[:8] == b"SHREDDED":
        if any(raw[16:72]):
            return "damaged", 0
        return "shredded", struct.unpack_from("<Q", raw, 8)[0]
    return "filled", 0


def h_slot(generation: int, number: int, body: bytes) -> bytes:
    """A slot's check."""
    return h("key table slot check", u32(generation), u64(number), body)[:8]


def open_slot(raw: bytes, kek: bytes, ledger: bytes, generation: int, number: int) -> bytes:
    """The slot key that a filled slot wraps."""
    aad = ledger + u32(generation) + u64(number)
    return xchacha_open(k("wrap seal key", [kek]), raw[:24], raw[24:72], aad)
