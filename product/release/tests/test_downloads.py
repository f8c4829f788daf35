"""What people download, checked by OpenSSH, coreutils and our own program."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from product.release import sshsig
from product.release.cli import main
from product.release.downloads import (
    PREDICATE_TYPE,
    PROVENANCE,
    SIGNATURE,
    SIGNERS,
    STATEMENT_TYPE,
    SUMS,
    envelope_text,
    load_downloads_key,
    parse_sums,
    signers_text,
    signing_key,
    sums_text,
    verify_downloads,
)
from product.release.errors import DownloadsError
from product.release.keys import KeyDirectory
from product.release.storage import sha256_file


def statement(digests: dict[str, str]) -> bytes:
    subject = [{"name": name, "digest": {"sha256": sha}} for name, sha in digests.items()]
    document = {
        "_type": STATEMENT_TYPE,
        "subject": subject,
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "buildDefinition": {
                "externalParameters": {"version": "1.2.3", "channel": "beta"},
                "internalParameters": {"withoutMatrix": "tried out"},
                "resolvedDependencies": [{"digest": {"gitCommit": "c" * 40}}],
            },
            "runDetails": {"builder": {"id": "urn:us"}},
        },
    }
    return json.dumps(document).encode()


@pytest.fixture
def keys(tmp_path: Path) -> KeyDirectory:
    assert main(["keys", str(tmp_path / "keys"), "--role", "downloads"]) == 0
    return KeyDirectory(tmp_path / "keys")


@pytest.fixture
def folder(tmp_path: Path, keys: KeyDirectory) -> Path:
    made = tmp_path / "release"
    made.mkdir()
    (made / "disk.img").write_bytes(b"disk")
    (made / "notes.md").write_bytes(b"notes")
    digests = {name: sha256_file(made / name) for name in ("disk.img", "notes.md")}
    (made / PROVENANCE).write_text(envelope_text(statement(digests), keys))
    sign(made, keys, {**digests, PROVENANCE: sha256_file(made / PROVENANCE)})
    return made


def sign(folder: Path, keys: KeyDirectory, digests: dict[str, str]) -> None:
    key = signing_key(keys)
    (folder / SUMS).write_text(sums_text(digests))
    (folder / SIGNATURE).write_text(sshsig.sign(key, (folder / SUMS).read_bytes()))
    (folder / SIGNERS).write_text(signers_text(key.public_key()))


def test_openssh_and_coreutils_take_it(folder: Path) -> None:
    command = ["ssh-keygen", "-Y", "verify", "-f", SIGNERS, "-I", "kubesolo-os", "-n", "file"]

    def verified() -> bool:
        with (folder / SUMS).open("rb") as sums:
            done = subprocess.run(
                [*command, "-s", SIGNATURE], cwd=folder, stdin=sums, capture_output=True
            )
        return done.returncode == 0

    assert verified()
    subprocess.run(["sha256sum", "--quiet", "-c", SUMS], cwd=folder, check=True)
    (folder / SUMS).write_bytes((folder / SUMS).read_bytes() + b"\n")
    assert not verified()


def test_what_openssh_signs_is_taken(folder: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", own], check=True)
    (folder / SIGNATURE).unlink()
    subprocess.run(
        ["ssh-keygen", "-q", "-Y", "sign", "-f", own, "-n", "file", folder / SUMS],
        check=True,
        capture_output=True,
    )
    (folder / PROVENANCE).unlink()
    assert verify_downloads(folder, load_downloads_key(tmp_path / "own.pub")).files


def test_the_command_tells_what_was_checked(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "disk.img").unlink()
    (folder / "other").touch()
    for key in (folder.parent / "keys/downloads.pub.pem", folder / SIGNERS):
        assert main(["verify-download", str(folder), "--key", str(key)]) == 0
        said = capsys.readouterr().out
        assert "as signed   notes.md" in said
        assert "not signed  other" in said
        assert "1 other files" in said
        assert "1.2.3, beta" in said
        assert "c" * 40 in said
        assert "not tested  tried out" in said


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("damaged", "words"),
    [
        ("disk.img", "disk.img has SHA-256"),
        (SUMS, "they were changed"),
        (SIGNATURE, "signature"),
        (PROVENANCE, "provenance.intoto.jsonl has SHA-256"),
    ],
)
def test_one_bit_is_noticed(
    folder: Path, damaged: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    _flip(folder / damaged)
    assert main(["verify-download", str(folder), "--key", str(folder / SIGNERS)]) == 1
    said = capsys.readouterr().err
    assert words in said
    assert "Traceback" not in said


def test_a_strangers_key_signature_and_provenance(
    folder: Path, keys: KeyDirectory, tmp_path: Path
) -> None:
    stranger = KeyDirectory.generate(
        tmp_path / "stranger", {"downloads": 1, "root": 0, "targets": 0, "snapshot": 0}
    )
    own = signing_key(keys).public_key()
    with pytest.raises(DownloadsError, match="another key"):
        verify_downloads(folder, signing_key(stranger).public_key())
    digests = parse_sums((folder / SUMS).read_text())
    # Signed sums over a provenance that somebody else signed, and over one of another file.
    for made, words in (
        (envelope_text(statement(digests), stranger), "not signed by the key"),
        (envelope_text(statement({**digests, "notes.md": "0" * 64}), keys), "another notes.md"),
        (envelope_text(b"[]", keys), "no signed statement"),
        ("[]", "no signed statement"),
    ):
        (folder / PROVENANCE).write_text(made)
        sign(folder, keys, {**digests, PROVENANCE: sha256_file(folder / PROVENANCE)})
        with pytest.raises(DownloadsError, match=words):
            verify_downloads(folder, own)


def test_a_signature_for_something_else_does_not_count() -> None:
    key, data = Ed25519PrivateKey.generate(), b"data"
    text = sshsig.sign(key, data)
    body = base64.b64decode("".join(text.splitlines()[1:-1]))
    for old, new in ((b"\0\0\0\4file", b"\0\0\0\4mail"), (b"sha512", b"sha256")):
        other = base64.b64encode(body.replace(old, new, 1)).decode()
        with pytest.raises(DownloadsError, match="not made for a file"):
            sshsig.verify(key.public_key(), data, other)
    for cut in range(0, len(body), 7):
        with pytest.raises(DownloadsError):
            sshsig.verify(key.public_key(), data, base64.b64encode(body[:cut]).decode())
    sshsig.verify(key.public_key(), data, text)


@pytest.mark.parametrize(
    "text",
    ["", "x", f"{'0' * 64}  ../etc/passwd\n", f"{'0' * 64}  ..\n", f"{'0' * 64}  a\n" * 2],
)
def test_sums_that_are_none(text: str) -> None:
    with pytest.raises(DownloadsError):
        parse_sums(text)


def test_bad_words_are_one_error(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(folder / "notes.md", folder.parent / "nokey")
    for words, said in (
        ([str(folder.parent / "none"), "--key", str(folder / SIGNERS)], "cannot be read"),
        ([str(folder), "--key", str(folder.parent / "nokey")], "holds no public key"),
        ([str(folder), "--key", str(folder.parent / "keys/downloads.pem")], "no public key"),
    ):
        assert main(["verify-download", *words]) == 1
        error = capsys.readouterr().err
        assert said in error
        assert "Traceback" not in error
