"""Fetching metadata: small files, each with one deadline, asked for again where that may help."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from product.agent.errors import AgentError
from product.agent.net.connections import TransientError
from product.agent.sources.exchange import (
    HttpStatusError,
    check_status,
    is_page,
    page_error,
)
from product.agent.sources.protocol import place, wait_before

if TYPE_CHECKING:
    from tuf.ngclient.fetcher import FetcherInterface

    from product.agent.sources.protocol import Answer, FetchPolicy, Source

# Metadata is small; a server that takes longer than this for one file, with all tries and the waits
# that it asks for, is not serving it.
FILE_SECONDS = 60.0
# A publisher's root may have many versions, and each may take its time.
ALL_SECONDS = 300.0
# An operator waits for the answer.
_TRIES = 3
_CHUNK = 64 * 1024
# Enough of a file to tell a page from metadata.
_BEGINNING = 64


class Download:
    """Gets files of ``source`` until ``ALL_SECONDS`` are over."""

    def __init__(self, source: Source, policy: FetchPolicy) -> None:
        self.source = source
        self._policy = policy
        self._end = time.monotonic() + ALL_SECONDS
        # Set to ask caches to look whether what they keep is still the newest.
        self.fresh = False

    def get(self, path: str, most: int) -> bytes:
        """The file, or its first bytes beyond ``most``; raises TransientError, HttpStatusError,
        and AgentError for a web page in its place."""
        end = min(time.monotonic() + FILE_SECONDS, self._end)
        tries = 0
        while True:
            tries += 1
            try:
                return self._try(path, most, end)
            except TransientError as error:
                wait = wait_before(self._policy, tries, error.retry_after)
                late = time.monotonic() + wait > end
                if tries >= min(self._policy.tries, _TRIES) or late:
                    raise
                self.pause(wait)

    def pause(self, seconds: float) -> None:
        """Wait; raises what interrupts."""
        self.source.pause(seconds)

    def _try(self, path: str, most: int, end: float) -> bytes:
        response = self.source.open(path, fresh=self.fresh, until=end)
        try:
            check_status(response, place(self.source, path), self.source.setting)
            return self._read(response, path, most)
        finally:
            response.close()

    def _read(self, response: Answer, path: str, most: int) -> bytes:
        content = bytearray()
        looked = False
        while chunk := response.read1(_CHUNK):
            content += chunk
            if not looked and (looked := len(content) >= _BEGINNING):
                self._require_metadata(response, path, content)
            if len(content) > most:
                break
        self._require_metadata(response, path, content)
        return bytes(content)

    def _require_metadata(self, response: Answer, path: str, content: bytearray) -> None:
        if is_page(response, bytes(content[:_BEGINNING])):
            raise page_error(place(self.source, path), self.source.setting)


def as_fetcher(download: Download) -> FetcherInterface:
    """What tuf's client takes; an AgentError passes through it as it is."""
    from tuf.api.exceptions import DownloadHTTPError, DownloadLengthMismatchError
    from tuf.ngclient.fetcher import FetcherInterface

    class Fetcher(FetcherInterface):
        """Whole files by ``Download``, whose size the caller bounds.

        What tuf calls their URLs are their paths in the repository.
        """

        def download_bytes(self, url: str, max_length: int) -> bytes:
            try:
                data = download.get(url, max_length)
            except HttpStatusError as error:
                raise DownloadHTTPError(error.message, error.status) from None
            if len(data) > max_length:
                where = place(download.source, url)
                raise DownloadLengthMismatchError(
                    f"{where} is larger than the {max_length} bytes that it may have"
                )
            return data

        def _fetch(self, url: str) -> Iterator[bytes]:
            raise AgentError(f"{url} is no metadata")

    return Fetcher()
