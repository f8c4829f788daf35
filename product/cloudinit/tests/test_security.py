"""The section `security`: what it becomes, and what is refused."""

from __future__ import annotations

import hashlib
import io

import pytest

from product.cloudinit import boot_password
from product.cloudinit.cli import main
from product.cloudinit.errors import CloudInitError
from product.cloudinit.load import load_user_data
from product.cloudinit.plan import plan_user_data
from product.cloudinit.tests.support import problems_of, user_data

HASH = "grub.pbkdf2.sha512.10000.00AB." + "0F" * 64


def lines(section: str) -> list[str]:
    [file] = plan_user_data(load_user_data(user_data(f"security: {section}\n"))).files
    assert (file.path, file.mode) == ("/etc/kubesolo/security.conf", 0o600)
    return file.content.decode().splitlines()[1:]


def test_every_key_is_a_line() -> None:
    section = (
        "{apparmor: complain, audit: no, lockdown: none, modules: open, "
        "allow_modules: [cp210x, 8021q, cp210x], sysctl: {vm.max_map_count: 262144, "
        "net.ipv4.ip_local_port_range: 1024 65000}, "
        f"boot_menu: password, boot_password: {HASH}}}"
    )
    assert lines(section) == [
        "apparmor=complain",
        "lockdown=none",
        "modules=open",
        "boot_menu=password",
        f"boot_password={HASH}",
        "audit=off",
        "allow_modules=cp210x 8021q",
        "sysctl.vm.max_map_count=262144",
        "sysctl.net.ipv4.ip_local_port_range=1024 65000",
    ]


@pytest.mark.parametrize("section", ["", "{}", "{allow_modules: []}", "{sysctl: {}}"])
def test_an_empty_section_leaves_the_file_alone(section: str) -> None:
    assert plan_user_data(load_user_data(user_data(f"security: {section}\n"))).files == ()


@pytest.mark.parametrize(
    ("section", "key", "said"),
    [
        ("{apparmor: yes}", "security.apparmor", "needs enforce or complain or off"),
        ("{modules: lock}", "security.modules", "needs locked or open"),
        ("{appamor: off}", "security.appamor", "did you mean apparmor?"),
        ("{audit: maybe}", "security.audit", "needs true or false"),
        ("{allow_modules: ['a b']}", "security.allow_modules", "is no name of a kernel module"),
        ("{allow_modules: [../x]}", "security.allow_modules", "is no name of a kernel module"),
        ("{sysctl: {x: 1}}", "security.sysctl.x", "is no kernel setting"),
        ("{sysctl: {vm.x: [1]}}", "security.sysctl.vm.x", "needs a value on one line"),
        ('{sysctl: {vm.x: "1\\nboot_menu=open"}}', "security.sysctl.vm.x", "needs a value on one"),
        ("{sysctl: [1]}", "security.sysctl", "needs a mapping"),
        ("{boot_menu: password}", "security.boot_menu", "there is no boot_password"),
        (f"{{boot_password: {HASH}}}", "security.boot_password", "would protect nothing"),
        ("{boot_menu: password, boot_password: secret}", "security.boot_password", "is no hash"),
        (
            f"{{boot_menu: password, boot_password: {HASH.replace('10000', '999')}}}",
            "security.boot_password",
            "at least 10000",
        ),
    ],
)
def test_what_is_refused(section: str, key: str, said: str) -> None:
    [problem] = problems_of(load_user_data, user_data(f"security: {section}\n"))
    assert problem.key.startswith(key)
    assert said in problem.message
    assert "secret" not in problem.message


def test_a_password_becomes_a_hash_that_the_section_takes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("correct horse\n"))
    assert main(["boot-password"]) == 0
    found = capsys.readouterr().out.strip()
    assert lines(f"{{boot_menu: password, boot_password: {found}}}")[1] == f"boot_password={found}"
    iterations, salt, digest = found.removeprefix("grub.pbkdf2.sha512.").split(".")
    again = hashlib.pbkdf2_hmac(
        "sha512", b"correct horse", bytes.fromhex(salt), int(iterations), 64
    )
    assert again.hex().upper() == digest
    assert boot_password.hashed("correct horse") != found


@pytest.mark.parametrize("password", ["", "short", "x" * 256, "pässword-long", "tab\tin-it-now"])
def test_a_password_that_grub_cannot_be_given_is_refused(password: str) -> None:
    with pytest.raises(CloudInitError, match="the password has"):
        boot_password.ask(io.StringIO(password + "\n"))
