"""One verification of a ledger's home, from its files to a report."""

from __future__ import annotations

import glob
import os
import re
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Optional, Sequence

from . import errors, keys, objects, spool
from .checkpoint import Anchors, signing_key
from .codec import u32
from .crypto import h, k, open_object
from .errors import CannotOpen, Malformed, Stop
from .files import read_bounded
from .fold import Envelope, Fold, Version, reader
from .head import HeadCheck
from .journal import Frame, Walk
from .report import Report
from .x509 import public_of_certificate, public_of_key

FORMAT = re.compile(rb"palyra-ledger 1\n")
LATER = re.compile(rb"palyra-ledger ([1-9][0-9]{0,9})\n")
BACKEND = re.compile(rb"(ledger|encrypted_file|linux_secret_service|macos_keychain|windows_dpapi)\n")


@dataclass
class Request:
    """What the caller asked for."""

    home: str
    keyless: bool = False
    key_file: Optional[str] = None
    passphrase: Optional[bytes] = None
    root_key: Optional[bytes] = None
    open: Optional[str] = None
    checkpoints: Sequence[str] = ()
    checkpoint_key: Optional[bytes] = None
    events: Optional[Callable[[Frame, Dict[str, Any]], None]] = None


def verify(request: Request) -> Report:
    """Verifies a home."""
    report = Report()
    if not os.path.isdir(os.path.join(request.home, "journal")):
        raise Stop(errors.NOT_FOUND, f"{request.home} holds no ledger: it has no folder `journal`")
    _check_format(request, report)
    head = HeadCheck(os.path.join(request.home, "head"), report)
    ring = _ring(request, report)
    secrets = None if request.keyless or ring is None else _secrets(request, ring, report)
    if secrets is not None:
        head.with_key(secrets.ledger_key)
    walk = _keyless(request.home, head, _anchors(request, secrets, report), report)
    if ring is not None and walk.ledger is not None and ring.ledger != walk.ledger:
        report.damaged("keyring", "the key ring is of another ledger")
    tables = _tables(request.home, ring, report)
    spool_key = secrets.ledger_key if secrets is not None else None
    spool.check(os.path.join(request.home, "reads.spool"), walk.ledger, spool_key, report)
    if secrets is not None and ring is not None and walk.whole is not None:
        fold = _fold(request, walk, secrets, report)
        if fold.stopped is None:
            _check_ring(request.home, ring, secrets, fold, report)
            _check_slots(tables, secrets.kek(ring.ledger), ring, fold, head.is_open(), report)
        if request.open is not None:
            _open_secret(request, tables, secrets.kek(ring.ledger), ring, fold, report)
    for table in tables:
        table.close()
    return report


def _check_format(request: Request, report: Report) -> None:
    for name, wanted in (("format", FORMAT), ("backend.kind", BACKEND)):
        try:
            said = read_bounded(os.path.join(request.home, name), 64)
            later = LATER.fullmatch(said) if name == "format" else None
            if later and not wanted.fullmatch(said):
                text = f"format {later.group(1).decode()} is not known to this program"
                report.damaged("unknown_version", text)
            elif not wanted.fullmatch(said):
                report.damaged(name, f"the file `{name}` does not say what it should")
        except FileNotFoundError:
            report.damaged(name, f"there is no file `{name}`")
        except Malformed as fault:
            report.damaged(name, str(fault))


def _anchors(request: Request, secrets: Optional[keys.Secrets], report: Report) -> Anchors:
    """The checkpoints of the home and those that the caller brings, signed by a key that is known."""
    key = request.checkpoint_key
    if secrets is not None:
        own = signing_key(secrets.ledger_key)
        if key is not None and key != own:
            report.damaged("checkpoint", "the key of checkpoints that was given is not this ledger's")
        key = own
    anchors = Anchors(report, key, reader(secrets) if secrets is not None else None)
    inside = os.path.join(request.home, "checkpoints", "notes")
    if os.path.exists(inside):
        anchors.read(inside, "checkpoints/notes", outside=False)
    for path in request.checkpoints:
        anchors.read(path, os.path.basename(path), outside=True)
    if anchors.notes and key is None:
        report.note("checkpoints are signed by a key that nothing here vouches for: give --checkpoint-key")
    return anchors


def _keyless(home: str, head: HeadCheck, anchors: Anchors, report: Report) -> Walk:
    walk = Walk(os.path.join(home, "journal"), None, report, head.durable())
    if not walk.segments:
        report.damaged("missing_events", "the journal holds no segment", 0)
    for frame in walk.frames():
        head.see(frame)
        anchors.see(frame)
    report.facts["ledger"] = walk.ledger.hex() if walk.ledger else None
    report.facts["events"] = walk.events
    report.facts["segments"] = {"all": len(walk.segments), "closed": walk.closed}
    report.facts["last"] = (
        {"seq": walk.whole[0], "hash": walk.whole[1].hex()} if walk.whole else None
    )
    report.facts["torn_bytes"] = walk.torn
    head.finish(walk)
    anchors.finish(walk.ledger, walk.whole[0] + 1 if walk.whole else 0)
    return walk


