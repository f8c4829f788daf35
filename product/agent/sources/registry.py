"""Pulling from an OCI registry: manifests, blobs, and what refers to them.

Registries differ in what they say before a login, so only this client's own words count: the scope
is always ``repository:NAME:pull``, manifests are asked for by both types, and digests are those of
the bytes. A login goes to the registry and to the token server that it names, never over http from
a registry of https, and never where a redirect leads.

Codes of the errors: ``login-required`` (the registry wants a login, and none is configured),
``login-refused``, ``access-denied``, ``no-repository``, ``no-tag``, ``no-registry`` (what
answers is none), ``insecure-login``, ``bad-oci-manifest``, ``digest-mismatch``, ``size-mismatch``,
and those of product.agent.sources.exchange.
"""

from __future__ import annotations

import hashlib
import json
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote, urljoin

from product.agent.errors import AgentError
from product.agent.net.connections import TransientError
from product.agent.net.urls import Origin, parse_url, without_login
from product.agent.settings import DEFAULT_TAG
from product.agent.sources.exchange import (
    MAX_REDIRECTS,
    HttpStatusError,
    check_status,
    is_page,
    page_error,
    redirection,
    request_headers,
    says_page,
    too_many_redirects,
)
from product.agent.sources.http import range_header
from product.agent.sources.oci_manifest import (
    IMAGE,
    INDEX,
    MAX_MANIFEST,
    Descriptor,
    bad_oci_manifest,
    parse_oci_manifest,
)
from product.agent.sources.protocol import DEFAULT_POLICY

if TYPE_CHECKING:
    from product.agent.net.challenge import Challenge
    from product.agent.net.connections import Connections, Response

# The registry that people call docker.io.
_ALIASES = {"docker.io": "registry-1.docker.io"}
_ACCEPT = f"{INDEX}, {IMAGE}"
_MAX_ANSWER = 64 * 1024
_CHUNK = 64 * 1024
# What registries without the referrers interface answer, and proxies before them.
_NO_REFERRERS = (400, 404, 405, 406, 501)
# cosign 2.5 writes the type of the configuration into that index, whatever the manifest says.
_UNTOLD = (None, "application/vnd.oci.empty.v1+json")
_SETTING = "registry"


class Reference(NamedTuple):
    """A repository of a registry, ``base`` being its URL; ``tag`` may be a digest."""

    base: str
    host: str
    name: str
    tag: str


class Manifest(NamedTuple):
    """``digest`` is that of ``data``, whatever the registry calls it."""

    data: bytes
    media_type: str
    digest: str


def parse_reference(registry: str, tag: str | None = None) -> Reference:
    """What ``registry=`` and ``tag=`` name: by https, unless an ``http://`` stands before it.

    Raises AgentError ``no-server``.
    """
    scheme, separator, rest = registry.partition("://")
    if not separator:
        scheme, rest = "https", registry
    host, _, name = rest.strip("/").partition("/")
    scheme = {"oci": "https"}.get(scheme.lower(), scheme.lower())
    base = f"{scheme}://{_ALIASES.get(host, host)}/v2/{name}"
    try:
        parse_url(base)
        usable = bool(name) and "@" not in host
    except ValueError:
        usable = False
    if not usable:
        raise AgentError(
            f"{registry!r} is not a repository of a registry",
            code="no-server",
            hint="registry= must look like registry.example.com/kubesolo-os",
        )
    return Reference(base, host, name, tag or DEFAULT_TAG)


