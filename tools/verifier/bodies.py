"""Event bodies of every kind in FORMAT.md's catalogue, read field by field.

Every field has one encoding and the reader refuses others, so what decodes would encode to the same
bytes. Strings that are identifiers are only read as strings here: what they may hold is the ledger's
business, not the format's.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Tuple

from .codec import Reader
from .errors import Malformed

Field = Tuple[str, Callable[[Reader], Any]]
# Schema version in which a kind is written; every one below it is read, too.
SCHEMA = {15: 2, 32: 2, 78: 2, 102: 2, 108: 2}


class UnknownKind(Exception):
    """A kind or schema version of the future: it verifies, and stops what is folded."""


def _fixed(size: int) -> Callable[[Reader], str]:
    return lambda read: read.take(size).hex()


def _option(inner: Callable[[Reader], Any]) -> Callable[[Reader], Any]:
    return lambda read: read.option(lambda: inner(read))


def _list(inner: Callable[[Reader], Any]) -> Callable[[Reader], Any]:
    return lambda read: read.list(lambda: inner(read))


def _record(*fields: Field) -> Callable[[Reader], Dict[str, Any]]:
    return lambda read: {name: kind(read) for name, kind in fields}


def _variant(*names: str) -> Callable[[Reader], str]:
    return lambda read: read.variant(list(names))


u8, u16, u32, u64 = Reader.u8, Reader.u16, Reader.u32, Reader.u64
flag, text, blob, labels, time = Reader.flag, Reader.text, Reader.blob, Reader.labels, Reader.u64
digest, ledger, slot_id = _fixed(32), _fixed(16), _fixed(4)
device, pairing, request = _fixed(16), _fixed(8), _fixed(8)


def serial(read: Reader) -> str:
    """`01`, counter (8, big-endian), random (8)."""
    raw = read.take(17)
    if raw[0] != 1:
        raise Malformed("a serial does not begin with 01")
    return raw.hex()


def subject(read: Reader) -> Any:
    """Whom a certificate is for: a device, or the daemon under its names."""
    if read.variant(["device", "server"]) == "device":
        return {"device": device(read)}
    return {"server": read.list(read.text)}


def versions(read: Reader) -> Any:
    """All versions of a secret, or one."""
    number = read.u32()
    if number > 1:
        raise Malformed(f"variant {number} of Versions is not known")
    return "all" if number == 0 else read.u32()


def credential(read: Reader) -> Dict[str, Any]:
    """A source of credentials: an API key's secret, or an OAuth client's."""
    if read.variant(["api_key", "oauth"]) == "api_key":
        return {"api_key": path(read)}
    return {"oauth": oauth(read)}


def concern(read: Reader) -> Dict[str, Any]:
    """What a compromise is about: a secret, a device or a profile."""
    kind = read.variant(["secret", "device", "profile"])
    return {kind: {"secret": path, "device": device, "profile": text}[kind](read)}


def remedy(read: Reader) -> Dict[str, Any]:
    """What a compromise asks for."""
    kind = read.variant(["revoke_device", "revoke_certificate", "disable_profile", "replace_secret"])
    if kind == "replace_secret":
        return {kind: {"path": path(read), "version": read.u32()}}
    return {kind: {"revoke_device": device, "revoke_certificate": serial, "disable_profile": text}[kind](read)}


path = _record(("scope", text), ("name", text))
oauth = _record(
    ("access", path), ("refresh", _option(path)), ("client_secret", _option(path)),
    ("token_endpoint", text), ("revocation_endpoint", _option(text)), ("client_id", text),
    ("scopes", _list(text)),
)
profile = _record(
    ("id", text), ("provider", text), ("name", text), ("scope", text), ("enabled", flag),
    ("credential", credential),
)
slot_note = _record(("slot", slot_id), ("kind", text), ("label", text))
read_note = _record(
    ("scope", text), ("name", text), ("version", u32), ("count", u32), ("first", time), ("last", time)
)
refusal_causes = _variant(
    "untrusted", "expired", "device_revoked", "certificate_revoked", "unknown_device", "not_granted",
    "handshake", "malformed", "too_many", "unknown_code", "code_expired", "code_spent", "wrong_code",
    "out_of_order", "bad_request", "version", "other_kind", "not_issued",
)
refusal_note = _record(
    ("cause", refusal_causes), ("peer", text), ("device", _option(device)), ("count", u64), ("last", time)
)
seen_note = _record(("device", device), ("peer", text), ("last", time))
client_kind = _variant("cli", "desktop", "node", "unknown")
code_method = _variant("pin", "qr")
end_cause = _variant("burned", "expired", "cancelled")
issue_cause = _variant("paired", "renewed", "renewed_in_grace", "server", "imported")
credential_type = _variant("api_key", "oauth")
failure_kind = _variant(
    "auth_invalid", "refresh_due", "refresh_failed", "quota", "rate_limit", "transient", "config_missing"
)
refresh_cause = _variant("due", "forced", "in_doubt")
login_flow = _variant("code", "device")
epoch_cause = _variant("requested", "age", "root_rotated", "restored")
resolve_reason = _variant(
    "scope_denied", "no_secret", "no_version", "deleted", "shredded", "vault_damaged", "env_not_allowed",
    "env_unset", "file_outside", "file_missing", "file_link", "file_kind", "file_owner", "file_mode",
    "file_failed", "exec_not_allowed", "exec_kind", "exec_owner", "exec_mode", "exec_failed", "exec_status",
    "exec_timeout", "too_large", "not_json", "no_field", "field_kind",
    "vault_locked", "vault_away",
)
resolution_note = _record(
    ("reference", _fixed(16)), ("source", _variant("vault", "env", "file", "exec")), ("shown", text),
    ("status", _variant("resolved", "missing", "blocked", "failed")), ("reason", _option(resolve_reason)),
    ("count", u32), ("first", time), ("last", time),
)
conflict_cause = _variant("lost", "forked", "other_branch", "damaged", "forged", "other_key", "other_ledger")
usage_note = _record(
    ("profile", text), ("successes", u32), ("failures", u32), ("last_used", _option(time)),
    ("last_success", _option(time)), ("last_failure", _option(time)), ("failure", _option(failure_kind)),
    ("failure_count", u32), ("cooldown_until", _option(time)), ("probe_until", _option(time)),
)
backend_kind = _variant("ledger", "encrypted_file", "linux_secret_service", "macos_keychain", "windows_dpapi")
def put_cause(read: Reader) -> Any:
    """How a value came to be written."""
    kind = read.variant(["given", "logged_in", "refreshed"])
    if kind == "logged_in":
        return {kind: text(read)}
    if kind == "refreshed":
        return {kind: {"profile": text(read), "generation": read.u64()}}
    return kind


moved_envelope = _record(("slot", u64), ("envelope", lambda read: list(read.blob())))
shredded = _record(("version", u32), ("slot", u64))
of_secret: List[Field] = [("scope", text), ("name", text)]
secret_put: List[Field] = of_secret + [
    ("version", u32), ("slot", u64), ("value_bytes", u32), ("expires_at", _option(time)),
    ("description", _option(text)), ("labels", labels), ("envelope_digest", digest), ("backend", u16),
]
origin_times = _record(("created", time), ("updated", time))
imported_secret = _record(
    ("put", _record(*secret_put, ("envelope", lambda read: list(read.blob())))), ("origin", _option(origin_times)),
    ("deleted", flag),
)
imported_certificate = _record(
    ("serial", serial), ("fingerprint", digest), ("certificate", _option(blob)), ("not_before", time),
    ("not_after", time), ("revoked", flag),
)
imported_device = _record(
    ("device", device), ("kind", _option(client_kind)), ("name", text), ("public_key", _option(blob)),
    ("issued", _option(time)), ("revoked", _option(_record(("time", time), ("reason", text)))),
    ("certificates", _list(imported_certificate)),
)
imported_profile = _record(
    ("profile", profile), ("expires_at", _option(time)), ("usage", _option(usage_note)), ("origin", origin_times)
)
imported_order_1 = _record(("scope", text), ("provider", text), ("profiles", _list(text)))
imported_order = _record(("scope", text), ("provider", text), ("profiles", _list(text)), ("updated_at", _option(time)))


def _without_time(read: Reader) -> Dict[str, Any]:
    """An order of schema version 1, as it is read now."""
    return {**imported_order_1(read), "updated_at": None}


source_form = _variant("palyra", "env", "pass", "json")

KINDS: Dict[int, Tuple[str, List[Field]]] = {
    1: ("ledger_created", [("ledger_id", ledger), ("program", text), ("ca_public_key", blob), ("slots", _list(slot_note)), ("keyring", digest)]),
    2: ("epoch_started", [("epoch", u32), ("cause", epoch_cause), ("keyring", digest)]),
    3: ("key_slot_added", [("slot", slot_note), ("keyring", digest)]),
    4: ("key_slot_removed", [("slot", slot_note), ("keyring", digest)]),
    5: ("key_slot_pinned", [("slot", slot_id), ("previous", slot_id), ("keyring", digest)]),
    6: ("root_rotated", [("root_generation", u32), ("table_generation", u32), ("rewrapped", u64), ("dropped", _list(slot_id)), ("keyring", digest)]),
    7: ("tail_dropped", [("segment", u64), ("offset", u64), ("bytes", u64), ("digest", digest), ("saved_as", text)]),
    8: ("witness_set_aside", [("fault", u32), ("saved_as", text)]),
    9: ("witness_rebuilt", [("through", u64)]),
    10: ("clock_stepped", [("observed", time), ("recorded", time)]),
    11: ("command_refused", [("command", text), ("target", _option(text)), ("code", text), ("what", text)]),
    12: ("journal_restored", [("first", u64), ("last", u64), ("saved_as", text)]),
    13: ("head_restored", [("seq", u64), ("hash", digest)]),
    14: ("key_table_repaired", [("slots", _list(u64))]),
    15: ("spool_dropped", [("bytes", u64), ("digest", _option(digest)), ("saved_as", _option(text))]),
    16: ("checkpoint_signed", [("size", u64), ("head", digest), ("tree_root", digest), ("state_root", _option(digest)), ("state_entries", u64), ("branch", u32), ("frontier", _list(digest)), ("previous", _option(u64)), ("note", text)]),
    17: ("anchor_placed", [("anchor", text), ("size", u64)]),
    18: ("anchor_conflict", [("anchor", text), ("cause", conflict_cause), ("size", u64), ("head", _option(digest)), ("note", text)]),
    19: ("branch_started", [("from", u64), ("head", digest), ("branch", u32), ("lost_through", _option(u64)), ("anchor", text), ("note", text)]),
    20: ("compromise_declared", [("concern", concern), ("since", time), ("until", time), ("correlation", _fixed(16)), ("plan", digest), ("part", u32), ("parts", u32), ("items", _list(remedy))]),
    21: ("compromise_closed", [("concern", concern), ("plan", digest)]),
    22: ("store_imported", [("form", source_form), ("digest", digest), ("origin", text), ("program", text), ("secrets", u64), ("devices", u64), ("certificates", u64), ("profiles", u64), ("orders", u64), ("same", u64), ("refused", u64)]),
    23: ("backup_created", [("backup", _fixed(16)), ("from", u64), ("to", u64), ("head", digest), ("digest", digest), ("bytes", u64), ("recipients", u32), ("key_file", flag)]),
    24: ("ledger_restored", [("backup", _fixed(16)), ("program", text), ("created", time), ("files", u32), ("to", u64), ("head", digest), ("digest", digest), ("opened_by", _option(slot_id))]),
    32: ("secret_put", of_secret + [("version", u32), ("slot", u64), ("value_bytes", u32), ("expires_at", _option(time)), ("description", _option(text)), ("labels", labels), ("envelope_digest", digest), ("backend", u16), ("cause", _option(put_cause)), ("envelope", blob)]),
    33: ("secret_deleted", of_secret + [("versions", versions)]),
    34: ("secret_undeleted", of_secret + [("versions", versions)]),
    35: ("secret_shredded", of_secret + [("versions", _list(shredded))]),
    36: ("secret_described", of_secret + [("expires_at", _option(time)), ("description", _option(text)), ("labels", labels)]),
    37: ("secrets_read", [("reads", _list(read_note))]),
    38: ("references_resolved", [("notes", _list(resolution_note))]),
    39: ("backend_migration_started", [("from", backend_kind), ("to", backend_kind)]),
    40: ("envelopes_moved", [("envelopes", _list(moved_envelope))]),
    41: ("backend_switched", [("from", backend_kind), ("to", backend_kind), ("envelopes", u64)]),
    42: ("backend_migration_finished", [("from", backend_kind), ("removed", u64)]),
    43: ("backend_migration_aborted", [("to", backend_kind), ("removed", u64)]),
    44: ("secrets_imported", [("secrets", _list(imported_secret))]),
    45: ("vault_exported", [("secrets", u64), ("versions", u64), ("recipients", _list(text))]),
    64: ("ca_certified", [("generation", u32), ("certificate", blob), ("not_after", time)]),
    65: ("ca_prepared", [("generation", u32), ("certificate", blob), ("not_after", time), ("keyring", digest)]),
    66: ("ca_activated", [("generation", u32), ("table_generation", u32), ("rewrapped", u64), ("keyring", digest)]),
    67: ("ca_tainted", [("generation", u32)]),
    68: ("ca_revoked", [("generation", u32), ("keyring", digest)]),
    69: ("pairing_minted", [("pairing", pairing), ("locator", text), ("method", code_method), ("kind", _option(client_kind)), ("name", _option(text)), ("expires_at", time), ("verifier", blob)]),
    70: ("pairing_attempted", [("pairing", pairing), ("attempt", u8), ("peer", text)]),
    71: ("pairing_requested", [("pairing", pairing), ("request", request), ("device", device), ("kind", client_kind), ("name", text), ("public_key", blob), ("sas", text), ("peer", text), ("expires_at", time)]),
    72: ("pairing_approved", [("request", request), ("device", device), ("sas_compared", flag), ("serial", serial)]),
    73: ("pairing_denied", [("request", request), ("device", device), ("reason", _option(text))]),
    74: ("pairing_ended", [("pairing", pairing), ("cause", end_cause)]),
    75: ("device_paired", [("device", device), ("kind", client_kind), ("name", text), ("public_key", blob), ("replaces", flag)]),
    76: ("certificate_issued", [("serial", serial), ("subject", subject), ("generation", u32), ("not_before", time), ("not_after", time), ("cause", issue_cause), ("certificate", blob)]),
    77: ("device_renamed", [("device", device), ("name", text)]),
    78: ("device_revoked", [("device", device), ("certificates", _option(_list(serial)))]),
    79: ("certificate_revoked", [("serial", serial)]),
    80: ("device_cleared", [("device", device)]),
    81: ("device_removed", [("device", device)]),
    82: ("crl_issued", [("number", u64), ("generation", u32), ("entries", u64), ("this_update", time), ("next_update", time), ("digest", digest)]),
    83: ("connections_refused", [("refusals", _list(refusal_note))]),
    84: ("devices_seen", [("devices", _list(seen_note))]),
    85: ("pairing_refused", [("pairing", _option(pairing)), ("cause", refusal_causes), ("peer", text), ("suppressed", u64)]),
    86: ("daemon_started", [("program", text), ("listeners", _list(text))]),
    87: ("daemon_stopped", [("cut", u32)]),
    88: ("request_expired", [("request", request), ("device", device)]),
    89: ("device_granted", [("device", device), ("scope", text), ("granted", flag)]),
    90: ("devices_imported", [("generation", u32), ("devices", _list(imported_device)), ("revoked", _list(digest))]),
    91: ("ca_imported", [("generation", u32), ("certificate", blob), ("not_after", time), ("keyring", digest)]),
    96: ("profile_set", [("profile", profile), ("expires_at", _option(time))]),
    97: ("profile_enabled", [("profile", text), ("enabled", flag)]),
    98: ("profile_deleted", [("profile", text)]),
    99: ("profile_cleared", [("profile", text)]),
    100: ("order_set", [("scope", text), ("provider", text), ("profiles", _list(text))]),
    101: ("refresh_started", [("profile", text), ("generation", u64), ("lease_until", time), ("cause", refresh_cause)]),
    102: ("refresh_succeeded", [("profile", text), ("generation", u64), ("expires_at", _option(time)), ("rotated", flag), ("took_ms", _option(u64)), ("scopes_lost", _option(_list(text)))]),
    103: ("refresh_failed", [("profile", text), ("generation", u64), ("failure", failure_kind), ("terminal", flag), ("unanswered", flag), ("what", text), ("retry_at", _option(time))]),
    104: ("profile_logged_in", [("profile", profile), ("flow", login_flow), ("expires_at", _option(time))]),
    105: ("profile_logged_out", [("profile", text), ("revoked", flag)]),
    106: ("usage_reported", [("notes", _list(usage_note))]),
    107: ("failed_over", [("preferred", text), ("from", credential_type), ("chosen", text), ("to", credential_type), ("why", text)]),
    108: ("credentials_imported", [("profiles", _list(imported_profile)), ("orders", _list(imported_order))]),
}

# What schema version 1 lacks of a kind that has a second one: it is absent in the event as it is read now.
ADDED: Dict[int, List[str]] = {
    15: ["digest", "saved_as"],
    32: ["cause"],
    78: ["certificates"],
    102: ["took_ms", "scopes_lost"],
}

# Fields that schema version 1 encodes otherwise.
CHANGED: Dict[int, Dict[str, Callable[[Reader], Any]]] = {108: {"orders": _list(_without_time)}}


def origin(read: Reader) -> Dict[str, Any]:
    """Where a command came from."""
    via = read.variant(["system", "cli", "library", "socket", "device"])
    if via == "cli":
        return {"via": via, "uid": read.u32()}
    if via == "socket":
        return {"via": via, "uid": read.u32(), "pid": read.u32()}
    if via == "device":
        return {"via": via, "device": read.text()}
    return {"via": via}


caller = _record(
    ("actor", text), ("origin", origin), ("reason", _option(text)), ("correlation", _option(_fixed(16)))
)


def decode(kind: int, schema: int, body: bytes) -> Tuple[Dict[str, Any], Dict[str, Any]]:
    """The caller and the event's fields. Nothing may follow them."""
    if kind not in KINDS or not 1 <= schema <= SCHEMA.get(kind, 1):
        raise UnknownKind(f"kind {kind}, schema {schema}")
    read = Reader(body)
    who = caller(read)
    absent = ADDED.get(kind, []) if schema == 1 else []
    changed = CHANGED.get(kind, {}) if schema == 1 else {}
    event = {name: None if name in absent else changed.get(name, field)(read) for name, field in KINDS[kind][1]}
    read.done()
    return who, event
