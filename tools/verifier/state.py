"""The state that events fold into, and its root: as FORMAT.md has keys and values.

Folded: the ledger itself, checkpoints, branches and anchors, compromises, the vault and its storage backends.
An event of device trust or of service credentials ends it: the root of a log with such events is not
recomputed here.
"""

from __future__ import annotations

import struct
from typing import Any, Callable, Dict, List, Optional, Tuple

from . import checkpoint
from .crypto import h
from .errors import Malformed

LEDGER, COUNTERS, CHECKPOINT, BRANCH, PLACED, COMPROMISE = b"\x00", b"\x01", b"\x02", b"\x03", b"\x04", b"\x05"
LAST_BACKUP = b"\x07"
CONFLICT, SETTLED = b"\x08", b"\x09"
HEAD, VERSION, SHREDS, LAST_READ, BACKEND, MOVED = b"\x10", b"\x11", b"\x12", b"\x13", b"\x14", b"\x15"
IMPORTED, ORIGIN = b"\x06", b"\x16"
BACKENDS = ["ledger", "encrypted_file", "linux_secret_service", "macos_keychain", "windows_dpapi"]
CONCERNS = {"secret": 0, "device": 1, "profile": 2}
REMEDIES = {"revoke_device": 0, "revoke_certificate": 1, "disable_profile": 2, "replace_secret": 3}
SILENT = {7, 8, 9, 10, 11, 12, 13, 14, 15, 24, 38, 45}
Event = Dict[str, Any]


def u32(value: int) -> bytes:
    return struct.pack("<I", value)


def u64(value: int) -> bytes:
    return struct.pack("<Q", value)


def blob(value: bytes) -> bytes:
    return u64(len(value)) + value


def text(value: str) -> bytes:
    return blob(value.encode())


def option(value: Any, inner: Callable[[Any], bytes]) -> bytes:
    return b"\x00" if value is None else b"\x01" + inner(value)


def many(values: List[Any], inner: Callable[[Any], bytes]) -> bytes:
    return u64(len(values)) + b"".join(inner(value) for value in values)


def labels(value: Dict[str, str]) -> bytes:
    pairs = sorted(value.items(), key=lambda pair: pair[0].encode())
    return u64(len(pairs)) + b"".join(text(key) + text(said) for key, said in pairs)


def flag(value: bool) -> bytes:
    return b"\x01" if value else b"\x00"


def backend(kind: str) -> bytes:
    return u32(BACKENDS.index(kind))


class Version:
    """One version of a secret."""

    def __init__(self, number: int, seq: int, time: int, event: Event) -> None:
        self.number, self.seq, self.created = number, seq, time
        self.slot, self.value_bytes, self.expires = event["slot"], event["value_bytes"], event["expires_at"]
        self.deleted = False
        self.shredded: Optional[int] = None

    def encode(self) -> bytes:
        return b"".join((
            u32(self.number), u64(self.seq), u64(self.created), u64(self.slot), u32(self.value_bytes),
            option(self.expires, u64), flag(self.deleted), option(self.shredded, u64),
        ))


class Secret:
    """A secret with all its versions; the last is the current one."""

    def __init__(self, time: int) -> None:
        self.versions: List[Version] = []
        self.deleted_through = 0
        self.created = self.updated = time
        self.description: Optional[str] = None
        self.labels: Dict[str, str] = {}

    def encode(self) -> bytes:
        return b"".join((
            self.versions[-1].encode(), u32(self.deleted_through), u64(self.created), u64(self.updated),
            option(self.description, text), labels(self.labels),
        ))


