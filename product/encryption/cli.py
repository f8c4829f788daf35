"""``kubesolo-data``: the keys of an encrypted data partition, on the node.

status            how the data partition is kept, and what opens it; --json for programs
enroll tpm|usb    give the TPM, or the stick labelled KSOLOKEY, a new key in place of its old one
recovery-key new  make a new recovery key and print it; the old one opens nothing any more
remove tpm|usb    take that key away

Where the machine has no key at hand, the recovery key is asked for, on standard input. Exit codes:
0 done, 1 failed, 2 wrong usage.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from product.encryption import recovery
from product.encryption.boot import text_of
from product.encryption.errors import EncryptionError
from product.encryption.keys import Keys
from product.encryption.luks import Volume, is_luks
from product.encryption.wish import Kind
from product.errors import KubesoloError

EXIT_USAGE = 2
_EARLY = "run/kubesolo/early"


class Node:
    """Where the commands find things; ``root`` moves files, for tests."""

    def __init__(
        self,
        root: str = "/",
        keys: Callable[[str], Keys] = lambda device: Keys(Volume(device)),
        ask: Callable[[], str] = lambda: _ask(),
    ) -> None:
        self._root = root
        self.keys_of = keys
        self.ask = ask

    def early(self) -> dict[str, str]:
        """What early boot wrote down; the last value of a key counts. Raises EncryptionError."""
        try:
            with open(os.path.join(self._root, _EARLY)) as file:
                return dict(line.rstrip("\n").partition("=")[::2] for line in file)
        except OSError as error:
            raise EncryptionError(
                f"/{_EARLY} cannot be read: {error.strerror}", hint="is this a node?"
            ) from None

    def device(self) -> str:
        """The encrypted partition. Raises EncryptionError where there is none."""
        early = self.early()
        device = early.get("KSOLOCRYPT") or early.get("KSOLODATA", "")
        try:
            encrypted = bool(device) and is_luks(os.path.join(self._root, device.lstrip("/")))
        except OSError as error:
            raise EncryptionError(f"{device} cannot be read: {error.strerror}") from None
        if not encrypted:
            raise EncryptionError(
                f"the data partition {device} is not encrypted",
                hint="it is decided at the disk's first boot: flash --encrypt",
            )
        return device


def _ask() -> str:
    if sys.stdin.isatty():
        from getpass import getpass

        return getpass("recovery key: ")
    return sys.stdin.readline()


def main(arguments: Sequence[str], node: Node | None = None) -> int:
    """Run the command."""
    node = node or Node()
    try:
        match list(arguments):
            case ["status"]:
                _print_status(status(node))
            case ["status", "--json"]:
                print(json.dumps(status(node)))
            case ["enroll", name] if name in set(Kind):
                keys = node.keys_of(node.device())
                keys.enroll(Kind(name), _known(keys, node))
                print(f"enrolled: {name}")
            case ["recovery-key", "new"]:
                keys = node.keys_of(node.device())
                keys.new_recovery(_known(keys, node), print)
            case ["remove", name] if name in set(Kind):
                node.keys_of(node.device()).remove(Kind(name))
                print(f"removed: {name}")
            case ["--help" | "-h" | "help"]:
                print(__doc__)
            case _:
                print(__doc__, file=sys.stderr)
                return EXIT_USAGE
    except KubesoloError as error:
        print(f"error: {error.message}", file=sys.stderr)
        if error.hint:
            print(f"hint: {error.hint}", file=sys.stderr)
        return 1
    return 0


def _known(keys: Keys, node: Node) -> bytes:
    """A key that opens the volume: the machine's own, or what a person types."""
    if key := keys.any_key():
        return key
    typed = recovery.parse(node.ask()).encode()
    keys.volume.require(typed)
    return typed


def status(node: Node) -> dict[str, Any]:
    """The state of the data partition. Raises EncryptionError."""
    early = node.early()
    found: dict[str, Any] = {"encrypted": False, "device": early.get("KSOLODATA", "")}
    try:
        device = node.device()
    except EncryptionError:
        return found
    keys = node.keys_of(device)
    kinds: list[str] = [kind for kind in Kind if keys.of(kind)]
    if keys.recovery_tokens():
        kinds.append("recovery")
    found |= {
        "encrypted": True, "device": device, "opened_by": early.get("unlocked"), "keys": kinds,
    }  # fmt: skip
    try:
        keys.tpm.require(0.0)
        measured = keys.tpm.measured()
        found["tpm"] = "present" if int(measured, 16) else "present, and the firmware uses no PCR 7"
    except EncryptionError as error:
        found["tpm"] = text_of(error)
    return found


def _print_status(found: dict[str, Any]) -> None:
    if not found["encrypted"]:
        print(f"data partition: {found['device']}, not encrypted")
        return
    print(f"data partition: {found['device']}, encrypted (LUKS2)")
    print(f"opened by:      {found['opened_by'] or 'nothing: it is locked'}")
    print(f"keys:           {', '.join(found['keys']) or 'none'}")
    print(f"TPM:            {found['tpm']}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
