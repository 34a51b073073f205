#!/usr/bin/env python3
"""Verifies a Palyra Ledger's home, by FORMAT.md alone.

A second implementation, in another language, that shares no line with the first: where the two
disagree, one of them or the document is wrong. It opens nothing for writing and takes no lock.

Without keys it checks segments, frames, the chain, batches, groups, epochs, closed segments' digests, the
head file and the structure of key ring and key table. With keys it opens and decodes every event as well,
and the read spool, and checks versions, key slots, shreds, envelope digests, the key ring that the log
names, the certificates that the log holds, and the state roots that its checkpoints name, as far as the
vault, its backends, checkpoints and compromises make up the state: an event of devices or service
credentials ends that. Checkpoints are verified, compared with the log's Merkle tree, and those that
--checkpoints brings from outside are said to anchor it up to where they reach.

It does not check: the sled copy, the index, envelopes outside of the log (--open reads the object file of
one), or what pairing, devices and service credentials add up to. A chain without a signature stops
accidents, not a writer with the keys.

Exit codes are the ledger's: 0 whole, and every event anchored by a checkpoint from outside, 2 usage,
4 needs a key, 10 not found, 11 does not open, 15 damaged or of an unknown version, 16 cut off or rolled
back, 17 whole but not anchored to its end, 18 cannot be read.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import sys
from typing import Any, Dict, List, Optional

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

try:
    from verifier import bodies, checkpoint, errors, home, journal, selftest
except ImportError as missing:
    print(f"{missing}: pip install -r tools/verify-requirements.txt", file=sys.stderr)
    sys.exit(2)

# A passphrase is a line, not a file.
MAX_PASSPHRASE = 4096
HIDDEN = ("envelope", "verifier")


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="verify.py", description=__doc__.split("\n\n")[0])
    parser.add_argument("home", nargs="?", help="the ledger's home")
    key = parser.add_mutually_exclusive_group()
    key.add_argument("--keyless", action="store_true", help="only what needs no key")
    key.add_argument("--key-file", metavar="FILE", help="a key file in another place than the home")
    key.add_argument(
        "--passphrase-stdin", action="store_true", help="the passphrase is the first line of the input"
    )
    key.add_argument("--root-key", metavar="FILE", help="32 bytes, or 64 hexadecimal digits")
    parser.add_argument("--open", metavar="SCOPE/NAME", help="open this secret and say its length")
    parser.add_argument(
        "--checkpoints", metavar="FILE", action="append", default=[], help="signed checkpoints kept outside the home"
    )
    parser.add_argument("--events", action="store_true", help="print every event first, a line of JSON each; the report follows")
    parser.add_argument("--checkpoint-key", metavar="TEXT", help="the public key that signs them: NAME+ID+BASE64")
    parser.add_argument("--json", action="store_true", help="the report as one JSON object, on the last line")
    parser.add_argument("--self-test", action="store_true", help="try test vectors and examples")
    return parser


def request(options: argparse.Namespace) -> home.Request:
    """What was asked, its keys read."""
    asked = home.Request(options.home, options.keyless, options.key_file, open=options.open)
    asked.checkpoints = options.checkpoints
    asked.events = print_event if options.events else None
    if options.checkpoint_key:
        try:
            asked.checkpoint_key = checkpoint.key_of_text(options.checkpoint_key)
        except errors.Malformed as fault:
            raise errors.Stop(errors.USAGE, str(fault)) from None
    if options.passphrase_stdin:
        line = sys.stdin.buffer.readline(MAX_PASSPHRASE + 1)
        asked.passphrase = line.rstrip(b"\r\n")
    if options.root_key:
        with open(options.root_key, "rb") as file:
            asked.root_key = root_key(file.read(66))
    return asked


def print_event(frame: journal.Frame, event: Dict[str, Any]) -> None:
    """One event; sealed values and what proves pairing codes stay out."""
    shown = {name: "(not shown)" if name in HIDDEN else plain(value) for name, value in event.items()}
    kind = bodies.KINDS[frame.kind][0]
    print(json.dumps({"seq": frame.seq, "kind": kind, "event": shown}, sort_keys=True))


def plain(value: Any) -> Any:
    """A field as JSON has it; bytes as base64."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, dict):
        return {name: plain(inner) for name, inner in value.items()}
    return [plain(inner) for inner in value] if isinstance(value, list) else value


def root_key(raw: bytes) -> bytes:
    """The root key from a file of bytes or of digits."""
    if len(raw) == 32:
        return raw
    try:
        key = bytes.fromhex(raw.decode("ascii"))
    except ValueError:
        key = b""
    if len(key) != 32:
        raise errors.Stop(errors.USAGE, "a root key is 32 bytes or 64 hexadecimal digits")
    return key


def run(options: argparse.Namespace) -> int:
    """Verifies, prints, and gives the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    report = home.verify(request(options))
    print(report.as_json() if options.json else report.as_text())
    return report.exit_code()


def main(argv: Optional[List[str]] = None) -> int:
    """Never ends in a traceback: what cannot be read is a sentence and an exit code."""
    parser = arguments()
    options = parser.parse_args(argv)
    if options.self_test:
        selftest.run()
        print("the test vectors hold")
        return errors.OK
    if options.home is None:
        parser.error("which ledger? name its home")
    try:
        return run(options)
    except errors.Stop as stop:
        print(f"verify.py: {stop.text}", file=sys.stderr)
        return stop.code
    except OSError as fault:
        print(f"verify.py: {fault}", file=sys.stderr)
        return errors.IO


if __name__ == "__main__":
    sys.exit(main())
