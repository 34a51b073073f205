"""Reads that wait for a writer: `reads.spool`. Structure without keys, contents with the ledger key."""

from __future__ import annotations

import os
import struct
from typing import Optional

from .bodies import UnknownKind, decode
from .crypto import SEALED_OVERHEAD, k, open_object
from .errors import CannotOpen, Malformed
from .files import open_regular
from .report import Report

# A note of one command's reads: the longest body a frame can hold is far above it.
MAX_RECORD = 1_114_112


def check(path: str, ledger: Optional[bytes], ledger_key: Optional[bytes], report: Report) -> None:
    """Checks every record. A torn last one is what a crash leaves: its read was never shown."""
    try:
        file = open_regular(path)
    except FileNotFoundError:
        return
    except Malformed as fault:
        report.damaged("spool", str(fault))
        return
    key = k("read spool key", [ledger_key]) if ledger_key is not None else None
    count, opened = 0, 0
    with file:
        end = file.seek(0, os.SEEK_END)
        at = 0
        while at < end:
            file.seek(at)
            head = file.read(4)
            length = struct.unpack("<I", head)[0] if len(head) == 4 else MAX_RECORD + 1
            if not SEALED_OVERHEAD + 2 <= length <= MAX_RECORD or at + 4 + length > end:
                report.note(f"reads.spool is torn or damaged from byte {at} on")
                break
            count += 1
            if key is not None and ledger is not None and _opens(file.read(length), key, ledger, at, report):
                opened += 1
            at += 4 + length
    report.facts["spool"] = {"records": count, "opened": opened}


def _opens(sealed: bytes, key: bytes, ledger: bytes, at: int, report: Report) -> bool:
    try:
        body = open_object(key, sealed, ledger)
        kind, schema, body = int.from_bytes(body[:2], "little"), 1, body[2:]
        if kind & 0x8000:
            kind, schema, body = kind & 0x7FFF, int.from_bytes(body[:2], "little"), body[2:]
            if schema == 1:
                raise Malformed("schema version 1 is named")
        decode(kind, schema, body)
        return True
    except UnknownKind:
        return True
    except (CannotOpen, Malformed) as fault:
        report.damaged("spool", f"the record at byte {at} of reads.spool: {fault}")
        return False
