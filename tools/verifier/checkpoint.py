"""Signed checkpoints: notes, the Merkle tree over frames, and their comparison with a log.

The tree is RFC 6962's with SHA-256, a leaf is a frame's hash. It is kept as its frontier, the roots of its
perfect subtrees, so that a prefix of any length costs a few hashes of memory.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections import deque
from dataclasses import dataclass
from typing import Any, BinaryIO, Callable, Deque, Dict, Iterator, List, Optional, Set, Tuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from . import errors
from .crypto import k
from .errors import Malformed
from .files import open_regular
from .journal import MAX_BATCH, Frame
from .report import Report

MAX_NOTE, MAX_SIGNATURES = 8192, 32
# A file of notes has one a checkpoint; the newest so many are compared.
MAX_NOTES = 1 << 16
BRANCH_KIND = 19
TEXT = re.compile(
    r"palyra-ledger/([0-9a-f]{32})\n([1-9][0-9]{0,19})\n([A-Za-z0-9+/]{43}=)\nhead ([0-9a-f]{64})\n"
    r"state (none|[0-9a-f]{64})\ntime (0|[1-9][0-9]{0,19})\nbranch (0|[1-9][0-9]{0,9})\n"
    r"key ([A-Za-z0-9+/]{43}=)\n"
)
SIGNATURE = re.compile(r"\u2014 ([^ +]+) ([A-Za-z0-9+/]+={0,2})")


@dataclass
class Note:
    """A checkpoint whose signature, by the key in its text, fits."""

    ledger: bytes
    size: int
    root: bytes
    head: bytes
    state: Optional[bytes]
    time: int
    branch: int
    key: bytes


def _base64(text: str) -> bytes:
    """Base64 in its one canonical form."""
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Malformed("base64 of a note is none") from None
    if base64.b64encode(raw).decode() != text:
        raise Malformed("base64 of a note is not canonical")
    return raw


def key_id(name: str, key: bytes) -> bytes:
    """The first bytes of SHA-256 over name, line feed, algorithm and key."""
    return hashlib.sha256(name.encode() + b"\n\x01" + key).digest()[:4]


def parse(raw: bytes) -> Note:
    """One note. Raises Malformed where it is not one, or is not signed by its own key."""
    if len(raw) > MAX_NOTE:
        raise Malformed("a note is too long")
    try:
        whole = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise Malformed("a note is not UTF-8") from None
    text, blank, lines = whole.partition("\n\n")
    text += "\n"
    match = TEXT.fullmatch(text)
    if not blank or match is None or not lines.endswith("\n"):
        raise Malformed("a note is not a checkpoint")
    ledger, size, root, head, state, time, branch, key = match.groups()
    if int(size) >= 1 << 64 or int(time) >= 1 << 64 or int(branch) >= 1 << 32:
        raise Malformed("a number of a note is too large")
    note = Note(
        bytes.fromhex(ledger), int(size), _base64(root), bytes.fromhex(head),
        None if state == "none" else bytes.fromhex(state), int(time), int(branch), _base64(key),
    )
    _check_signatures(note, text, lines[:-1].split("\n"))
    return note


def _check_signatures(note: Note, text: str, lines: List[str]) -> None:
    if len(lines) > MAX_SIGNATURES:
        raise Malformed("a note has too many signatures")
    name = f"palyra-ledger/{note.ledger.hex()}"
    wanted, signed = key_id(name, note.key), False
    for line in lines:
        match = SIGNATURE.fullmatch(line)
        if match is None:
            raise Malformed("a line of a note is no signature")
        value = _base64(match.group(2))
        if match.group(1) != name or value[:4] != wanted:
            continue
        try:
            Ed25519PublicKey.from_public_bytes(note.key).verify(value[4:], text.encode())
        except (InvalidSignature, ValueError):
            raise Malformed("a note's signature is not by the key that it names") from None
        signed = True
    if not signed:
        raise Malformed("a note is not signed by the key that it names")


def signing_key(ledger_key: bytes) -> bytes:
    """The public key of the ledger's checkpoints."""
    private = Ed25519PrivateKey.from_private_bytes(k("checkpoint signing key", [ledger_key]))
    return private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def key_of_text(text: str) -> bytes:
    """The public key of `<name>+<id>+<base64 of 01 and key>`."""
    name, _, rest = text.strip().partition("+")
    id_, _, encoded = rest.partition("+")
    raw = _base64(encoded)
    if len(raw) != 33 or raw[0] != 1 or key_id(name, raw[1:]).hex() != id_:
        raise Malformed("this is no key of checkpoints")
    return raw[1:]


