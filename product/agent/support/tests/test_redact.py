"""No secret leaves the node, whatever it stands in; and what is none stays readable."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from product.agent.support.redact import REDACTED, Redactor, find_secrets
from product.agent.system.paths import Paths

EDGE_KEY = (
    base64.b64encode(b"https://portainer.example|edge.example:8000|aa:bb:cc|7").decode().rstrip("=")
)
TOKEN = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJrdWJlcm5ldGVzIn0.c2lnbmF0dXJlLW9mLWl0"


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("server=https://operator:hunter22@updates.example/os", "hunter22"),
        ("GET https://updates.example/os?token=abcdef0123&x=1", "abcdef0123"),
        ("GET https://updates.example/os?x=1&access_token=abcdef0123", "abcdef0123"),
        ("Authorization: Bearer abcdef0123456789", "abcdef0123456789"),
        ("authorization: Basic b3BlcmF0b3I6aHVudGVyMjI=", "b3BlcmF0b3I6aHVudGVyMjI="),
        (f"mounted {TOKEN} into the pod", TOKEN),
        ('{"portainer-edge-key": "c2VjcmV0LWtleQ"}', "c2VjcmV0LWtleQ"),
        ("portainer-edge-key: c2VjcmV0LWtleQ", "c2VjcmV0LWtleQ"),
        ("edgeKey: 'c2VjcmV0 LWtleQ'", "c2VjcmV0 LWtleQ"),
        ("--portainer-edge-key=c2VjcmV0LWtleQ --debug", "c2VjcmV0LWtleQ"),
        ("--portainer-edge-key c2VjcmV0LWtleQ", "c2VjcmV0LWtleQ"),
        ("DB_PASSWORD=swordfish1 started", "swordfish1"),
        ('"client-key-data": "LS0tLS1CRUdJTg=="', "LS0tLS1CRUdJTg=="),
        (
            "2026-12-01 -----BEGIN PRIVATE KEY-----\n2026-12-01 TUlHSEFnRUE\n"
            "2026-12-01 -----END PRIVATE KEY-----\nafter",
            "TUlHSEFnRUE",
        ),
        ("-----BEGIN EC PRIVATE KEY-----\nTUlHSEFnRUE\ncut off", "TUlHSEFnRUE"),
    ],
)
def test_secrets_by_their_form(text: str, secret: str) -> None:
    cleaned = Redactor().clean(f"before\n{text}\nbehind" if "cut off" not in text else text)
    assert secret not in cleaned
    assert REDACTED in cleaned
    assert "before" in cleaned or "cut off" in text


@pytest.mark.parametrize(
    "text",
    [
        "kubernetes: made certificates for node-1",
        "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA\n-----END PUBLIC KEY-----",
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGfake operator@desk",
        "no key of the release is known",
        "GET https://updates.example/os?channel=stable",
        '{"apiserver-extra-sans": "node.example"}',
        "pubkey=/etc/kubesolo/update.pem",
        "tokens that pods hold are void",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert Redactor().clean(text) == text


def test_secrets_of_this_node_go_wherever_they_stand(tmp_path: Path) -> None:
    paths = Paths(str(tmp_path))
    settings = tmp_path / "etc/kubesolo"
    settings.mkdir(parents=True)
    document = {"schema": 1, "settings": {"portainer-edge-key": EDGE_KEY, "debug": True}}
    (settings / "kubernetes.json").write_text(json.dumps(document))
    (settings / "kubesolo.yaml").write_text("portainer:\n  edgeKey: 'anotheredgekey'\n")
    pki = tmp_path / "var/lib/kubesolo/kubernetes/pki"
    pki.mkdir(parents=True)
    line = "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgabcdefghijklmnop"
    (pki / "ca.key").write_text(f"-----BEGIN PRIVATE KEY-----\n{line}\n-----END PRIVATE KEY-----\n")
    kubeconfig = {"users": [{"user": {"client-key-data": "S2V5RGF0YQ=="}}]}
    (pki / "admin.kubeconfig").write_text(json.dumps(kubeconfig))
    redactor = Redactor(find_secrets(paths))
    said = f"x{EDGE_KEY}y anotheredgekey: {line} S2V5RGF0YQ== at /etc/kubesolo"
    assert redactor.clean(said) == (
        f"x{REDACTED}y {REDACTED}: {REDACTED} {REDACTED} at /etc/kubesolo"
    )
