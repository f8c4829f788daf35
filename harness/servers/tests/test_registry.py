"""The real registry that tests push to and nodes fetch from."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import select
import signal
import socket
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from harness.errors import LaunchError
from harness.servers.registry import Access, Login, Registry, Tls
from product.agent.net.tests.support_tls import certificate
from product.image.cache import Cache
from product.image.tools import IMAGES, HostTools

LIMIT = 30.0
LOGIN = Login("reader", "a: pass/word")


@pytest.fixture(scope="module")
def tools() -> HostTools:
    return HostTools.prepare(Cache(), IMAGES / "registry-tools.toml")


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def push(tools: HostTools, folder: Path, name: str) -> None:
    """A file ``file`` of ``folder``, as a person would."""
    (folder / "file").write_bytes(b"content")
    home = {"HOME": str(folder)}
    argv = ("push", "--plain-http", name, "file:text/plain")
    tools.run("oras", *argv, cwd=folder, environment=home)


def started(stack: ExitStack, tmp_path: Path, **options: object) -> Registry:
    return stack.enter_context(Registry(runs=tmp_path / "runs", **options))  # type: ignore[arg-type]


def ask(
    registry: Registry, path: str = "/v2/", login: Login | None = None, ca: Path | None = None
) -> tuple[int, bytes]:
    request = urllib.request.Request(registry.url + path)
    if login:
        word = base64.b64encode(f"{login.username}:{login.password}".encode()).decode()
        request.add_header("Authorization", f"Basic {word}")
    context = ssl.create_default_context(cafile=ca) if ca else None
    try:
        with urllib.request.urlopen(request, timeout=LIMIT, context=context) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def test_oras_pushes_a_file_and_fetches_it(
    stack: ExitStack, tmp_path: Path, tools: HostTools
) -> None:
    registry = started(stack, tmp_path, tools=tools)
    push(tools, tmp_path, f"{registry.host}/folder/name:tag")
    assert json.loads(ask(registry, "/v2/folder/name/tags/list")[1])["tags"] == ["tag"]
    digest = hashlib.sha256(b"content").hexdigest()
    assert ask(registry, f"/v2/folder/name/blobs/sha256:{digest}") == (200, b"content")
    requests = registry.requests()
    assert Access("GET", f"/v2/folder/name/blobs/sha256:{digest}", 200, 7) in requests
    assert [each.status for each in requests if each.method == "PUT"] == [201] * 3


def test_what_is_stored_survives_a_stop_and_the_port_stays(
    stack: ExitStack, tmp_path: Path, tools: HostTools
) -> None:
    registry = started(stack, tmp_path, tools=tools)
    push(tools, tmp_path, f"{registry.host}/name:tag")
    port = registry.port
    registry.stop()
    with pytest.raises(urllib.error.URLError, match="refused"):
        ask(registry)
    registry.start()
    assert registry.port == port
    assert json.loads(ask(registry, "/v2/name/tags/list")[1])["tags"] == ["tag"]


def test_two_have_nothing_in_common(stack: ExitStack, tmp_path: Path, tools: HostTools) -> None:
    one, other = (started(stack, tmp_path, tools=tools) for _ in range(2))
    assert one.port != other.port
    assert one.storage != other.storage
    assert one.guest_host == f"10.0.2.2:{one.port}"


def test_a_login_is_asked_for(stack: ExitStack, tmp_path: Path, tools: HostTools) -> None:
    registry = started(stack, tmp_path, tools=tools, login=LOGIN)
    assert ask(registry)[0] == 401
    assert ask(registry, login=Login("reader", "other"))[0] == 401
    assert ask(registry, login=LOGIN) == (200, b"{}")


def test_it_speaks_tls(stack: ExitStack, tmp_path: Path, tools: HostTools) -> None:
    pem = certificate(tmp_path)
    registry = started(stack, tmp_path, tools=tools, tls=Tls(pem, pem))
    assert registry.url.startswith("https://127.0.0.1:")
    assert ask(registry, ca=pem) == (200, b"{}")
    with pytest.raises(urllib.error.URLError, match="CERTIFICATE_VERIFY_FAILED"):
        ask(registry)


def test_it_asks_for_a_clients_certificate(
    stack: ExitStack, tmp_path: Path, tools: HostTools
) -> None:
    pem = certificate(tmp_path)
    registry = started(stack, tmp_path, tools=tools, tls=Tls(pem, pem, client_ca=pem))
    with pytest.raises((urllib.error.URLError, OSError)):
        ask(registry, ca=pem)
    context = ssl.create_default_context(cafile=pem)
    context.load_cert_chain(pem)
    with urllib.request.urlopen(f"{registry.url}/v2/", timeout=LIMIT, context=context) as answer:
        assert answer.status == 200


def test_a_port_in_use_is_a_clear_error(tmp_path: Path, tools: HostTools) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with (
            pytest.raises(LaunchError, match=f"(?s)ended on port {port}.*address already in use"),
            Registry(tools=tools, runs=tmp_path / "runs", port=port),
        ):
            pass
    assert list((tmp_path / "runs").iterdir()) == []


def test_an_error_ends_it_and_leaves_nothing(tmp_path: Path, tools: HostTools) -> None:
    watched = -1
    try:
        with Registry(tools=tools, runs=tmp_path / "runs") as registry:
            assert registry.pid is not None
            watched = os.pidfd_open(registry.pid)
            raise ZeroDivisionError
    except ZeroDivisionError:
        assert select.select([watched], [], [], LIMIT)[0]
    os.close(watched)
    assert list((tmp_path / "runs").iterdir()) == []


RUNNER = """
import sys
from pathlib import Path
from harness.servers.registry import Registry
with Registry(runs=Path(sys.argv[1])) as registry:
    print(registry.pid, flush=True)
    sys.stdin.read()
"""


def test_it_does_not_outlive_a_killed_runner(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", RUNNER, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as runner:
        assert runner.stdout is not None
        watched = os.pidfd_open(int(runner.stdout.readline()))
        runner.send_signal(signal.SIGKILL)
        assert select.select([watched], [], [], LIMIT)[0]
        os.close(watched)


def test_no_setting_of_the_runner_reaches_it(
    stack: ExitStack, tmp_path: Path, tools: HostTools, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REGISTRY_STORAGE_MAINTENANCE_READONLY", "{enabled: true}")
    registry = started(stack, tmp_path, tools=tools)
    push(tools, tmp_path, f"{registry.host}/name:tag")
