"""``kubesolo-config``: exit codes, and what is printed where."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from product.cloudinit.annotate import annotate
from product.cloudinit.cli import guess_kind, main
from product.cloudinit.errors import Problem
from product.cloudinit.record import Applied, Record
from product.cloudinit.tests.support import edge_key

GOOD = "#cloud-config\nhostname: edge-07\ngrowpart: {mode: auto}\n"
BAD = "#cloud-config\nhostnam: x\nhostname: A\n"


@pytest.fixture
def user_data(tmp_path: Path) -> Path:
    path = tmp_path / "user-data"
    path.write_text(GOOD)
    return path


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(words)
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_a_good_file(capsys: pytest.CaptureFixture[str], user_data: Path) -> None:
    code, out, err = run(capsys, "validate", str(user_data))
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        f"note: {user_data}:3:1: growpart: is passed over: the first boot always grows the data "
        "partition",
        f"{user_data}: valid user-data",
    ]


def test_a_bad_file_is_a_line_an_error(capsys: pytest.CaptureFixture[str], user_data: Path) -> None:
    user_data.write_text(BAD)
    code, out, err = run(capsys, "validate", str(user_data))
    assert (code, err) == (1, "")
    assert out.splitlines() == [
        f"{user_data}:2:1: hostnam: unknown key; did you mean hostname?",
        f"{user_data}:3:11: hostname: 'A' has capitals, which Kubernetes refuses; write a",
    ]


def test_annotate_marks_the_lines(capsys: pytest.CaptureFixture[str], user_data: Path) -> None:
    user_data.write_text(BAD.replace("\n", "\r\n"))
    code, out, _ = run(capsys, "validate", "--annotate", str(user_data))
    assert code == 1
    assert out.splitlines() == [
        "#cloud-config",
        "hostnam: x\t\t# E1",
        "hostname: A\t\t# E2",
        "",
        "# Errors: -------------",
        "# E1: line 2, column 1: hostnam: unknown key; did you mean hostname?",
        "# E2: line 3, column 11: hostname: 'A' has capitals, which Kubernetes refuses; write a",
    ]


def test_two_errors_of_a_line_share_its_mark() -> None:
    problems = [Problem("f", 1, 1, "", "one"), Problem("f", 1, 5, "a", "two")]
    assert annotate("x", problems).splitlines()[0] == "x\t\t# E1,E2"
    assert annotate("", problems).splitlines()[0] == "\t\t# E1,E2"


def test_annotate_of_what_is_no_text(capsys: pytest.CaptureFixture[str], user_data: Path) -> None:
    user_data.write_bytes(GOOD.encode("utf-16"))
    code, out, _ = run(capsys, "validate", "--annotate", str(user_data))
    assert code == 1
    assert "# E1: line 1, column 1: the file is UTF-16" in out


def test_json(capsys: pytest.CaptureFixture[str], user_data: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text(BAD)
    code, out, _ = run(capsys, "validate", "--json", str(user_data), str(bad))
    assert code == 1
    good, wrong = json.loads(out)["files"]
    assert (good["valid"], good["kind"], good["notes"][0]["key"]) == (True, "user-data", "growpart")
    assert wrong["valid"] is False
    assert wrong["problems"][0] == {
        "line": 2, "column": 1, "key": "hostnam",
        "message": "unknown key; did you mean hostname?",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "text", "kind"),
    [
        ("user-data", "", "user-data"),
        ("node7-network-config.yaml", "", "network-config"),
        ("network_config.yaml", "#cloud-config\n", "network-config"),
        ("meta-data.json", "", "meta-data"),
        ("a.yaml", "#cloud-config\nversion: 2\n", "user-data"),
        ("a.yaml", "\ufeff#cloud-config\n", "user-data"),
        ("a.yaml", "# x\nversion: 2\nethernets: {}\n", "network-config"),
        ("a.yaml", "network:\n  version: 2\n", "network-config"),
        ("a.yaml", "instance-id: 7\n", "meta-data"),
        ("a.yaml", "hostname: x\n", "user-data"),
    ],
)
def test_what_a_file_is(name: str, text: str, kind: str) -> None:
    assert guess_kind(f"/x/{name}", text.encode()) == kind


def test_the_kind_can_be_said(capsys: pytest.CaptureFixture[str], user_data: Path) -> None:
    user_data.write_text("version: 2\nethernets: {eth0: {dhcp4: true}}\n")
    assert run(capsys, "validate", "--kind", "network-config", str(user_data))[0] == 0
    assert run(capsys, "validate", str(user_data))[0] == 1


def test_a_folder_stands_for_its_seed(
    capsys: pytest.CaptureFixture[str], user_data: Path, tmp_path: Path
) -> None:
    (tmp_path / "meta-data").write_text("instance-id: 7\n")
    code, out, _ = run(capsys, "validate", str(tmp_path))
    assert code == 0
    assert [line.rpartition(" ")[2] for line in out.splitlines()[1:]] == ["user-data", "meta-data"]
    (tmp_path / "empty").mkdir()
    code, out, err = run(capsys, "validate", str(tmp_path / "empty"))
    assert (code, out) == (1, "")
    assert "empty holds none of user-data, network-config, meta-data" in err


def test_render(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    user_data = tmp_path / "user-data"
    user_data.write_text(
        f"#cloud-config\nkubesolo: {{portainer-edge-id: x, portainer-edge-key: {edge_key()}}}\n"
        "network: {address: 10.0.0.5/24}\nkubeconfig: to-seed\n"
        "write_files: [{path: /etc/kubesolo/a, encoding: b64, content: /w==, append: true}]\n"
    )
    network, meta_data = tmp_path / "network-config", tmp_path / "meta-data"
    network.write_text("version: 2\nethernets: {eth9: {dhcp4: true, renderer: x}}\n")
    meta_data.write_text("local-hostname: edge-07\n")
    words = ["render", str(user_data), "--network-config", str(network), "--meta-data",
             str(meta_data), "--payload-settings", "mtu,debug"]  # fmt: skip
    code, out, err = run(capsys, *words)
    assert code == 0
    assert "# /etc/kubesolo/hostname (0644)\nedge-07\n" in out
    assert "# /etc/kubesolo/network.json (0644)" in out
    assert '"eth9"' in out
    assert "10.0.0.5" not in out
    assert "# /etc/kubesolo/kubernetes.json (0600)\n(" in out
    assert "bytes are not shown; --show-secrets does" in out
    assert "# /etc/kubesolo/a (0644, appended)\n(1 bytes that are no text)" in out
    assert "# the seed: a kubeconfig" in out
    assert edge_key().rstrip("=") not in out + err
    assert "note: network of user-data is passed over" in err
    assert "note: kubesolo: this image's Kubernetes has no portainer-edge-id" in err
    assert "eth9.renderer" in err
    out = run(capsys, *words, "--show-secrets")[1]
    assert edge_key().rstrip("=") in out
    document = json.loads(run(capsys, *words, "--json")[1])
    assert document["to_seed"] is True
    assert document["files"][0]["path"] == "/etc/kubesolo/hostname"
    assert edge_key().rstrip("=") not in json.dumps(document)


def test_render_of_bad_files_says_all_of_them(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "user-data").write_text(BAD)
    (tmp_path / "net").write_text("version: 1\n")
    code, out, err = run(
        capsys, "render", str(tmp_path / "user-data"), "--network-config", str(tmp_path / "net")
    )
    assert (code, err) == (1, "")
    assert [line.split(" ")[1] for line in out.splitlines()] == [
        "hostnam:",
        "hostname:",
        "version:",
    ]


def test_render_of_nothing(capsys: pytest.CaptureFixture[str], user_data: Path) -> None:
    user_data.write_text("#cloud-config\n")
    assert run(capsys, "render", str(user_data))[1] == "# nothing would be written\n"


def test_a_file_that_cannot_be_read(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for words in (("validate", str(tmp_path / "nope")), ("render", str(tmp_path))):
        code, out, err = run(capsys, *words)
        assert (code, out) == (1, "")
        assert err.startswith(f"error: cannot read {words[1]}: ")
        assert "hint: " in err


def test_a_terminal_without_the_letters(user_data: Path) -> None:
    user_data.write_text("#cloud-config\nhostname: b\u00fcro\n")
    done = subprocess.run(
        [sys.executable, "-m", "product.cloudinit", "validate", "--annotate", str(user_data)],
        env={**os.environ, "PYTHONIOENCODING": "ascii"}, capture_output=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (1, b"")
    assert b"hostname: b\\xfcro\t\t# E1" in done.stdout


@pytest.mark.parametrize("words", [(), ("frobnicate",), ("validate",), ("validate", "-x", "f")])
def test_wrong_usage(capsys: pytest.CaptureFixture[str], words: tuple[str, ...]) -> None:
    code, out, err = run(capsys, *words)
    assert (code, out) == (2, "")
    assert "usage: kubesolo-config" in err


def test_show(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    root = str(tmp_path)
    code, _, err = run(capsys, "show", "--root", root)
    assert code == 1
    assert "show runs on a node" in err

    boot = tmp_path / "run/kubesolo/config.json"
    boot.parent.mkdir(parents=True)
    boot.write_text(json.dumps({
        "source": "/dev/vdb (cidata)", "instance_id": "7", "outcome": "applied",
        "problems": ["user-data:2:1: hostnam: unknown key", 7], "files": None, "more": {},
    }))  # fmt: skip
    code, out, _ = run(capsys, "show", "--root", root)
    assert code == 0
    assert out.splitlines() == [
        "this boot:",
        "  source       /dev/vdb (cidata)",
        "  instance-id  7",
        "  outcome      applied",
        "  problems     user-data:2:1: hostnam: unknown key",
        "               7",
        "applied: nothing",
    ]

    applied = tmp_path / "var/lib/kubesolo/config/applied.json"
    applied.parent.mkdir(parents=True)
    applied.write_text(json.dumps({"instance_id": "6", "files": {"user-data": "sha256:00"}}))
    assert "  files        user-data  sha256:00" in run(capsys, "show", "--root", root)[1]
    both = json.loads(run(capsys, "show", "--json", "--root", root)[1])
    assert both["applied"]["instance_id"] == "6"

    record = Record("6", "a disk", {"user-data": Applied("00", {"/etc/b": "1", "/etc/a": "2"})})
    applied.write_bytes(record.as_json())
    out = run(capsys, "show", "--root", root)[1]
    assert "  files        user-data  /etc/a, /etc/b\n" in out
    boot.write_text(json.dumps({"files": {"user-data": ["/etc/a"], "network-config": []}}))
    out = run(capsys, "show", "--root", root)[1]
    assert "  files        user-data  /etc/a\n               network-config\n" in out

    for damage in ("", "[]", "{", "[" * 100_000):
        applied.write_text(damage)
        code, out, err = run(capsys, "show", "--root", root)
        assert (code, out) == (1, "")
        assert "is damaged" in err


@pytest.mark.parametrize("words", [["validate"], ["validate", "--json"], ["render"]])
def test_output_that_nobody_can_take_is_one_error(user_data: Path, words: list[str]) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "product.cloudinit", *words, str(user_data)],
            stdout=full, stderr=subprocess.PIPE, text=True, check=False,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "error: the output cannot be written: No space left on device",
        "hint: give it another place",
    ]