def _ring(request: Request, report: Report) -> Optional[keys.Ring]:
    folder = os.path.join(request.home, "keys")
    try:
        return keys.parse_ring(read_bounded(os.path.join(folder, "keyring"), keys.MAX_RING))
    except FileNotFoundError:
        if request.keyless and not os.path.lexists(folder):
            report.note("the folder `keys` was not brought along: neither key ring nor key table is looked at")
        else:
            report.damaged("keyring", "there is no key ring")
    except Malformed as fault:
        report.damaged("keyring", f"the key ring: {fault}")
    return None


def _secrets(request: Request, ring: keys.Ring, report: Report) -> Optional[keys.Secrets]:
    try:
        return keys.open_ring(ring, _root(request, ring))
    except CannotOpen as fault:
        report.finding(errors.CANNOT_OPEN, "keyring", f"the key ring does not open: {fault}")
    except Malformed as fault:
        report.damaged("keyring", f"the key ring or the key file: {fault}")
    except Stop as stop:
        report.finding(stop.code, "keyring", stop.text)
    return None


def _root(request: Request, ring: keys.Ring) -> bytes:
    if request.root_key is not None:
        return request.root_key
    if request.passphrase is not None:
        return keys.root_by_passphrase(ring, request.passphrase)
    if request.key_file is not None:
        return keys.root_by_file(ring, read_bounded(request.key_file, keys.KEY_FILE, outside=True))
    for path in sorted(glob.glob(os.path.join(glob.escape(request.home), "keys", "root-*.key"))):
        name = os.path.basename(path)
        if name.endswith(f"-{ring.root_generation}.key"):
            return keys.root_by_file(ring, read_bounded(path, keys.KEY_FILE))
    raise Stop(errors.NEEDS_KEY, "no key file lies in the home: name a key, or ask for --keyless")


def _tables(home: str, ring: Optional[keys.Ring], report: Report) -> List[keys.Table]:
    """Both copies of the key table, their structure checked slot by slot."""
    tables: List[keys.Table] = []
    if ring is None:
        return tables
    for copy in "ab":
        name = f"table-{ring.table_generation}.{copy}"
        try:
            table = keys.Table(os.path.join(home, "keys", name))
        except FileNotFoundError:
            report.damaged("key_table", f"there is no {name}")
            continue
        except Malformed as fault:
            report.damaged("key_table", str(fault))
            continue
        if table.header.ledger != ring.ledger or table.header.generation != ring.table_generation:
            report.damaged("key_table", f"{name} is of another ledger or generation")
        if table.trailing:
            report.note(f"{name} ends within a slot")
        tables.append(table)
    if len({table.header.slots for table in tables}) > 1:
        report.note("the copies of the key table are not of one length: one was cut off, or being grown")
    counts: Dict[str, int] = {"filled": 0, "shredded": 0, "empty": 0, "damaged": 0}
    for table in tables:
        for number, raw in enumerate(table.slots()):
            state = keys.slot_state(raw, ring.table_generation, number)[0]
            counts[state] += 1
            if state == "damaged":
                report.damaged("key_slot", f"slot {number} of {table.name} is damaged")
    report.facts["key_slots"] = counts
    return tables


def _fold(request: Request, walk: Walk, secrets: keys.Secrets, report: Report) -> Fold:
    """A second pass over what the first found whole."""
    fold = Fold(secrets, report, request.open, request.events)
    again = Walk(os.path.join(request.home, "journal"), walk.ledger, Report())
    last = walk.whole[0] if walk.whole else -1
    for frame in again.frames():
        if frame.seq > last:
            break
        fold.take(frame)
    fold.finish()
    return fold


def _check_ring(
    home: str, ring: keys.Ring, secrets: keys.Secrets, fold: Fold, report: Report
) -> None:
    """Whether the key ring is the one that the log names last."""
    if fold.ring != ring.digest:
        if not _staged(home, fold.ring):
            report.damaged("keyring", "the key ring is not the one that the log names last")
        else:
            report.note("the key ring that the log names last is staged as keyring.next and not yet in force")
        return
    wrong = []
    if len(secrets.epochs) != fold.epoch + 1:
        wrong.append(f"it holds {len(secrets.epochs)} epochs, the log started {fold.epoch + 1}")
    if ring.root_generation != fold.root_generation or ring.table_generation != fold.table_generation:
        wrong.append("its generations are not the log's")
    if secrets.ca_generation is not None and secrets.ca_generation != fold.ca_generation:
        wrong.append("its CA key is of another generation than the log's")
    if not _ca_key_fits(secrets.ca_key, fold):
        wrong.append("its CA key is not the one of the log's certificate")
    if wrong:
        report.damaged("keyring", f"the key ring: {', '.join(wrong)}")


