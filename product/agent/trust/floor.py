"""The floor of time: moments that have certainly passed, whatever the clock says.

What signed metadata proves is proved by the timestamp of the highest version alone: a publisher
whose clock ran ahead once takes that back with the next one, and an older one is never accepted.
"""

from __future__ import annotations

import contextlib
import json
from datetime import UTC, datetime

from product.agent.system.files import read_bounded
from product.agent.trust.pin import ROOT_MAX, parse_root

# Set by the publisher in timestamp.json: when it was signed (product.release.signing).
ISSUED_FIELD = "x-kubesolo-issued"
TIME_FORMAT = "%Y-%m-%dT%H:%M:%SZ"
# The word behind the seconds in /var/lib/kubesolo/time/known (images/overlay, lib.sh).
SYNCHRONISED = "synchronised"


def known_moments(release_file: str, known_time: str | None = None) -> list[datetime]:
    """When the image was built, and what time the node last knew from a server of time."""
    moments = []
    with contextlib.suppress(OSError, ValueError, TypeError, OverflowError):
        document = json.loads(read_bounded(release_file, ROOT_MAX))
        if isinstance(document, dict) and "source_date" in document:
            moments.append(_moment(document["source_date"]))
    if known_time is not None:
        with contextlib.suppress(OSError, ValueError, OverflowError):
            seconds, _, word = read_bounded(known_time, 64).decode().strip().partition(" ")
            # A clock that nobody has set right proves nothing.
            if word == SYNCHRONISED:
                moments.append(_moment(int(seconds)))
    return moments


def signing_moments(metadata_dir: str) -> list[datetime]:
    """When the timestamp in ``metadata_dir`` was signed, if it says so.

    It is read from metadata that the trusted root vouches for, not from a note beside it, so that
    replacing a stolen timestamp key also takes back what the thief claimed.
    """
    from tuf.api.exceptions import RepositoryError
    from tuf.api.metadata import Metadata

    with contextlib.suppress(OSError, ValueError, TypeError, RepositoryError):
        root = parse_root(read_bounded(f"{metadata_dir}/root.json", ROOT_MAX)).signed
        timestamp = Metadata.from_bytes(read_bounded(f"{metadata_dir}/timestamp.json", ROOT_MAX))
        root.verify_delegate("timestamp", timestamp.signed_bytes, timestamp.signatures)
        issued = timestamp.signed.unrecognized_fields.get(ISSUED_FIELD)
        if isinstance(issued, str):
            return [_moment(issued)]
    return []


def _moment(value: object) -> datetime:
    """Seconds since 1970 or UTC in ISO 8601; raises ValueError or TypeError for anything else."""
    if isinstance(value, str):
        return datetime.strptime(value, TIME_FORMAT).replace(tzinfo=UTC)
    if isinstance(value, int) and not isinstance(value, bool):
        return datetime.fromtimestamp(value, UTC)
    raise TypeError(f"{value!r} is no date")


def refuse_expired(metadata_dir: str, moment: datetime) -> None:
    """Raise tuf's ExpiredMetadataError where the metadata just verified has ended by ``moment``."""
    from tuf.api.exceptions import ExpiredMetadataError
    from tuf.api.metadata import Metadata

    for role in ("root", "timestamp", "snapshot", "targets"):
        with open(f"{metadata_dir}/{role}.json", "rb") as file:
            metadata = Metadata.from_bytes(file.read())
        if metadata.signed.is_expired(moment):
            raise ExpiredMetadataError(f"{role}.json is expired")
