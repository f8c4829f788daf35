"""The service that notices sticks, under this host's shell."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

RUN = Path(__file__).resolve().parents[4] / "images/overlay/usr/lib/kubesolo/services/usb/run"
MOVED = ("/run/kubesolo", "/sys/")


class Machine:
    """A tree that the service sees as the node's; ``steps`` happen at its sleeps, one each."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.log = root / "log"
        self.log.touch()
        for name in ("run/kubesolo", "sys/class/block", "sys/bus/usb/devices", "bin", "steps"):
            (root / name).mkdir(parents=True)
        (root / "run/kubesolo/early").write_text("slot=A\ndisk=/dev/vda\n")
        (root / "run/kubesolo/agent.json").write_text("{}")
        for number, name in enumerate(("vda", "vda1", "vda4", "loop0", "ram0")):
            self.disk(name, number)
        programs = {
            "chpst": f'for last; do :; done\necho "look $last" >> {self.log}\n'
            f"rm -f {root}/run/kubesolo/usb-again\n"
            f"[ ! -e {root}/answer ] || mv {root}/answer {root}/run/kubesolo/usb-again",
            "modprobe": f'echo "modprobe $*" >> {self.log}',
            "sleep": f"""n=$(cat {root}/count 2> /dev/null || echo 0)
echo $((n + 1)) > {root}/count
if [ -e {root}/steps/$n ]; then . {root}/steps/$n; fi
[ -e {root}/steps/$((n + 1)) ] || kill $PPID""",
        }
        for name, text in programs.items():
            program = root / "bin" / name
            program.write_text(f"#!/bin/sh\n{text}\n")
            program.chmod(0o755)

    def disk(self, name: str, number: int) -> None:
        (self.root / "sys/class/block" / name).mkdir()
        (self.root / "sys/class/block" / name / "diskseq").write_text(f"{number}\n")

    def run(self, *steps: str) -> list[str]:
        """What the service did until the last of ``steps``, shell's lines, at a sleep each."""
        for path in (self.root / "steps").iterdir():
            path.unlink()
        for number, step in enumerate((*steps, ":")):
            (self.root / "steps" / str(number)).write_text(f"cd {self.root}/sys\n{step}\n")
        (self.root / "count").unlink(missing_ok=True)
        text = RUN.read_text().replace("/usr/lib/kubesolo/confine", f"{RUN.parents[2]}/confine")
        for place in MOVED:
            text = text.replace(place, f"{self.root}{place}")
        before = len(self.log.read_text().splitlines())
        subprocess.run(
            ["/bin/sh", "-c", text], check=False, timeout=20, capture_output=True,
            env={"PATH": f"{self.root}/bin:/usr/bin:/bin", "KUBESOLO_CONFINED": "1"},
        )  # fmt: skip
        return self.log.read_text().splitlines()[before:]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def plug(name: str, number: int) -> str:
    return f"mkdir class/block/{name}; echo {number} > class/block/{name}/diskseq"


def test_a_node_with_its_own_disk_alone_looks_at_nothing(machine: Machine) -> None:
    assert machine.run(*[":"] * 5) == []


def test_a_stick_that_is_in_at_boot(machine: Machine) -> None:
    machine.disk("sda", 9)
    assert machine.run(*[":"] * 5) == ["look boot"]


def test_one_that_is_plugged_in(machine: Machine) -> None:
    assert machine.run(":", plug("sda", 9), *[":"] * 5) == ["look plugged"]


def test_a_disk_is_looked_at_when_its_partitions_have_come(machine: Machine) -> None:
    steps = (":", plug("sda", 9), "mkdir class/block/sda1", "mkdir class/block/sda2", *[":"] * 5)
    assert machine.run(*steps) == ["look plugged"]


def test_one_that_is_pulled_out_and_plugged_in_under_the_same_name(machine: Machine) -> None:
    machine.disk("sda", 9)
    steps = (":", ":", "echo 10 > class/block/sda/diskseq", *[":"] * 5)
    assert machine.run(*steps) == ["look boot", "look plugged"]


def test_pulling_the_last_one_out_is_no_reason_to_look(machine: Machine) -> None:
    machine.disk("sda", 9)
    assert machine.run(":", ":", "rm -r class/block/sda", *[":"] * 5) == ["look boot"]


def test_a_later_look_is_waited_for(machine: Machine) -> None:
    machine.disk("sda", 9)
    (machine.root / "answer").write_text("7\n")
    # One sleep until the partitions have come, then three of three seconds.
    assert machine.run(*[":"] * 3) == ["look boot"]
    (machine.root / "run/kubesolo/usb-known").unlink()
    (machine.root / "answer").write_text("7\n")
    assert machine.run(*[":"] * 9) == ["look boot", "look again"]


def test_a_service_that_is_started_again_goes_on(machine: Machine) -> None:
    machine.disk("sda", 9)
    assert machine.run(*[":"] * 5) == ["look boot"]
    assert machine.run(*[":"] * 5) == []
    assert machine.run(":", plug("sdb", 10), *[":"] * 5) == ["look plugged"]


def test_an_answer_that_is_none_is_no_wait(machine: Machine) -> None:
    machine.disk("sda", 9)
    (machine.root / "answer").write_text("-3 x\n")
    assert machine.run(*[":"] * 9) == ["look boot"]


def test_a_sticks_driver_is_loaded(machine: Machine) -> None:
    storage = "usb:v46F4p0001d0000dc00dsc00dp00ic08isc06ip50in00"
    keyboard = "usb:v0627p0001d0000dc00dsc00dp00ic03isc01ip01in00"
    steps = [
        f"mkdir bus/usb/devices/1-{n}:1.0; echo {alias} > bus/usb/devices/1-{n}:1.0/modalias"
        for n, alias in enumerate((keyboard, storage))
    ]
    assert machine.run(":", *steps, *[":"] * 3) == [f"modprobe -q -a -b sd_mod {storage}"]
