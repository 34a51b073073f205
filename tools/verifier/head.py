"""The head file: which position the ledger says was durable, and whether the journal reaches it."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from typing import List, Optional

from . import errors
from .crypto import k, mac, same
from .errors import Malformed
from .files import open_regular
from .journal import Frame, Walk
from .report import Report

RECORD, SECOND = 128, 4096


@dataclass
class Head:
    """One record of the head file."""

    raw: bytes
    ledger: bytes
    clean: bool
    counter: int
    seq: int
    hash: bytes
    time: int
    lacking: int

    def fits(self, ledger_key: bytes) -> bool:
        """Whether the record's MAC fits."""
        return same(mac(k("head mac key", [ledger_key]), self.raw[:96]), self.raw[96:])


def parse(raw: bytes) -> Optional[Head]:
    """A record, where its structure is one."""
    if len(raw) < RECORD or raw[:4] != b"PLHD":
        return None
    version, flags, ledger, counter, seq, hash_, time, lacking, zero = struct.unpack_from(
        "<HH16sQQ32sQQ8s", raw, 4
    )
    if version != 1 or flags > 1 or any(zero):
        return None
    return Head(raw, ledger, bool(flags & 1), counter, seq, hash_, time, lacking)


class HeadCheck:
    """Compares the head file with the journal that is walked beside it."""

    def __init__(self, path: str, report: Report) -> None:
        self.report = report
        self.exists = os.path.lexists(path)
        self.records: List[Head] = []
        self.held: List[Head] = []
        if not self.exists:
            return
        try:
            file = open_regular(path)
        except (FileNotFoundError, Malformed):
            return
        with file:
            for offset in (0, SECOND):
                file.seek(offset)
                raw = file.read(RECORD)
                record = parse(raw)
                if record is not None:
                    self.records.append(record)
                elif any(raw):
                    report.note(f"the head record at {offset} is torn or damaged: the other one counts")
        self.records.sort(key=lambda record: record.counter)
        self.held = self.records[-1:]

    def with_key(self, ledger_key: bytes) -> None:
        """Keeps the whole record with the highest counter, now that the MAC tells which are whole."""
        whole = [record for record in self.records if record.fits(ledger_key)]
        if len(whole) < len(self.records):
            self.report.note("a head record's MAC does not fit: it is torn or was altered")
        if self.records and not whole:
            self.report.damaged("head", "no record of the head file is whole")
        self.held = whole[-1:]

    def is_open(self) -> bool:
        """Whether the ledger was last not closed: what was under way may be unfinished."""
        return any(not record.clean for record in self.held)

    def durable(self) -> int:
        """The event that the head file says was durable; -1 without one."""
        return max((record.seq for record in self.held), default=-1)

    def see(self, frame: Frame) -> None:
        """Compares a frame with the record that names it."""
        for record in self.held:
            if record.seq == frame.seq and record.hash != frame.hash:
                self.report.damaged(
                    "head", f"event {frame.seq} is not the one that the head file names", frame.seq
                )

    def finish(self, walk: Walk) -> None:
        """What can be said once the journal's end is known."""
        if not self.exists:
            self.report.finding(
                errors.UNANCHORED, "head_missing", "there is no head file: whether the end was cut off cannot be told"
            )
            return
        if not self.held:
            if not self.records:
                self.report.damaged("head", "the head file holds no record")
            return
        record = self.held[0]
        if walk.ledger is not None and record.ledger != walk.ledger:
            self.report.damaged("head", "the head file is of another ledger")
        last = walk.whole[0] if walk.whole else -1
        if record.seq > last:
            text = f"the journal ends at event {last}, but event {record.seq} was durable"
            self.report.finding(errors.TRUNCATED, "truncated", text, record.seq)
        self.report.facts["head"] = {
            "seq": record.seq, "counter": record.counter, "closed_cleanly": record.clean
        }
