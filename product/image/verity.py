"""The tree of hashes behind a root, by which the kernel checks each block of it (dm-verity).

The tree lies behind the file's own bytes, in the same file: what copies a root copies it too. The
hash at its top stands in the kernel's command line. There is no salt: a root is public, and blocks
that two releases share have the same hashes in both, which keeps their deltas small. The format:
https://docs.kernel.org/admin-guide/device-mapper/verity.html, version 1, without a superblock.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from product.image.errors import ImageError
from product.image.tools import HostTools

BLOCK_SIZE = 4096
# What images/boot/init looks for.
ROOT_HASH = "kubesolo.roothash"
ROOT_BLOCKS = "kubesolo.rootblocks"


class Verity(NamedTuple):
    """``root_hash`` are 64 hex digits, a SHA-256; ``blocks`` of 4096 bytes are checked by it.

    The tree begins where they end.
    """

    root_hash: str
    blocks: int

    def arguments(self) -> tuple[str, ...]:
        """The words of the kernel's command line."""
        return (f"{ROOT_HASH}={self.root_hash}", f"{ROOT_BLOCKS}={self.blocks}")


def append(root: Path, tools: HostTools) -> Verity:
    """Put the tree behind the file ``root``. Raises ImageError for one that is not whole blocks."""
    size = root.stat().st_size
    blocks, rest = divmod(size, BLOCK_SIZE)
    if rest or not blocks:
        raise ImageError(f"{root} has {size} bytes, not whole blocks of {BLOCK_SIZE}")
    said = tools.run(
        "veritysetup", "format", "--no-superblock", "--format", "1", "--hash", "sha256",
        "--salt", "-", "--data-block-size", str(BLOCK_SIZE), "--hash-block-size", str(BLOCK_SIZE),
        "--data-blocks", str(blocks), "--hash-offset", str(size), root, root,
    ).decode()  # fmt: skip
    found = re.search(r"^Root hash:\s*([0-9a-f]{64})$", said, re.M)
    if found is None:
        raise ImageError(f"veritysetup names no root hash of {root}: {said[-500:]}")
    return Verity(found[1], blocks)
