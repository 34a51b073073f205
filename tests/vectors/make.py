#!/usr/bin/env python3
"""Writes the forged homes of tests/vectors/forged, from FORMAT.md alone. Absent ones only: none is ever edited.

What a forger without the ledger's keys can write: frames whose bodies nobody can open, and whose hashes, batches
and segments are right but for the one thing that the home's name says. The notes are by keys with the seeds of
32 bytes `07` and `08`. The table VERDICTS says how tools/verify.py must judge each, run.py asks it.
"""

import base64
import os
import struct
import sys

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "..", "tools"))

from verifier import checkpoint  # noqa: E402
from verifier.crypto import h  # noqa: E402

LEDGER, OTHER = b"\x11" * 16, b"\x22" * 16
BEGAN = 1767225600000
KIND = 37


def frame(seq, before, group=None, kind=KIND, place=0, count=1, ledger=LEDGER, epoch=0, version=1):
    group = seq if group is None else group
    header = struct.pack(
        "<4sHH16sQ32sQQHHIHHI24s32s8s", b"PLFR", version, 0, ledger, seq, before, BEGAN + min(seq, 1 << 20) * 1000,
        group, kind, 1, epoch, place, count, 40, h("frame hash", b"nonce")[:24], bytes([seq % 251]) * 32, bytes(8),
    )
    written = header + b"x" * 56
    return written + h("frame hash", written)


def chain(count, start=0, before=None, **fields):
    """Frames that follow one another; `kind` may be a list, one for each."""
    before = before or h("genesis", fields.get("ledger", LEDGER))
    kinds = fields.pop("kind", [KIND] * count)
    frames = []
    for at in range(count):
        frames.append(frame(start + at, before, kind=kinds[at], **fields))
        before = frames[-1][-32:]
    return frames


def segment(first, before, version=1):
    header = struct.pack("<4sHH16sQ32s", b"PLSG", version, 0, LEDGER, first, before).ljust(96, b"\0")
    return header + h("segment header", header)


def trailer(content, last, hash_, first=0, ledger=LEDGER, length=None, version=1):
    length = len(content) - 128 if length is None else length
    digest = h("segment digest", content)
    raw = struct.pack("<4sHH16sQQQ32s32s", b"PLST", version, 0, ledger, first, last, length, hash_, digest)
    return raw + h("segment header", raw)[:16]


def head(seq, hash_):
    raw = struct.pack("<4sHH16sQQ32sQQ8s", b"PLHD", 1, 1, LEDGER, 5, seq, hash_, BEGAN, 0, bytes(8))
    record = raw.ljust(96, b"\0") + b"\x33" * 32
    return record.ljust(4096, b"\0") + record


def signer(seed):
    private = Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)
    return private, private.public_key().public_bytes_raw()


def note(frames, size, branch=0, seed=7, ledger=LEDGER):
    private, public = signer(seed)
    tree = checkpoint.Tree()
    for one in frames[:size]:
        tree.add(one[-32:])
    name = f"palyra-ledger/{ledger.hex()}"
    text = (
        f"{name}\n{size}\n{base64.b64encode(tree.root()).decode()}\nhead {frames[size - 1][-32:].hex()}\n"
        f"state none\ntime {BEGAN}\nbranch {branch}\nkey {base64.b64encode(public).decode()}\n"
    )
    signature = base64.b64encode(checkpoint.key_id(name, public) + private.sign(text.encode())).decode()
    return f"{text}\n\u2014 {name} {signature}\n".encode()


def vkey(seed=7):
    name, public = f"palyra-ledger/{LEDGER.hex()}", signer(seed)[1]
    encoded = base64.b64encode(b"\x01" + public).decode()
    return f"{name}+{checkpoint.key_id(name, public).hex()}+{encoded}\n".encode()


TEN = chain(10)
LAST = TEN[9][-32:]
OPEN = segment(0, h("genesis", LEDGER)) + b"".join(TEN)
CLOSED = OPEN + trailer(OPEN, 9, LAST)
ENDS = head(9, LAST)


def behind(*frames):
    """The ten events and more behind them, in one segment."""
    return {0: OPEN + b"".join(frames)}


def batch(*places):
    """Frames from number 10 on, with these places and counts, in one group."""
    frames, before = [], LAST
    for at, (place, count) in enumerate(places):
        frames.append(frame(10 + at, before, group=10, place=place, count=count))
        before = frames[-1][-32:]
    return behind(*frames)


def closed_by(**said):
    """A closed first segment whose trailer says something else, and a second one."""
    fields = {"last": 9, "hash_": LAST, **said}
    second = segment(10, LAST) + b"".join(chain(3, 10, LAST))
    return {0: OPEN + trailer(OPEN, **fields), 10: second}


def back():
    one = frame(10, LAST)
    two = frame(11, one[-32:])
    return behind(one, two, frame(12, two[-32:], group=10))


