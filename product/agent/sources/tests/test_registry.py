"""Pulling from registries as they really are."""

from __future__ import annotations

import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from product.agent.errors import AgentError
from product.agent.net.connections import Connections, TransientError
from product.agent.net.tests.support_tls import certificate
from product.agent.settings import registry_address
from product.agent.sources.oci_manifest import Descriptor
from product.agent.sources.registry import Manifest, Registry, parse_reference
from product.agent.tests import support_http as http
from product.agent.tests import support_registry as support
from product.agent.tests.support_registry import BASIC, INDEX, NAME, digest

BLOB = bytes(range(256)) * 100
PINNED = f"sha256:{'0' * 64}"
TAGGED = b'{"schemaVersion": 2, "manifests": []}'


@pytest.fixture
def server(tmp_path: Path) -> Iterator[support.Server]:
    with support.serve(tmp_path) as running:
        running.content.blob(BLOB, "application/x")
        running.content.raw(TAGGED, INDEX, "latest")
        yield running


@pytest.fixture
def secure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[support.Server]:
    """The same by TLS."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate(tmp_path)))
    with support.serve(tmp_path, tmp_path / "server.pem") as running:
        running.content.raw(TAGGED, INDEX, "latest")
        yield running


@pytest.fixture
def connections() -> Iterator[Connections]:
    with Connections(connect=5.0, silence=5.0) as made:
        yield made


Client = Callable[..., Registry]


@pytest.fixture
def client(connections: Connections) -> Client:
    def make(server: support.Server, login: str | None = None) -> Registry:
        return Registry(connections, parse_reference(server.place), login=login)

    return make


def refusal(registry: Registry, reference: str = "latest") -> AgentError:
    with pytest.raises(AgentError) as caught:
        registry.manifest(reference)
    return caught.value


def blob(registry: Registry, start: int = 0, end: int | None = None) -> tuple[int, bytes]:
    response = registry.blob(digest(BLOB), start, end)
    try:
        content = b""
        while chunk := response.read1(65536):
            content += chunk
        return response.status, content
    finally:
        response.close()


def authorizations(server: support.Server, path: str = "/v2/") -> list[str | None]:
    return [
        headers.get("authorization")
        for (asked, _), headers in zip(server.seen, server.headers, strict=True)
        if asked.startswith(path)
    ]


@pytest.mark.parametrize(
    ("registry", "tag", "base", "address"),
    [
        ("r.example/os", None, "https://r.example/v2/os", "oci://r.example/os:latest"),
        ("r.example:5000/a/os", "1", "https://r.example:5000/v2/a/os", "oci://r.example:5000/a/os:1"),
        ("http://10.0.2.2:5/os", "x", "http://10.0.2.2:5/v2/os", "oci://10.0.2.2:5/os:x"),
        ("HTTPS://r.example/os", None, "https://r.example/v2/os", "oci://r.example/os:latest"),
        ("oci://r.example/os", None, "https://r.example/v2/os", "oci://r.example/os:latest"),
        ("localhost/os", None, "https://localhost/v2/os", "oci://localhost/os:latest"),
        ("docker.io/a/b", None, "https://registry-1.docker.io/v2/a/b", "oci://docker.io/a/b:latest"),
        ("[::1]:5000/os", None, "https://[::1]:5000/v2/os", "oci://[::1]:5000/os:latest"),
        ("r.example/os", PINNED, "https://r.example/v2/os", f"oci://r.example/os@{PINNED}"),
    ],
)  # fmt: skip
def test_a_reference_is_by_https_unless_it_says_http(
    registry: str, tag: str | None, base: str, address: str
) -> None:
    assert parse_reference(registry, tag).base == base
    assert registry_address(registry, tag) == address


@pytest.mark.parametrize("registry", ["", "r.example", "ftp://r/os", "me:w@r.example/os", "r:x/os"])
def test_what_names_no_repository_is_refused(registry: str) -> None:
    with pytest.raises(AgentError) as caught:
        parse_reference(registry)
    assert caught.value.code == "no-server"


def test_a_manifest_comes_by_tag_and_by_digest(client: Client, server: support.Server) -> None:
    registry = client(server)
    expected = Manifest(TAGGED, INDEX, digest(TAGGED))
    assert registry.manifest("latest") == expected
    assert registry.manifest(digest(TAGGED)) == expected
    assert [path for path, _ in server.seen] == [
        f"/v2/{NAME}/manifests/latest", f"/v2/{NAME}/manifests/{digest(TAGGED)}",
    ]  # fmt: skip


def test_the_digest_is_of_the_bytes_whatever_the_registry_says(
    client: Client, server: support.Server
) -> None:
    said = {"Docker-Content-Digest": f"sha256:{'1' * 64}", "Content-Type": INDEX}
    server.misbehave("latest", lambda handler, data, start: handler.answer(200, data, said))
    assert client(server).manifest("latest").digest == digest(TAGGED)
    server.misbehave("sha256", http.replaced(TAGGED + b" ", INDEX))
    assert refusal(client(server), digest(TAGGED)).code == "digest-mismatch"


@pytest.mark.parametrize(
    ("start", "end", "status", "expected"),
    [
        (0, None, 200, BLOB),
        (100, None, 206, BLOB[100:]),
        (100, 199, 206, BLOB[100:200]),
        (len(BLOB), None, 416, b""),
    ],
)
def test_a_blob_comes_whole_or_in_part(
    client: Client,
    server: support.Server,
    start: int,
    end: int | None,
    status: int,
    expected: bytes,
) -> None:
    assert blob(client(server), start, end) == (status, expected)


# Logins.


@pytest.mark.parametrize(
    ("realm", "scope"),
    [
        (None, None),
        (None, ""),
        (None, "repository:user/image:pull"),
        (None, "repository::pull"),
        (None, "repository:user/image:pull,push"),
        ("/token", None),
        ("../../../token", None),
        ("/token?account=x", None),
    ],
)
@pytest.mark.parametrize("key", ["token", "access_token"])
def test_a_stranger_asks_for_a_token_by_the_clients_own_scope(
    client: Client, server: support.Server, realm: str | None, scope: str | None, key: str
) -> None:
    server.ask_for_token(realm, scope)
    server.token_key = key
    registry = client(server)
    assert registry.manifest("latest").data == TAGGED
    assert blob(registry) == (200, BLOB)
    assert server.tokens == 1, "the token is kept"
    [query] = server.token_queries
    assert query["scope"] == [f"repository:{NAME}:pull"]
    assert query["service"] == ["registry.test"]
    assert query.get("account") == (["x"] if realm and "account" in realm else None)
    assert authorizations(server, "/token") == [None]


@pytest.mark.parametrize(
    "challenges",
    [
        ['Basic realm="releases", Bearer realm="{}/token",service="registry.test"'],
        ['Bearer realm="{}/token",service="registry.test", Basic realm="releases"'],
        ['Basic realm="releases"', 'Bearer realm="{}/token",service="registry.test"'],
        ['Negotiate', 'NTLM TlRMTVNTUAAB=', 'bearer service="registry.test" , realm="{}/token"'],
        ['Bearer error="insufficient_scope",realm="{}/token",service="registry.test"'],
    ],
)  # fmt: skip
def test_of_several_challenges_the_usable_one_counts(
    client: Client, server: support.Server, challenges: list[str]
) -> None:
    server.challenges = [challenge.format(server.url) for challenge in challenges]
    assert client(server).manifest("latest").data == TAGGED


def test_a_login_is_shown_to_the_token_server_alone(client: Client, server: support.Server) -> None:
    server.ask_for_token()
    server.token_login = BASIC
    assert client(server, BASIC).manifest("latest").data == TAGGED
    assert authorizations(server, "/token") == [BASIC]
    assert authorizations(server) == [None, "Bearer token-1"]


def test_a_login_is_shown_to_a_registry_that_wants_a_password(
    client: Client, server: support.Server
) -> None:
    server.ask_for_password()
    registry = client(server, BASIC)
    assert registry.manifest("latest").data == TAGGED
    assert blob(registry) == (200, BLOB)
    assert authorizations(server) == [None, BASIC, BASIC]


def test_a_bearer_token_is_shown_at_once(client: Client, server: support.Server) -> None:
    server.ask_for_token()
    server.accepted["Bearer own"] = 10
    assert client(server, "Bearer own").manifest("latest").data == TAGGED
    assert authorizations(server) == ["Bearer own"]


def test_what_is_hidden_from_a_stranger_is_asked_for_with_the_login(
    client: Client, server: support.Server
) -> None:
    server.misbehave("latest", http.status(404), times=1)
    assert client(server, BASIC).manifest("latest").data == TAGGED
    assert authorizations(server) == [None, BASIC]


@pytest.mark.parametrize("by_token", [True, False])
@pytest.mark.parametrize(
    ("login", "code"),
    [
        (None, "login-required"),
        (f"Basic {b64encode(b'me:wrong').decode()}", "login-refused"),
        ("Bearer wrong", "login-refused"),
    ],
)
def test_a_missing_login_and_a_wrong_one_are_told_apart(
    client: Client, server: support.Server, by_token: bool, login: str | None, code: str
) -> None:
    if by_token:
        server.ask_for_token()
        server.token_login = BASIC
    else:
        server.ask_for_password()
    error = refusal(client(server, login))
    assert (error.code, isinstance(error, TransientError)) == (code, False)
    assert "username=" in str(error.hint)
    assert len(server.seen) <= 4


def test_a_token_that_the_registry_does_not_take_is_asked_for_once(
    client: Client, server: support.Server
) -> None:
    server.ask_for_token()
    server.token_uses = 0
    assert refusal(client(server)).code == "login-required"
    assert server.tokens == 1


def test_a_token_that_is_used_up_is_asked_for_anew(client: Client, server: support.Server) -> None:
    server.ask_for_token()
    server.token_uses = 1
    registry = client(server)
    for start in (0, 1000, 2000):
        assert blob(registry, start)[1] == BLOB[start:]
    assert server.tokens == 3


@pytest.mark.parametrize(
    "challenges",
    [
        [], [""], ["Bearer"], ['Bearer service="x"'], ['Bearer realm=""'], ["Digest realm=x"],
        ["=,=,\"", "a b c"], ["Basic"], ['Bearer realm="' + "x" * 9000],
    ],
)  # fmt: skip
def test_a_challenge_that_leads_nowhere_is_a_missing_login(
    client: Client, server: support.Server, challenges: list[str]
) -> None:
    def challenge(handler: http.Handler, data: bytes, start: int) -> None:
        handler.send_response(401)
        for text in challenges:
            handler.send_header("WWW-Authenticate", text)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    server.misbehave("latest", challenge)
    assert refusal(client(server)).code == "login-required"


@pytest.mark.parametrize("realm", ["ftp://h/t", "http://[", "http://h:x/", "file:///etc/passwd"])
def test_a_token_server_that_is_none_is_named(
    client: Client, server: support.Server, realm: str
) -> None:
    server.ask_for_token(realm)
    assert refusal(client(server)).code == "no-registry"


@pytest.mark.parametrize(
    ("behaviour", "code"),
    [
        (http.replaced(b"{}"), "no-registry"),
        (http.replaced(b"[]"), "no-registry"),
        (http.replaced(b"[" * 100_000), "no-registry"),
        (http.replaced(b'{"token": 1}'), "no-registry"),
        (http.replaced(b'{"token": "a\\r\\nX-Evil: 1"}'), "no-registry"),
        (http.replaced(b'{"token": "\\u00e4"}'), "no-registry"),
        (http.replaced(b"<html>", "text/html"), "captive-portal"),
        (http.status(403), "access-denied"),
        (http.status(404), "server-unreachable"),
        (http.status(405), "server-unreachable"),
        (http.status(500), "server-unreachable"),
        (http.status(429), "server-unreachable"),
        (http.endless, "no-registry"),
        (http.redirect("/token"), "bad-redirect"),
    ],
)
def test_a_token_server_that_fails_is_told_by_name(
    client: Client, server: support.Server, behaviour: http.Behaviour, code: str
) -> None:
    server.ask_for_token()
    server.misbehave("^/token", behaviour)
    assert refusal(client(server)).code == code


def test_a_login_goes_never_by_http_where_the_registry_is_by_https(
    client: Client, secure: support.Server, server: support.Server
) -> None:
    secure.ask_for_token(f"{server.url}/token")
    error = refusal(client(secure, BASIC))
    assert error.code == "insecure-login"
    assert server.seen == []
    # A stranger has nothing to lose.
    secure.accepted["Bearer token-1"] = 10
    assert client(secure).manifest("latest").data == TAGGED
    assert authorizations(server, "/token") == [None]


def test_a_login_and_a_token_stay_at_home_when_a_blob_is_elsewhere(
    client: Client, server: support.Server, tmp_path: Path
) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "blob").write_bytes(BLOB)
    with http.serve(tmp_path / "store") as store:
        # With what makes the link good for everybody.
        moved = f"{store.url}/blob"
        server.misbehave(
            "/blobs/", lambda handler, data, start: handler.answer(307, b"", {"Location": moved})
        )
        for login in (BASIC, "Bearer own"):
            server.ask_for_password()
            server.accepted["Bearer own"] = 10
            assert blob(client(server, login), 100) == (206, BLOB[100:])
        assert [headers.get("authorization") for headers in store.headers] == [None, None]
        # A challenge from there is no challenge of the registry's.
        store.misbehave("", http.status(401))
        with pytest.raises(TransientError, match="leads to a place that answers 401"):
            client(server, BASIC).blob(digest(BLOB))
        assert [headers.get("authorization") for headers in store.headers] == [None] * 3


def test_no_error_shows_the_signature_of_a_link(client: Client, server: support.Server) -> None:
    server.misbehave("latest", http.redirect("/elsewhere?signature=secret"))
    server.misbehave("elsewhere", http.redirect("ftp://h/?signature=secret"))
    error = refusal(client(server))
    assert error.code == "bad-redirect"
    assert "secret" not in f"{error.message} {error.hint}"


# What else a registry answers.


@pytest.mark.parametrize(
    ("behaviour", "code", "transient"),
    [
        (http.status(403), "access-denied", False),
        (http.status(403, b'{"errors": [{"code": "DENIED"}]}'), "access-denied", False),
        (http.status(404), "no-tag", False),
        (http.status(404, b'{"errors": [{"code": "MANIFEST_UNKNOWN"}]}'), "no-tag", False),
        (http.status(404, b'{"errors": [{"code": "NAME_UNKNOWN"}]}'), "no-repository", False),
        (http.status(404, b'{"errors": [7]}'), "no-tag", False),
        (http.status(404, b"<html>nginx"), "no-registry", False),
        (http.status(405), "server-unreachable", False),
        (http.status(400), "server-unreachable", False),
        (http.status(204), "server-unreachable", False),
        (http.status(429), "server-unreachable", True),
        (http.status(503), "server-unreachable", True),
        (http.status(511), "captive-portal", False),
        (http.replaced(b"<html>please log in", "text/html"), "captive-portal", False),
        (http.replaced(b"  <!DOCTYPE html>", INDEX), "captive-portal", False),
        (http.redirect("https://127.0.0.1:1/"), "bad-redirect", False),
        (http.endless, "bad-oci-manifest", False),
        (http.replaced(bytes(5_000_000), INDEX), "bad-oci-manifest", False),
        (http.cut_after(5), "server-unreachable", True),
    ],
)
def test_each_refusal_has_its_name(
    client: Client, server: support.Server, behaviour: http.Behaviour, code: str, transient: bool
) -> None:
    server.misbehave("latest", behaviour)
    error = refusal(client(server))
    assert (error.code, isinstance(error, TransientError)) == (code, transient)
    assert server.sent < 32 << 20


def test_a_repository_that_is_not_there_is_told_from_a_tag(
    client: Client, server: support.Server, connections: Connections
) -> None:
    assert refusal(client(server), "other").code == "no-tag"
    other = parse_reference(f"{server.url}/other")
    assert refusal(Registry(connections, other)).code == "no-repository"


def test_a_registry_that_asks_to_wait_says_how_long(client: Client, server: support.Server) -> None:
    server.misbehave("latest", http.retry_after(429, "30"))
    error = refusal(client(server))
    assert isinstance(error, TransientError)
    assert error.retry_after == 30


def test_an_answer_ends_at_its_deadline(client: Client, server: support.Server) -> None:
    server.misbehave("latest", http.dripping_headers)
    began = time.monotonic()
    with pytest.raises(TransientError, match="timed out"):
        client(server).manifest("latest", until=began + 0.5)
    assert time.monotonic() - began < 5


def test_a_blob_that_is_not_there_is_404(client: Client, server: support.Server) -> None:
    response = client(server).blob(digest(b"other"))
    response.close()
    assert response.status == 404


def row(data: bytes, **changes: object) -> Descriptor:
    return Descriptor("x", digest(data), len(data), None, {}, None)._replace(**changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("behaviour", "code"),
    [
        (http.tampered, "digest-mismatch"),
        (http.replaced(BLOB[:-1]), "size-mismatch"),
        (http.replaced(BLOB + b"x"), "size-mismatch"),
        (http.endless, "size-mismatch"),
        (http.status(404), "server-unreachable"),
        (http.replaced(b"<html>please log in", "text/html"), "captive-portal"),
        (http.cut_after(10), "server-unreachable"),
    ],
)
def test_a_small_blob_is_what_its_row_says(
    client: Client, server: support.Server, behaviour: http.Behaviour, code: str
) -> None:
    registry = client(server)
    assert registry.content(row(BLOB), 1 << 20) == BLOB
    server.misbehave("/blobs/", behaviour)
    with pytest.raises(AgentError) as caught:
        registry.content(row(BLOB), 1 << 20)
    assert caught.value.code == code
    # What is in the sockets' buffers comes on top of what is read.
    assert server.sent < 16 << 20


@pytest.mark.parametrize("size", [len(BLOB) - 1, len(BLOB) + 1, 0])
def test_a_row_that_says_another_size_is_refused(
    client: Client, server: support.Server, size: int
) -> None:
    with pytest.raises(AgentError) as caught:
        client(server).content(row(BLOB, size=size), 1 << 20)
    assert caught.value.code == "size-mismatch"


def test_a_row_that_says_too_much_is_not_asked_for(client: Client, server: support.Server) -> None:
    with pytest.raises(AgentError) as caught:
        client(server).content(row(BLOB), 100)
    assert caught.value.code == "bad-oci-manifest"
    assert server.seen == []


# Referrers.

SIGNATURE = "application/vnd.dev.sigstore.bundle.v0.3+json"


def test_referrers_are_of_the_type_that_was_asked_for(
    client: Client, server: support.Server
) -> None:
    rows = [server.content.image(kind, []) for kind in (SIGNATURE, "application/other")]
    server.content.referrers[digest(TAGGED)] = rows
    [found] = client(server).referrers(digest(TAGGED), SIGNATURE)
    assert found.digest == rows[0]["digest"]


@pytest.mark.parametrize(
    "behaviour",
    [
        None,
        http.status(404),
        http.status(405),
        http.status(400),
        http.status(404, b"<html>"),
        http.replaced(b"<html>a front page", "text/html"),
    ],
)
def test_a_registry_without_referrers_has_them_by_a_tag(
    client: Client, server: support.Server, behaviour: http.Behaviour | None
) -> None:
    server.has_referrers = False
    if behaviour:
        server.misbehave("/referrers/", behaviour)
    assert client(server).referrers(digest(TAGGED), SIGNATURE) == []
    rows = [server.content.image(SIGNATURE, [])]
    server.content.index(rows, digest(TAGGED).replace(":", "-"))
    [found] = client(server).referrers(digest(TAGGED), SIGNATURE)
    assert found.digest == rows[0]["digest"]


@pytest.mark.parametrize(
    ("behaviour", "code"),
    [
        (http.status(503), "server-unreachable"),
        (http.status(403), "access-denied"),
        (http.replaced(b"{", INDEX), "bad-oci-manifest"),
        (http.endless, "bad-oci-manifest"),
    ],
)
def test_referrers_that_cannot_be_read_are_no_missing_ones(
    client: Client, server: support.Server, behaviour: http.Behaviour, code: str
) -> None:
    server.misbehave("/referrers/", behaviour)
    with pytest.raises(AgentError) as caught:
        client(server).referrers(digest(TAGGED), SIGNATURE)
    assert caught.value.code == code
