"""The services metrics and metrics-server, under this host's shell."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

SERVICES = Path(__file__).resolve().parents[4] / "images/overlay/usr/lib/kubesolo/services"
MOVED = ("/etc/kubesolo", "/run/kubesolo", "/var/lib/kubesolo")
# The node's needs Landlock; what it does is shown on a node (scenarios/hardening/test_services.py).
CONFINE = """confine() {
    while [ $# -gt 0 ] && [ "$1" != -- ]; do shift; done
    [ $# = 0 ] || { shift && exec "$@"; }
}
"""
# Many looks: ten minutes of a node.
SLEEPS = 40


class Shell:
    """A node's folders below ``root``, and programs of the image that only take notes."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in ("etc/kubesolo", "run/kubesolo", "var/lib/kubesolo/update", "bin"):
            (root / name).mkdir(parents=True)
        (root / "run/kubesolo/agent.json").write_text("{}")
        self.log = root / "log"
        self.log.write_text("")
        (root / "lib.sh").write_text(f'say() {{ echo "say $*" >> {self.log}; }}\n')
        self.answers("on")
        self.program("sleep", f'echo "sleep $1" >> {self.log}')

    def program(self, name: str, text: str) -> None:
        path = self.root / "bin" / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    def answers(self, *words: str, error: str = "") -> None:
        """What each collection prints; the last of them is printed ever after."""
        lines = "".join(
            f'[ "$n" -gt {number} ] || {{ echo {word}; exit; }}\n'
            for number, word in enumerate(words, start=1)
        )
        count = f"n=$(grep -c collect {self.log})\n"
        note = f'echo "collect" >> {self.log}\n{count}echo "{error}" >&2\n'
        self.program("chpst", f"{note}{lines}echo {words[-1] if words else ''}")

    def sleeping(self, *steps: tuple[int, str]) -> None:
        """At the n-th sleep a command is run; the service is ended at the last one."""
        text = f'echo "sleep $1" >> {self.log}\nn=$(grep -c sleep {self.log})\n'
        for number, command in steps:
            text += f'[ "$n" != {number} ] || {{ {command}; }}\n'
        self.program("sleep", text + f'[ "$n" -lt {SLEEPS} ] || kill $PPID')

    def run(self, service: str, script: str = "run", *arguments: str) -> list[str]:
        text = (SERVICES / service / script).read_text()
        for place in MOVED:
            text = text.replace(place, f"{self.root}{place}")
        text = text.replace("/usr/lib/kubesolo/lib.sh", f"{self.root}/lib.sh")
        (self.root / "confine").write_text(CONFINE)
        text = text.replace("/usr/lib/kubesolo/confined", f"{SERVICES.parent}/confined")
        text = text.replace("/usr/lib/kubesolo/confine\n", f"{self.root}/confine\n")
        done = subprocess.run(
            ["/bin/sh", "-c", text, script, *arguments], check=False, timeout=60,
            capture_output=True, text=True,
            env={"PATH": f"{self.root}/bin:/usr/bin:/bin"},
        )  # fmt: skip
        assert done.stdout == ""
        return self.log.read_text().splitlines()

    def at(self, path: str) -> Path:
        return self.root / path


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


def collected(lines: list[str]) -> list[int]:
    """After how many looks each collection came."""
    found, sleeps = [], 0
    for line in lines:
        if line == "collect":
            found.append(sleeps)
        sleeps += line.startswith("sleep")
    return found


def test_where_nothing_changes_it_collects_every_five_minutes(shell: Shell) -> None:
    shell.sleeping()
    lines = shell.run("metrics")
    assert collected(lines) == [0, 20]
    assert {line for line in lines if line != "collect"} == {"sleep 15"}


@pytest.mark.parametrize(
    "path",
    [
        "etc/kubesolo/update.conf", "var/lib/kubesolo/update/state.json",
        "var/lib/kubesolo/update/history.jsonl", "var/lib/kubesolo/update/counters.json",
        "var/lib/kubesolo/update/last-check.json", "run/kubesolo/agent.json",
    ],
)  # fmt: skip
def test_a_change_is_collected_at_the_next_look(shell: Shell, path: str) -> None:
    # As the agent writes: to another file, which takes the place of the first. The same second and
    # the same size must not hide it.
    change = f"echo x > {shell.root}/new; mv {shell.root}/new {shell.at(path)}"
    shell.sleeping((5, change), (8, change))
    assert collected(shell.run("metrics")) == [0, 5, 8, 28]


def test_switched_off_it_waits_for_another_configuration(shell: Shell) -> None:
    shell.answers("off", "on")
    conf = shell.at("etc/kubesolo/update.conf")
    conf.write_text("metrics_address=none\n")
    state = shell.at("var/lib/kubesolo/update/state.json")
    shell.sleeping((5, f"echo x > {state}"), (30, f"echo >> {conf}"))
    assert collected(shell.run("metrics")) == [0, 30]


def test_a_failure_is_said_once(shell: Shell) -> None:
    shell.answers("", error="error: no boot environment")
    shell.sleeping()
    lines = shell.run("metrics")
    assert [line for line in lines if line.startswith("say")] == [
        "say metrics: no boot environment"
    ]
    assert collected(lines) == [0, 20]


def test_the_boots_own_work_goes_first_for_a_minute(shell: Shell) -> None:
    shell.at("run/kubesolo/agent.json").unlink()
    shell.sleeping()
    assert shell.run("metrics")[:13] == ["sleep 5"] * 12 + ["collect"]


def test_the_server_starts_where_there_is_an_address_and_without_roots_rights(
    shell: Shell,
) -> None:
    folder = shell.at("run/kubesolo/metrics")
    folder.mkdir()
    shell.program("chpst", f'echo "chpst $*" >> {shell.log}')
    shell.sleeping((2, f"echo > {folder}/listen"), (4, f"echo '9100 127.0.0.1' > {folder}/listen"))
    lines = shell.run("metrics-server")
    assert lines[:4] == ["sleep 5"] * 4
    assert lines[4].startswith("chpst -o 64 ")
    assert lines[-1].endswith(f" {folder}/listen {folder}/kubesolo.prom")


def test_an_address_that_is_taken_is_said_once(shell: Shell) -> None:
    folder = shell.at("run/kubesolo/metrics")
    folder.mkdir()
    (folder / "server-problem").write_text("cannot serve at port 9100\n")
    for _ in range(3):
        lines = shell.run("metrics-server", "finish", "1", "0")
    said = [line for line in lines if line.startswith("say")]
    assert said == ["say metrics: cannot serve at port 9100"]
    shell.log.write_text("")
    assert shell.run("metrics-server", "finish", "0", "0") == []


def test_a_server_that_is_told_to_stop_keeps_no_reboot_waiting(shell: Shell) -> None:
    assert shell.run("metrics-server", "finish", "-1", "15") == []
    # One that crashes is started again, and not at once.
    assert shell.run("metrics-server", "finish", "-1", "11") == ["sleep 4"]
