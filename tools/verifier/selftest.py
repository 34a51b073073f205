"""What must hold on any machine: published vectors, the tree against its definition, checkpoints told apart."""

from __future__ import annotations

import base64
import hashlib
import os
import tempfile
from typing import List, Optional

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from . import checkpoint, crypto, errors
from .journal import Frame
from .report import Report

LEDGER = bytes(range(16))
SEED = crypto.k("checkpoint signing key", [b"\x07" * 32])
SIGNER = checkpoint.signing_key(b"\x07" * 32)


def run() -> None:
    """Raises AssertionError where something does not hold."""
    crypto.self_test()
    leaves = [hashlib.sha256(bytes([n])).digest() for n in range(40)]
    tree = checkpoint.Tree()
    for count, leaf in enumerate(leaves, 1):
        tree.add(leaf)
        _hold(tree.root() == _root(leaves[:count]), f"the root over {count} leaves")
        _hold(len(tree.frontier) == bin(count).count("1"), f"the frontier over {count} leaves")
    _checkpoints(leaves)


def _hold(holds: bool, what: str) -> None:
    if not holds:
        raise AssertionError(what)


def _root(leaves: List[bytes]) -> bytes:
    """MTH of RFC 6962, section 2.1, word for word."""
    if len(leaves) == 1:
        return hashlib.sha256(b"\0" + leaves[0]).digest()
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return hashlib.sha256(b"\1" + _root(leaves[:split]) + _root(leaves[split:])).digest()


def _note(size: int, root: bytes, head: bytes, branch: int = 0, seed: bytes = SEED) -> bytes:
    private = Ed25519PrivateKey.from_private_bytes(seed)
    public = private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    name = f"palyra-ledger/{LEDGER.hex()}"
    text = (
        f"{name}\n{size}\n{base64.b64encode(root).decode()}\nhead {head.hex()}\nstate none\ntime 1\n"
        f"branch {branch}\nkey {base64.b64encode(public).decode()}\n"
    )
    signature = checkpoint.key_id(name, public) + private.sign(text.encode())
    return f"{text}\n\u2014 {name} {base64.b64encode(signature).decode()}\n".encode()


def _judge(leaves: List[bytes], branch_at: Optional[int], *notes: bytes) -> int:
    """The exit code of a log of these frames, with these notes kept outside."""
    return _judge_file(leaves, branch_at, b"".join(note + b"\n" for note in notes), SIGNER)


def _judge_file(leaves: List[bytes], branch_at: Optional[int], content: bytes, key: Optional[bytes]) -> int:
    report = Report()
    anchors = checkpoint.Anchors(report, key)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "anchor")
        with open(path, "wb") as file:
            file.write(content)
        anchors.read(path, "anchor", outside=True)
    for seq, leaf in enumerate(leaves):
        kind = checkpoint.BRANCH_KIND if seq == branch_at else 32
        anchors.see(
            Frame(LEDGER, seq, b"", 0, seq, kind, 1, 0, 0, 1, b"", b"", b"", b"", leaf, 0, 0)
        )
    anchors.finish(LEDGER, len(leaves))
    return report.exit_code()


def _checkpoints(leaves: List[bytes]) -> None:
    good = _note(20, _root(leaves[:20]), leaves[19])
    all_of_it = _note(40, _root(leaves), leaves[39])
    _hold(_judge(leaves[:20], None, good) == errors.OK, "a checkpoint of this log holds")
    _hold(_judge(leaves, None, good) == errors.UNANCHORED, "what is behind it is unanchored")
    _hold(_judge(leaves, None) == errors.DAMAGED, "a file without a checkpoint is none")
    _hold(_judge_file(leaves, None, all_of_it, SIGNER) == errors.OK, "one note needs no empty line behind it")
    _hold(_judge_file(leaves, None, all_of_it + b"\ntorn", SIGNER) == errors.DAMAGED, "a torn anchor is told")
    for cut in range(1, len(all_of_it) - 1, 7):
        _hold(_judge_file(leaves, None, all_of_it[:cut], SIGNER) == errors.DAMAGED, f"an anchor cut at {cut}")
    theirs = _note(40, _root(leaves), leaves[39], seed=bytes(32))
    _hold(_judge(leaves, None, all_of_it, theirs) == errors.DAMAGED, "another key than the ledger's is told")
    two = all_of_it + b"\n" + theirs + b"\n"
    _hold(_judge_file(leaves, None, two, None) == errors.DAMAGED, "checkpoints by two keys are told")
    _hold(_judge(leaves[:10], None, good) == errors.TRUNCATED, "a log that was cut off is told")
    other = _note(20, _root(leaves[1:21]), leaves[19])
    _hold(_judge(leaves, None, good, other) == errors.DAMAGED, "another root is a fork")
    _hold(_judge(leaves[1:], None, good) == errors.DAMAGED, "another head is a fork")
    later = _note(20, _root(leaves[1:21]), leaves[20], branch=1)
    _hold(_judge(leaves, None, later) == errors.TRUNCATED, "a history that is not here is told")
    given_up = _note(20, _root(leaves[1:21]), leaves[20])
    _hold(_judge(leaves, 15, other) == errors.DAMAGED, "a head of this log with another root is no other history")
    _hold(_judge(leaves, 15, given_up) == errors.DAMAGED, "a header alone gives up no history")
    _hold(_judge(leaves[:16], 15, given_up) == errors.TRUNCATED, "a header alone gives up no end that was cut off")
    newer = _note(18, _root(leaves[:18]), leaves[17], branch=1)
    _hold(_judge(leaves, 15, given_up, newer) == errors.UNANCHORED, "what a later branch superseded anchors nothing")
    stranger = _note(18, _root(leaves[1:19]), leaves[18], branch=1)
    _hold(_judge(leaves, 15, given_up, stranger) == errors.DAMAGED, "a branch that is not here gives up nothing")
    for at in range(len(good)):
        broken = good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :]
        try:
            checkpoint.parse(broken)
        except errors.Malformed:
            continue
        raise AssertionError(f"a note whose byte {at} was flipped is taken")
