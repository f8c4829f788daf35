"""What a configuration would write."""

from __future__ import annotations

import json

import pytest

from product.agent.config import load_config
from product.cloudinit.load import load_network, load_user_data
from product.cloudinit.plan import Plan, plan_network, plan_user_data
from product.cloudinit.tests.support import ED25519, edge_key, problems_of, user_data
from product.cloudinit.tests.test_keys import CERTIFICATE, PRIVATE, PUBLIC
from product.cloudinit.updates import PEM_FILES
from product.cloudinit.write_files import OWNED


def plan(body: str, **more: object) -> Plan:
    return plan_user_data(load_user_data(user_data(body)), **more)  # type: ignore[arg-type]


def files(body: str) -> dict[str, tuple[str, int]]:
    return {file.path: (file.content.decode(), file.mode) for file in plan(body).files}


def indented(pem: str) -> str:
    return "|\n" + "".join(f"      {line}\n" for line in pem.splitlines())


@pytest.mark.parametrize("text", ["no", "'no'", "check", "install"])
def test_sticks_are_left_alone_by_a_bare_no(text: str) -> None:
    found = files(f"updates:\n  usb_updates: {text}\n")
    line = found["/etc/kubesolo/update.conf"][0].splitlines()[-1]
    assert line == "usb_updates=" + text.strip("'")


def test_nothing_is_nothing() -> None:
    assert plan("") == Plan((), ("user-data:1:1: the file sets nothing",))
    assert plan_network(load_network(b"version: 2\n")) == Plan((), ())


def test_the_files_of_every_key() -> None:
    body = (
        "hostname: edge-07\nnetwork: {address: 10.0.0.5/24}\nkubesolo: {debug: true}\n"
        f"updates:\n  server: https://updates.example.org/\n  pubkey: {indented(PUBLIC)}"
        "security: {audit: no}\ntimezone: Europe/Berlin\n"
        "ntp: {servers: [a, b:1123], pools: [c, a]}\n"
        f"ca_certs:\n  trusted:\n    - {indented(CERTIFICATE)}"
        f"ssh_authorized_keys: ['{ED25519}', '{ED25519}']\nfinal_message: ready\n"
        "write_files: [{path: /etc/kubesolo/own, content: x}]\nkubeconfig: to-seed\n"
    )
    found = files(body)
    access = {path for path, _ in PEM_FILES.values()} - {"/etc/kubesolo/update-key.pem"}
    assert found.keys() == {*OWNED, "/etc/kubesolo/own"} - access
    assert found["/etc/kubesolo/hostname"] == ("edge-07\n", 0o644)
    assert found["/etc/kubesolo/timezone"] == ("Europe/Berlin\n", 0o644)
    assert found["/etc/kubesolo/ntp"] == ("a\nb:1123\nc\n", 0o644)
    assert found["/etc/kubesolo/ca-certificates.crt"] == (CERTIFICATE, 0o644)
    assert found["/etc/kubesolo/authorized_keys"] == (f"{ED25519}\n", 0o600)
    assert found["/etc/kubesolo/final_message"] == ("ready\n", 0o644)
    assert found["/etc/kubesolo/update-key.pem"] == (PUBLIC, 0o644)
    assert found["/etc/kubesolo/kubernetes.json"][1] == 0o600
    assert plan(body).kubeconfig_to_seed


def test_settings_and_those_that_the_payload_lacks() -> None:
    body = f"kubesolo: {{portainer-edge-id: '007', portainer-edge-key: {edge_key()}, mtu: 1400}}\n"
    found = plan(body, payload_settings=frozenset({"mtu"}))
    assert json.loads(found.files[0].content) == {
        "schema": 1,
        "settings": {
            "mtu": 1400,
            "portainer-edge-id": "007",
            "portainer-edge-key": edge_key().rstrip("="),
        },
    }
    (note,) = found.notes
    assert "has no portainer-edge-id, portainer-edge-key" in note
    assert edge_key()[:20] not in note
    assert plan(body).notes == ()
    without = plan(body, payload_settings=frozenset())
    assert without.files == found.files
    assert "this image has no Kubernetes" in without.notes[0]


@pytest.mark.parametrize("block", ["updates:\n", "updates: {}\n", "updates: {server: }\n"])
def test_an_empty_block_of_updates_leaves_the_file_alone(block: str) -> None:
    assert files(block) == {}


