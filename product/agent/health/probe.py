"""The operator's probe: one HTTP GET whose status is the answer.

No redirect is followed: a captive portal's answer is one, and a page that it leads to says nothing
about the probed service.
"""

from __future__ import annotations

from time import monotonic

from product.agent.errors import AgentError
from product.agent.net.connections import Connections
from product.agent.net.urls import parse_url, without_login


class ProbeError(AgentError):
    """The URL gave no HTTP answer."""

    code = "probe-failed"


def get_status(url: str, seconds: float) -> int:
    """The HTTP status of a GET, all of which may take ``seconds``. Raises ProbeError."""
    shown = without_login(url)
    try:
        parse_url(url)
    except ValueError:
        raise ProbeError(f"healthcheck_url {shown!r} is not an http or https URL") from None
    headers = {"User-Agent": "kubesolo-update"}
    try:
        with Connections(connect=seconds, silence=seconds) as connections:
            response = connections.get(url, headers, monotonic() + seconds)
            response.close()
            return response.status
    except AgentError as error:
        reason = error.message.removeprefix(f"cannot reach {shown}: ")
        raise ProbeError(f"{shown} gave no answer: {reason}") from None