class Registry:
    """One repository of a registry, asked over ``connections``, which send no login by themselves.

    ``login`` is the value of the header Authorization that proves who the node is: a Basic one is
    shown where it is asked for, a Bearer one at once.
    """

    def __init__(
        self, connections: Connections, reference: Reference, *, login: str | None = None
    ) -> None:
        self.reference = reference
        self._connections = connections
        self._origin = parse_url(reference.base).origin
        self._login = login
        # What the registry is shown now.
        self._shown = login if login and login.startswith("Bearer ") else None

    def manifest(
        self, reference: str, *, fresh: bool = False, until: float | None = None
    ) -> Manifest:
        """An index or an image manifest, by tag or by digest. Raises AgentError."""
        headers = {"Accept": _ACCEPT}
        if fresh:
            headers |= {"Cache-Control": "no-cache", "Pragma": "no-cache"}
        path = f"manifests/{reference}"
        response = self._get(path, headers, until)
        url = f"{self.reference.base}/{path}"
        try:
            if response.status == 404:
                raise self._not_found(response, url)
            _require_ok(response, url)
            data = _read(response, MAX_MANIFEST + 1)
            if is_page(response, data):
                raise page_error(url, _SETTING)
        finally:
            response.close()
        if len(data) > MAX_MANIFEST:
            raise bad_oci_manifest(url, f"is larger than {MAX_MANIFEST} bytes")
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        if reference.startswith("sha256:") and digest != reference:
            raise AgentError(
                f"{url} is {digest}: not what was asked for",
                code="digest-mismatch",
                hint="the registry, or somebody between, serves other bytes",
            )
        return Manifest(data, response.header("Content-Type") or "", digest)

    def blob(
        self, digest: str, start: int = 0, end: int | None = None, *, until: float | None = None
    ) -> Response:
        """A blob from ``start`` to ``end``, unread and unverified; 404 where there is none."""
        return self._get(f"blobs/{digest}", range_header(start, end), until)

    def content(self, row: Descriptor, most: int, *, until: float | None = None) -> bytes:
        """A small blob, of the size and the digest that ``row`` says. Raises AgentError."""
        url = f"{self.reference.base}/blobs/{row.digest}"
        if row.size > most:
            raise bad_oci_manifest(url, f"has {row.size} bytes, more than {most}")
        response = self.blob(row.digest, until=until)
        try:
            _require_ok(response, url)
            data = _read(response, row.size + 1)
            if len(data) != row.size and is_page(response, data):
                raise page_error(url, _SETTING)
        finally:
            response.close()
        if len(data) != row.size:
            found = f"{len(data)}" if len(data) < row.size else f"more than {row.size}"
            raise AgentError(
                f"{url} has {found} bytes, and its manifest says {row.size}",
                code="size-mismatch",
                hint="the registry's copy is damaged; tell whoever publishes it",
            )
        if f"sha256:{hashlib.sha256(data).hexdigest()}" != row.digest:
            raise AgentError(
                f"{url} is other bytes than its digest says",
                code="digest-mismatch",
                hint="the registry's copy is damaged or was tampered with; tell whoever publishes "
                "it",
            )
        return data

    def referrers(
        self, digest: str, artifact_type: str, *, until: float | None = None
    ) -> list[Descriptor]:
        """Manifests whose subject is ``digest``: of that type, or of one that nobody told.

        A registry without this interface has them in an index by the tag ``sha256-HEX``.
        """
        path = f"referrers/{digest}"
        url = f"{self.reference.base}/{path}"
        query = f"?artifactType={quote(artifact_type, safe='')}"
        response = self._get(path + query, {"Accept": INDEX}, until)
        try:
            known = response.status == 200 and not says_page(response)
            if not known and response.status != 200 and response.status not in _NO_REFERRERS:
                _require_ok(response, url)
            data = _read(response, MAX_MANIFEST + 1) if known else b""
        finally:
            response.close()
        if not known:
            try:
                data = self.manifest(digest.replace(":", "-"), until=until).data
            except AgentError as error:
                if error.code != "no-tag":
                    raise
                return []
        rows = parse_oci_manifest(data, url).rows
        return [row for row in rows if row.artifact_type in (artifact_type, *_UNTOLD)]

    def _get(self, path: str, headers: dict[str, str], until: float | None) -> Response:
        """The answer to a request of the repository, once the registry knows who asks.

        The statuses 401 and 403 never come back; another's of a redirect is a TransientError,
        because a link that expired is made anew by the next try.
        """
        url = f"{self.reference.base}/{path}"
        until = monotonic() + DEFAULT_POLICY.answer if until is None else until
        shown = self._shown
        response, own = self._ask(url, headers, shown, self._origin, until)
        if response.status == 404 and own and shown is None and self._login:
            # Some hide from a stranger what they show to whom they know.
            response.close()
            self._shown = self._login
            response, own = self._ask(url, headers, self._shown, self._origin, until)
        if response.status == 401 and own:
            challenges = response.headers("WWW-Authenticate")
            response.close()
            self._shown = self._authorize(challenges, until)
            response, own = self._ask(url, headers, self._shown, self._origin, until)
        if response.status not in (401, 403):
            return response
        try:
            if not own:
                raise TransientError(
                    f"{url} leads to a place that answers {response.status}", hint="try again later"
                )
            if response.status == 401:
                self._shown = None
                raise self._refused(url)
            raise self._denied(url, response)
        finally:
            response.close()

    def _ask(
        self, url: str, headers: dict[str, str], shown: str | None, home: Origin, until: float
    ) -> tuple[Response, bool]:
        """The answer, redirects followed, and whether it is of ``home``, which alone is shown
        ``shown``."""
        asked = request_headers(headers)
        current = url
        for _ in range(MAX_REDIRECTS + 1):
            own = parse_url(current).origin == home
            proof = {"Authorization": shown} if shown and own else {}
            response = self._connections.get(current, asked | proof, until)
            following = redirection(response, current)
            if following is None:
                return response, own
            response.close()
            current = following
        raise too_many_redirects(url)

    def _authorize(self, headers: list[str], until: float) -> str:
        """What to show from now on. Raises AgentError where nothing will do."""
        from product.agent.net.challenge import parse_challenges

        url = self.reference.base
        challenges = parse_challenges(headers)
        for challenge in challenges:
            if challenge.scheme == "bearer" and challenge.parameters.get("realm"):
                if self._login and self._login.startswith("Bearer "):
                    raise self._refused(url)
                return f"Bearer {self._token(challenge, until)}"
        basic = any(challenge.scheme == "basic" for challenge in challenges)
        if basic and self._login and self._login.startswith("Basic "):
            return self._login
        raise self._refused(url)

    def _token(self, challenge: Challenge, until: float) -> str:
        """A token to pull by, from the server that the registry names."""
        said = challenge.parameters
        try:
            realm = without_login(urljoin(f"{self.reference.base}/", said["realm"]))
            home = parse_url(realm).origin
        except ValueError:
            raise AgentError(
                f"{self._host} names {said['realm'][:200]!r} as its token server",
                code="no-registry",
            ) from None
        secure = home.scheme == "https" or self._origin.scheme == "http"
        if self._login and not secure:
            raise AgentError(
                f"{self._host} sends logins to {home.header} by http, where everybody could read "
                "them",
                code="insecure-login",
                hint="the registry must name an https:// token server",
            )
        query = f"scope={quote(f'repository:{self.reference.name}:pull', safe='')}"
        if service := said.get("service"):
            query = f"service={quote(service, safe='')}&{query}"
        url = f"{realm}{'&' if '?' in realm else '?'}{query}"
        response, own = self._ask(url, {}, self._login, home, until)
        where = realm.partition("?")[0]
        try:
            if response.status == 401 and own:
                raise self._refused(where)
            if response.status == 403 and own:
                raise self._denied(where, response)
            _require_ok(response, where)
            data = _read(response, _MAX_ANSWER)
            if is_page(response, data):
                raise page_error(where, _SETTING)
        finally:
            response.close()
        if token := _found_token(data):
            return token
        raise AgentError(f"{where} answered without a token", code="no-registry")

    @property
    def _host(self) -> str:
        return self.reference.host

    def _refused(self, url: str) -> AgentError:
        if self._login is None:
            return AgentError(
                f"{url} wants a login, and none is configured",
                code="login-required",
                hint="set username= and password=, or bearer_token=, in update.conf",
            )
        return AgentError(
            f"{url} does not take this node's login",
            code="login-refused",
            hint="check username= and password=, or bearer_token=, in update.conf",
        )

    def _denied(self, url: str, response: Response) -> AgentError:
        who = "this node's login" if self._login else "somebody without a login"
        return AgentError(
            f"{url} does not let {who} pull {self.reference.name}{_said(response)}",
            code="access-denied",
            hint="the registry's owner must allow it to pull"
            if self._login
            else "set username= and password= in update.conf, or make the repository public",
        )

    def _not_found(self, response: Response, url: str) -> AgentError:
        data = _read(response, _MAX_ANSWER)
        if is_page(response, data):
            return AgentError(
                f"{url} answered 404 with a web page: no registry answers there",
                code="no-registry",
                hint="check registry= in update.conf",
            )
        hint = "check registry= and tag= in update.conf"
        if self._login is None:
            hint += "; some registries hide what a login would show"
        if "NAME_UNKNOWN" in _codes(data):
            return AgentError(
                f"{self._host} has no repository {self.reference.name}",
                code="no-repository",
                hint=hint,
            )
        return AgentError(
            f"{self._host} has no {url.rpartition('/')[2]} of {self.reference.name}",
            code="no-tag",
            hint=hint,
        )


def _require_ok(response: Response, url: str) -> None:
    """Raise what a status other than 200 means."""
    check_status(response, url, _SETTING)
    if response.status != 200:
        raise HttpStatusError(
            f"{url} answered {response.status} to a plain request", status=response.status
        )


def _read(response: Response, most: int) -> bytes:
    content = bytearray()
    while len(content) < most and (chunk := response.read1(min(_CHUNK, most - len(content)))):
        content += chunk
    return bytes(content)


def _codes(data: bytes) -> list[str]:
    """The codes of an error's body, as the distribution specification has it."""
    try:
        return [str(error["code"])[:64] for error in json.loads(data)["errors"]]
    except (ValueError, LookupError, TypeError, RecursionError):
        return []


def _said(response: Response) -> str:
    codes = _codes(_read(response, _MAX_ANSWER))
    return f" ({codes[0]})" if codes and codes[0].isprintable() else ""


def _found_token(data: bytes) -> str | None:
    """Registries call it by two names; it goes into a header, so it is letters alone."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return None
    for key in ("token", "access_token"):
        value = document.get(key) if isinstance(document, dict) else None
        if isinstance(value, str) and value and all("!" <= letter <= "~" for letter in value):
            return value
    return None
