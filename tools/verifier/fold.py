"""What the events add up to, as far as this reader follows them.

Folded: versions of secrets and their slots, key ring, epochs, generations, certificates and their
signatures, and the state whose root a checkpoint names. Not folded: pairing, devices and service credentials
beyond their encoding. Memory grows with the number of secret versions, not with their bytes.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Optional, Set, Tuple

from . import checkpoint, errors, x509
from .bodies import UnknownKind, decode
from .crypto import SEALED_OVERHEAD, h, open_committed, pair
from .errors import CannotOpen, Malformed
from .journal import Frame
from .keys import Secrets
from .report import Report
from .state import State

Name = Tuple[str, str]


@dataclass
class Version:
    """One version of a secret."""

    slot: int
    seq: int
    deleted: bool = False
    shredded: Optional[int] = None
    shred_group: int = 0


@dataclass
class Envelope:
    """The newest version's envelope of the secret that is to be opened; none where it is not in the log."""

    version: int
    slot: int
    digest: str
    sealed: Optional[bytes]


def reader(secrets: Secrets) -> Callable[[Frame], Optional[Dict[str, Any]]]:
    """Opens single events, whatever stands before them; none where the keys do not."""
    epochs = [pair("epoch", secret) for secret in secrets.epochs]

    def read(frame: Frame) -> Optional[Dict[str, Any]]:
        if frame.epoch >= len(epochs):
            return None
        try:
            body = open_committed(
                epochs[frame.epoch], frame.nonce, frame.commitment, frame.sealed, frame.associated()
            )
            return decode(frame.kind, frame.schema, body)[1]
        except (CannotOpen, Malformed, UnknownKind):
            return None

    return read


