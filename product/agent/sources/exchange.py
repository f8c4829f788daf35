"""One question to a release server: its address, redirects, and what an answer's status means.

Codes of the errors: ``server-unreachable``, ``bad-redirect``, ``captive-portal``,
``login-required``, ``login-refused``, ``access-denied``.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

from product.agent.errors import AgentError, hide_logins
from product.agent.net.connections import Connections, Response, TransientError
from product.agent.net.urls import parse_url, without_login
from product.agent.sources.protocol import DEFAULT_POLICY, FetchPolicy

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from product.agent.net.access import Access
    from product.agent.net.sockets import Permit
    from product.agent.sources.protocol import Answer

MAX_REDIRECTS = 5
_REDIRECTS = (301, 302, 303, 307, 308)
# Answers that another try may better: time-outs, too many requests, and every server error.
_TRANSIENT = (408, 425, 429)
_UNAUTHORISED = 401
_FORBIDDEN = 403
# RFC 6585: a login page is in between, and says so.
_LOGIN_REQUIRED = 511
_PAGES = ("text/html", "application/xhtml+xml")


class HttpStatusError(AgentError):
    """The server answered, but not with the file; ``status`` is its HTTP status."""

    code = "server-unreachable"

    def __init__(
        self, message: str, *, status: int, hint: str | None = None, code: str | None = None
    ) -> None:
        super().__init__(message, hint=hint, code=code)
        self.status = status


class OverConnections:
    """What sources share that are asked over ``_connections``: see protocol.Source."""

    _connections: Connections

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._connections.__exit__(kind, error, trace)

    def pause(self, seconds: float) -> None:
        """Wait; raises what interrupts."""
        self._connections.pause(seconds)


def new_connections(
    policy: FetchPolicy = DEFAULT_POLICY,
    server: str = "",
    *,
    permit: Permit | None = None,
    interrupt: Callable[[], None] | None = None,
    access: Access | None = None,
) -> Connections:
    """Connections as patient as ``policy``, which send to ``server`` the login that it names; use
    as a context manager. ``permit``, ``interrupt`` and ``access``: see Connections."""
    connections = Connections(
        connect=policy.connect,
        silence=policy.silence,
        permit=permit,
        interrupt=interrupt,
        access=access,
    )
    if server:
        connections.learn_login(server)
    return connections


def open_url(
    connections: Connections,
    url: str,
    headers: dict[str, str] | None = None,
    *,
    until: float | None = None,
) -> Response:
    """GET ``url`` with its body unread, following redirects that keep the scheme.

    All of them end at ``until``, a moment on the monotonic clock (without one, 60 s from now).
    Raises TransientError where the server cannot be reached and AgentError ``bad-redirect``; any
    other status than a redirect is returned. The caller closes the response.
    """
    until = monotonic() + DEFAULT_POLICY.answer if until is None else until
    asked = request_headers(headers)
    current = url
    for _ in range(MAX_REDIRECTS + 1):
        response = connections.get(current, asked, until)
        following = redirection(response, current)
        if following is None:
            return response
        response.close()
        current = following
    raise too_many_redirects(url)


def request_headers(headers: dict[str, str] | None = None) -> dict[str, str]:
    """``headers``, and those of every request."""
    return {"Accept-Encoding": "identity", "User-Agent": "kubesolo-update"} | (headers or {})


def redirection(response: Response, current: str) -> str | None:
    """Where the answer of ``current`` leads; None where it leads nowhere.

    Raises AgentError ``bad-redirect`` for another scheme.
    """
    location = response.header("Location")
    if response.status not in _REDIRECTS or location is None:
        return None
    try:
        return _follow(current, location, urlsplit(current).scheme)
    except AgentError:
        response.close()
        raise


def too_many_redirects(url: str) -> AgentError:
    """What to raise after MAX_REDIRECTS."""
    return AgentError(f"{url} redirects more than {MAX_REDIRECTS} times", code="bad-redirect")


def _follow(current: str, location: str, scheme: str) -> str:
    try:
        following = without_login(urljoin(current, location))
        usable = parse_url(following).origin.scheme == scheme
    except ValueError:
        following, usable = location, False
    if usable:
        return following
    shown, current = (text.partition("?")[0] for text in (following, current))
    raise AgentError(
        f"{current} redirects to {hide_logins(shown)!r}, and only {scheme} is followed from there",
        code="bad-redirect",
        hint="set server= to the address that the releases really have; or a login page of the "
        "network is in between",
    )


def check_status(response: Answer, url: str, setting: str = "server") -> None:
    """Raise HttpStatusError, TransientError where waiting may help, or AgentError for a login
    that is missing, for an error status. ``setting`` is the key that names the source."""
    status = response.status
    if status < 400 and status not in _REDIRECTS:
        return
    if status == _LOGIN_REQUIRED:
        raise AgentError(
            f"{url} answered 511: the network asks for a login",
            code="captive-portal",
            hint="log in to the network, or let this node through without it",
        )
    if status == _UNAUTHORISED:
        raise _login_error(url, refused=getattr(response, "logged_in", False))
    if status == _FORBIDDEN:
        raise HttpStatusError(
            f"{url} answered 403",
            status=status,
            code="access-denied",
            hint=f"check {setting}= in update.conf, and what this node's login may read",
        )
    if status >= 500 or status in _TRANSIENT:
        wait = _retry_after(response)
        asked = "" if wait is None else f" and asked to wait {wait:.0f} s"
        raise TransientError(
            f"{url} answered {status}{asked}", hint="try again later", retry_after=wait
        )
    raise HttpStatusError(
        f"{url} answered {status}", status=status, hint=f"check {setting}= in update.conf"
    )


def _login_error(url: str, *, refused: bool) -> AgentError:
    if refused:
        return AgentError(
            f"{url} refuses this node's login (401)",
            code="login-refused",
            hint="check username= and password=, or bearer_token=, in update.conf",
        )
    return AgentError(
        f"{url} wants a login (401)",
        code="login-required",
        hint="set username= and password=, or bearer_token=, in update.conf; the server that "
        "update.conf names gets them, and no other",
    )


def _retry_after(response: Answer) -> float | None:
    """Seconds, from ``Retry-After: 120`` or a date; None where it says nothing that is usable."""
    text = (response.header("Retry-After") or "").strip()
    if text.isascii() and text.isdigit() and len(text) < 10:
        return float(text)
    if not text:
        return None
    from email.utils import parsedate_to_datetime

    try:
        # By the server's own clock, if it says it: the node's may be wrong.
        now = parsedate_to_datetime(response.header("Date") or "")
        return max((parsedate_to_datetime(text) - now).total_seconds(), 0.0)
    except (TypeError, ValueError, OverflowError):
        return None


def is_page(response: Answer, beginning: bytes) -> bool:
    """Whether a body that begins so is a web page; no metadata begins like one."""
    first = beginning.lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
    return first == b"<" or (says_page(response) and first not in (b"{", b"["))


def says_page(response: Answer) -> bool:
    """Whether the server calls the body a web page."""
    kind = (response.header("Content-Type") or "").partition(";")[0].strip().lower()
    return kind in _PAGES


def page_error(url: str, setting: str = "server") -> AgentError:
    """What to raise for a web page in place of a file."""
    return AgentError(
        f"{url} answered with a web page instead of the file",
        code="captive-portal",
        hint="a login page of the network may be in between; else the web server answers with a "
        "page for files that it does not have (a fallback rule), and must answer 404; else check "
        f"{setting}=",
    )
