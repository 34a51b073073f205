"""Object files of the backend `encrypted_file`: one line of JSON, in its one encoding."""

from __future__ import annotations

import base64
import os
import re

from .crypto import h
from .errors import Malformed
from .files import read_bounded

# The largest envelope in base64, and the other fields.
MAX_OBJECT = 2 << 20
LINE = re.compile(
    rb'\{"version":1,"ledger":"([0-9a-f]{32})","slot":(0|[1-9][0-9]{0,19}),"digest":"([0-9a-f]{64})",'
    rb'"envelope":"([A-Za-z0-9+/]*={0,2})"\}\n'
)


def read(home: str, ledger: bytes, slot: int) -> bytes:
    """The envelope in the object of a slot. Raises Malformed where the object is not what it should be."""
    name = f"{slot:016x}.json"
    line = read_bounded(os.path.join(home, "objects", f"{slot % 256:02x}", name), MAX_OBJECT)
    match = LINE.fullmatch(line)
    if match is None:
        raise Malformed(f"{name} is no object")
    try:
        envelope = base64.b64decode(match.group(4), validate=True)
    except ValueError:
        raise Malformed(f"{name} holds base64 that is none") from None
    if base64.b64encode(envelope) != match.group(4):
        raise Malformed(f"{name} holds base64 that is not canonical")
    if match.group(1).decode() != ledger.hex() or int(match.group(2)) != slot:
        raise Malformed(f"{name} is of another ledger or slot")
    if match.group(3).decode() != h("envelope digest", envelope).hex():
        raise Malformed(f"{name} holds another envelope than its digest says")
    return envelope
