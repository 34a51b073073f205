"""Segments and frames: structure, chain, batches, groups, digests. Needs no key.

Reads one frame at a time. After damage it looks for the next whole frame and goes on, so that one
report names every damaged range.
"""

from __future__ import annotations

import os
import re
import struct
from dataclasses import dataclass
from typing import BinaryIO, Dict, Iterator, List, Optional, Tuple

from .crypto import h, hasher
from .errors import FromTheFuture, Malformed
from .files import open_regular
from .report import Report

HEADER, TAG, HASH = 160, 16, 32
FRAME_OVERHEAD = HEADER + TAG + HASH
MAX_BODY = 1_114_112
MAX_BATCH = 4096
SEGMENT_HEADER = TRAILER = 128
NAME = re.compile(r"^([0-9]{20})\.seg$")
CHUNK = 1 << 16
# The number that no event has, so that every number has one behind it.
NO_SEQ = (1 << 64) - 1
# The event that starts an epoch.
EPOCH_KIND = 2
# A scan after damage hashes at most this many times the segment: bytes made to look like many long
# frames must not cost the square of their length.
SCAN_FACTOR = 4
FRAME_FIELDS = struct.Struct("<4sHH16sQ32sQQHHIHHI24s32s8s")


@dataclass
class Frame:
    """One whole frame: its own hash fits."""

    ledger: bytes
    seq: int
    before: bytes
    time: int
    group: int
    kind: int
    schema: int
    epoch: int
    place: int
    count: int
    nonce: bytes
    commitment: bytes
    header: bytes
    sealed: bytes
    hash: bytes
    offset: int
    size: int

    def associated(self) -> bytes:
        """The header with the commitment as zeros."""
        return self.header[:120] + bytes(32) + self.header[152:]


def read_frame(file: BinaryIO, offset: int, end: int) -> Frame:
    """Reads the frame at `offset`. Raises Malformed where there is none whole."""
    if end - offset < FRAME_OVERHEAD:
        raise Malformed("too few bytes for a frame")
    file.seek(offset)
    header = file.read(HEADER)
    if len(header) < HEADER or header[:4] != b"PLFR":
        raise Malformed("no frame begins here")
    (_, version, zero, ledger, seq, before, time, group, kind, schema, epoch, place, count, length,
     nonce, commitment, reserved) = FRAME_FIELDS.unpack(header)
    if length > MAX_BODY:
        raise Malformed(f"a body of {length} bytes is longer than a frame can hold")
    if end - offset < FRAME_OVERHEAD + length:
        raise Malformed("the frame goes on behind the end of the segment")
    sealed = file.read(length + TAG)
    stored = file.read(HASH)
    if len(stored) < HASH or h("frame hash", header, sealed) != stored:
        raise Malformed("the frame's hash does not fit")
    if version != 1:
        raise FromTheFuture(f"frame version {version} is not known to this program", FRAME_OVERHEAD + length)
    if seq == NO_SEQ:
        raise Malformed(f"no event has the number {seq}")
    if zero or any(reserved):
        raise Malformed("reserved bytes are not zero")
    if not 1 <= count <= MAX_BATCH or place >= count:
        raise Malformed(f"place {place} in a batch of {count} cannot be")
    return Frame(ledger, seq, before, time, group, kind, schema, epoch, place, count, nonce,
                 commitment, header, sealed, stored, offset, FRAME_OVERHEAD + length)


def list_segments(folder: str) -> List[Tuple[int, str]]:
    """The segments of a journal, in order; other names are left alone."""
    found = []
    for entry in os.listdir(folder):
        match = NAME.match(entry)
        if match:
            found.append((int(match.group(1)), os.path.join(folder, entry)))
    return sorted(found)