def _staged(home: str, digest: Optional[bytes]) -> bool:
    try:
        path = os.path.join(home, "keys", "keyring.next")
        return keys.parse_ring(read_bounded(path, keys.MAX_RING)).digest == digest
    except (FileNotFoundError, Malformed):
        return False


def _ca_key_fits(ca_key: bytes, fold: Fold) -> bool:
    public = public_of_key(ca_key)
    named = [fold.ca_keys.get(fold.ca_generation)]
    if fold.ca_generation in fold.ca_certificates:
        named.append(public_of_certificate(fold.ca_certificates[fold.ca_generation]) or b"")
    return public is not None and all(key is None or key == public for key in named)


def _check_slots(
    tables: List[keys.Table], kek: bytes, ring: keys.Ring, fold: Fold, is_open: bool, report: Report
) -> None:
    """Tells present, shredded and missing apart for every version that the log knows."""
    for (scope, name), versions in fold.vault.items():
        for number, version in versions.items():
            what = f"the key of {scope}/{name} version {number} (slot {version.slot})"
            # A crash leaves at most the shreds of the last group undone, in a log that was not closed.
            may_wait = is_open and version.shred_group == fold.last_group
            for table in tables:
                _check_slot(table, kek, ring, version, what, may_wait, report)


def _check_slot(
    table: keys.Table, kek: bytes, ring: keys.Ring, version: Version, what: str, may_wait: bool, report: Report
) -> None:
    raw = table.slot(version.slot)
    state, event = keys.slot_state(raw, ring.table_generation, version.slot)
    if state == "damaged":
        return
    if version.shredded is not None:
        if state == "shredded" and event == version.shredded:
            return
        if may_wait and version.shredded >= table.header.carried_out:
            report.note(f"{what} is shredded in the log and not yet in {table.name}")
            return
        report.damaged("key_slot", f"{what} should be shredded in {table.name} by event {version.shredded}")
        return
    if state != "filled":
        report.damaged("key_missing", f"{what} is {state} in {table.name}, and no event shredded it")
        return
    try:
        keys.open_slot(raw, kek, ring.ledger, ring.table_generation, version.slot)
    except CannotOpen:
        report.damaged("key_slot", f"{what} does not open in {table.name}")


def _open_secret(
    request: Request, tables: List[keys.Table], kek: bytes, ring: keys.Ring, fold: Fold, report: Report
) -> None:
    """Opens the newest version's envelope and says its length, never its bytes."""
    wanted = request.open
    if not fold.envelopes:
        report.finding(errors.NOT_FOUND, "open", f"the log knows no secret {wanted}")
        return
    (scope, name), found = next(iter(fold.envelopes.items()))
    number, version = found.version, fold.vault[(scope, name)][found.version]
    if version.shredded is not None or version.deleted:
        report.finding(errors.NOT_FOUND, "open", f"version {number} of {wanted} is deleted or shredded")
        return
    envelope = found.sealed if found.sealed is not None else _outside(request.home, ring, found, report)
    if envelope is None:
        return
    place = place_of(ring.ledger, scope, name, number)
    for table in tables:
        try:
            raw = table.slot(version.slot)
            slot_key = keys.open_slot(raw, kek, ring.ledger, ring.table_generation, version.slot)
            dek = k("data encryption key", [slot_key, place], 64)
            length = len(open_object(b"", envelope, place, (dek[:32], dek[32:])))
        except CannotOpen:
            continue
        report.facts["open"] = {"secret": wanted, "version": number, "opens": True, "bytes": length}
        return
    report.finding(errors.CANNOT_OPEN, "open", f"version {number} of {wanted} does not open")


def _outside(home: str, ring: keys.Ring, found: Envelope, report: Report) -> Optional[bytes]:
    """The envelope from its object file; other places outside the log are not this reader's to open."""
    try:
        envelope = objects.read(home, ring.ledger, found.slot)
    except FileNotFoundError:
        text = f"the envelope of version {found.version} is neither in the log nor in an object file"
        report.finding(errors.NOT_FOUND, "open", text)
        return None
    except Malformed as fault:
        report.damaged("object", str(fault))
        return None
    if h("envelope digest", envelope).hex() != found.digest:
        report.damaged("object", f"the object of slot {found.slot} is not the envelope that the log names")
        return None
    return envelope


def place_of(ledger: bytes, scope: str, name: str, version: int) -> bytes:
    """Where a version belongs: associated data of its envelope, and part of its key."""
    place = ledger
    for part in (scope.encode(), name.encode()):
        place += u32(len(part)) + part
    return place + u32(version)