def test_update_conf_is_read_by_the_agent_as_it_was_meant(tmp_path: object) -> None:
    body = (
        "updates:\n  server: https://updates.example.org/node/\n  channel: beta\n"
        "  maintenance_window: 22:00 - 02:00\n  pubkey: /etc/kubesolo/site.pem\n"
        "  healthcheck_url: http://10.0.0.1/ok?a=b\n  healthcheck_deadline: 200\n"
        "  auto_rollback_after: 0\n  kube_system_settle: 60\n  datastore_restore: always\n"
    )
    path = f"{tmp_path}/update.conf"
    with open(path, "w") as file:
        file.write(files(body)["/etc/kubesolo/update.conf"][0])
    config = load_config(path)
    config.require_usable()
    meant = {
        "server": "https://updates.example.org/node/", "channel": "beta",
        "maintenance_window": "22:00-02:00", "pubkey": "/etc/kubesolo/site.pem",
        "healthcheck_url": "http://10.0.0.1/ok?a=b", "auto_rollback_after": 0,
        "kube_system_settle": 60, "healthcheck_deadline": 200, "datastore_restore": "always",
    }  # fmt: skip
    assert {key: getattr(config, key) for key in meant} == meant


@pytest.mark.parametrize(
    ("block", "key", "said"),
    [
        ("server: updates.example.org", "server", "is not an address like https://"),
        ("server: 'ftp://x/'", "server", "is not an address like https://"),
        ("server: 'http://x/ y'", "server", "has a blank"),
        ('server: "http://x/\\nserver=http://evil/"', "server", "has a blank"),
        ("server: 'http://x/?a=b'", "server", "is not an address like https://"),
        ("server: 'http://me:secret@x/?a=b'", "server", "'http://***@x/?a=b' is not an address"),
        ("server: 'http://me:sec/ret@x/'", "server", "'http://***@x/' is not an address"),
        ("server: 'http://me:sec@ret@x/'", "server", "'http://***@x/' is not an address"),
        ("server: 'http://x:99999/'", "server", "is not an address like https://"),
        ("server: 'http://[x/'", "server", "is not an address like https://"),
        ("server: 'http://a.b/', registry: a.b/os", "registry", "and server are both there"),
        ("tag: x", "tag", "needs registry"),
        ("channel: 'a b'", "channel", "has a blank"),
        ("channel: Beta", "channel", "is not a channel"),
        ("registry: example.org", "registry", "is not a repository like"),
        ("channel: [a]", "channel", "needs text, found a list"),
        ("maintenance_window: night", "maintenance_window", "is not a window"),
        ('maintenance_window: "22:00-\\n02:00x"', "maintenance_window", "is not a window"),
        ("maintenance_windw: 22:00-02:00", "maintenance_windw", "did you mean maintenance_window?"),
        ("healthcheck_url: x", "healthcheck_url", "is not an http or https URL"),
        ("healthcheck_deadline: 90000", "healthcheck_deadline", "is not between 0 and 86400"),
        ("auto_rollback_after: -1", "auto_rollback_after", "needs a whole number"),
        ("kube_system_settle: 1.5", "kube_system_settle", "needs a whole number"),
        ("datastore_restore: often", "datastore_restore", "is not one of minor, always, never"),
        ("proxy: proxy:3128", "proxy", "is not a proxy like http://"),
        ("rate_limit: 2 M", "rate_limit", "has a blank"),
        ("rate_limit: 2m", "rate_limit", "is not bytes a second"),
        ("require_cosign: perhaps", "require_cosign", "needs true or false"),
        ("require_cosign: true", "require_cosign", "needs cosign_key"),
        ("usb_updates: often", "usb_updates", "is not one of install, check, no"),
        ("username: me", "username", "needs password, too"),
        ("password: [hunter22]", "password", "needs text, found a list"),
        ('password: "hunter22\\n"', "password", "characters that cannot be printed"),
        ("bearer_token: hunter22 x", "bearer_token", "is a value which has what no bearer token"),
        ("client_key: hunter22", "client_key", "is not one private key as PEM"),
        ("ca_certificates: /etc/kubesolo/update-key.pem", "ca_certificates", "by another key"),
        ("pubkey: root.pub.pem", "pubkey", "is not PEM"),
        ("pubkey: /etc/kubesolo/update-key.pem", "pubkey", "put the key here"),
    ],
)
def test_a_wrong_value_of_updates_is_one_error(block: str, key: str, said: str) -> None:
    (problem,) = problems_of(load_user_data, user_data(f"updates: {{{block}}}\n"))
    assert problem.key == f"updates.{key}"
    assert said in problem.message
    assert "hunter22" not in str(problem)


def test_a_node_that_is_told_of_a_registry_looks_by_itself() -> None:
    body = "updates:\n  registry: http://10.0.2.2:5000/kubesolo-os\n  tag: edge\n"
    [(text, _)] = files(body).values()
    assert text.splitlines()[1:] == [
        "registry=http://10.0.2.2:5000/kubesolo-os", "tag=edge", "check_interval=360",
    ]  # fmt: skip


