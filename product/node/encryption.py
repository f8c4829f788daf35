"""Secrets in the datastore are encrypted (secretbox) with a key that the node makes for itself.

``encryption/keys.json`` on the data partition, 0600, lies there twice, because without the keys
no Secret can be read: ``keys``, the newest first, each with ``name`` and ``secret`` (32 bytes,
base64); ``written``, the key with which all Secrets were written last or ``plain``;
``datastore``, the inode of the directory for which that holds; ``sum``, the CRC 32 of the rest.
Keys lie beside the datastore, not in it, and old ones stay: a copy of the datastore that is put
back can be read.
"""

from __future__ import annotations

import binascii
import json
import os
import time
from collections.abc import Sequence
from typing import NamedTuple

from product.agent.system.files import make_directories, read_bounded, write_atomic
from product.node.errors import NodeError, StorageError
from product.node.paths import NodePaths

SCHEMA = 1
PLAIN = "plain"
KEY_BYTES = 32
# A copy of the datastore is at most as old as the last few updates.
MAX_KEYS = 8
FILE, SECOND_COPY = "keys.json", "kept/keys.json"
_MAX_BYTES = 16 * 1024


class Key(NamedTuple):
    """``secret`` is in base64, as the API server reads it."""

    name: str
    secret: str


class Keys(NamedTuple):
    """What the node keeps."""

    keys: tuple[Key, ...]
    written: str = PLAIN
    datastore: int = 0

    def with_new(self) -> Keys:
        """The same with a new key before the others."""
        number = max((int(key.name.removeprefix("key-")) for key in self.keys), default=0) + 1
        secret = binascii.b2a_base64(os.urandom(KEY_BYTES), newline=False).decode()
        return self._replace(keys=(Key(f"key-{number}", secret), *self.keys)[:MAX_KEYS])


class Encryption(NamedTuple):
    """What the API server is told, None without any key; ``target`` is how Secrets are to lie in
    the datastore, a key's name or ``plain``, and ``due`` whether some may lie there otherwise."""

    configuration: bytes | None = None
    target: str = PLAIN
    due: bool = False
    problems: tuple[str, ...] = ()


def prepare(
    paths: NodePaths, datastore: str, *, wanted: bool, fresh: bool, on_trial: bool
) -> Encryption:
    """Settle how Secrets are stored from this start on, and make the first key where it is due.

    A release on trial does not begin with it: the one that it would be given up for might not read
    them. ``fresh``: the datastore was never written. Raises StorageError.
    """
    try:
        keys, problems = _read(paths, wanted)
        if wanted and on_trial and not fresh and (keys is None or keys.written == PLAIN):
            wanted = False
        if keys is None and not wanted:
            return Encryption(problems=problems)
        before, keys = keys, keys or Keys(())
        if not keys.keys:
            keys = keys.with_new()
        target = keys.keys[0].name if wanted else PLAIN
        make_directories(datastore)
        os.chmod(datastore, 0o700)
        if fresh:
            keys = keys._replace(written=target, datastore=os.stat(datastore).st_ino)
        if keys != before:
            _write(paths, keys)
        due = (keys.written, keys.datastore) != (target, os.stat(datastore).st_ino)
    except OSError as error:
        raise StorageError(
            f"cannot keep the keys of Secrets in {paths.encryption}: {error.strerror or error}",
            hint="free space on the data partition, or replace it; the node tries again by itself",
        ) from None
    return Encryption(_configuration(keys.keys, wanted), target, due, problems)


def rotate(paths: NodePaths) -> str:
    """Put a new key before the others; its name. The next start of Kubernetes uses it.

    Raises NodeError, OSError.
    """
    keys, _ = _read(paths, True)
    if keys is None or keys.written == PLAIN:
        raise NodeError(
            "the key of Secrets was not changed: this node does not encrypt them",
            hint="set secrets-encryption to true and restart Kubernetes, see docs/kubernetes.md",
        )
    if keys.written != keys.keys[0].name:
        raise NodeError(
            f"the key of Secrets was not changed: not all are written with {keys.keys[0].name} yet",
            hint="wait until the console says that Secrets are encrypted, and ask again",
        )
    keys = keys.with_new()
    _write(paths, keys)
    return keys.keys[0].name


