"""What early boot calls: `prepare DISK PARTITION FILE`, `unlock PARTITION`.

prepare  as product.disk.cli does, with an encrypted volume on the partition, as FILE wishes
unlock   show the content of an encrypted partition at /dev/mapper/kubesolo-data

`unlock` prints lines for early boot: `say TEXT`, `problem TEXT`, `show TEXT` (for the consoles
alone, never for a log), and `opened HOW`. Exit codes: 0 done, 1 failed, 2 wrong usage.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence

from product.cloudinit.sources import Where
from product.disk.cli import make_data
from product.encryption import ask, recovery
from product.encryption.errors import EncryptionError, KeyRefusedError
from product.encryption.keys import Keys
from product.encryption.luks import MAPPED, Volume
from product.encryption.wish import MAX_BYTES, Kind, parse
from product.errors import KubesoloError

EXIT_USAGE = 2
_NAMES = {Kind.TPM: "the TPM", Kind.USB: "the key on the stick"}

Tell = Callable[[str, str], None]


def main(arguments: Sequence[str]) -> int:
    """Run the command; errors go to standard output, which early boot reports."""
    try:
        match list(arguments):
            case ["prepare", disk, partition, file]:
                return _prepare(disk, partition, file)
            case ["unlock", partition]:
                keys = Keys(Volume(partition))
                return 0 if unlock(keys, _tell, ask.for_recovery_key(Where())) else 1
    except KubesoloError as error:
        print(text_of(error))
        return 1
    print(f"usage: prepare DISK PARTITION FILE | unlock PARTITION, not {' '.join(arguments)}")
    return EXIT_USAGE


def text_of(error: KubesoloError) -> str:
    """An error in one line, with what to do."""
    return error.message + (f"; {error.hint}" if error.hint else "")


def _tell(kind: str, text: str) -> None:
    print(kind, " ".join(text.split()), flush=True)


def _prepare(disk_path: str, partition: str, file: str) -> int:
    from product.disk.prepare import open_disk, prepare, reread, resize_in_kernel

    with open(file, "rb") as stream:
        kind = parse(stream.read(MAX_BYTES))
    keys = Keys(Volume(partition))
    with open_disk(disk_path) as disk:
        outcome = prepare(
            disk, lambda size: make(keys, kind, size), resize_in_kernel(disk_path, disk.sector)
        )
    reread(disk_path)
    print(f"made the encrypted data file system: {outcome.data_bytes >> 20} MiB")
    return 0


def make(keys: Keys, kind: Kind, size: int) -> None:
    """An encrypted volume with a file system in it, closed again; its key was read back.

    The partition counts as made only when this is done: a power cut before leaves a first boot,
    which begins anew. Raises EncryptionError, DiskError.
    """
    keys.volume.close()
    keys.volume.open(keys.format(kind))
    try:
        make_data(MAPPED, size)
    finally:
        keys.volume.close()


def unlock(keys: Keys, tell: Tell, typed: Iterator[str]) -> bool:
    """Open the volume by the TPM, the stick or what is ``typed``; whether it is open.

    A volume without a recovery key gets one, which is shown.
    """
    failed: list[Kind] = []
    for kind in Kind:
        for token in keys.of(kind):
            try:
                key = keys.key_of(kind, token)
                keys.volume.open(key)
            except EncryptionError as error:
                failed.append(kind)
                tell("problem", f"{_NAMES[kind]} does not open it: {text_of(error)}")
                continue
            tell("say", f"data partition: opened by {_NAMES[kind]}")
            tell("opened", kind)
            _require_recovery(keys, key, tell)
            return True
    return _unlock_by_hand(keys, failed, tell, typed)


def _require_recovery(keys: Keys, key: bytes, tell: Tell) -> None:
    try:
        if not keys.recovery_tokens():
            keys.new_recovery(key, lambda text: _show(tell, text))
    except EncryptionError as error:
        tell("problem", f"no recovery key could be made: {text_of(error)}")


def _show(tell: Tell, text: str) -> None:
    tell("show", f"recovery key of this node's data, shown this once: {text}")


def _unlock_by_hand(keys: Keys, failed: list[Kind], tell: Tell, typed: Iterator[str]) -> bool:
    minutes = int(ask.SECONDS // 60)
    tell("say", f"data partition: type the recovery key, then Enter ({minutes} minutes)")
    for line in typed:
        try:
            keys.volume.open(recovery.parse(line).encode())
        except KeyRefusedError:
            tell("say", "data partition: that is not its recovery key; type it again")
            continue
        except EncryptionError as error:
            tell("say", f"data partition: {text_of(error)}; type it again")
            continue
        tell("say", "data partition: opened by the recovery key")
        tell("opened", "recovery")
        for kind in dict.fromkeys(failed):
            tell("say", f"data partition: to have it opened again: kubesolo-data enroll {kind}")
        return True
    return False


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
