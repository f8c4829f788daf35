"""The files of a release as people download them: their sums, the sums' signature, provenance.

``SHA256SUMS`` is what ``sha256sum -c`` reads, ``SHA256SUMS.sig`` its signature, which ``ssh-keygen
-Y verify`` reads with ``allowed_signers``. ``provenance.intoto.jsonl`` is a signed statement of
what the files were built from: in-toto Statement v1 with SLSA's provenance v1, in a DSSE envelope.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer._key import SSlibKey

from product.release import sshsig
from product.release.errors import DownloadsError
from product.release.keys import DOWNLOADS, KeyDirectory, load_signer
from product.release.storage import sha256_file

SUMS = "SHA256SUMS"
SIGNATURE = "SHA256SUMS.sig"
SIGNERS = "allowed_signers"
PROVENANCE = "provenance.intoto.jsonl"
# Who signs, as ssh-keygen's -I has it.
IDENTITY = "kubesolo-os"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://slsa.dev/provenance/v1"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
_LINE = re.compile(r"(?P<sha256>[0-9a-f]{64}) [ *](?P<name>[^\x00-\x1f/\\]+)")
_MOST_BYTES = 16 << 20


class Verified(NamedTuple):
    """What was checked: ``files`` are as signed, ``absent`` are in the sums and not here,
    ``others`` are here and not in the sums. ``provenance`` is the predicate, where there is one."""

    files: tuple[str, ...]
    absent: tuple[str, ...]
    others: tuple[str, ...]
    provenance: Mapping[str, Any] | None


def sums_text(digests: Mapping[str, str]) -> str:
    """``SHA256SUMS`` of file names and their SHA-256."""
    return "".join(f"{digests[name]}  {name}\n" for name in sorted(digests))


def parse_sums(text: str) -> dict[str, str]:
    """File names and their SHA-256. Raises DownloadsError."""
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        match = _LINE.fullmatch(line)
        if match is None or match["name"] in ("", ".", "..") or match["name"] in found:
            raise DownloadsError(f"line {number} of {SUMS} is not SHA256, two spaces, FILE once")
        found[match["name"]] = match["sha256"]
    if not found:
        raise DownloadsError(f"{SUMS} names no file")
    return found


def signing_key(keys: KeyDirectory) -> Ed25519PrivateKey:
    """The key that signs downloads. Raises KeyFileError, DownloadsError where there is none."""
    files = keys.files(DOWNLOADS)
    if not files:
        raise DownloadsError(
            f"{keys.path} holds no key that signs downloads",
            hint=f"make one: kubesolo-release keys {keys.path} --role {DOWNLOADS}",
        )
    load_signer(files[0])  # It says what is wrong with the file.
    key = serialization.load_pem_private_key(files[0].read_bytes(), password=None)
    assert isinstance(key, Ed25519PrivateKey), "load_signer takes no other"
    return key


def signers_text(key: Ed25519PublicKey) -> str:
    """``allowed_signers``, which says to ssh-keygen whose key it is and what for."""
    return f'{IDENTITY} namespaces="{sshsig.NAMESPACE}" {sshsig.public_line(key)}\n'


def envelope_text(statement: bytes, keys: KeyDirectory) -> str:
    """A statement in its signed envelope, one line of JSON. Raises KeyFileError."""
    signing_key(keys)
    envelope = Envelope(statement, PAYLOAD_TYPE, {})
    envelope.sign(load_signer(keys.files(DOWNLOADS)[0]))
    return json.dumps(envelope.to_dict(), sort_keys=True, separators=(",", ":")) + "\n"


def load_downloads_key(path: Path) -> Ed25519PublicKey:
    """A public key in PEM, or the first one of a file of allowed signers. Raises DownloadsError."""
    data = _read(path)
    try:
        if data.lstrip().startswith(b"-----BEGIN"):
            key: object = serialization.load_pem_public_key(data)
        else:
            line = next(
                line for line in data.decode().splitlines() if line and not line.startswith("#")
            )
            words = line.split()
            at = words.index("ssh-ed25519")
            key = serialization.load_ssh_public_key(" ".join(words[at : at + 2]).encode())
    except (ValueError, StopIteration, IndexError):
        raise DownloadsError(
            f"{path} holds no public key of Ed25519, in PEM or as {SIGNERS}",
            hint="name downloads.pub.pem or allowed_signers of the project",
        ) from None
    if not isinstance(key, Ed25519PublicKey):
        raise DownloadsError(f"{path} holds {type(key).__name__}, downloads are signed by Ed25519")
    return key


def verify_downloads(folder: Path, key: Ed25519PublicKey) -> Verified:
    """Check what lies in ``folder``: the signature of the sums, each file that is there, and that
    the provenance is signed and of these files.

    Raises DownloadsError with everything that is wrong.
    """
    sums = _read(folder / SUMS)
    signature = _read(folder / SIGNATURE)
    try:
        sshsig.verify(key, sums, signature.decode("ascii", "replace"))
    except DownloadsError as error:
        raise DownloadsError(f"{folder / SUMS}: {error.message}", hint=error.hint) from None
    digests = parse_sums(sums.decode("utf-8", "replace"))
    wrong, right = [], []
    for name, sha256 in digests.items():
        path = folder / name
        if not path.is_file():
            continue
        found = sha256_file(path)
        if found == sha256:
            right.append(name)
        else:
            wrong.append(f"{name} has SHA-256 {found}, {sha256} is signed")
    if wrong:
        raise DownloadsError(
            f"{len(wrong)} files of {folder} are not what was signed:\n  " + "\n  ".join(wrong),
            hint="download them again; if it stays so, tell the project",
        )
    if not right:
        raise DownloadsError(
            f"{folder} has none of the {len(digests)} files that {SUMS} names",
            hint=f"put {SUMS} and {SIGNATURE} beside the files",
        )
    absent = tuple(name for name in digests if name not in right)
    known = {*digests, SUMS, SIGNATURE, SIGNERS}
    names = (entry.name for entry in folder.iterdir() if entry.is_file())
    others = tuple(sorted(name for name in names if name not in known))
    provenance = _provenance(folder / PROVENANCE, key, digests) if PROVENANCE in right else None
    return Verified(tuple(right), absent, others, provenance)


def _provenance(path: Path, key: Ed25519PublicKey, digests: Mapping[str, str]) -> Mapping[str, Any]:
    try:
        envelope = Envelope.from_dict(json.loads(_read(path)))
        envelope.verify([SSlibKey.from_crypto(key)], 1)
        if envelope.payload_type != PAYLOAD_TYPE:
            raise DownloadsError(f"{path} holds {envelope.payload_type}, not {PAYLOAD_TYPE}")
        statement = json.loads(envelope.payload)
        kinds = (statement["_type"], statement["predicateType"])
        subjects = {one["name"]: one["digest"]["sha256"] for one in statement["subject"]}
        predicate: Mapping[str, Any] = statement["predicate"]
    except VerificationError:
        raise DownloadsError(f"{path} is not signed by the key given") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise DownloadsError(f"{path} is no signed statement of in-toto") from None
    if kinds != (STATEMENT_TYPE, PREDICATE_TYPE):
        raise DownloadsError(f"{path} is of {kinds[1]}, not of {PREDICATE_TYPE}")
    for name, sha256 in digests.items():
        if name != PROVENANCE and subjects.get(name) != sha256:
            raise DownloadsError(f"{path} is about another {name}, or about none")
    return predicate


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            data = stream.read(_MOST_BYTES + 1)
    except OSError as error:
        raise DownloadsError(
            f"{path} cannot be read: {error.strerror}",
            hint=f"download {SUMS} and {SIGNATURE} of the release, too",
        ) from None
    if len(data) > _MOST_BYTES:
        raise DownloadsError(f"{path} has more than {_MOST_BYTES} bytes: it is something else")
    return data
