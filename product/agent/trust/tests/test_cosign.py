"""Signatures of cosign: what counts, and that nothing else does."""

from __future__ import annotations

import json
import random
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDSA,
    SECP256K1,
    SECP384R1,
    EllipticCurvePublicKey,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256, SHA384
from hypothesis import given, settings
from hypothesis import strategies as st

from product.agent.errors import AgentError
from product.agent.net.connections import TransientError
from product.agent.sources.oci_manifest import Descriptor
from product.agent.trust.cosign import (
    BUNDLE,
    MAX_BUNDLE,
    MAX_PAYLOAD,
    MAX_SIGNATURES,
    SIGNATURE,
    SIMPLE_SIGNING,
    Flaw,
    check_bundle,
    check_payload,
    load_key,
    parse_key,
    require_signature,
)
from product.agent.trust.tests import support_cosign as made
from product.agent.trust.tests.support_cosign import DIGEST, KEY, OTHER_DIGEST, STRANGER

PUBLIC = KEY.public_key()
ED25519 = Ed25519PrivateKey.from_private_bytes(bytes(32))


class Document(NamedTuple):
    """A manifest's bytes."""

    data: bytes


def row(media_type: str, name: str, size: int, notes: dict[str, str] | None = None) -> Any:
    spelt = {"mediaType": media_type, "digest": name_of(name), "size": size}
    return spelt | ({"annotations": notes} if notes else {})


def name_of(name: str) -> str:
    return f"sha256:{sha256(name.encode()).hexdigest()}"


class FakeRegistry:
    """Signatures by their digests, as product.agent.sources.registry has them."""

    def __init__(self) -> None:
        self.tags: dict[str, list[Any]] = {}
        self.referring: dict[str, list[str]] = {}
        self.blobs: dict[str, bytes | AgentError] = {}

    def manifest(self, reference: str) -> Document:
        if reference not in self.tags:
            raise AgentError("nothing", code="no-tag")
        return Document(json.dumps({"layers": self.tags[reference]}).encode())

    def referrers(self, digest: str, artifact_type: str) -> list[Descriptor]:
        assert artifact_type == BUNDLE
        names = self.referring.get(digest, [])
        return [Descriptor("", name, 1, BUNDLE, {}, None) for name in names]

    def content(self, row: Descriptor, most: int) -> bytes:
        found = self.blobs[row.digest]
        if isinstance(found, AgentError):
            raise found
        assert len(found) <= most
        return found

    def add_payload(self, payload: bytes, signature: str | None, digest: str = DIGEST) -> None:
        name = f"blob{len(self.blobs)}"
        self.blobs[name_of(name)] = payload
        notes = {} if signature is None else {SIGNATURE: signature}
        tag = f"{digest.replace(':', '-')}.sig"
        layer = row(SIMPLE_SIGNING, name, len(payload), notes)
        self.tags.setdefault(tag, []).append(layer)

    def add_bundle(self, document: Any, digest: str = DIGEST) -> None:
        data = document if isinstance(document, bytes) else json.dumps(document).encode()
        name = f"blob{len(self.blobs)}"
        self.blobs[name_of(name)] = data
        self.referring.setdefault(digest, []).append(f"manifest{name}")
        self.tags[f"manifest{name}"] = [row(BUNDLE, name, len(data))]


def judge_payload(payload: bytes, signature: Any, key: EllipticCurvePublicKey = PUBLIC) -> str:
    try:
        check_payload(key, payload, signature, DIGEST)
    except Flaw as flaw:
        return flaw.code
    return "counts"


def judge_bundle(document: Any, key: EllipticCurvePublicKey = PUBLIC) -> str:
    data = document if isinstance(document, bytes) else json.dumps(document).encode()
    try:
        check_bundle(key, data, DIGEST)
    except Flaw as flaw:
        return flaw.code
    return "counts"


