"""``./noxw -s vm``: the project's image as a developer's virtual machine, configured as one."""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from harness.cli.terminal import converse
from harness.errors import HarnessError
from harness.qemu import accel, storage
from harness.qemu.arch import Arch, Firmware
from harness.qemu.machine import Host, Machine
from harness.qemu.spec import MachineSpec
from product.cloudinit.load import load_user_data
from product.current import VERSION
from product.image import progress
from product.image.build import Builder
from product.image.flash_command import read_files
from product.image.inject import Places
from product.image.options import recipe_path
from product.image.recipe import Arch as ImageArch
from product.image.seed import seed_image
from product.image.tools import host_arch
from scenarios.command_line import guarded
from scenarios.profile import KUBESOLO

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

API_PORT = 6443
# What Kubernetes needs (MiB, processors), and what the image alone does.
_WITH_KUBERNETES, _ALONE = (2048, 2), (512, 1)
# Seconds until a node with Kubernetes is ready, on the machine that deadlines were chosen on.
_READY = 600.0
_REPLY = 30.0
_QCOW2 = b"QFI\xfb"


@dataclass(frozen=True, slots=True)
class Forward:
    """A TCP port of this host's loopback that leads to one of the guest."""

    host: int
    guest: int

    @classmethod
    def parse(cls, text: str) -> Forward:
        """``6443`` or ``8443:6443``. Raises HarnessError."""
        match = re.fullmatch(r"(?:(\d{1,5}):)?(\d{1,5})", text)
        ports = [int(part) for part in match.groups() if part] if match else []
        if not ports or not all(0 < port < 65536 for port in ports):
            raise HarnessError(
                f"{text!r} is no port to forward", hint="write GUESTPORT or HOSTPORT:GUESTPORT"
            )
        return cls(ports[0], ports[-1])


@app.command()
def vm(
    arch: Annotated[Arch | None, typer.Option(help="The host's if absent.")] = None,
    recipe: Annotated[Path, typer.Option(help="Recipe file or name: debian, kubesolo.")] = Path(
        "appliance"
    ),
    image: Annotated[
        Path | None,
        typer.Option(help="A disk image of that recipe, as flash wrote it, in place of a new one."),
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", help="user-data of a seed disk made for it.")
    ] = None,
    network_config: Annotated[Path | None, typer.Option(help="Its network-config.")] = None,
    meta_data: Annotated[Path | None, typer.Option(help="Its meta-data.")] = None,
    edge_id: Annotated[str | None, typer.Option(help="Portainer Edge ID, put into it.")] = None,
    edge_key: Annotated[str | None, typer.Option(help="Portainer Edge key, put into it.")] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="The whole disk, kept (qcow2): made if missing, else gone on with."),
    ] = None,
    disk: Annotated[int, typer.Option(help="MiB of a disk that is made.")] = 6144,
    forward: Annotated[
        list[str] | None,
        typer.Option(metavar="[HOSTPORT:]GUESTPORT", help="TCP port to lead in; repeatable."),
    ] = None,
    kubeconfig: Annotated[
        Path | None,
        typer.Option(help="Where it is written on an image with Kubernetes [./kubeconfig-ARCH]."),
    ] = None,
    firmware: Annotated[Firmware, typer.Option(help="What runs before the boot loader.")] = (
        Firmware.UEFI
    ),
    memory: Annotated[int | None, typer.Option(help="MiB.")] = None,
    cpus: Annotated[int | None, typer.Option(help="Processors.")] = None,
) -> None:
    """Build the image and boot it with its console on this terminal; Ctrl-] ends it.

    QEMU ends with this program, however that ends. Without --data the disk is gone then, too.
    """
    forwards = [Forward.parse(text) for text in forward or ()]
    files = read_files(config, network_config, meta_data)
    if edge_id or edge_key:
        files["user-data"] = with_edge(files.get("user-data", b""), edge_id, edge_key)
        load_user_data(files["user-data"], str(config or "user-data"))
    if data is not None and data.exists():
        _require_disk(data)
    if image is not None:
        Places(image)
    own = arch or Arch(host_arch().value)
    builder = Builder(ImageArch(own.value), recipe=recipe_path(recipe))
    built = builder.image(VERSION)
    source = image.absolute() if image else built.disk
    with_kubernetes = bool(built.slot.manifest.kubernetes)
    least = _WITH_KUBERNETES if with_kubernetes else _ALONE
    if with_kubernetes and all(entry.guest != API_PORT for entry in forwards):
        forwards.append(Forward(API_PORT, API_PORT))
    root = builder.cache.root / "harness"
    with progress.step("see what accelerates the machine"):
        found = accel.probe(builder.tools, built.kernel, own, root)
    progress.note(f"{found.name}, deadlines are scaled by {found.scale:.2f}")
    host = Host(builder.tools, found.name, found.scale, root / "runs", profile=KUBESOLO)
    folder = Path(tempfile.mkdtemp(prefix="kubesolo-vm-"))
    seed = None
    if files:
        seed = seed_image(folder / "seed.img", files, tools=builder.tools)
    try:
        spec = MachineSpec(
            arch=own, image=source, firmware=firmware, memory_mib=memory or least[0],
            cpus=cpus or least[1], disk_size_mib=disk, seed=seed,
        )  # fmt: skip
    except ValidationError as error:
        reasons = "; ".join(str(problem["msg"]) for problem in error.errors())
        raise HarnessError(f"no machine can be like that: {reasons}") from error
    if data is not None and not data.exists():
        storage.make_disk(source, data, disk << 20, builder.tools)
    with Machine(spec, host, folder, own_disk=data) as machine:
        machine.power_on()
        for entry in forwards:
            machine.forward(entry.host, entry.guest)
            progress.note(f"127.0.0.1:{entry.host} leads to port {entry.guest}")
        progress.note("Ctrl-] ends the machine")
        if with_kubernetes:
            port = next(entry.host for entry in forwards if entry.guest == API_PORT)
            target = kubeconfig or Path(f"kubeconfig-{own}")
            threading.Thread(
                target=_fetch_kubeconfig, args=(machine, port, target), daemon=True
            ).start()
        try:
            converse(machine.console, machine.type_in)
        finally:
            # QEMU writes out what the guest has written; what the guest holds back is lost.
            if machine.running and data is not None:
                machine.quit()
    sys.stderr.write(f"\nlogs: {folder}\n")
    if data is not None:
        sys.stderr.write(f"disk: {data}; the same command goes on with it\n")


