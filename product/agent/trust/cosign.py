"""Signatures that cosign made with one key: checked offline, nobody else is asked or trusted.

Two forms are read. The older one is a manifest under the tag ``sha256-HEX.sig``: each layer is
a payload ("simple signing") with its signature in an annotation. The newer one is a referrer of
what was signed, a Sigstore bundle with a DSSE envelope around an in-toto statement. Of both, only
the signature by the configured P-256 key counts: certificates and transparency logs in them are
passed over, and so are signatures by others. A payload is read only once its signature holds.

Codes of the errors: ``no-cosign-key``, ``cosign-unsigned``, ``cosign-other-key``,
``cosign-other-digest``, ``cosign-malformed``.

cryptography is imported inside functions: it costs a node half a CPU second.
"""

from __future__ import annotations

import binascii
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

from product.agent.errors import AgentError, ConfigError
from product.agent.net.connections import TransientError
from product.agent.sources.oci_manifest import Descriptor, parse_oci_manifest
from product.agent.sources.protocol import DEFAULT_POLICY, FetchPolicy, wait_before
from product.agent.system.files import read_bounded

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

    from product.agent.config import Config
    from product.agent.sources.oci import OciSource
    from product.agent.sources.protocol import Source

SIMPLE_SIGNING = "application/vnd.dev.cosign.simplesigning.v1+json"
SIGNATURE = "dev.cosignproject.cosign/signature"
BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
IN_TOTO = "application/vnd.in-toto+json"
PREDICATE = "https://sigstore.dev/cosign/sign/v1"
_STATEMENTS = ("https://in-toto.io/Statement/v1", "https://in-toto.io/Statement/v0.1")
_TYPE = "cosign container image signature"
# Bytes of a key, a payload and a bundle, each many times what cosign makes.
_MAX_KEY = 16 * 1024
MAX_PAYLOAD = 64 * 1024
MAX_BUNDLE = 1024 * 1024
# Letters of a signature: one of P-256 is at most 72 bytes in DER.
_MAX_SIGNATURE = 256
# Whoever may push can put this many before the one that counts, and then it is not found.
MAX_SIGNATURES = 32
_MAX_SUBJECTS = 64
# An operator waits for the answer: tries, and seconds between two.
_TRIES = 3
_LONGEST_WAIT = 20.0


class _Manifest(Protocol):
    @property
    def data(self) -> bytes: ...


class Signatures(Protocol):
    """What a registry has beside what is to be judged (product.agent.sources.registry).

    All raise AgentError, TransientError where another try may help.
    """

    def manifest(self, reference: str) -> _Manifest:
        """By tag or digest; ``no-tag`` where there is none."""

    def referrers(self, digest: str, artifact_type: str) -> list[Descriptor]:
        """The manifests of that type that refer to ``digest``."""

    def content(self, row: Descriptor, most: int) -> bytes:
        """The blob of ``row``, or an error where it has more than ``most`` bytes."""


