"""No secret leaves the node, whatever it stands in; and what is none stays readable."""

from __future__ import annotations

import base64
import json
import time
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
        ("webhook_url=https://hooks.example/T1/hunter22", "hunter22"),
        ("password=hunter 22", "22"),
        ("  password = 'hunter22 a'", "22"),
        ("bearer_token=abcdef", "abcdef"),
        ('"webhook_url": "https://hooks.example/T1/hunter22",', "hunter22"),
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
        ("TUlHSEFnRUE\n-----END EC PRIVATE KEY-----\nnot cut off", "TUlHSEFnRUE"),
        ("server=https://bob:p@ssw0rd-long@updates.example/", "ssw0rd-long"),
        ("https://bob:p@w@x@updates.example/os", "w@x"),
        ('{"password": "abc\\"defsecretpart", "x": 1}', "defsecretpart"),
        ("{'password': 'abc\\'defsecretpart'}", "defsecretpart"),
        ('msg="{\\"password\\": \\"abcdefgh\\"}"', "abcdefgh"),
        ('"token": "cut-off-her', "cut-off-her"),
        ('{"password": 12345678}', "12345678"),
        ('"secrets": ["aaaa1111","bbbb2222"]', "bbbb2222"),
        ("password: my secret phrase", "phrase"),
        ("edgeKey: >-\n    c2VjcmV0LWtleQ\n    bW9yZQ\nother: 1", "c2VjcmV0LWtleQ"),
        ("a:\n  edgeKey: |\n    c2VjcmV0LWtleQ\n\n    bW9yZQ\n  other: 1", "bW9yZQ"),
        ("edgeKey:\n  c2VjcmV0LWtleQ\nother: 1", "c2VjcmV0LWtleQ"),
        ('["--portainer-edge-key", "c2VjcmV0LWtleQ"]', "c2VjcmV0LWtleQ"),
        ('["--portainer-edge-key=c2VjcmV0LWtleQ"]', "c2VjcmV0LWtleQ"),
        ("SECRET_KEY_BASE=c2VjcmV0", "c2VjcmV0"),
        ("signing_key=c2VjcmV0", "c2VjcmV0"),
        ("signingKey: c2VjcmV0", "c2VjcmV0"),
        ('{"name":"DB_PASSWORD","value":"swordfish1"}', "swordfish1"),
        ('{"value": "swordfish1", "name": "DB_PASSWORD"}', "swordfish1"),
        ("- name: DB_PASSWORD\n  value: sword fish", "fish"),
        ("Set-Cookie: session=swordfish1; Secure", "swordfish1"),
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
        'key: "node.kubernetes.io/not-ready"',
        "key=/registry/pods/default/web value_size=12",
        '"host_key": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGfake"',
        '"unknown_keys": ["update.conf line 3: colour is no key of this version"]',
        "--tls-private-key-file=/var/lib/kubesolo/pki/apiserver.key --v=2",
        "secret:\n  secretName: web\nvolumes:\n  - name: data",
        "pull docker://registry.example:5000/web@sha256:0123abcd",
        "kernel: Asymmetric key parser x509 registered",
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
    (settings / "kubesolo.yaml").write_text(
        "portainer:\n  edgeKey: 'anotheredgekey'\n  token: >-\n    foldedtoken1\n    foldedtoken2\n"
        "args: [--signing-key, listedkey, --api-key=flaggedkey]\n"
        "env:\n- name: DB_PASSWORD\n  value: my environment\n- {password: 12345678}\n"
    )
    (settings / "update.conf").write_text("server=https://bob:p@ssw0rd-long@updates.example/\n")
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
    said = "foldedtoken2 listedkey flaggedkey 'my environment' 12345678 p@ssw0rd-long at last"
    assert redactor.clean(said) == " ".join(
        [REDACTED, REDACTED, REDACTED, f"'{REDACTED}'", REDACTED, REDACTED, "at last"]
    )


def test_how_the_source_is_reached_stays_secret(tmp_path: Path) -> None:
    paths = Paths(str(tmp_path))
    folder = Path(paths.under("/etc/kubesolo"))
    folder.mkdir(parents=True)
    line = "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg"
    (folder / "own.pem").write_text(f"-----BEGIN PRIVATE KEY-----\n{line}\n")
    (folder / "update.conf").write_text(
        'proxy=http://joe:relay-word@proxy:3128\nusername=me\npassword="two words"\n'
        "bearer_token = abc.defghij\nclient_key=/etc/kubesolo/own.pem\n"
    )
    redactor = Redactor(find_secrets(paths))
    header = base64.b64encode(b"me:two words").decode()
    said = f"relay-word|two words|abc.defghij|{line}|{header}|stays"
    assert redactor.clean(said) == "|".join([REDACTED] * 5 + ["stays"])


@pytest.mark.parametrize(
    "piece",
    [
        *("key", "key-", "a_key=", "a_key: ", "\\", '"a_key', "://a", "?a_key", "\n  "),
        *("-----BEGIN PRIVATE KEY-----", "name: a_key\n", 'a_key: "', "a_key:\n  a\n"),
    ],
)
def test_no_text_takes_long(piece: str) -> None:
    begin = time.process_time()
    Redactor(["nowhere-in-it"]).clean(f"token: {piece * (400_000 // len(piece))}")
    assert time.process_time() - begin < 20
