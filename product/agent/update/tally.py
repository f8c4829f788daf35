"""How much of a release came into a slot, and by which way."""

from __future__ import annotations

import os

from product.agent.records.counters import COPIED, DELTA, FULL, KINDS
from product.agent.slots.writer import Fetch
from product.manifest import Artifact, Manifest


class Tally:
    """Bytes by kind: fetched in full, as a delta, or copied from the running slot."""

    def __init__(self) -> None:
        self.bytes = dict.fromkeys(KINDS, 0)

    def add(self, kind: str, amount: int) -> None:
        """``amount`` bytes more."""
        self.bytes[kind] += max(amount, 0)

    def fetching(self, fetch: Fetch, manifest: Manifest) -> Fetch:
        """``fetch`` from a source: what is no artifact of the release is a delta to one.

        It stands around what asks the source, not around what makes an artifact of a delta.
        """
        whole, delta = self.counting(FULL, fetch), self.counting(DELTA, fetch)

        def counted(artifact: Artifact, path: str) -> int:
            return (whole if artifact in manifest.artifacts else delta)(artifact, path)

        return counted

    def counting(self, kind: str, fetch: Fetch) -> Fetch:
        """``fetch``, whose bytes are counted; what an earlier one left was counted then."""

        def counted(artifact: Artifact, path: str) -> int:
            before = _size(path) or 0
            try:
                checksum = fetch(artifact, path)
            except BaseException as error:
                after = _size(path) or 0
                if getattr(error, "code", None) == "digest-mismatch":
                    # It came as a whole, and is gone.
                    after = artifact.size
                self.add(kind, after - before)
                raise
            self.add(kind, artifact.size - (0 if kind == COPIED else before))
            return checksum

        return counted


def _size(path: str) -> int | None:
    try:
        return os.stat(path).st_size
    except OSError:
        return None