def test_the_fixtures_count() -> None:
    folder = made.FIXTURES
    key = load_key(str(folder / "cosign.pub"))
    payload, bundle = (folder / "payload.json").read_bytes(), (folder / "bundle.json").read_bytes()
    assert (folder / "cosign.pub").read_bytes() == made.pem(KEY)
    assert payload == made.payload()
    assert judge_payload(payload, (folder / "payload.sig").read_text().strip(), key) == "counts"
    assert judge_bundle(bundle, key) == "counts"
    # But for the signature, which differs each time, it is what the code makes.
    documents = json.loads(bundle), made.bundle()
    for document in documents:
        document["dsseEnvelope"]["signatures"][0].pop("sig")
    assert documents[0] == documents[1]


def twice(data: bytes, old: str, new: str) -> bytes:
    """``data`` with a member before the one that is there."""
    text = data.decode()
    assert old in text
    return text.replace(old, new, 1).encode()


TWICE = twice(
    made.payload(OTHER_DIGEST),
    '"docker-manifest-digest"',
    f'"docker-manifest-digest":"{DIGEST}","docker-manifest-digest"',
)
SIGNED = made.signed(made.payload())
SPACED = json.dumps(json.loads(made.payload())).encode()
PAYLOADS: list[tuple[str, bytes, Any, str]] = [
    ("as cosign makes it", made.payload(), SIGNED, "counts"),
    ("spelt otherwise", SPACED, SIGNED, "cosign-other-key"),
    ("spelt otherwise and signed so", SPACED, made.signed(SPACED), "counts"),
    ("with a newline", made.payload() + b"\n", SIGNED, "cosign-other-key"),
    ("of another digest", made.payload(OTHER_DIGEST), made.signed(made.payload(OTHER_DIGEST)),
     "cosign-other-digest"),
    ("of a digest in capitals", made.payload(DIGEST.upper()),
     made.signed(made.payload(DIGEST.upper())), "cosign-other-digest"),
    ("of no digest", made.payload(image={}), made.signed(made.payload(image={})),
     "cosign-malformed"),
    ("of a list of digests", made.payload([DIGEST]),  # type: ignore[arg-type]
     made.signed(made.payload([DIGEST])), "cosign-malformed"),  # type: ignore[arg-type]
    ("of another type", made.payload(type="atomic container signature"),
     made.signed(made.payload(type="atomic container signature")), "cosign-malformed"),
    ("of no type", made.payload(type=None), made.signed(made.payload(type=None)),
     "cosign-malformed"),
    ("with a digest twice", TWICE, made.signed(TWICE), "cosign-malformed"),
    ("by a stranger", made.payload(), made.signed(made.payload(), STRANGER), "cosign-other-key"),
    ("by another curve", made.payload(),
     made.signed(made.payload(), made.fixed_key("k1", SECP256K1())), "cosign-other-key"),
    ("by Ed25519", made.payload(), b64encode(ED25519.sign(made.payload())).decode(),
     "cosign-other-key"),
    ("by another hash", made.payload(),
     b64encode(KEY.sign(made.payload(), ECDSA(SHA384()))).decode(), "cosign-other-key"),
    ("without a signature", made.payload(), None, "cosign-malformed"),
    ("with an empty one", made.payload(), "", "cosign-malformed"),
    ("with one that is no base64", made.payload(), "!!!", "cosign-malformed"),
    ("with one in two lines", made.payload(), f"{SIGNED[:20]}\n{SIGNED[20:]}", "cosign-malformed"),
    ("with a blank behind", made.payload(), f"{SIGNED} ", "cosign-malformed"),
    ("with letters of elsewhere", made.payload(), "\u00fc" * 8, "cosign-malformed"),
    ("with a number", made.payload(), 7, "cosign-malformed"),
    ("with a long one", made.payload(), "A" * 1000, "cosign-malformed"),
    ("with zeros", made.payload(), b64encode(bytes(64)).decode(), "cosign-other-key"),
    ("with r and s of zero", made.payload(),
     b64encode(bytes.fromhex("3006020100020100")).decode(), "cosign-other-key"),
    ("with more behind it", made.payload(),
     b64encode(KEY.sign(made.payload(), ECDSA(SHA256())) + b"\0").decode(),
     "cosign-other-key"),
    ("that is huge", b" " * (MAX_PAYLOAD + 1), SIGNED, "cosign-malformed"),
    ("that is no JSON", b"{", made.signed(b"{"), "cosign-malformed"),
    ("that is no object", b"[]", made.signed(b"[]"), "cosign-malformed"),
    ("that is nested", b"[" * 60000, made.signed(b"[" * 60000), "cosign-malformed"),
    ("that is empty", b"", made.signed(b""), "cosign-malformed"),
    ("with a critical that is text", b'{"critical":"x"}', made.signed(b'{"critical":"x"}'),
     "cosign-malformed"),
    ("in UTF-16", made.payload().decode().encode("utf-16"),
     made.signed(made.payload().decode().encode("utf-16")), "cosign-malformed"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("payload", "signature", "code"), [pytest.param(*row[1:], id=row[0]) for row in PAYLOADS]
)
def test_payloads(payload: bytes, signature: Any, code: str) -> None:
    assert judge_payload(payload, signature) == code


def changed(change: Callable[[dict[str, Any]], object], body: bytes | None = None) -> bytes:
    document = made.bundle(body)
    change(document)
    return json.dumps(document).encode()


def of_statement(**more: Any) -> dict[str, Any]:
    return made.bundle(made.statement(**more))


HEX = DIGEST.partition(":")[2]
OTHER_HEX = OTHER_DIGEST.partition(":")[2]
STATEMENT_TWICE = twice(made.statement(OTHER_DIGEST), '"sha256"', f'"sha256":"{HEX}","sha256"')
VALID = json.dumps(made.bundle()).encode()
BUNDLES: list[tuple[str, Any, str]] = [
    ("as cosign makes it", VALID, "counts"),
    ("with a certificate beside it", changed(lambda d: d.update(verificationMaterial={"x": 1})),
     "counts"),
    ("of the older statement", of_statement(_type="https://in-toto.io/Statement/v0.1"), "counts"),
    ("of several subjects",
     of_statement(subject=[{"digest": {"sha256": OTHER_HEX}}, {"digest": {"sha256": HEX}}]),
     "counts"),
    ("of another digest", made.bundle(made.statement(OTHER_DIGEST)), "cosign-other-digest"),
    ("of a digest in capitals", made.bundle(made.statement(f"sha256:{HEX.upper()}")),
     "cosign-other-digest"),
    ("of SHA-512 alone", of_statement(subject=[{"digest": {"sha512": HEX}}]), "cosign-malformed"),
    ("of no subject", of_statement(subject=[]), "cosign-malformed"),
    ("of a subject that is text", of_statement(subject=["x"]), "cosign-malformed"),
    ("of too many subjects", of_statement(subject=[{"digest": {"sha256": HEX}}] * 65),
     "cosign-malformed"),
    ("of another predicate", of_statement(predicateType="https://slsa.dev/provenance/v1"),
     "cosign-malformed"),
    ("of no predicate", of_statement(predicateType=None), "cosign-malformed"),
    ("of another statement", of_statement(_type="https://in-toto.io/Statement/v2"),
     "cosign-malformed"),
    ("with a digest twice", made.bundle(STATEMENT_TWICE), "cosign-malformed"),
    ("with an envelope twice", VALID.replace(b'{"mediaType"', b'{"dsseEnvelope":{},"mediaType"'),
     "cosign-malformed"),
    ("by a stranger", made.bundle(key=STRANGER), "cosign-other-key"),
    ("by another curve", made.bundle(key=made.fixed_key("k1", SECP256K1())), "cosign-other-key"),
    ("over the body alone", changed(lambda d: d["dsseEnvelope"].update(
        signatures=[{"sig": made.signed(made.statement())}])), "cosign-other-key"),
    ("over another type", made.bundle(kind="application/json"), "cosign-malformed"),
    ("over another type, called by ours", changed(lambda d: d["dsseEnvelope"].update(
        signatures=[{"sig": made.signed(made.encoding("text/plain", made.statement()))}])),
     "cosign-other-key"),
    ("of another bundle's type", changed(lambda d: d.update(
        mediaType="application/vnd.dev.sigstore.bundle+json;version=0.1")), "cosign-malformed"),
    ("without an envelope", changed(lambda d: d.pop("dsseEnvelope")), "cosign-malformed"),
    ("of a message", changed(lambda d: d.update(messageSignature=d.pop("dsseEnvelope"))),
     "cosign-malformed"),
    ("without signatures", changed(lambda d: d["dsseEnvelope"].update(signatures=[])),
     "cosign-malformed"),
    ("with two", changed(lambda d: d["dsseEnvelope"]["signatures"].append({"sig": SIGNED})),
     "cosign-malformed"),
    ("with one that is text", changed(lambda d: d["dsseEnvelope"].update(signatures=["x"])),
     "cosign-malformed"),
    ("with one without its value", changed(lambda d: d["dsseEnvelope"].update(signatures=[{}])),
     "cosign-malformed"),
    ("with a payload that is no base64", changed(lambda d: d["dsseEnvelope"].update(payload="!")),
     "cosign-malformed"),
    ("with a payload for URLs", changed(lambda d: d["dsseEnvelope"].update(
        payload=urlsafe_b64encode(b"\xff\xfe\xfd").decode())), "cosign-malformed"),
    ("with a payload that is a list", changed(lambda d: d["dsseEnvelope"].update(payload=[])),
     "cosign-malformed"),
    ("that is huge", b" " * (MAX_BUNDLE + 1), "cosign-malformed"),
    ("that is no JSON", b"{", "cosign-malformed"),
    ("that is no object", b"[]", "cosign-malformed"),
    ("that is nested", b'{"a":' * 100_000, "cosign-malformed"),
    ("that is binary", b"\xff\x00", "cosign-malformed"),
    ("with a number of many digits", b'{"a":' + b"1" * 10_000 + b"}", "cosign-malformed"),
    ("around no JSON", made.bundle(b"{"), "cosign-malformed"),
    ("around a list", made.bundle(b"[]"), "cosign-malformed"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("document", "code"), [pytest.param(*row[1:], id=row[0]) for row in BUNDLES]
)
def test_bundles(document: Any, code: str) -> None:
    assert judge_bundle(document) == code


def test_no_bit_may_flip() -> None:
    choose = random.Random(1)
    payload, body = made.payload(), VALID
    for _ in range(300):
        place = choose.randrange(len(payload) * 8)
        flipped = bytearray(payload)
        flipped[place // 8] ^= 1 << place % 8
        assert judge_payload(bytes(flipped), SIGNED) == "cosign-other-key"
    begin = body.index(b'"payload": "') + 12
    end = body.index(b'"', begin)
    for _ in range(300):
        place = choose.randrange(begin * 8, end * 8)
        flipped = bytearray(body)
        flipped[place // 8] ^= 1 << place % 8
        assert judge_bundle(bytes(flipped)) != "counts"


@given(st.binary(max_size=200), st.text(max_size=120))
def test_nothing_else_comes_out_than_a_flaw(data: bytes, text: str) -> None:
    assert judge_bundle(data) == "cosign-malformed"
    assert judge_payload(data, text).startswith("cosign-")


@settings(max_examples=60)
@given(
    st.recursive(
        st.none() | st.integers() | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
        max_leaves=8,
    ),
    st.sampled_from(["subject", "predicateType", "_type"]),
)
def test_no_statement_that_is_signed_is_a_traceback(value: Any, member: str) -> None:
    code = judge_bundle(of_statement(**{member: value}))
    assert code.startswith("cosign-")


def test_one_signature_that_counts_is_enough() -> None:
    registry = FakeRegistry()
    registry.add_bundle(made.bundle(key=STRANGER))
    registry.add_bundle(b"garbage")
    registry.add_payload(made.payload(), made.signed(made.payload(), STRANGER))
    registry.add_payload(made.payload(), None)
    registry.blobs[name_of("gone")] = AgentError("it is gone")
    tag = f"{DIGEST.replace(':', '-')}.sig"
    registry.tags[tag].append(row(SIMPLE_SIGNING, "gone", 3))
    registry.tags[tag].append(row("text/plain", "nowhere", 3))
    registry.tags[tag].append(row(SIMPLE_SIGNING, "huge", 1 << 40))
    with pytest.raises(AgentError) as caught:
        require_signature(registry, DIGEST, PUBLIC)
    assert caught.value.code == "cosign-other-key"
    assert "6 found" in caught.value.message
    registry.add_payload(made.payload(), SIGNED)
    require_signature(registry, DIGEST, PUBLIC)
    alone = FakeRegistry()
    alone.add_bundle(made.bundle())
    require_signature(alone, DIGEST, PUBLIC)


@pytest.mark.parametrize(
    ("fill", "code"),
    [
        (lambda r: None, "cosign-unsigned"),
        (lambda r: r.add_payload(made.payload(), SIGNED, OTHER_DIGEST), "cosign-unsigned"),
        (lambda r: r.add_payload(
            made.payload(OTHER_DIGEST), made.signed(made.payload(OTHER_DIGEST))),
         "cosign-other-digest"),
        (lambda r: r.add_bundle(made.bundle(made.statement(OTHER_DIGEST))), "cosign-other-digest"),
        (lambda r: r.add_bundle(b"garbage"), "cosign-malformed"),
        (lambda r: [r.add_payload(b"x", SIGNED) for _ in range(MAX_SIGNATURES)]
         and r.add_payload(made.payload(), SIGNED), "cosign-other-key"),
        (lambda r: [r.add_bundle(b"x") for _ in range(MAX_SIGNATURES)]
         and r.add_bundle(made.bundle()), "cosign-malformed"),
    ],
    ids=["nothing", "for another image", "moved payload", "moved bundle", "garbage",
         "too many payloads", "too many bundles"],
)  # fmt: skip
def test_what_is_wrong_has_a_code(fill: Callable[[FakeRegistry], object], code: str) -> None:
    registry = FakeRegistry()
    fill(registry)
    with pytest.raises(AgentError) as caught:
        require_signature(registry, DIGEST, PUBLIC)
    assert caught.value.code == code
    assert caught.value.hint
    assert DIGEST in caught.value.message


def test_a_registry_that_does_not_answer_is_no_missing_signature() -> None:
    registry = FakeRegistry()
    registry.add_payload(made.payload(), SIGNED)
    registry.blobs[name_of("blob0")] = TransientError("silence")
    with pytest.raises(TransientError):
        require_signature(registry, DIGEST, PUBLIC)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "does not hold one PUBLIC KEY"),
        (made.pem(KEY) * 2, "does not hold one PUBLIC KEY"),
        (made.pem(KEY)[:60] + made.pem(KEY)[70:], "damaged"),
        (made.pem(ED25519), "not of the curve P-256"),
        (made.pem(made.fixed_key("384", SECP384R1())), "not of the curve P-256"),
        (made.pem(made.fixed_key("k1", SECP256K1())), "not of the curve P-256"),
        (b"-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\nabc\n", "PRIVATE"),
        (b"x" * 20_000, "larger than"),
    ],
)
def test_keys_that_are_none(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "cosign.pub"
    path.write_bytes(content)
    with pytest.raises(AgentError) as caught:
        load_key(str(path))
    assert (caught.value.code, said in caught.value.message) == ("no-cosign-key", True)


def test_a_key_that_is_not_there(tmp_path: Path) -> None:
    for path in (None, str(tmp_path / "none")):
        with pytest.raises(AgentError) as caught:
            load_key(path)
        assert caught.value.code == "no-cosign-key"
    assert parse_key(made.pem(KEY)) == PUBLIC
