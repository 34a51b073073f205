"""The CA's key and certificates, and what they issued, compared with what the log says of them.

The CA key is PKCS #8 as RFC 5958 has it: version 2 with the public key behind the private one, which not
every library reads. What stands before that attachment is what every library reads.
"""

from __future__ import annotations

from typing import List, Optional, Tuple

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_private_key
from cryptography.x509 import load_der_x509_certificate

from .errors import Malformed

FORM = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
SEQUENCE, INTEGER = 0x30, 0x02


def _element(data: bytes, at: int) -> Tuple[int, int, int]:
    """Tag, start and end of the contents of the DER element at `at`."""
    if at + 2 > len(data):
        raise Malformed("an element of DER is cut off")
    tag, length, start = data[at], data[at + 1], at + 2
    if length >= 0x80:
        count = length & 0x7F
        if not 1 <= count <= 2 or start + count > len(data):
            raise Malformed("a length in DER is too long")
        length, start = int.from_bytes(data[start : start + count], "big"), start + count
    if start + length > len(data):
        raise Malformed("an element of DER is cut off")
    return tag, start, start + length


def _sequence(contents: bytes) -> bytes:
    length = len(contents)
    head = bytes([length]) if length < 0x80 else b"\x82" + length.to_bytes(2, "big")
    return bytes([SEQUENCE]) + head + contents


def without_public_key(key: bytes) -> bytes:
    """The first three elements, as version 1: version, algorithm, private key."""
    tag, start, end = _element(key, 0)
    version_tag, version, at = _element(key, start)
    if tag != SEQUENCE or end != len(key) or version_tag != INTEGER:
        raise Malformed("the CA key is no PKCS #8")
    if key[version:at] != b"\x01":
        return key
    algorithm_end = _element(key, at)[2]
    private_end = _element(key, algorithm_end)[2]
    return _sequence(b"\x02\x01\x00" + key[at:private_end])


def public_of_key(key: bytes) -> Optional[bytes]:
    """SubjectPublicKeyInfo of a private key; None where it cannot be read."""
    try:
        return load_der_private_key(without_public_key(key), None).public_key().public_bytes(*FORM)
    except (Malformed, ValueError, TypeError, UnsupportedAlgorithm):
        return None


def public_of_certificate(certificate: bytes) -> Optional[bytes]:
    """SubjectPublicKeyInfo of a certificate; None where it cannot be read."""
    try:
        return load_der_x509_certificate(certificate).public_key().public_bytes(*FORM)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return None


def problems(
    certificate: bytes, issuer: Optional[bytes], not_after: int,
    not_before: Optional[int] = None, serial: Optional[str] = None,
) -> List[str]:
    """Where a certificate is not what its event says; times are in milliseconds, a certificate's in seconds."""
    wrong = []
    try:
        leaf = load_der_x509_certificate(certificate)
        if abs(leaf.not_valid_after_utc.timestamp() * 1000 - not_after) >= 1000:
            wrong.append("ends at another time")
        if not_before is not None and abs(leaf.not_valid_before_utc.timestamp() * 1000 - not_before) >= 1000:
            wrong.append("begins at another time")
        if serial is not None and leaf.serial_number != int(serial, 16):
            wrong.append("has another serial")
        if issuer is None:
            wrong.append("is of a generation that the log does not know")
        else:
            leaf.verify_directly_issued_by(load_der_x509_certificate(issuer))
    except InvalidSignature:
        wrong.append("is not signed by its generation")
    except (ValueError, TypeError, UnsupportedAlgorithm) as fault:
        wrong.append(f"cannot be read or followed ({fault})")
    return wrong