class Flaw(Exception):
    """Why one signature does not count; ``code`` is that of the error if no other one does."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code


def demanded_key(config: Config) -> EllipticCurvePublicKey | None:
    """The key that must have signed a release; None where nobody asked for that.

    Raises AgentError ``no-cosign-key``, ConfigError where releases come from no registry.
    """
    if config.require_cosign != "yes":
        return None
    if not config.registry:
        raise ConfigError(
            f"require_cosign is yes, and {config.source} is no registry: only there are such "
            "signatures",
            hint="set registry= in place of server=, or take require_cosign out of update.conf",
        )
    return load_key(config.cosign_key)


def require_signed_release(
    source: Source, digest: str, key: EllipticCurvePublicKey, policy: FetchPolicy = DEFAULT_POLICY
) -> None:
    """Return where ``key`` signed what the registry has of the release whose manifest.json has the
    SHA-256 ``digest``: its own image, or the index that names that image.

    An image counts by what it lists, not by what it calls itself. Raises AgentError.
    """
    from product.agent.sources.oci import OciSource

    assert isinstance(source, OciSource), "the configuration names a registry"
    tries = 0
    while True:
        tries += 1
        try:
            return _require_signed(source, f"sha256:{digest}", key)
        except TransientError as error:
            wait = wait_before(policy, tries, error.retry_after)
            if tries >= min(policy.tries, _TRIES) or wait > _LONGEST_WAIT:
                raise
            source.pause(wait)


def _require_signed(source: OciSource, digest: str, key: EllipticCurvePublicKey) -> None:
    refusals: list[AgentError] = []
    for image in source.holding(digest):
        try:
            return require_signature(source.registry, image, key)
        except AgentError as error:
            if not error.code.startswith("cosign-"):
                raise
            refusals.append(error)
    if not refusals:
        raise AgentError(
            f"{source.address} has no image of the release {digest}, so none is signed",
            code="cosign-unsigned",
            hint="the publisher must push with kubesolo-release push, and sign what that names",
        )
    # One that says more than that there is nothing.
    raise next((each for each in refusals if each.code != "cosign-unsigned"), refusals[0])


def load_key(path: str | None) -> EllipticCurvePublicKey:
    """The key in the PEM file ``path``. Raises AgentError ``no-cosign-key``."""
    if not path:
        raise AgentError(
            "no key is known that must have signed with cosign",
            code="no-cosign-key",
            hint="set cosign_key= in update.conf to the publisher's cosign.pub",
        )
    try:
        data = read_bounded(path, _MAX_KEY)
    except OSError as error:
        reason = f"cannot be read: {error.strerror}"
    except ValueError:
        reason = f"is larger than {_MAX_KEY} bytes"
    else:
        try:
            return parse_key(data)
        except ValueError as error:
            reason = str(error)
    raise AgentError(
        f"cosign_key {path} {reason}",
        code="no-cosign-key",
        hint="it must hold the publisher's cosign.pub, as cosign generate-key-pair makes it",
    )


def parse_key(data: bytes) -> EllipticCurvePublicKey:
    """The P-256 public key of one PEM block. Raises ValueError."""
    if b"PRIVATE KEY" in data:
        raise ValueError("holds a PRIVATE key: the node must have the public one alone")
    if data.count(b"-----BEGIN PUBLIC KEY-----") != 1:
        raise ValueError("does not hold one PUBLIC KEY in PEM")
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(data)
    except Exception:
        # Its parser raises many types, panics of Rust among them.
        raise ValueError("holds a damaged key") from None
    if not isinstance(key, EllipticCurvePublicKey) or not isinstance(key.curve, SECP256R1):
        raise ValueError("holds a key that is not of the curve P-256")
    return key


def require_signature(registry: Signatures, digest: str, key: EllipticCurvePublicKey) -> None:
    """Return where ``key`` signed the manifest ``digest`` (``sha256:HEX``).

    Raises AgentError by the name of what comes nearest to a signature, and TransientError.
    """
    flaws: list[Flaw] = []
    for check in _found(registry, digest, key):
        if check is None:
            return
        flaws.append(check)
    raise _nearest(digest, flaws)


def _found(registry: Signatures, digest: str, key: EllipticCurvePublicKey) -> Iterator[Flaw | None]:
    """A flaw, or None, for each signature of both forms."""
    for kind, manifests in (
        (BUNDLE, [one.digest for one in registry.referrers(digest, BUNDLE)][:MAX_SIGNATURES]),
        (SIMPLE_SIGNING, [f"{digest.replace(':', '-')}.sig"]),
    ):
        left = MAX_SIGNATURES
        for manifest in manifests:
            try:
                layers = [one for one in _layers(registry, manifest) if one.media_type == kind]
            except AgentError as error:
                yield _as_flaw(error)
                continue
            for layer in layers[:left]:
                yield _judge(registry, layer, digest, key)
            left = max(left - len(layers), 0)


def _layers(registry: Signatures, reference: str) -> list[Descriptor]:
    """Of the image manifest with that tag or digest; none where there is none."""
    try:
        data = registry.manifest(reference).data
    except AgentError as error:
        if error.code == "no-tag":
            return []
        raise
    found = parse_oci_manifest(data, reference)
    return [] if found.is_index else found.rows


def _judge(
    registry: Signatures, layer: Descriptor, digest: str, key: EllipticCurvePublicKey
) -> Flaw | None:
    most = MAX_BUNDLE if layer.media_type == BUNDLE else MAX_PAYLOAD
    try:
        if layer.size > most:
            raise Flaw("cosign-malformed", f"a signature has {layer.size} bytes")
        data = registry.content(layer, most)
        if layer.media_type == BUNDLE:
            check_bundle(key, data, digest)
        else:
            check_payload(key, data, layer.annotations.get(SIGNATURE), digest)
    except Flaw as flaw:
        return flaw
    except AgentError as error:
        return _as_flaw(error)
    return None


def _as_flaw(error: AgentError) -> Flaw:
    """What a stranger pushed and the registry cannot serve keeps no other signature from counting;
    a registry that does not answer does. Raises TransientError."""
    if isinstance(error, TransientError):
        raise error
    return Flaw("cosign-malformed", error.message)


def _nearest(digest: str, flaws: list[Flaw]) -> AgentError:
    hints = {
        "cosign-other-digest": "what was signed is another release: sign this one, by its digest",
        "cosign-other-key": "cosign_key= in update.conf must be of the key that signed",
        "cosign-malformed": "sign it again: cosign sign --key",
    }
    for code, hint in hints.items():
        for flaw in flaws:
            if flaw.code == code:
                return AgentError(
                    f"no signature of {digest} counts ({len(flaws)} found): {flaw}",
                    code=code,
                    hint=hint,
                )
    return AgentError(
        f"{digest} is not signed with cosign",
        code="cosign-unsigned",
        hint="the publisher must run cosign sign --key on this digest; the registry must serve "
        "signatures, too",
    )


def check_payload(
    key: EllipticCurvePublicKey, payload: bytes, signature: str | None, digest: str
) -> None:
    """Return where ``signature`` (base64) of the simple-signing ``payload`` is by ``key`` and for
    ``digest``. Raises Flaw."""
    if len(payload) > MAX_PAYLOAD:
        raise Flaw("cosign-malformed", f"the payload is larger than {MAX_PAYLOAD} bytes")
    _verify(key, signature, payload)
    critical = _member(_parse(payload, "the payload"), "critical", "the payload")
    if critical.get("type") != _TYPE:
        raise Flaw("cosign-malformed", f"the payload is no {_TYPE}")
    image = _member(critical, "image", "the payload")
    _compare(image.get("docker-manifest-digest"), digest)


def check_bundle(key: EllipticCurvePublicKey, bundle: bytes, digest: str) -> None:
    """Return where ``bundle`` holds a statement by ``key`` that ``digest`` was signed.

    Raises Flaw."""
    if len(bundle) > MAX_BUNDLE:
        raise Flaw("cosign-malformed", f"the bundle is larger than {MAX_BUNDLE} bytes")
    document = _parse(bundle, "the bundle")
    if document.get("mediaType") != BUNDLE:
        raise Flaw("cosign-malformed", f"the bundle is not of the type {BUNDLE}")
    envelope = _member(document, "dsseEnvelope", "the bundle")
    if envelope.get("payloadType") != IN_TOTO:
        raise Flaw("cosign-malformed", "the bundle's payload is no in-toto statement")
    body = _decoded(envelope.get("payload"), MAX_BUNDLE, "the bundle's payload")
    signatures = envelope.get("signatures")
    # The format says that there is one.
    if not isinstance(signatures, list) or len(signatures) != 1:
        raise Flaw("cosign-malformed", "the bundle does not have one signature")
    [signature] = signatures
    if not isinstance(signature, dict):
        raise Flaw("cosign-malformed", "the bundle's signature is no object")
    _verify(key, signature.get("sig"), pre_authentication(IN_TOTO, body))
    statement = _parse(body, "the statement")
    if statement.get("_type") not in _STATEMENTS:
        raise Flaw("cosign-malformed", "the statement is of no known version")
    if statement.get("predicateType") != PREDICATE:
        raise Flaw("cosign-malformed", f"the statement does not say {PREDICATE}")
    subjects = statement.get("subject")
    if not isinstance(subjects, list) or not 0 < len(subjects) <= _MAX_SUBJECTS:
        raise Flaw("cosign-malformed", f"the statement does not have 1 to {_MAX_SUBJECTS} subjects")
    named = [_subject(subject) for subject in subjects]
    _compare(digest if digest in named else named[0], digest)


def pre_authentication(kind: str, body: bytes) -> bytes:
    """What DSSE signs."""
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind.encode(), len(body), body)


def _subject(subject: object) -> str:
    digests = subject.get("digest") if isinstance(subject, dict) else None
    value = digests.get("sha256") if isinstance(digests, dict) else None
    if not isinstance(value, str):
        raise Flaw("cosign-malformed", "a subject of the statement has no SHA-256")
    return f"sha256:{value}"


def _compare(found: object, digest: str) -> None:
    if not isinstance(found, str):
        raise Flaw("cosign-malformed", "what was signed has no digest")
    if found != digest:
        raise Flaw("cosign-other-digest", f"{found[:80]!r} was signed")


def _verify(key: EllipticCurvePublicKey, signature: object, data: bytes) -> None:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
    from cryptography.hazmat.primitives.hashes import SHA256

    raw = _decoded(signature, _MAX_SIGNATURE, "the signature")
    try:
        key.verify(raw, data, ECDSA(SHA256()))
    except InvalidSignature:
        raise Flaw("cosign-other-key", "the signature is by another key, or damaged") from None


def _decoded(text: object, most: int, what: str) -> bytes:
    """Standard base64 of at most ``most`` letters."""
    if not isinstance(text, str) or not text:
        raise Flaw("cosign-malformed", f"{what} is missing")
    if len(text) > most:
        raise Flaw("cosign-malformed", f"{what} has {len(text)} letters")
    try:
        return binascii.a2b_base64(text.encode("ascii"), strict_mode=True)
    except ValueError:
        raise Flaw("cosign-malformed", f"{what} is not base64") from None


def _parse(data: bytes, what: str) -> dict[str, object]:
    """A JSON object; a key that is there twice means one thing to one reader and another to
    another, and is refused."""
    try:
        document = json.loads(data.decode("utf-8"), object_pairs_hook=_unique)
    except _DuplicateError as error:
        raise Flaw("cosign-malformed", f"{what} has {str(error)[:40]!r} twice") from None
    except (ValueError, RecursionError):
        raise Flaw("cosign-malformed", f"{what} is not JSON") from None
    if not isinstance(document, dict):
        raise Flaw("cosign-malformed", f"{what} is not a JSON object")
    return document


class _DuplicateError(Exception):
    """A key that is there twice."""


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found: dict[str, object] = {}
    for key, value in pairs:
        if key in found:
            raise _DuplicateError(key)
        found[key] = value
    return found


def _member(document: dict[str, object], name: str, what: str) -> dict[str, object]:
    value = document.get(name)
    if not isinstance(value, dict):
        raise Flaw("cosign-malformed", f"{what} has no object {name!r}")
    return value
