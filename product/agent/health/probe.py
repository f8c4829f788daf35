"""The operator's probe: one HTTP GET whose status is the answer.

No redirect is followed: a captive portal's answer is one, and a page that it leads to says nothing
about the probed service.
"""

from __future__ import annotations

import http.client
from urllib.parse import urlsplit

from product.agent.errors import AgentError


class ProbeError(AgentError):
    """The URL gave no HTTP answer."""

    code = "probe-failed"


def get_status(url: str, seconds: float) -> int:
    """The HTTP status of a GET. Raises ProbeError."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ProbeError(f"healthcheck_url {url!r} is not a URL: {error}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ProbeError(f"healthcheck_url {url!r} is not an http or https URL")
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    connection = None
    try:
        connection = kind(parts.hostname, port, timeout=seconds)
        connection.request("GET", target, headers={"User-Agent": "kubesolo-update"})
        return connection.getresponse().status
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise ProbeError(f"{url} gave no answer: {error}") from None
    finally:
        if connection is not None:
            connection.close()
