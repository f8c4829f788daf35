"""What locks a node's kernel: the image's list of modules, and scripts under this host's shell."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from product.image.recipe import ArchKernel, Recipe
from product.image.rootfs import hotplug_lines
from product.image.tools import IMAGES

OVERLAY = IMAGES / "overlay/usr/lib/kubesolo"
# What a script names, and stands in the machine's directory here.
MOVED = re.compile(
    "/etc/kubesolo|/run/kubesolo|/usr/lib/kubesolo/|/proc/sys/|/sys/|/lib/modules|/usr/sbin/"
)
SECONDS = 20.0


class Machine:
    """A node's files; its programs are stand-ins on PATH that write down how they were called."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.log = root / "log"
        for name in (
            "etc/kubesolo", "run/kubesolo", "sys/bus/usb/devices/1-1", "sys/kernel/security",
            "proc/sys/kernel", "sys/module/vfat", "lib/modules/6.12",
        ):  # fmt: skip
            (root / name).mkdir(parents=True)
        self.write("run/kubesolo/agent.json", "{}")
        self.write("proc/sys/kernel/modules_disabled", "0\n")
        self.write("sys/kernel/security/lockdown", "[none] integrity confidentiality\n")
        self.write("sys/bus/usb/devices/1-1/modalias", "usb:v1\n")
        self.write("usr/lib/kubesolo/hotplug", "any vfat\nusb uas\nmmc mmc_block\n")
        self.write("lib/modules/6.12/modules.builtin", "kernel/net/packet/af-packet.ko\n")
        said = f'say() {{ echo "say $*" >> {self.log}; }}\n'
        said += f'problem() {{ echo "problem $*" >> {self.log}; }}\n'
        self.write("usr/lib/kubesolo/lib.sh", self.script("lib.sh") + said)
        self.write("run/kubesolo/early", "")
        # As busybox: the first line of a file that fails ends it.
        self.program(
            "sysctl",
            f"""case $2 in
-p) ! grep -q bad "$3" || exit 1 ;;
-w) case $3 in *bad*) echo "sysctl: error: 'bad' is an unknown key" >&2; exit 1 ;; esac ;;
esac
echo "sysctl $2 $3" >> {self.log}""",
        )
        self.program("chpst", 'shift 2; exec "$@"')
        self.program("sleep", "exit 0")
        self.program(
            "modprobe",
            f"""case "$*" in
'-q -R -- '*) [ "$4" = unknown ] || echo "$4" ;;
'-q -n -- unknown') exit 1 ;;
'-q -n -- '*) ;;
*) echo "modprobe $*" >> {self.log} ;;
esac""",
        )

    def write(self, name: str, text: str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def program(self, name: str, text: str) -> None:
        for folder in ("bin", "usr/sbin"):
            self.write(f"{folder}/{name}", f"#!/bin/sh\n{text}\n").chmod(0o755)

    def configure(self, text: str) -> None:
        self.write("etc/kubesolo/security.conf", text)

    def script(self, path: str) -> str:
        return MOVED.sub(rf"{self.root}\g<0>", (OVERLAY / path).read_text())

    def run(self, path: str, *arguments: str) -> tuple[list[str], int]:
        """What a script did and its exit status; a stage has lib.sh's functions."""
        self.log.write_text("")
        text = self.script(path)
        if path.startswith("stages/"):
            text = f". {self.root}/usr/lib/kubesolo/lib.sh\n{text}"
        done = subprocess.run(
            ["/bin/sh", "-c", text, path, *arguments], check=False, timeout=SECONDS,
            capture_output=True, text=True, env={"PATH": f"{self.root}/bin:/usr/bin:/bin"},
        )  # fmt: skip
        assert done.stderr == ""
        return self.log.read_text().replace(str(self.root), "").splitlines(), done.returncode

    def has(self, name: str) -> str:
        return (self.root / name).read_text().strip()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


LOCKDOWN = "sys/kernel/security/lockdown"
LOCK = "proc/sys/kernel/modules_disabled"


def test_a_node_without_settings_is_locked_down(machine: Machine) -> None:
    assert machine.run("stages/89-hardening") == ([], 0)
    assert machine.has(LOCKDOWN) == "integrity"


def test_an_operators_parameters_one_by_one_where_one_is_refused(machine: Machine) -> None:
    machine.configure("#x\r\nsysctl.kernel.good = 1\r\n sysctl.kernel.bad=2\nsysctl.a/../b=3\n")
    did, _ = machine.run("stages/89-hardening")
    conf = "/etc/kubesolo/security.conf"
    assert did == [
        f"problem {conf}: a name of sysctl with '..' is none",
        "sysctl -w kernel.good=1",
        f"problem {conf}: sysctl kernel.bad=2 does not count: error: 'bad' is an unknown key",
    ]


@pytest.mark.parametrize(
    ("conf", "lockdown", "said"),
    [
        ("lockdown=none\n", "[none] integrity confidentiality", []),
        ("lockdown = none \r\n", "[none] integrity confidentiality", []),
        ("lockdown=all\nmodules=no\n", "integrity", ["modules=no is", "lockdown=all is"]),
        ("allow_modules=vfat unknown", "integrity", ["allow_modules: this image has no module"]),
    ],
)
def test_words_of_the_settings(machine: Machine, conf: str, lockdown: str, said: list[str]) -> None:
    machine.configure(conf)
    did, _ = machine.run("stages/89-hardening")
    assert machine.has(LOCKDOWN) == lockdown
    assert len(did) == len(said)
    for line, words in zip(did, said, strict=True):
        assert words in line


def test_a_kernel_that_is_locked_down_already_is_left(machine: Machine) -> None:
    text = "none integrity [confidentiality]"
    machine.write(LOCKDOWN, text)
    assert machine.run("stages/89-hardening") == ([], 0)
    assert machine.has(LOCKDOWN) == text


def test_modules_are_loaded_then_locked(machine: Machine) -> None:
    machine.configure("allow_modules=first  second\r\n")
    did, _ = machine.run("services/modules/run")
    assert did == [
        "modprobe -q vfat",
        "modprobe -q uas",
        "modprobe -q -a -b usb:v1 first second",
        "say modules locked",
    ]
    assert machine.has(LOCK) == "1"
    assert machine.has("proc/sys/kernel/modprobe").endswith("/refused-modules")
    # Started again it leaves things as they are.
    assert machine.run("services/modules/run") == ([], 0)


def test_modules_that_stay_open(machine: Machine) -> None:
    machine.configure("modules=open\n")
    did, _ = machine.run("services/modules/run")
    assert did == ["say modules stay open, as security.conf says"]
    assert machine.has(LOCK) == "0"


def test_a_node_without_a_verdict_is_locked_all_the_same(machine: Machine) -> None:
    (machine.root / "run/kubesolo/agent.json").unlink()
    did, _ = machine.run("services/modules/run")
    assert did[-1] == "say modules locked"


def test_refused_modules_are_said_once(machine: Machine) -> None:
    asked = ("-q", "--", "uas", "unknown", "vfat", "af_packet", "uas")
    assert machine.run("refused-modules", *asked) == ([], 0)
    machine.write(LOCK, "1\n")
    did, status = machine.run("refused-modules", *asked)
    assert did == ["say module uas is refused: modules are locked (allow_modules in security.conf)"]
    # The kernel asks for another name then.
    assert status == 1
    assert machine.run("refused-modules", *asked) == ([], 1)


def test_modules_for_what_is_plugged_in_by_bus_and_of_the_payload() -> None:
    first = ArchKernel(hotplug={"any": ("vfat",), "usb": ("uas",)})
    joined = first.joined(ArchKernel(hotplug={"usb": ("r8152", "uas"), "mmc": ("mmc_block",)}))
    assert set(joined.all()) == {"vfat", "uas", "r8152", "mmc_block"}
    assert hotplug_lines(joined.hotplug, ("xt_mark", "vfat")).splitlines() == [
        "any vfat", "usb uas", "usb r8152", "mmc mmc_block", "any xt_mark",
    ]  # fmt: skip


def test_a_module_is_found_where_its_bus_names_it() -> None:
    recipe = Recipe.load(IMAGES / "appliance.toml")
    assert recipe.naming("usb_storage") == IMAGES / "hardware/generic.toml"
    assert recipe.naming("bonding") == IMAGES / "hardware/generic.toml"
