#!/usr/bin/env python3
"""Checks signed checkpoints, written from FORMAT.md and the C2SP pages alone: form, key id, signature.

    tools/note.py NAME+ID+KEY NOTE...

Needs the Python package cryptography. Exit code 0 where every note is signed by the key.
"""
import base64
import hashlib
import re
import sys

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

TEXT = re.compile(
    r"palyra-ledger/[0-9a-f]{32}\n[1-9][0-9]*\n[A-Za-z0-9+/]{43}=\nhead [0-9a-f]{64}\n"
    r"state (?:[0-9a-f]{64}|none)\ntime (?:0|[1-9][0-9]*)\nbranch (?:0|[1-9][0-9]*)\nkey ([A-Za-z0-9+/]{43}=)\n"
)


def read_key(text):
    name, key_id, blob = text.split("+", 2)
    blob = base64.b64decode(blob, validate=True)
    assert blob[0] == 1 and len(blob) == 33, "no Ed25519 key"
    assert hashlib.sha256(name.encode() + b"\n" + blob).digest()[:4].hex() == key_id, "the id is not the key's"
    return name, bytes.fromhex(key_id), blob[1:]


def check(note, name, key_id, key):
    text, lines = note.decode().rsplit("\n\n", 1)
    text += "\n"
    form = TEXT.fullmatch(text)
    assert form and text.startswith(name + "\n"), "no checkpoint of this ledger"
    assert base64.b64decode(form[1], validate=True) == key, "it names another key"
    signed = False
    for line in lines.removesuffix("\n").split("\n"):
        dash, signer, blob = line.split(" ")
        blob = base64.b64decode(blob, validate=True)
        assert dash == "\u2014" and len(blob) > 4, "no signature line"
        if signer == name and blob[:4] == key_id:
            Ed25519PublicKey.from_public_bytes(key).verify(blob[4:], text.encode())
            signed = True
    assert signed, "the key signed nothing"
    return text.split("\n")[1]


def main(arguments):
    name, key_id, key = read_key(arguments[0])
    for path in arguments[1:]:
        with open(path, "rb") as file:
            try:
                print(f"{path}: size {check(file.read(), name, key_id, key)}")
            except (AssertionError, InvalidSignature, ValueError) as error:
                sys.exit(f"{path}: {error or 'the signature is wrong'}")


if __name__ == "__main__":
    main(sys.argv[1:])