class State:
    """The map, folded event by event; `ended` says at which kind that ended, if it did."""

    def __init__(self) -> None:
        self.ended: Optional[int] = None
        self.ledger: Event = {}
        self.secrets: Dict[Tuple[str, str], Secret] = {}
        self.next_slot = self.count_versions = self.count_shredded = 0
        self.checkpoint: Optional[Event] = None
        self.other: Dict[bytes, bytes] = {}
        self.backend: Optional[Tuple[str, Optional[str], bool]] = None

    def take(self, kind: int, seq: int, time: int, event: Event) -> None:
        """Folds one event that is known to be whole."""
        if self.ended is not None or kind in SILENT:
            return
        handler = getattr(self, f"_on_{kind}", None)
        if handler is None:
            self.ended = kind
            return
        handler(seq, time, event)
        if "keyring" in event:
            self.ledger["keyring"] = event["keyring"]

    def _on_1(self, _: int, time: int, event: Event) -> None:
        self.ledger = {
            "id": event["ledger_id"], "created": time, "epoch": 0, "since": time, "slots": list(event["slots"]),
            "pinned": None, "root": 0, "table": 0, "ca": event["ca_public_key"],
        }

    def _on_2(self, _: int, time: int, event: Event) -> None:
        self.ledger.update(epoch=event["epoch"], since=time)

    def _on_3(self, _: int, __: int, event: Event) -> None:
        self.ledger["slots"].append(event["slot"])

    def _on_4(self, _: int, __: int, event: Event) -> None:
        self._drop([event["slot"]["slot"]])

    def _on_5(self, _: int, __: int, event: Event) -> None:
        self.ledger["pinned"] = event["slot"]

    def _on_6(self, _: int, __: int, event: Event) -> None:
        self._drop(event["dropped"])
        self.ledger.update(root=event["root_generation"], table=event["table_generation"])

    def _drop(self, slots: List[str]) -> None:
        self.ledger["slots"] = [slot for slot in self.ledger["slots"] if slot["slot"] not in slots]

    def _on_16(self, seq: int, time: int, event: Event) -> None:
        last = self.checkpoint or {"state_size": 0, "state_entries": 0}
        rooted = event["state_root"] is not None
        self.checkpoint = {
            "event": seq, "time": time, "size": event["size"], "frontier": event["frontier"], "note": event["note"],
            "state_size": event["size"] if rooted else last["state_size"],
            "state_entries": event["state_entries"] if rooted else last["state_entries"],
        }

    def _on_17(self, seq: int, _: int, event: Event) -> None:
        self.other[PLACED + event["anchor"].encode()] = u64(seq) + u64(event["size"])

    def _on_18(self, seq: int, _: int, event: Event) -> None:
        if event["cause"] not in ("lost", "forked", "other_branch") or not event["note"]:
            return
        key = CONFLICT + event["anchor"].encode()
        known = self.other.get(key)
        if known is None or struct.unpack_from("<Q", known, 8)[0] <= event["size"]:
            self.other[key] = u64(seq) + u64(event["size"]) + text(event["note"])

    def _settle(self, event: Event) -> None:
        """What was known to be given up, and its size does not show."""
        notes = [event["note"].encode()]
        for key in sorted(key for key in self.other if key.startswith(CONFLICT)):
            notes.append(self.other.pop(key)[24:])
        for raw in notes:
            try:
                note = checkpoint.parse(raw)
            except Malformed:
                continue
            if note.size <= event["from"]:
                self.other[SETTLED + struct.pack(">Q", note.size) + note.head] = b"".join((
                    u64(note.size), note.head, u32(note.branch), u64(event["from"]),
                ))

    def _on_19(self, _: int, time: int, event: Event) -> None:
        self._settle(event)
        self.other[BRANCH + struct.pack(">I", event["branch"])] = b"".join((
            u32(event["branch"]), u64(event["from"]), u64(time), option(event["lost_through"], u64),
            text(event["anchor"]),
        ))

    def _on_23(self, seq: int, time: int, event: Event) -> None:
        self.other[LAST_BACKUP] = b"".join((
            u64(seq), u64(time), bytes.fromhex(event["backup"]), u64(event["from"]), u64(event["to"]),
            bytes.fromhex(event["head"]),
        ))

    @staticmethod
    def _concern(concern: Dict[str, Any]) -> Tuple[bytes, bytes]:
        """The beginning of a compromise's keys, and the concern as it is encoded."""
        (kind, named), = concern.items()
        number = CONCERNS[kind]
        if kind == "secret":
            name, encoded = f"{named['scope']}/{named['name']}", text(named["scope"]) + text(named["name"])
        elif kind == "device":
            name, encoded = named, bytes.fromhex(named)
        else:
            name, encoded = named, text(named)
        return COMPROMISE + bytes([number]) + name.encode() + b"\x00", u32(number) + encoded

    @staticmethod
    def _remedy(remedy: Dict[str, Any]) -> bytes:
        (kind, named), = remedy.items()
        if kind == "replace_secret":
            path = named["path"]
            encoded = text(path["scope"]) + text(path["name"]) + u32(named["version"])
        else:
            encoded = text(named) if kind == "disable_profile" else bytes.fromhex(named)
        return u32(REMEDIES[kind]) + encoded

    def _close(self, prefix: bytes) -> None:
        for key in [key for key in self.other if key.startswith(prefix)]:
            del self.other[key]

    def _on_20(self, _: int, __: int, event: Event) -> None:
        prefix, encoded = self._concern(event["concern"])
        if event["part"] == 0:
            self._close(prefix)
        self.other[prefix + struct.pack(">I", event["part"])] = b"".join((
            encoded, u64(event["since"]), u64(event["until"]), bytes.fromhex(event["correlation"]),
            bytes.fromhex(event["plan"]), u32(event["part"]), u32(event["parts"]), many(event["items"], self._remedy),
        ))

    def _on_21(self, _: int, __: int, event: Event) -> None:
        self._close(self._concern(event["concern"])[0])

    def _on_22(self, seq: int, _: int, event: Event) -> None:
        self.other[IMPORTED + bytes.fromhex(event["digest"])] = u64(seq)

    def _on_44(self, seq: int, time: int, event: Event) -> None:
        for imported in event["secrets"]:
            put, origin = imported["put"], imported["origin"]
            self._on_32(seq, time, put)
            secret = self.secrets[(put["scope"], put["name"])]
            secret.versions[-1].deleted = imported["deleted"]
            if origin is not None:
                key = put["scope"].encode() + b"\x00" + put["name"].encode() + b"\x00"
                key = ORIGIN + key + struct.pack(">I", put["version"])
                self.other[key] = u64(origin["created"]) + u64(origin["updated"])

    def _on_32(self, seq: int, time: int, event: Event) -> None:
        secret = self.secrets.setdefault((event["scope"], event["name"]), Secret(time))
        secret.versions.append(Version(event["version"], seq, time, event))
        secret.updated, secret.description, secret.labels = time, event["description"], event["labels"]
        self.next_slot = event["slot"] + 1
        self.count_versions += 1

    def _secret(self, time: int, event: Event) -> Secret:
        secret = self.secrets[(event["scope"], event["name"])]
        secret.updated = time
        return secret

    def _on_33(self, _: int, time: int, event: Event) -> None:
        secret = self._secret(time, event)
        if event["versions"] == "all":
            secret.deleted_through = secret.versions[-1].number
        else:
            secret.versions[event["versions"] - 1].deleted = True

    def _on_34(self, _: int, time: int, event: Event) -> None:
        secret, which = self._secret(time, event), event["versions"]
        if which == "all":
            for version in secret.versions:
                version.deleted = False
            secret.deleted_through = 0
            return
        if which <= secret.deleted_through:
            # The rest of what was deleted together stays hidden, one by one.
            for version in secret.versions[:secret.deleted_through]:
                version.deleted = True
            secret.deleted_through = 0
        secret.versions[which - 1].deleted = False

    def _on_35(self, seq: int, time: int, event: Event) -> None:
        secret = self._secret(time, event)
        for gone in event["versions"]:
            secret.versions[gone["version"] - 1].shredded = seq
        self.count_shredded += len(event["versions"])
        self.other[SHREDS + struct.pack(">Q", seq)] = many([gone["slot"] for gone in event["versions"]], u64)

    def _on_36(self, _: int, time: int, event: Event) -> None:
        secret = self._secret(time, event)
        secret.versions[-1].expires = event["expires_at"]
        secret.description, secret.labels = event["description"], event["labels"]

    def _on_37(self, _: int, __: int, event: Event) -> None:
        for read in event["reads"]:
            key = LAST_READ + read["scope"].encode() + b"\x00" + read["name"].encode()
            self.other[key] = u64(read["last"])

    def _on_39(self, _: int, __: int, event: Event) -> None:
        self.backend = (event["from"], event["to"], False)

    def _on_40(self, seq: int, _: int, event: Event) -> None:
        for moved in event["envelopes"]:
            self.other[MOVED + struct.pack(">Q", moved["slot"])] = u64(seq)

    def _on_41(self, _: int, __: int, event: Event) -> None:
        self.backend = (event["to"], event["from"], True)

    def _on_42(self, _: int, __: int, ___: Event) -> None:
        if self.backend is not None:
            self.backend = (self.backend[0], None, False)

    _on_43 = _on_42

    def _entries(self) -> Dict[bytes, bytes]:
        ledger = self.ledger
        note = lambda slot: bytes.fromhex(slot["slot"]) + text(slot["kind"]) + text(slot["label"])
        entries = dict(self.other)
        entries[LEDGER] = b"".join((
            bytes.fromhex(ledger["id"]), u64(ledger["created"]), u32(ledger["epoch"]), u64(ledger["since"]),
            bytes.fromhex(ledger["keyring"]), many(ledger["slots"], note), option(ledger["pinned"], bytes.fromhex),
            u32(ledger["root"]), u32(ledger["table"]), blob(ledger["ca"]),
        ))
        if self.secrets:
            counts = (self.next_slot, len(self.secrets), self.count_versions, self.count_shredded)
            entries[COUNTERS] = b"".join(u64(count) for count in counts)
        for (scope, name), secret in self.secrets.items():
            key = scope.encode() + b"\x00" + name.encode()
            entries[HEAD + key] = secret.encode()
            for version in secret.versions[:-1]:
                entries[VERSION + key + b"\x00" + struct.pack(">I", version.number)] = version.encode()
        if self.checkpoint is not None:
            last = self.checkpoint
            entries[CHECKPOINT] = b"".join((
                u64(last["event"]), u64(last["time"]), u64(last["size"]), many(last["frontier"], bytes.fromhex),
                u64(last["state_size"]), u64(last["state_entries"]), text(last["note"]),
            ))
        if self.backend is not None:
            kind, other, switched = self.backend
            entries[BACKEND] = backend(kind) + option(other, backend) + flag(switched)
        return entries

    def root(self) -> Optional[bytes]:
        """The state root after the last event; none once an event of another domain was there."""
        if self.ended is not None or not self.ledger:
            return None
        parts: List[bytes] = []
        for key, value in sorted(self._entries().items()):
            parts += [u32(len(key)), key, u32(len(value)), value]
        return h("state root", *parts)
