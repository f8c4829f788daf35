"""What reaches standard output: one JSON object, be it an error, and a pipe that nobody reads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from product.agent.bootloader.grubenv import BLOCK_SIZE
from product.agent.cli.main import main
from product.agent.cli.parser import COMMANDS, CONFIG_FLAGS
from product.agent.node import Node
from product.agent.system.program import ProgramError
from product.agent.tests.world import FakeRelease, World

ROOT = Path(__file__).parents[4]


@pytest.mark.parametrize(
    "argv",
    [
        ["--json"],
        ["dance", "--json"],
        ["status", "--json", "--dance"],
        ["apply", "--auto-rollback-after", "-1", "--json"],
        ["datastore", "sink", "--json"],
        ["quarantine", "clear", "--json"],
        ["logs", "--boot", "x", "--json"],
        ["logs", "--follow", "--json"],
    ],
    ids=" ".join,
)
def test_wrong_usage_heeds_json(
    world: World, capsys: pytest.CaptureFixture[str], argv: list[str]
) -> None:
    assert world.run(*argv) == 2
    out, err = capsys.readouterr()
    document = json.loads(out)
    assert document["error"]["code"] == "usage"
    assert document["error"]["message"]
    assert err.startswith("error: ")


def test_wrong_usage_is_one_line_for_people(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    assert world.run("status", "--dance") == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "error: unrecognized arguments: --dance",
        "hint: kubesolo-update status --help shows the flags",
    ]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_shows_its_own_flags(
    world: World, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    assert world.run(command, "--help") == 0
    text = capsys.readouterr().out
    assert "--json" in text
    shown = {flag for flag, *_ in CONFIG_FLAGS if f"--{flag.replace('_', '-')} " in text}
    expected = {
        "check": {
            "server",
            "registry",
            "tag",
            "channel",
            "pubkey",
            "proxy",
            "ca_certificates",
            "client_certificate",
            "client_key",
            "rate_limit",
            "cosign_key",
            "require_cosign",
        },
        "rollback": {"maintenance_window"},
        "datastore": {"datastore_restore"},
        "history": set(),
        "quarantine": set(),
        "logs": set(),
        "support": set(),
    }
    assert shown == expected.get(command, shown)
    assert ("--force" in text) == (command in ("apply", "activate", "rollback"))


def test_every_command_still_takes_every_flag(world: World) -> None:
    assert world.run("history", "--server", "http://x/", "--kube-system-settle", "5") == 0


def test_version(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert world.run("--version") == 0
    assert capsys.readouterr().out == "kubesolo-update 0.1.0 (x86_64)\n"
    assert world.run("--version", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document == {"version": "0.1.0", "architecture": "x86_64"}


@pytest.mark.parametrize("command", ["activate", "rollback"])
def test_one_object_where_the_window_closes_meanwhile(
    world: World,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    command: str,
) -> None:
    prepare(world, command)
    with Path(world.paths.config).open("a") as config:
        config.write("maintenance_window=11:00-12:01\n")
    capsys.readouterr()
    real = os.pwrite

    def late(descriptor: int, data: bytes, offset: int) -> int:
        if len(data) == BLOCK_SIZE:
            world.clock.minute = 12 * 60 + 1
        return real(descriptor, data, offset)

    monkeypatch.setattr(os, "pwrite", late)
    assert world.run(command, "--json", "--reboot") == 11
    document = json.loads(capsys.readouterr().out)
    assert document["error"]["code"] == "maintenance_window"
    assert world.reboots == 0
    assert world.env()["active_slot"] == ("B" if command == "activate" else "A"), "it is armed"


@pytest.mark.parametrize("command", ["activate", "rollback"])
def test_one_object_where_the_reboot_fails(
    world: World, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    prepare(world, command)
    capsys.readouterr()

    def fail() -> None:
        raise ProgramError("/sbin/reboot failed (1): no output")

    node = Node(world.paths, volumes=world.volumes, clock=world.clock, reboot=fail)
    assert main([command, "--json", "--reboot"], node) == 1
    out, err = capsys.readouterr()
    assert json.loads(out).keys() & {"activated", "boots_next"}
    assert err.splitlines()[-1] == "error: /sbin/reboot failed (1): no output"


def prepare(world: World, command: str) -> None:
    world.offered = FakeRelease("0.2.0")
    assert world.run("apply") == 0
    if command == "rollback":
        assert world.run("activate") == 0
        world.power_on()
        world.boot_service()


def run_into(world: World, argv: list[str], stdout: int, stderr: int) -> tuple[int, str]:
    """Exit code and standard error of the program in an interpreter of its own."""
    program = (
        "import sys\n"
        "from product.agent.cli.main import main\n"
        "from product.agent.node import Node\n"
        "from product.agent.system.paths import Paths\n"
        "from product.agent.system import program\n"
        "program.run = lambda argv: (0, '')\n"
        f"sys.exit(main({argv!r}, Node(Paths({world.paths.root!r}))))\n"
    )
    world.write_file(world.paths.mountinfo, "")
    done = subprocess.run(
        [sys.executable, "-c", program],
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        check=False,
        cwd=ROOT,
        timeout=60,
    )
    return done.returncode, (done.stderr or b"").decode()


EVERY = [["--help"], ["--version"], ["status", "--help"], ["support", "--output", "-"]]
EVERY += [[name] for name in COMMANDS]
EVERY += [[name, "--json"] for name in ("status", "history", "logs", "quarantine", "check")]


@pytest.mark.parametrize("argv", EVERY, ids=" ".join)
def test_a_full_device_is_one_line_and_a_failure(world: World, argv: list[str]) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        code, err = run_into(world, argv, full, subprocess.PIPE)
        silent, _ = run_into(world, argv, subprocess.DEVNULL, full)
    finally:
        os.close(full)
    assert "Traceback" not in err
    assert "Exception ignored" not in err
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(errors) <= 1
    assert silent in (0, 1, 2, 10, 11)
    plain, _ = run_into(world, argv, subprocess.DEVNULL, subprocess.PIPE)
    assert silent == plain, "what stderr is changes nothing"
    if plain == 0 and argv not in (["history"], ["quarantine"], ["datastore"], ["logs"]):
        assert (code, len(errors)) == (1, 1)
        assert "No space left on device" in errors[0]


@pytest.mark.parametrize("argv", EVERY, ids=" ".join)
def test_a_closed_pipe_is_no_failure(world: World, argv: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        code, err = run_into(world, argv, writer, subprocess.PIPE)
    finally:
        os.close(writer)
    plain, usual = run_into(world, argv, subprocess.DEVNULL, subprocess.PIPE)
    assert (code, err) == (plain, usual)


def test_a_closed_pipe_does_not_stop_a_reboot(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(world, "activate")
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w", buffering=1) as closed:
        monkeypatch.setattr(sys, "stdout", closed)
        assert world.run("activate", "--reboot", "--json") is None
    assert world.reboots == 1