def read_notes(file: BinaryIO, outside: bool) -> Iterator[bytes]:
    """Notes, each followed by an empty line. What follows the last one is torn and passed over in a home's
    file; in one from outside it is a note without its empty line, and there is at least one note."""
    pending, blanks, count = b"", 0, 0
    while True:
        line = file.readline(MAX_NOTE + 1)
        if not line:
            break
        if line == b"\n":
            blanks += 1
            if blanks == 2:
                yield pending
                pending, blanks, count = b"", 0, count + 1
                continue
        pending += line
        if len(pending) > MAX_NOTE:
            raise Malformed("a note is too long")
    if outside and pending:
        yield pending
    elif outside and count == 0:
        raise Malformed("there is no checkpoint in it")


class Tree:
    """The tree over all frames so far, as its frontier."""

    def __init__(self) -> None:
        self.size = 0
        self.frontier: List[bytes] = []

    def add(self, frame_hash: bytes) -> None:
        """Appends a leaf."""
        node, size = hashlib.sha256(b"\0" + frame_hash).digest(), self.size
        while size & 1:
            node = hashlib.sha256(b"\1" + self.frontier.pop() + node).digest()
            size >>= 1
        self.frontier.append(node)
        self.size += 1

    def root(self) -> bytes:
        """The root over a tree that is not empty."""
        node = self.frontier[-1]
        for left in reversed(self.frontier[:-1]):
            node = hashlib.sha256(b"\1" + left + node).digest()
        return node