def client_files() -> tuple[str, str, str]:
    """Certificate, its private key, and the public key alone."""
    from pathlib import Path
    from tempfile import TemporaryDirectory

    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        PublicFormat,
        load_pem_private_key,
    )

    from product.agent.net.tests.support_tls import certificate

    with TemporaryDirectory() as folder:
        text = certificate(Path(folder)).read_text()
    begin = text.index("-----BEGIN CERTIFICATE")
    public = load_pem_private_key(text[:begin].encode(), None).public_key()
    spelt = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    return text[begin:], text[:begin], spelt


def test_how_the_source_is_reached(tmp_path: object) -> None:
    certificate, key, public = client_files()
    body = (
        "updates:\n  registry: registry.example.org/os\n  proxy: http://proxy.example:3128\n"
        "  no_proxy: [localhost, .example.com]\n  username: me\n  password: ' a \"b'\n"
        "  rate_limit: 2M\n  require_cosign: yes\n"
        f"  ca_certificates: {indented(certificate)}  client_certificate: {indented(certificate)}"
        f"  client_key: {indented(key)}  cosign_key: {indented(public)}"
    )
    found = files(body)
    folder = "/etc/kubesolo"
    assert found.keys() == {f"{folder}/update.conf"} | {
        f"{folder}/update-{name}" for name in ("ca.pem", "client.pem", "client.key", "cosign.pub")
    }
    assert found[f"{folder}/update-client.key"] == (key, 0o600)
    assert found[f"{folder}/update-client.pem"] == (certificate, 0o644)
    assert found[f"{folder}/update-cosign.pub"] == (public, 0o644)
    text, mode = found[f"{folder}/update.conf"]
    assert mode == 0o600
    path = f"{tmp_path}/update.conf"
    with open(path, "w") as file:
        file.write(text)
    config = load_config(path)
    config.require_usable()
    assert (config.username, config.password, config.rate_limit) == ("me", ' a "b', "2M")
    assert (config.no_proxy, config.require_cosign) == ("localhost,.example.com", "yes")
    assert config.client_key == f"{folder}/update-client.key"


def test_a_key_of_another_certificate_is_refused() -> None:
    certificate, _, _ = client_files()
    _, other, _ = client_files()
    body = f"updates:\n  client_certificate: {indented(certificate)}  client_key: {indented(other)}"
    (problem,) = problems_of(load_user_data, user_data(body))
    assert "is not the key of client_certificate" in problem.message
    assert other.splitlines()[1] not in str(problem)


@pytest.mark.parametrize(
    ("block", "mode"),
    [
        ("bearer_token: abc", 0o600),
        ("username: a, password: b", 0o600),
        ("proxy: 'http://a:b@c:1'", 0o600),
        ("server: 'https://updates.example.org/a@b'", 0o644),
        ("server: 'https://bob:pw@updates.example.org/'", 0o600),
        ("webhook_url: 'https://hooks.example/T1/secret'", 0o600),
        ("server: 'https://token@updates.example.org/'", 0o600),
        ("healthcheck_url: 'http://bob:pw@10.0.0.1/ok'", 0o600),
    ],
)
def test_a_login_in_a_url_is_for_root_alone(block: str, mode: int) -> None:
    assert files(f"updates: {{{block}}}\n")["/etc/kubesolo/update.conf"][1] == mode


def test_releases_may_lie_on_a_disk() -> None:
    text, _ = files("updates: {server: disk:KSOLOEFI/updates}\n")["/etc/kubesolo/update.conf"]
    assert "server=disk:KSOLOEFI/updates\n" in text


def test_a_private_key_is_refused_and_not_shown() -> None:
    body = user_data(f"updates:\n  pubkey: {indented(PRIVATE)}")
    (problem,) = problems_of(load_user_data, body)
    assert "PRIVATE key" in problem.message
    assert PRIVATE.splitlines()[1] not in str(problem)


def test_lists_that_are_empty_take_away_what_was_there() -> None:
    assert files("ssh_authorized_keys: []\n") == {"/etc/kubesolo/authorized_keys": ("", 0o600)}
    assert files("ntp: {enabled: false}\n") == {
        "/etc/kubesolo/ntp": ("# nobody is asked: ntp.enabled is false\n", 0o644)
    }
    assert files("ntp: {enabled: true}\nca_certs: {trusted: []}\nwrite_files: []\n") == {}


def test_the_name_of_meta_data_counts_where_user_data_has_none() -> None:
    assert plan("timezone: UTC\n", local_hostname="edge").files[0].content == b"edge\n"
    assert plan("hostname: own\n", local_hostname="edge").files[0].content == b"own\n"


def test_a_file_network_config_takes_the_place_of_the_block() -> None:
    body = "network: {address: 10.0.0.5/24}\n"
    assert [file.path for file in plan(body).files] == ["/etc/kubesolo/network.json"]
    found = plan(body, network_config=True)
    assert found == Plan((), ("network of user-data is passed over: network-config counts",))
