"""The cryptography of FORMAT.md, put together from two packages' primitives.

BLAKE3 comes from `blake3`; ChaCha20, ChaCha20-Poly1305, Argon2id and ed25519 from `cryptography`.
The one thing neither has is the nonce extension of XChaCha20 (HChaCha20, draft-irtf-cfrg-xchacha).
It is read off one block of ChaCha20: that block is the permuted state plus the state before it, so
taking the known words of the state away leaves the permuted ones.
"""

from __future__ import annotations

import hmac
import struct
from typing import Iterable, Optional, Tuple

from blake3 import blake3
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20

from .errors import CannotOpen

CONTEXT = "palyra-ledger 2026-11 v1 "
NONCE, COMMITMENT, TAG = 24, 32, 16
SEALED_OVERHEAD = NONCE + COMMITMENT + TAG
SIGMA = b"expand 32-byte k"


def hasher(context: str) -> "blake3":
    """A running `H` under one of the contexts of the table."""
    return blake3(derive_key_context=CONTEXT + context)


def h(context: str, *parts: bytes) -> bytes:
    """`H(context, parts)`: the parts run together."""
    running = hasher(context)
    for part in parts:
        running.update(part)
    return running.digest()


def k(context: str, parts: Iterable[bytes], length: int = 32) -> bytes:
    """`K(context, parts)`: each part behind its length in 8 bytes."""
    running = hasher(context)
    for part in parts:
        running.update(struct.pack("<Q", len(part)))
        running.update(part)
    return running.digest(length=length)


def mac(key: bytes, *parts: bytes) -> bytes:
    """`MAC(key, parts)`: BLAKE3 in keyed mode."""
    running = blake3(key=key)
    for part in parts:
        running.update(part)
    return running.digest()


def same(left: bytes, right: bytes) -> bool:
    """Compares in constant time."""
    return hmac.compare_digest(left, right)


def hchacha20(key: bytes, nonce: bytes) -> bytes:
    """HChaCha20 of a 32-byte key and the first 16 bytes of a long nonce."""
    block = Cipher(ChaCha20(key, nonce), mode=None).encryptor().update(bytes(64))
    words = struct.unpack("<16I", block)
    before = struct.unpack("<4I", SIGMA) + (0,) * 8 + struct.unpack("<4I", nonce)
    kept = [0, 1, 2, 3, 12, 13, 14, 15]
    return struct.pack("<8I", *((words[i] - before[i]) & 0xFFFFFFFF for i in kept))


def xchacha_open(key: bytes, nonce: bytes, ciphertext_and_tag: bytes, aad: bytes) -> bytes:
    """XChaCha20-Poly1305. Raises CannotOpen where the tag does not fit."""
    subkey = hchacha20(key, nonce[:16])
    try:
        return ChaCha20Poly1305(subkey).decrypt(bytes(4) + nonce[16:], ciphertext_and_tag, aad)
    except InvalidTag:
        raise CannotOpen("the tag does not fit") from None


def pair(kind: str, secret: bytes) -> Tuple[bytes, bytes]:
    """The sealing and the commitment key of a 32-byte secret; `kind` is `epoch` or `wrap`."""
    return k(kind + " seal key", [secret]), k(kind + " commitment key", [secret])


def open_committed(
    keys: Tuple[bytes, bytes], nonce: bytes, commitment: bytes, sealed: bytes, aad: bytes
) -> bytes:
    """Compares the commitment first, then opens `sealed`, which ends with its tag."""
    tag = sealed[-TAG:]
    if not same(mac(keys[1], nonce, aad, tag), commitment):
        raise CannotOpen("the key commitment does not fit")
    return xchacha_open(keys[0], nonce, sealed, aad)


def open_object(
    secret: bytes, sealed: bytes, aad: bytes, keys: Optional[Tuple[bytes, bytes]] = None
) -> bytes:
    """Opens a sealed object: nonce, commitment, ciphertext, tag."""
    if len(sealed) < SEALED_OVERHEAD:
        raise CannotOpen("shorter than a sealed object can be")
    nonce, commitment = sealed[:NONCE], sealed[NONCE : NONCE + COMMITMENT]
    return open_committed(
        keys or pair("wrap", secret), nonce, commitment, sealed[NONCE + COMMITMENT :], aad
    )


# A ring that was altered may ask for anything; no passphrase slot needs more than this.
MAX_ARGON = (2 << 20, 64, 64)


def argon2id(passphrase: bytes, salt: bytes, memory_kib: int, passes: int, lanes: int) -> bytes:
    """A passphrase's slot key (RFC 9106, version 0x13)."""
    if memory_kib > MAX_ARGON[0] or passes > MAX_ARGON[1] or lanes > MAX_ARGON[2]:
        raise CannotOpen(f"Argon2id with {memory_kib} KiB, {passes} passes and {lanes} lanes is too much")
    try:
        from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
    except ImportError:
        raise CannotOpen("this `cryptography` has no Argon2id (44 or newer has)") from None
    try:
        kdf = Argon2id(
            salt=salt, length=32, iterations=passes, lanes=lanes, memory_cost=memory_kib
        )
        return kdf.derive(passphrase)
    except (ValueError, MemoryError, OverflowError) as fault:
        raise CannotOpen(f"Argon2id refuses its parameters: {fault}") from None


def self_test() -> None:
    """The test vectors of draft-irtf-cfrg-xchacha-03, sections 2.2.1 and A.3.1."""
    key = bytes(range(32))
    nonce = bytes.fromhex("000000090000004a0000000031415927")
    expected = "82413b4227b27bfed30e42508a877d73a0f9e4d58a74a853c12ec41326d3ecdc"
    if hchacha20(key, nonce).hex() != expected:
        raise AssertionError("HChaCha20 does not give the draft's vector")
    plaintext = (
        b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for "
        b"the future, sunscreen would be it."
    )
    sealed = bytes.fromhex(
        "bd6d179d3e83d43b9576579493c0e939572a1700252bfaccbed2902c21396cbb"
        "731c7f1b0b4aa6440bf3a82f4eda7e39ae64c6708c54c216cb96b72e1213b452"
        "2f8c9ba40db5d945b11b69b982c1bb9e3f3fac2bc369488f76b2383565d3fff9"
        "21f9664c97637da9768812f615c68b13b52ec0875924c1c7987947deafd8780acf49"
    )
    aad = bytes.fromhex("50515253c0c1c2c3c4c5c6c7")
    opened = xchacha_open(bytes(range(0x80, 0xA0)), bytes(range(0x40, 0x58)), sealed, aad)
    if opened != plaintext:
        raise AssertionError("XChaCha20-Poly1305 does not open the draft's vector")