class Anchors:
    """Compares checkpoints with the log that is walked beside them.

    `read_event` gives the fields of an event where keys open it; without keys there is none.
    """

    def __init__(
        self, report: Report, key: Optional[bytes],
        read_event: Optional[Callable[[Frame], Optional[Dict[str, Any]]]] = None,
    ) -> None:
        self.report, self.key, self.read_event = report, key, read_event
        self.notes: Dict[int, List[Tuple[Note, str, bool]]] = {}
        self.tree = Tree()
        self.branches: List[Tuple[int, int]] = []
        # Where branches begin that keys opened.
        self.told: Set[int] = set()
        self.held_notes: Set[int] = set()
        self.forked: Set[int] = set()
        self.held = 0
        self.count = 0
        self.first_key: Optional[bytes] = None
        self.signed: Set[int] = set()
        # Records of checkpoints, as their headers say, where no key opens them; few enough.
        self.unopened: Deque[int] = deque(maxlen=MAX_BATCH + 1)
        # Events that only a checkpoint anchors; a batch that is torn at the end may hide so many.
        self.bare: Deque[int] = deque(maxlen=MAX_BATCH + 1)

    def read(self, path: str, name: str, outside: bool) -> None:
        """Takes the notes of one file; those outside the home are what anchors."""
        try:
            with open(path, "rb") if outside else open_regular(path) as file:
                for raw in read_notes(file, outside):
                    self._take(raw, name, outside)
        except Malformed as fault:
            self.report.damaged("checkpoint", f"{name}: {fault}")

    def _take(self, raw: bytes, name: str, outside: bool) -> None:
        note = parse(raw)
        self.first_key = self.first_key or note.key
        if note.key != (self.key or self.first_key):
            than = "the ledger's" if self.key else "that of a checkpoint read before it"
            text = f"{name}: the checkpoint of {note.size} events is by another key than {than}"
            self.report.damaged("checkpoint", text)
            return
        if self.count >= MAX_NOTES:
            if self.count == MAX_NOTES:
                self.report.note(f"{name} holds more checkpoints than are compared")
                self.count += 1
            return
        self.count += 1
        self.notes.setdefault(note.size, []).append((note, name, outside))

    def see(self, frame: Frame) -> None:
        """Adds a frame to the tree and compares the checkpoints that end with it."""
        if frame.seq != self.tree.size:
            return
        if not self._needs_no_anchor(frame):
            self.bare.append(frame.seq)
            if frame.kind == 16 and not self.read_event:
                self.unopened.append(frame.seq)
        self.tree.add(frame.hash)
        if frame.kind == BRANCH_KIND:
            event = self.read_event(frame) if self.read_event else None
            last = self.branches[-1][1] if self.branches else 0
            self.branches.append((frame.seq, event["branch"] if event else last + 1))
            if event:
                self.told.add(frame.seq)
        for note, _, outside in self.notes.get(self.tree.size, []):
            if note.head != frame.hash:
                continue
            if note.root != self.tree.root():
                self.forked.add(id(note))
                continue
            self.held_notes.add(id(note))
            if outside:
                self.held = max(self.held, note.size)

    def _needs_no_anchor(self, frame: Frame) -> bool:
        """Whether keys show that this is the record of a checkpoint of all before it, or of one put outside."""
        event = self.read_event(frame) if self.read_event and frame.kind in (16, 17) else None
        if event is None:
            return False
        if frame.kind == 17:
            return event["size"] in self.signed
        try:
            note = parse(event["note"].encode())
        except Malformed:
            return False
        of_this_log = note.ledger == frame.ledger and note.key == self.key
        if not of_this_log or not event["size"] == note.size == frame.seq == self.tree.size > 0:
            return False
        if note.head != frame.before or note.root != self.tree.root():
            return False
        self.signed.add(note.size)
        return True

    def finish(self, ledger: Optional[bytes], events: int) -> None:
        """The comparison of FORMAT.md, in its order, and what no checkpoint from outside covers."""
        for notes in self.notes.values():
            for note, name, _ in notes:
                self._compare(note, name, ledger, events)
        self.report.facts["checkpoints"] = {
            "compared": sum(len(notes) for notes in self.notes.values()), "anchored": self.held,
        }
        # A checkpoint never covers its own record: that one alone may stand behind it unopened.
        own = self.held if self.held in self.unopened else None
        bare = max((seq for seq in self.bare if seq < events and seq != own), default=-1)
        if bare >= self.held:
            text = f"events {self.held} to {bare} are in no checkpoint that was brought from outside"
            self.report.finding(errors.UNANCHORED, "unanchored", text, self.held)

    def _compare(self, note: Note, name: str, ledger: Optional[bytes], events: int) -> None:
        what = f"{name}: the checkpoint of {note.size} events"
        # A header alone gives up nothing: keys say so, or a checkpoint of a branch that the log holds.
        held = (other.branch for notes in self.notes.values() for other, _, _ in notes if id(other) in self.held_notes)
        most = max(held, default=0)
        counted = [one for one in self.branches if one[0] in self.told or one[1] <= max(most, note.branch)]
        later = min((first for first, number in counted if number > note.branch), default=note.size)
        known = max((number for _, number in counted), default=0)
        if ledger is not None and note.ledger != ledger:
            self.report.damaged("checkpoint", f"{what} is of another ledger")
        elif id(note) in self.held_notes:
            return
        elif id(note) in self.forked:
            self.report.damaged("forked", f"{what} has another root: the histories fork", note.size)
        elif note.size > later:
            self.report.note(f"{what} is superseded by a later branch")
        elif note.branch > known:
            text = f"{what} is of a history that this copy has not"
            self.report.finding(errors.TRUNCATED, "rolled_back", text, note.size)
        elif note.size > events:
            text = f"{what}: events {events} to {note.size - 1} are lost"
            self.report.finding(errors.TRUNCATED, "truncated", text, events)
        elif note.size > self.tree.size:
            self.report.note(f"{what} could not be compared: frames before it are missing")
        else:
            self.report.damaged("forked", f"{what} has another head: the histories fork", note.size)