def with_edge(user_data: bytes, edge_id: str | None, edge_key: str | None) -> bytes:
    """user-data with Portainer's Edge ID and key in its block ``kubesolo``.

    Raises HarnessError where that block does not have one setting a line.
    """
    text = user_data.decode("utf-8-sig", "replace") or "#cloud-config\n"
    values = {"portainer-edge-id": edge_id, "portainer-edge-key": edge_key}
    wanted = [f"{key}: {json.dumps(value)}" for key, value in values.items() if value]
    lines = re.sub(r"\r\n?", "\n", text).removesuffix("\n").split("\n")
    at = next(
        (n for n, line in enumerate(lines) if re.match(r"([\"']?)kubesolo\1\s*:", line)), None
    )
    if at is None:
        # Three dots end a document; nothing but comments is behind them.
        at = next((n for n, line in enumerate(lines) if line.rstrip() == "..."), len(lines))
        lines[at:at] = ["kubesolo:"]
    said = re.fullmatch(r"[^:]*:\s*(~|null|Null|NULL|\{\s*\})?\s*(#.*)?", lines[at])
    below = next((line for line in lines[at + 1 :] if re.match(r"\s*[^\s#]", line)), "")
    if said is None or below.lstrip(" ").startswith("{"):
        raise HarnessError(
            f"the block kubesolo of line {at + 1} is not one setting a line: nothing can be put "
            "into it",
            hint="write each of its settings on a line of its own",
        )
    indent = " " * (len(below) - len(below.lstrip(" "))) or "  "
    lines[at : at + 1] = [
        f"kubesolo: {said[2] or ''}".rstrip(),
        *(indent + line for line in wanted),
    ]
    return ("\n".join(lines) + "\n").encode()


def _require_disk(data: Path) -> None:
    """Raise HarnessError unless ``data`` is a disk that ``vm`` may have made."""
    with data.open("rb") as stream:
        if stream.read(len(_QCOW2)) != _QCOW2:
            raise HarnessError(
                f"{data} is no qcow2 disk",
                hint=f"a raw one becomes one: qemu-img convert -O qcow2 {data} DISK",
            )


def _fetch_kubeconfig(machine: Machine, port: int, target: Path) -> None:
    """Write a kubeconfig for this host once the node is ready."""
    try:
        machine.wait_console("kubesolo-update: ready ", machine.deadline(_READY), since=0)
        command = ["kubesolo-node", "kubeconfig", "--server", f"127.0.0.1:{port}"]
        done = machine.channel.exec(command, machine.deadline(_REPLY))
        if done.exit != 0:
            raise HarnessError(f"the node gives no kubeconfig: {done}")
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(done.stdout)
        _say(f"kubeconfig: kubectl --kubeconfig {target} get nodes")
    except (HarnessError, OSError) as error:
        if machine.running:
            _say(f"no kubeconfig was written: {error}")


def _say(text: str) -> None:
    # The terminal is raw while the console is on it.
    sys.stderr.write(f"\r\n{text}\r\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(guarded(app))
