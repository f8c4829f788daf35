"""What the harness knows of this system: the profile that its scenarios run with."""

from __future__ import annotations

from pathlib import Path

from harness.errors import UnsupportedError
from harness.profile import Menu, Moment, Profile
from harness.qemu.machine import Host, Machine
from harness.qemu.spec import MachineSpec
from product.errors import KubesoloError
from product.image.build import SBOM_NAME
from product.image.cache import Cache, default_root
from product.image.flash import flash
from product.image.tools import HostTools, prepare_set

CHANNEL_OFFER = "io.kubesolo.channel=virtio"
# What a scenario's clock shows is the scenario's own matter.
NO_TIME_SERVER = "io.kubesolo.ntp=none"
SMBIOS = (CHANNEL_OFFER, NO_TIME_SERVER)
# What the console shows once the boot loader has decided.
_SSH_SERVER = "dropbear"
_DECIDED = "kubesolo: boot slot="
MENU = Menu(
    entries=(
        "KubeSolo OS",
        "KubeSolo OS, debug",
        "KubeSolo OS, emergency shell",
        "Switch to the other slot by hand",
    ),
    instead=_DECIDED,
)


def _raspberry(spec: MachineSpec, host: Host, artefacts: Path, *, name: str) -> Machine:
    # What reads cards is needed by few, and builds on this profile.
    from scenarios.firmware.board import BoardMachine

    return BoardMachine(spec, host, artefacts, name=name)


def _provision(image: Path, folder: Path, key: str) -> Path:
    """The image with a configuration that lets ``key`` in. Raises UnsupportedError."""
    sbom = image.parent / SBOM_NAME
    if not sbom.is_file() or _SSH_SERVER not in sbom.read_text():
        raise UnsupportedError(
            "this scenario's image has no SSH server, by which alone a board takes commands"
        )
    made = folder / "board.img"
    work = folder / "work"
    work.mkdir()
    user_data = f"#cloud-config\nssh_authorized_keys:\n  - {key} harness\n"
    files = {"user-data": user_data.encode()}
    flash(image, made, HostTools.prepare(Cache()), work, files=files)
    return made


KUBESOLO = Profile(
    name="kubesolo-os",
    ready=(
        r"kubesolo-update: ready version=(?P<version>\S+) slot=(?P<slot>[AB]) "
        r"confirmed=(?P<confirmed>[01])"
    ),
    boot=r"kubesolo: boot slot=(?P<slot>[AB]) counter=(?P<counter>\d) success=(?P<success>[01])",
    rollback=r"kubesolo: rollback to slot=(?P<slot>[AB])",
    # Who gives a boot up says so: boot loader, early boot, the service health, the agent that tries
    # again or returns, the stop; and the kernel's watchdog where the machine has none.
    given_up=(
        r"kubesolo: boot failed|this try is given up|kubesolo-update: unhealthy |"
        r"kubesolo-update: rolled back .*failed health check|the stop takes too long: forced|"
        r"softdog: Initiating system reboot"
    ),
    phases=(
        ("stopping", r"kubesolo: stage stop$"),
        ("up", r"kubesolo-update: unhealthy "),
        ("services and agent", r"runit: enter stage: /etc/runit/2"),
        ("early boot stages", r"kubesolo: stage switch_root"),
        ("initramfs", r"kubesolo: stage initramfs"),
    ),
    moments=(
        Moment(r"kubesolo: rollback to slot=([AB])", "rollback to {0}", "warning"),
        Moment(r"kubesolo: switched to slot=([AB])", "switched to {0} by hand"),
        Moment(r"kubesolo: environment unreadable", "environment unreadable", "warning"),
        Moment(r"kubesolo: cannot save the environment", "environment not saved", "warning"),
        Moment(r"kubesolo: boot failed slot=([AB])", "slot {0} does not boot", "warning"),
        Moment(r"kubesolo: no slot boots", "no slot boots", "warning"),
        Moment(
            r"kubesolo-update: ready version=(\S+) slot=([AB]) confirmed=1", "{0} in {1} ok", "good"
        ),
        Moment(
            r"kubesolo-update: ready version=(\S+) slot=([AB])", "{0} in {1} unconfirmed", "warning"
        ),
        Moment(r"kubesolo-update: unhealthy version=(\S+)", "{0} unhealthy", "warning"),
        Moment(r"kubesolo-update: unhealthy", "unhealthy", "warning"),
        Moment(r"kubesolo-update: rolled back version=(\S+)", "{0} rolled back", "warning"),
        Moment(r"kubesolo-update: rolled back", "rolled back", "warning"),
    ),
    status=("kubesolo-update", "status", "--json"),
    evidence=(
        "kubesolo-update status",
        "dmesg | tail -n 50",
        "ps",
        "tail -n 40 /var/log/health/current /var/log/kubernetes/current "
        "/var/log/containerd/current",
        "mount",
        "df",
    ),
    smbios=SMBIOS,
    slot_parameter=r"kubesolo\.slot=(?P<slot>[AB])",
    boot_text=_DECIDED,
    menu=MENU,
    host_key=r"kubesolo: ssh: host key (?P<fingerprint>SHA256:\S+)",
    provision=_provision,
    tools=prepare_set,
    raspberry=_raspberry,
    cache=default_root,
    errors=(KubesoloError,),
    rerun="./noxw -s scenarios -- {test} --arch {arch}",
)