def later_frame():
    one = frame(10, LAST, version=2)
    return behind(one, *chain(2, 11, one[-32:]))


# name: segments by first number, head file, format file
HOMES = {
    "plain": ({0: OPEN}, ENDS),
    "no-head": ({0: OPEN}, None),
    "damaged-head": ({0: OPEN}, b"\xff" * 8192),
    "closed": ({0: CLOSED, 10: segment(10, LAST) + b"".join(chain(2, 10, LAST))}, ENDS),
    "zeros-behind-trailer": ({0: CLOSED + bytes(4096)}, ENDS),
    "bytes-behind-trailer": ({0: CLOSED + b"hidden"}, ENDS),
    "torn": ({0: OPEN + TEN[3][:100]}, ENDS),
    "cut": ({0: segment(0, h("genesis", LEDGER)) + b"".join(TEN[:6])}, None),
    "other-history": ({0: segment(0, h("genesis", LEDGER)) + b"".join(chain(10, epoch=0, kind=[33] * 10))}, None),
    "overlap": ({0: CLOSED, 5: segment(5, LAST) + b"".join(chain(4, 5, LAST))}, ENDS),
    "gap": ({0: CLOSED, 12: segment(12, LAST) + b"".join(chain(4, 12, LAST))}, ENDS),
    "batch-skips": (batch((0, 3), (2, 3)), ENDS),
    "batch-counts": (batch((0, 3), (1, 4), (2, 4), (3, 4)), ENDS),
    "batch-begins-late": (batch((1, 3), (2, 3)), ENDS),
    "group-back": (back(), ENDS),
    "group-ahead": (behind(frame(10, LAST, group=99)), ENDS),
    "epoch-ahead": (behind(*chain(2, 10, LAST, epoch=3)), ENDS),
    "epoch-started": (behind(frame(10, LAST, kind=2), frame(11, frame(10, LAST, kind=2)[-32:], epoch=1)), ENDS),
    "epoch-back": (behind(frame(10, LAST, kind=2), frame(11, frame(10, LAST, kind=2)[-32:])), ENDS),
    "trailer-ledger": (closed_by(ledger=OTHER), ENDS),
    "trailer-first": (closed_by(first=77), ENDS),
    "trailer-last": (closed_by(last=8), ENDS),
    "trailer-length": (closed_by(length=12345), ENDS),
    "trailer-version": (closed_by(version=2), ENDS),
    "last-number": ({0: CLOSED, 2**64 - 1: segment(2**64 - 1, LAST) + frame(2**64 - 1, LAST)}, ENDS),
    "frame-version": (later_frame(), ENDS),
    "frame-version-at-end": (behind(frame(10, LAST, version=2)), ENDS),
    "segment-version": ({0: CLOSED, 10: segment(10, LAST, 2) + b"".join(chain(2, 10, LAST))}, ENDS),
    "format-version": ({0: OPEN}, ENDS, b"palyra-ledger 9\n"),
    "own-kinds": (behind(*chain(3, 10, LAST, kind=[16, 17, 18])), ENDS),
    "foreign-frames": (behind(*chain(2, 10, LAST, ledger=OTHER)), ENDS),
    "unknown-kind": (behind(*chain(1, 10, LAST, kind=[500])), ENDS),
}

NOTES = {
    "key": vkey(), "five": note(TEN, 5), "ten": note(TEN, 10), "twelve": note(TEN + chain(2, 10, LAST), 12),
    "by-another-key": note(TEN, 10, seed=8), "of-another-ledger": note(TEN, 10, ledger=OTHER),
    "of-a-branch": note(chain(10, kind=[34] * 10), 10, branch=1), "empty": b"", "cut": note(TEN, 10)[:-40],
    "five-and-ten": note(TEN, 5) + b"\n" + note(TEN, 10) + b"\n", "ten-and-cut": note(TEN, 10) + b"\n" + note(TEN, 5)[:90],
    "by-two-keys": note(TEN, 5) + b"\n" + note(TEN, 10, seed=8) + b"\n",
}


def write(path, data):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(data)


def main():
    forged = os.path.join(HERE, "forged")
    for name, data in NOTES.items():
        path = os.path.join(forged, "notes", name)
        if not os.path.exists(path):
            write(path, data)
    for name, (segments, ends, *form) in HOMES.items():
        home = os.path.join(forged, name)
        if os.path.exists(home):
            continue
        write(os.path.join(home, "format"), form[0] if form else b"palyra-ledger 1\n")
        write(os.path.join(home, "backend.kind"), b"ledger\n")
        for first, data in segments.items():
            write(os.path.join(home, "journal", f"{first:020}.seg"), data)
        if ends:
            write(os.path.join(home, "head"), ends)


if __name__ == "__main__":
    main()