class Fold:
    """The events in order, from the first; stops at the first gap or unknown kind."""

    def __init__(
        self, secrets: Secrets, report: Report, wanted: Optional[str],
        listen: Optional[Callable[[Frame, Dict[str, Any]], None]] = None,
    ) -> None:
        self.listen = listen
        self.report = report
        self.epoch_keys = [pair("epoch", secret) for secret in secrets.epochs]
        self.wanted = wanted
        self.envelopes: Dict[Name, Envelope] = {}
        self.last_group = 0
        self.next = 0
        self.tree = checkpoint.Tree()
        self.checkpoint_key = checkpoint.signing_key(secrets.ledger_key)
        self.branch = 0
        self.stopped: Optional[str] = None
        self.opened = 0
        self.epoch = 0
        self.root_generation: Optional[int] = None
        self.table_generation: Optional[int] = None
        self.ca_generation = 1
        self.ca_keys: Dict[int, bytes] = {}
        self.ca_certificates: Dict[int, bytes] = {}
        self.ring: Optional[bytes] = None
        self.vault: Dict[Name, Dict[int, Version]] = {}
        self.slots: Set[int] = set()
        self.state = State()
        self.serials: Set[str] = set()
        self.conflicts: Dict[str, Tuple[int, Dict[str, Any]]] = {}

    def take(self, frame: Frame) -> None:
        """Opens, decodes and folds one frame."""
        event = self._open(frame)
        self.last_group = frame.group
        if event is not None and self.listen is not None:
            self.listen(frame, event)
        if self.stopped is None and frame.seq != self.next:
            self.stopped = f"events {self.next} to {frame.seq - 1} are missing"
        if event is None:
            self.stopped = self.stopped or f"event {frame.seq} does not open or decode"
        if self.stopped is None and event is not None:
            if frame.epoch != self.epoch:
                self._wrong(frame, f"is sealed under epoch {frame.epoch}, not {self.epoch}")
            handler = getattr(self, f"_on_{frame.kind}", None)
            if handler is not None:
                handler(frame, event)
            if "keyring" in event:
                self.ring = bytes.fromhex(event["keyring"])
            self._fold(frame, event)
            self.tree.add(frame.hash)
            self.next = frame.seq + 1

    def _fold(self, frame: Frame, event: Dict[str, Any]) -> None:
        root = event.get("state_root") if frame.kind == 16 and event["size"] == frame.seq else None
        if root is not None:
            own = self.state.root()
            if own is not None and own.hex() != root:
                self._wrong(frame, "is a checkpoint with another state root than the events before it fold into")
        try:
            self.state.take(frame.kind, frame.seq, frame.time, event)
        except (IndexError, KeyError):
            self.state.ended = frame.kind
            self._wrong(frame, "does not fit the state before it")

    def _open(self, frame: Frame) -> Optional[Dict[str, Any]]:
        if frame.epoch >= len(self.epoch_keys):
            self._wrong(frame, f"names epoch {frame.epoch}, which the key ring does not hold")
            return None
        try:
            body = open_committed(
                self.epoch_keys[frame.epoch], frame.nonce, frame.commitment, frame.sealed, frame.associated()
            )
        except CannotOpen as fault:
            self._wrong(frame, f"does not open: {fault}")
            return None
        self.opened += 1
        try:
            return decode(frame.kind, frame.schema, body)[1]
        except UnknownKind as kind:
            self.stopped = self.stopped or f"event {frame.seq} is of the future: {kind}"
            return None
        except Malformed as fault:
            self._wrong(frame, f"does not decode: {fault}")
            return None

    def _wrong(self, frame: Frame, text: str) -> None:
        self.report.damaged("event", f"event {frame.seq} {text}", frame.seq)

    def _on_1(self, frame: Frame, event: Dict[str, Any]) -> None:
        if frame.seq != 0 or event["ledger_id"] != frame.ledger.hex():
            self._wrong(frame, "makes a ledger that is not this one")
        self.root_generation, self.table_generation = 1, 1
        self.ca_keys[1] = event["ca_public_key"]

    def _on_2(self, frame: Frame, event: Dict[str, Any]) -> None:
        if event["epoch"] != self.epoch + 1:
            self._wrong(frame, f"starts epoch {event['epoch']} after {self.epoch}")
        self.epoch = event["epoch"]

    def _on_6(self, _: Frame, event: Dict[str, Any]) -> None:
        self.root_generation = event["root_generation"]
        self.table_generation = event["table_generation"]

    def _on_16(self, frame: Frame, event: Dict[str, Any]) -> None:
        """A checkpoint's fields say what its note says, and what the log was when they cover all before it."""
        try:
            note = checkpoint.parse(event["note"].encode())
        except Malformed as fault:
            self._wrong(frame, f"holds a checkpoint that is none: {fault}")
            return
        fields = (event["size"], event["head"], event["tree_root"], event["state_root"], event["branch"])
        said = (note.size, note.head.hex(), note.root.hex(), note.state.hex() if note.state else None, note.branch)
        if fields != said or note.key != self.checkpoint_key or note.ledger != frame.ledger:
            self._wrong(frame, "holds a checkpoint whose note says something else than its fields")
        if note.size > frame.seq:
            self._wrong(frame, "holds a checkpoint of events behind it")
        if note.size == frame.seq == self.tree.size and note.size > 0:
            frontier = [node.hex() for node in self.tree.frontier]
            if (note.root, note.head, event["frontier"]) != (self.tree.root(), frame.before, frontier):
                self._wrong(frame, "holds a checkpoint of another history")

    def _on_18(self, frame: Frame, event: Dict[str, Any]) -> None:
        """What an anchor was recorded to know stands until a branch is begun, if the ledger's key signed it."""
        known = self.conflicts.get(event["anchor"])
        newer = known is None or known[1]["size"] <= event["size"]
        if event["cause"] in ("lost", "forked", "other_branch") and event["note"] and newer:
            self.conflicts[event["anchor"]] = (frame.seq, event)

    def _judge_conflicts(self) -> None:
        for anchor, (seq, event) in sorted(self.conflicts.items()):
            try:
                note = checkpoint.parse(event["note"].encode())
            except Malformed:
                continue
            if note.key != self.checkpoint_key:
                continue
            code = errors.DAMAGED if event["cause"] == "forked" else errors.TRUNCATED
            self.report.finding(
                code, "anchor", f"event {seq} records that {anchor} knew of {event['size']} events: {event['cause']}", seq
            )

    def _on_19(self, frame: Frame, event: Dict[str, Any]) -> None:
        self.conflicts.clear()
        if (event["from"], event["head"]) != (frame.seq, frame.before.hex()):
            self._wrong(frame, "starts a branch that does not begin with it")
        if event["branch"] <= self.branch:
            self._wrong(frame, f"starts branch {event['branch']} after {self.branch}")
        self.branch = event["branch"]

    def _on_32(self, frame: Frame, event: Dict[str, Any]) -> None:
        name = (event["scope"], event["name"])
        versions = self.vault.setdefault(name, {})
        if event["version"] != len(versions) + 1:
            self._wrong(frame, f"puts version {event['version']} of a secret that has {len(versions)}")
        if event["slot"] in self.slots:
            self._wrong(frame, f"uses key slot {event['slot']} a second time")
        envelope = event["envelope"]
        if event["backend"] == 0:
            if h("envelope digest", envelope).hex() != event["envelope_digest"]:
                self._wrong(frame, "does not hold the envelope whose digest it names")
            if len(envelope) != event["value_bytes"] + SEALED_OVERHEAD:
                self._wrong(frame, "holds an envelope of another length than its value's")
        self.slots.add(event["slot"])
        versions[event["version"]] = Version(event["slot"], frame.seq)
        if self.wanted == "/".join(name):
            inside = envelope if event["backend"] == 0 else None
            self.envelopes[name] = Envelope(event["version"], event["slot"], event["envelope_digest"], inside)

    def _on_44(self, frame: Frame, event: Dict[str, Any]) -> None:
        for imported in event["secrets"]:
            put = dict(imported["put"], envelope=bytes(imported["put"]["envelope"]))
            self._on_32(frame, put)
            self.vault[(put["scope"], put["name"])][put["version"]].deleted = imported["deleted"]

    def _chosen(self, frame: Frame, event: Dict[str, Any]) -> List[Version]:
        versions = self.vault.get((event["scope"], event["name"]), {})
        if event["versions"] == "all":
            chosen = list(versions.values())
        else:
            chosen = [versions[n] for n in [event["versions"]] if n in versions]
        if not chosen:
            self._wrong(frame, "names a secret or version that there is not")
        return chosen

    def _on_33(self, frame: Frame, event: Dict[str, Any]) -> None:
        for version in self._chosen(frame, event):
            version.deleted = True

    def _on_34(self, frame: Frame, event: Dict[str, Any]) -> None:
        for version in self._chosen(frame, event):
            version.deleted = False

    def _on_35(self, frame: Frame, event: Dict[str, Any]) -> None:
        versions = self.vault.get((event["scope"], event["name"]), {})
        for entry in event["versions"]:
            version = versions.get(entry["version"])
            if version is None or version.slot != entry["slot"]:
                self._wrong(frame, f"shreds version {entry['version']} in slot {entry['slot']}, which there is not")
            elif version.shredded is not None:
                self._wrong(frame, f"shreds version {entry['version']} again")
            else:
                version.shredded, version.shred_group = frame.seq, frame.group

    def _on_40(self, _: Frame, event: Dict[str, Any]) -> None:
        moved = {entry["slot"]: entry["envelope"] for entry in event["envelopes"]}
        for envelope in self.envelopes.values():
            if envelope.slot in moved:
                envelope.sealed = bytes(moved[envelope.slot])

    def _on_64(self, frame: Frame, event: Dict[str, Any]) -> None:
        root = event["certificate"]
        for wrong in x509.problems(root, root, event["not_after"]):
            self._wrong(frame, f"holds a root that {wrong}")
        self.ca_certificates[event["generation"]] = root

    _on_65 = _on_64

    def _on_66(self, _: Frame, event: Dict[str, Any]) -> None:
        self.ca_generation = event["generation"]
        self.table_generation = event["table_generation"]

    def _on_90(self, frame: Frame, event: Dict[str, Any]) -> None:
        for held in (held for imported in event["devices"] for held in imported["certificates"]):
            if held["serial"] in self.serials:
                self._wrong(frame, "gives a serial a second time")
            self.serials.add(held["serial"])
            known = held["certificate"]
            if known is not None and hashlib.sha256(known).hexdigest() != held["fingerprint"]:
                self._wrong(frame, "holds a certificate of another fingerprint")

    def _on_91(self, _: Frame, event: Dict[str, Any]) -> None:
        self.ca_certificates[event["generation"]] = event["certificate"]

    def _on_76(self, frame: Frame, event: Dict[str, Any]) -> None:
        if event["serial"] in self.serials:
            self._wrong(frame, "issues a serial a second time")
        self.serials.add(event["serial"])
        issuer = self.ca_certificates.get(event["generation"])
        times = (event["not_after"], event["not_before"])
        for wrong in x509.problems(event["certificate"], issuer, *times, event["serial"]):
            self._wrong(frame, f"holds a certificate that {wrong}")

    def finish(self) -> None:
        """Counts for the report, and how far the fold went."""
        self._judge_conflicts()
        present = sum(len(versions) for versions in self.vault.values())
        shredded = sum(v.shredded is not None for vs in self.vault.values() for v in vs.values())
        self.report.facts["opened"] = self.opened
        self.report.facts["secrets"] = {"names": len(self.vault), "versions": present, "shredded": shredded}
        root = None if self.stopped else self.state.root()
        self.report.facts["state_root"] = None if root is None else root.hex()
        if self.stopped:
            self.report.facts["folded_through"] = self.next - 1
            self.report.note(f"what follows event {self.next - 1} is opened but not folded: {self.stopped}")
