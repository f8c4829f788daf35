"""Signatures as cosign makes them, by fixed keys: ``python -m`` this module renews fixtures/cosign.

The forms are those of cosign's specification of signatures and of the Sigstore bundle 0.3.
"""

from __future__ import annotations

import json
from base64 import b64encode
from hashlib import sha256
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDSA,
    SECP256R1,
    EllipticCurve,
    EllipticCurvePrivateKey,
    derive_private_key,
)
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

FIXTURES = Path(__file__).parents[4] / "fixtures/cosign"
DIGEST = f"sha256:{sha256(b'an image index').hexdigest()}"
OTHER_DIGEST = f"sha256:{sha256(b'another image index').hexdigest()}"
KIND = "application/vnd.in-toto+json"
BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"


def fixed_key(text: str, curve: EllipticCurve | None = None) -> EllipticCurvePrivateKey:
    """The key that ``text`` makes: of no secret, and the same each time."""
    return derive_private_key(
        int.from_bytes(sha256(text.encode()).digest()) >> 1, curve or SECP256R1()
    )


KEY = fixed_key("kubesolo fixtures: cosign")
STRANGER = fixed_key("kubesolo fixtures: somebody else")


def pem(key: Any) -> bytes:
    """The public half."""
    spelt = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    assert isinstance(spelt, bytes)
    return spelt


def signed(data: bytes, key: Any = KEY) -> str:
    """A signature in base64."""
    return b64encode(key.sign(data, ECDSA(SHA256()))).decode()


def payload(digest: str = DIGEST, **critical: Any) -> bytes:
    """What the older form signs."""
    document = {
        "critical": {
            "identity": {"docker-reference": "registry.example.com/os/kubesolo"},
            "image": {"docker-manifest-digest": digest},
            "type": "cosign container image signature",
            **critical,
        },
        "optional": None,
    }
    return json.dumps(document, separators=(",", ":")).encode()


def statement(digest: str = DIGEST, **more: Any) -> bytes:
    """What the newer form signs."""
    document = {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"digest": {"sha256": digest.partition(":")[2]}}],
        "predicateType": "https://sigstore.dev/cosign/sign/v1",
        "predicate": {},
        **more,
    }
    return json.dumps(document, separators=(",", ":")).encode()


def encoding(kind: str, body: bytes) -> bytes:
    """What DSSE signs; spelt here once more on purpose."""
    head = f"DSSEv1 {len(kind.encode())} {kind} {len(body)} "
    return head.encode() + body


def bundle(
    body: bytes | None = None, key: Any = KEY, *, kind: str = KIND, **envelope: Any
) -> dict[str, Any]:
    """The newer form around ``body``."""
    body = statement() if body is None else body
    point = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return {
        "mediaType": BUNDLE,
        "verificationMaterial": {
            "publicKey": {"hint": b64encode(sha256(point).digest()).decode()},
            "tlogEntries": [],
            "timestampVerificationData": {"rfc3161Timestamps": []},
        },
        "dsseEnvelope": {
            "payload": b64encode(body).decode(),
            "payloadType": kind,
            "signatures": [{"sig": signed(encoding(kind, body), key), "keyid": ""}],
            **envelope,
        },
    }


def write() -> None:
    """Renew the fixtures; signatures differ each time, and hold as well."""
    FIXTURES.mkdir(exist_ok=True)
    made = payload()
    (FIXTURES / "cosign.pub").write_bytes(pem(KEY))
    (FIXTURES / "payload.json").write_bytes(made)
    (FIXTURES / "payload.sig").write_text(f"{signed(made)}\n")
    (FIXTURES / "bundle.json").write_text(json.dumps(bundle()))


if __name__ == "__main__":
    write()