class Walk:
    """One pass over the journal. Yields whole, linked frames and reports what does not fit."""

    def __init__(
        self, folder: str, ledger: Optional[bytes], report: Report, durable: int = -1
    ) -> None:
        self.segments = list_segments(folder)
        self.durable = durable
        self.ledger = ledger
        self.report = report
        self.expected = 0
        self.chain: Optional[bytes] = None
        self.time = 0
        self.group = 0
        self.epoch = 0
        self.skipped = False
        self.place = 0
        self.count = 0
        self.begun: Optional[int] = None
        self.last: Optional[Frame] = None
        self.whole: Optional[Tuple[int, bytes, int]] = None
        self.events = 0
        self.kinds: Dict[int, int] = {}
        self.closed = 0
        self.torn = 0
        self.gaps: List[Tuple[int, int]] = []

    def frames(self) -> Iterator[Frame]:
        """All whole frames, in order."""
        for at, (first, path) in enumerate(self.segments):
            is_last = at + 1 == len(self.segments)
            try:
                file = open_regular(path)
            except Malformed as fault:
                self.report.damaged("segment_header", str(fault), first)
                continue
            with file:
                end = file.seek(0, os.SEEK_END)
                if self._segment_header(file, first, end, is_last, path):
                    segment = Segment(self, file, first, end, is_last, path)
                    yield from segment.frames()
        if self.begun is not None:
            self.report.note(f"the batch that begins at event {self.begun} is torn and was never acknowledged")

    def _segment_header(
        self, file: BinaryIO, first: int, end: int, is_last: bool, path: str
    ) -> bool:
        name = os.path.basename(path)
        file.seek(0)
        header = file.read(SEGMENT_HEADER)
        if is_last and first > 0 and not any(header) and _only_zeros(file, 0, end):
            self.report.note(f"{name} holds nothing yet")
            return False
        if len(header) < SEGMENT_HEADER:
            if is_last and 0 < first == self.expected:
                self.report.note(f"{name} is too short for its header: it was being made")
                self.torn += end
                return False
            self.report.damaged("segment_header", f"{name} is too short for its header", first)
            return False
        magic, version, zero, ledger, seq, before = struct.unpack_from("<4sHH16sQ32s", header)
        problems = []
        if header[96:] != h("segment header", header[:96]):
            problems.append("its check does not fit")
        elif magic == b"PLSG" and version != 1:
            text = f"{name} has segment version {version}, which is not known to this program"
            self.report.damaged("unknown_version", text, first)
            return True
        if magic != b"PLSG" or version != 1 or zero or any(header[64:96]):
            problems.append("it is not canonical")
        if first >= NO_SEQ:
            problems.append("no event has that number")
        if seq != first:
            problems.append(f"it says that it begins at {seq}")
        if self.ledger is not None and ledger != self.ledger:
            problems.append("it is of another ledger")
        if problems:
            self.report.damaged("segment_header", f"header of {name}: {', '.join(problems)}", first)
            return True
        self.ledger = ledger
        self._link_segment(name, first, before)
        return True

    def _link_segment(self, name: str, first: int, before: bytes) -> None:
        """Compares where the segment says it begins with where the one before ended."""
        if self.chain is None and self.expected == 0:
            if first == 0 and before != h("genesis", self.ledger or b""):
                self.report.damaged("chain", f"{name} does not begin with the genesis value", 0)
        if self.begun is not None:
            self.report.damaged(
                "batch", f"the batch that begins at event {self.begun} is not whole and a segment follows",
                self.begun,
            )
            self.begun = None
        if first > self.expected:
            self.gap(self.expected, first - 1, f"no segment holds them before {name}")
            self.expected, self.chain, self.skipped = first, before, True
        elif first < self.expected:
            text = f"{name} overlaps the segment before it, which ends with event {self.expected - 1}"
            self.report.damaged("sequence", text, first)
        elif self.chain is not None and before != self.chain:
            self.report.damaged("chain", f"{name} does not follow the frame before it", first)

    def gap(self, first: int, last: int, why: str) -> None:
        """Events that are not to be had."""
        if len(self.gaps) < 64:
            self.gaps.append((first, last))
        self.report.damaged("missing_events", f"events {first} to {last} are missing or damaged: {why}", first)

    def accept(self, frame: Frame, after_damage: bool) -> bool:
        """Links a whole frame into the chain. False where it cannot follow."""
        say = self.report.damaged
        if self.ledger is None:
            self.ledger = frame.ledger
        if frame.ledger != self.ledger:
            say("ledger_id", f"event {frame.seq} is of another ledger", frame.seq)
            return False
        if frame.seq != self.expected:
            if frame.seq < self.expected:
                say("sequence", f"event {frame.seq} stands where {self.expected} should", frame.seq)
                return False
            self.gap(self.expected, frame.seq - 1, "the next whole frame comes later")
            after_damage = True
        if frame.seq == 0 and frame.before != h("genesis", frame.ledger):
            say("chain", "event 0 does not follow the genesis value", 0)
        elif not after_damage and self.chain is not None and frame.before != self.chain:
            say("chain", f"event {frame.seq} does not follow the frame before it", frame.seq)
        if frame.time < self.time:
            say("time", f"event {frame.seq} is older than the one before it", frame.seq)
        self._group(frame, after_damage)
        self._epoch(frame, after_damage or self.skipped)
        self.skipped = False
        self._batch(frame, after_damage)
        self.chain, self.time, self.expected = frame.hash, frame.time, frame.seq + 1
        self.events += 1
        self.kinds[frame.kind] = self.kinds.get(frame.kind, 0) + 1
        self.last = frame
        return True

    def _group(self, frame: Frame, after_damage: bool) -> None:
        opens = frame.group == frame.seq and frame.place == 0
        stays = frame.group == self.group and frame.seq > 0
        if frame.group < self.group or frame.group > frame.seq or not (opens or stays or after_damage):
            self.report.damaged(
                "group", f"event {frame.seq} says that its group begins at {frame.group}", frame.seq
            )
        self.group = frame.group

    def _epoch(self, frame: Frame, after_damage: bool) -> None:
        """The epoch is the last one started before; what was started in a gap is not known."""
        if frame.epoch < self.epoch or (frame.epoch > self.epoch and not after_damage):
            self.report.damaged("epoch", f"event {frame.seq} is of epoch {frame.epoch}, not {self.epoch}", frame.seq)
        self.epoch = max(self.epoch, frame.epoch) + (frame.kind == EPOCH_KIND)

    def _batch(self, frame: Frame, after_damage: bool) -> None:
        if self.begun is None:
            fits = frame.place == 0 or after_damage
        else:
            fits = frame.place == self.place + 1 and frame.count == self.count
        if not fits and not after_damage:
            self.report.damaged(
                "batch", f"event {frame.seq} says place {frame.place} of {frame.count}", frame.seq
            )
        if frame.place == 0 or self.begun is None:
            self.begun = frame.seq
        self.place, self.count = frame.place, frame.count
        if frame.place + 1 == frame.count:
            self.begun = None
            self.whole = (frame.seq, frame.hash, frame.time)