def note_written(paths: NodePaths, datastore: str, target: str) -> None:
    """All Secrets of the datastore lie there as ``target`` says. Raises OSError."""
    keys, _ = _read(paths, True)
    if keys is not None:
        inode = os.stat(datastore).st_ino
        _write(paths, keys._replace(written=target, datastore=inode))


def target_of(configuration: bytes) -> str:
    """How a configuration of the API server has Secrets written."""
    provider = json.loads(configuration)["resources"][0]["providers"][0]
    if "secretbox" not in provider:
        return PLAIN
    return str(provider["secretbox"]["keys"][0]["name"])


def _configuration(keys: Sequence[Key], wanted: bool) -> bytes:
    box: dict[str, object] = {"secretbox": {"keys": [key._asdict() for key in keys]}}
    # What comes first writes; all of them read.
    plain: dict[str, object] = {"identity": {}}
    providers = [box, plain] if wanted else [plain, box]
    document = {
        "apiVersion": "apiserver.config.k8s.io/v1",
        "kind": "EncryptionConfiguration",
        "resources": [{"resources": ["secrets"], "providers": providers}],
    }
    return (json.dumps(document, indent=1) + "\n").encode()


def _read(paths: NodePaths, mend: bool) -> tuple[Keys | None, tuple[str, ...]]:
    """The keys, None where there never were any, and what was wrong with the files."""
    first, second = f"{paths.encryption}/{FILE}", f"{paths.encryption}/{SECOND_COPY}"
    found = [_parse(path) for path in (first, second)]
    keys = next((keys for keys in found if keys is not None), None)
    if keys is None:
        if not any(os.path.exists(path) for path in (first, second)):
            return None, ()
        if mend:
            stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
            for path in (first, second):
                if os.path.exists(path):
                    os.replace(path, f"{path}.damaged-{stamp}")
        return None, (
            f"the keys of Secrets in {paths.encryption} are damaged: Secrets that were encrypted "
            "with them cannot be read, delete and make them again",
        )
    if found[0] == found[1]:
        return keys, ()
    if found[0] is not None and found[1] is not None:
        # A power cut between the two: the first is the newer one.
        problems: tuple[str, ...] = ()
    else:
        damaged = first if found[0] is None else second
        problems = (f"{damaged} was damaged or missing; its copy was put back",)
    _write(paths, keys)
    return keys, problems


def _write(paths: NodePaths, keys: Keys) -> None:
    body = {
        "schema": SCHEMA,
        "keys": [key._asdict() for key in keys.keys],
        "written": keys.written,
        "datastore": keys.datastore,
    }
    data = (json.dumps({**body, "sum": _sum(body)}, indent=1) + "\n").encode()
    for name in (FILE, SECOND_COPY):
        path = f"{paths.encryption}/{name}"
        make_directories(os.path.dirname(path))
        os.chmod(os.path.dirname(path), 0o700)
        write_atomic(path, data)


def _parse(path: str) -> Keys | None:
    """None where it is missing or damaged."""
    try:
        document = json.loads(read_bounded(path, _MAX_BYTES).decode())
        total = document.pop("sum")
        if total != _sum(document) or document["schema"] != SCHEMA:
            return None
        keys = tuple(Key(str(key["name"]), str(key["secret"])) for key in document["keys"])
        for key in keys:
            if len(binascii.a2b_base64(key.secret)) != KEY_BYTES:
                return None
        return Keys(keys, str(document["written"]), int(document["datastore"])) if keys else None
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def _sum(body: object) -> int:
    return binascii.crc32(json.dumps(body, sort_keys=True).encode())