class Segment:
    """The frames of one segment, up to its trailer or its end."""

    def __init__(
        self, walk: Walk, file: BinaryIO, first: int, end: int, is_last: bool, path: str
    ) -> None:
        self.walk, self.file, self.first, self.end = walk, file, first, end
        self.is_last = is_last
        self.name = os.path.basename(path)
        self.digest = hasher("segment digest")
        file.seek(0)
        self.digest.update(file.read(SEGMENT_HEADER))
        self.offset = SEGMENT_HEADER
        self.unbroken = True

    def frames(self) -> Iterator[Frame]:
        """Yields what is whole; ends at the trailer, at the zeros written ahead, or at a torn tail."""
        after_damage = not self.unbroken
        while self.offset < self.end:
            if self._trailer():
                return
            try:
                frame = read_frame(self.file, self.offset, self.end)
            except FromTheFuture as fault:
                text = f"{self.name}, offset {self.offset} (event {self.walk.expected}): {fault}"
                self.walk.report.damaged("unknown_version", text, self.walk.expected)
                self.offset, after_damage, self.unbroken = self.offset + fault.size, True, False
                continue
            except Malformed as fault:
                found = self._after_break(str(fault))
                if found is None:
                    return
                self.offset, after_damage, self.unbroken = found, True, False
                continue
            self.digest.update(frame.header + frame.sealed + frame.hash)
            self.offset += frame.size
            if self.walk.accept(frame, after_damage):
                yield frame
            after_damage = False
        if not self.is_last:
            self.walk.report.damaged("trailer", f"{self.name} has a successor and no trailer", self.first)

    def _trailer(self) -> bool:
        self.file.seek(self.offset)
        raw = self.file.read(TRAILER)
        if raw[:4] != b"PLST" or not trailer_is_whole(raw):
            return False
        version, zero, ledger, first, last, length, final, digest = struct.unpack_from(
            "<HH16sQQQ32s32s", raw, 4
        )
        walk, wrong = self.walk, []
        if version != 1:
            text = f"trailer of {self.name}: version {version} is not known to this program"
            walk.report.damaged("unknown_version", text, self.first)
            return True
        if zero or ledger != walk.ledger or first != self.first:
            wrong.append("it is of another segment")
        if last + 1 != walk.expected or walk.last is None or final != walk.last.hash:
            wrong.append("it names another last frame")
        if length != self.offset - SEGMENT_HEADER:
            wrong.append("it names another length")
        if self.unbroken and digest != self.digest.digest():
            wrong.append("its digest does not fit")
        behind = self.offset + TRAILER
        # Zeros that were written ahead stay behind the trailer until the next segment is begun.
        if behind != self.end and not (self.is_last and _only_zeros(self.file, behind, self.end)):
            wrong.append("bytes follow it")
        if walk.begun is not None:
            wrong.append(f"the batch that begins at event {walk.begun} is not whole before it")
            walk.begun = None
        if wrong:
            walk.report.damaged("trailer", f"trailer of {self.name}: {', '.join(wrong)}", self.first)
        walk.closed += 1
        return True

    def _after_break(self, why: str) -> Optional[int]:
        """Where to read on after `self.offset` held nothing whole; None where nothing follows."""
        walk = self.walk
        if self.is_last and _only_zeros(self.file, self.offset, self.end):
            return None
        missing = walk.expected
        found = self._next_whole(missing)
        where = f"{self.name}, offset {self.offset}"
        if found is None and self.is_last:
            walk.torn += self.end - self.offset
            walk.report.note(f"{where}: a torn tail of {self.end - self.offset} bytes: {why}")
            return None
        walk.report.damaged("frame", f"{where} (event {missing}): {why}", missing)
        return found

    def _next_whole(self, missing: int) -> Optional[int]:
        """The next whole trailer, or the next whole frame if `missing` was acknowledged."""
        budget = SCAN_FACTOR * self.end
        for at in _magics(self.file, self.offset + 1, self.end):
            self.file.seek(at)
            head = self.file.read(HEADER)
            if head[:4] == b"PLST":
                if trailer_is_whole(head[:TRAILER]):
                    return at
                continue
            if len(head) < HEADER or (self.walk.ledger and head[8:24] != self.walk.ledger):
                continue
            length = struct.unpack_from("<I", head, 92)[0]
            if length > MAX_BODY or at + FRAME_OVERHEAD + length > self.end:
                continue
            budget -= FRAME_OVERHEAD + length
            if budget < 0:
                self.walk.report.damaged("scan", f"{self.name}: too much looks like frames, not searched further")
                return None
            frame = _try_frame(self.file, at, self.end)
            if frame and frame.seq > missing and self._was_acknowledged(missing, frame):
                return at
        return None

    def _was_acknowledged(self, missing: int, later: Frame) -> bool:
        """A later group, a later segment or the head file proves that `missing` was synced."""
        return later.group > missing or not self.is_last or missing <= self.walk.durable


def trailer_is_whole(raw: bytes) -> bool:
    """Whether a trailer's own check fits."""
    return len(raw) >= TRAILER and raw[112:128] == h("segment header", raw[:112])[:16]


def _try_frame(file: BinaryIO, at: int, end: int) -> Optional[Frame]:
    try:
        return read_frame(file, at, end)
    except Malformed:
        return None


def _magics(file: BinaryIO, start: int, end: int) -> Iterator[int]:
    """Offsets at which a frame or a trailer may begin."""
    pattern = re.compile(rb"PLFR|PLST")
    at = start
    while at < end:
        file.seek(at)
        chunk = file.read(CHUNK)
        if not chunk:
            return
        for match in pattern.finditer(chunk):
            yield at + match.start()
        at += len(chunk) if len(chunk) < CHUNK else len(chunk) - 3


def _only_zeros(file: BinaryIO, start: int, end: int) -> bool:
    file.seek(start)
    left = end - start
    while left > 0:
        chunk = file.read(min(left, CHUNK))
        if not chunk:
            return True
        if any(chunk):
            return False
        left -= len(chunk)
    return True
