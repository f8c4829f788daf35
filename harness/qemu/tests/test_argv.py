"""QEMU's command line and the specification that it comes from."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from harness.profile import Profile
from harness.qemu.arch import Arch
from harness.qemu.argv import Storage, Streams, build
from harness.qemu.devices import DiskBus, NetworkCard, SeedBus
from harness.qemu.spec import MachineSpec

STREAMS = Streams(qmp=10, console=11, channel=12)


class Tools:
    """Tools below a root that need not exist."""

    def argv(self, program: str, *args: str) -> list[str]:
        return [f"/tools/{program}", *args]

    def path(self, relative: str) -> Path:
        return Path("/tools") / relative


def spec(**fields: Any) -> MachineSpec:
    return MachineSpec.model_validate({"arch": "x86_64", "image": "/disk.img", **fields})


def command(machine: MachineSpec, accelerator: str = "tcg", incoming: bool = False) -> list[str]:
    variables = None if machine.firmware.value == "bios" else Path("/run/variables.qcow2")
    storage = Storage(Path("/run/disk.qcow2"), variables)
    return build(machine, Tools(), accelerator, storage, STREAMS, incoming=incoming)


def values(argv: list[str], option: str) -> list[str]:
    return [argv[i + 1] for i, word in enumerate(argv) if word == option]


@pytest.mark.parametrize("arch", list(Arch))
def test_every_stream_is_a_descriptor_and_no_port_is_open(arch: Arch) -> None:
    argv = command(spec(arch=arch))
    assert argv[0] == f"/tools/qemu-system-{arch}"
    assert values(argv, "-chardev") == [
        "socket,id=qmp,fd=10",
        "socket,id=console,fd=11",
        "socket,id=channel,fd=12",
    ]
    text = " ".join(argv)
    for word in ("hostfwd", "tcp:", "server", "-vnc", "-gdb"):
        assert word not in text


@pytest.mark.parametrize("arch", list(Arch))
def test_the_image_itself_is_never_opened(arch: Arch) -> None:
    blocks = values(command(spec(arch=arch)), "-blockdev")
    assert not any("/disk.img" in block for block in blocks)
    assert "driver=file,node-name=disk-file,filename=/run/disk.qcow2" in blocks
    assert "driver=qcow2,node-name=disk,file=disk-file" in blocks


@pytest.mark.parametrize("arch", list(Arch))
def test_firmware_code_is_read_only_and_its_variables_can_be_in_a_snapshot(arch: Arch) -> None:
    blocks = values(command(spec(arch=arch)), "-blockdev")
    code = [block for block in blocks if "node-name=code" in block]
    assert len(code) == 2
    assert all(block.endswith("read-only=on") for block in code)
    assert "driver=qcow2,node-name=variables,file=variables-file" in blocks


def test_bios_needs_no_flash() -> None:
    argv = command(spec(firmware="bios"))
    assert "pflash" not in " ".join(argv)
    assert len(values(argv, "-blockdev")) == 2


@pytest.mark.parametrize(
    ("arch", "code", "machine", "flash"),
    [
        (
            "x86_64", "/tools/usr/share/OVMF/OVMF_CODE_4M.secboot.fd", "q35,smm=on,",
            ["driver=cfi.pflash01,property=secure,value=on"],
        ),
        ("aarch64", "/tools/usr/share/AAVMF/AAVMF_CODE.secboot.fd", "virt,gic-version=max,", []),
    ],
)  # fmt: skip
def test_secure_boot_has_a_firmware_that_enforces_it_and_a_flash_that_only_it_writes(
    arch: str, code: str, machine: str, flash: list[str]
) -> None:
    secure, plain = command(spec(arch=arch, secure_boot=True)), command(spec(arch=arch))
    assert f"driver=file,node-name=code-file,filename={code},read-only=on" in secure
    assert values(secure, "-machine")[0].startswith(machine)
    assert values(secure, "-global") == flash
    assert code not in " ".join(plain)
    assert "smm=on" not in " ".join(plain)
    assert values(plain, "-global") == []
    assert spec(arch=arch, secure_boot=True).firmware_files.variables.endswith(".ms.fd")
    assert not spec(arch=arch).firmware_files.variables.endswith(".ms.fd")


def test_the_machine_starts_paused_and_without_the_users_configuration() -> None:
    argv = command(spec())
    for word in ("-S", "-no-user-config", "-nodefaults"):
        assert word in argv


def test_aarch64_does_not_wait_for_a_key() -> None:
    assert values(command(spec(arch="aarch64")), "-boot") == ["menu=on,splash-time=0"]
    assert values(command(spec()), "-boot") == []


@pytest.mark.parametrize(
    ("arch", "accelerator", "cpu"),
    [
        ("x86_64", "tcg", "qemu64"),
        ("x86_64", "kvm", "host"),
        ("aarch64", "tcg", "max,pauth=off,sve=off,sme=off"),
        ("aarch64", "kvm", "host"),
    ],
)
def test_the_processor_fits_the_accelerator(arch: str, accelerator: str, cpu: str) -> None:
    argv = command(spec(arch=arch), accelerator)
    [value] = values(argv, "-cpu")
    assert value == cpu or value.startswith(f"{cpu},")
    assert f"accel={accelerator}" in values(argv, "-machine")[0]


def test_devices_that_one_architecture_has_alone() -> None:
    x86 = values(command(spec()), "-device")
    arm = values(command(spec(arch="aarch64")), "-device")
    assert "i6300esb" in x86
    assert "vmgenid,guid=auto" in x86
    assert "i6300esb" in arm
    assert "vmgenid,guid=auto" not in arm
    assert values(command(spec()), "-action") == ["watchdog=reset"]


def test_what_is_switched_off_is_not_there() -> None:
    argv = command(spec(network=False, watchdog=False, smbios=()))
    text = " ".join(argv)
    for word in ("netdev", "virtio-net", "i6300esb", "smbios"):
        assert word not in text


def test_the_offer_of_the_channel_is_an_smbios_string() -> None:
    argv = command(spec(smbios=("io.example.channel=virtio", "io.example=1")))
    assert values(argv, "-smbios") == [
        "type=11,value=io.example.channel=virtio",
        "type=11,value=io.example=1",
    ]


def test_credentials_of_the_profile_are_handed_over_unless_the_machine_has_its_own() -> None:
    profile = Profile(smbios=("io.example=1",), fw_cfg=(("opt/io.example.offer", "virtio"),))
    argv = command(spec().handing(profile))
    assert values(argv, "-smbios") == ["type=11,value=io.example=1"]
    assert values(argv, "-fw_cfg") == ["name=opt/io.example.offer,string=virtio"]
    assert values(command(spec(smbios=()).handing(profile)), "-smbios") == []
    with pytest.raises(ValueError, match="below opt/"):
        spec(fw_cfg=(("etc/x", "1"),))


def test_sizes_clock_and_extras_are_passed_on() -> None:
    argv = command(spec(memory_mib=768, cpus=2, rtc="2020-01-01T00:00:00", extra=("-name", "x")))
    assert values(argv, "-m") == ["768"]
    assert values(argv, "-smp") == ["2"]
    assert values(argv, "-rtc") == ["base=2020-01-01T00:00:00"]
    assert argv[-2:] == ["-name", "x"]


@pytest.mark.parametrize("arch", list(Arch))
def test_a_kernel_is_booted_without_a_disk_or_before_it(arch: Arch) -> None:
    """The kernel has the first place in the firmware's order, which nobody else may claim."""
    kernel = {"kernel": "/boot/vmlinuz", "initrd": "/boot/initrd", "append": "a=1 b"}
    for image, disks in ((None, 0), ("/disk.img", 1)):
        machine = spec(arch=arch, image=image, **kernel)
        storage = Storage(Path("/run/disk.qcow2") if image else None, Path("/run/variables.qcow2"))
        argv = build(machine, Tools(), "tcg", storage, STREAMS)
        for option, value in kernel.items():
            assert values(argv, f"-{option}") == [value]
        assert "bootindex" not in " ".join(argv)
        assert (
            len([device for device in values(argv, "-device") if "virtio-blk" in device]) == disks
        )
    assert "-kernel" not in command(spec(arch=arch))


def test_a_fork_waits_for_its_state() -> None:
    assert values(command(spec(), incoming=True), "-incoming") == ["defer"]
    assert "-incoming" not in command(spec())


def test_a_comma_in_a_path_is_quoted() -> None:
    storage = Storage(Path("/run,1/disk.qcow2"), None)
    argv = build(spec(firmware="bios"), Tools(), "tcg", storage, STREAMS)
    assert "driver=file,node-name=disk-file,filename=/run,,1/disk.qcow2" in argv


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"arch": "riscv64"}, "arch"),
        ({"arch": "aarch64", "firmware": "bios"}, "no bios firmware"),
        ({"firmware": "bios", "secure_boot": True}, "bios firmware has no Secure Boot"),
        ({"memory_mib": 16}, "memory_mib"),
        ({"cpus": 0}, "cpus"),
        ({"smbios": ("a,b",)}, "commas"),
        ({"rtc": "yesterday"}, "rtc"),
        ({"colour": "blue"}, "colour"),
        ({"image": None}, "an image, a kernel or a CD"),
        ({"initrd": "/boot/initrd"}, "initrd and append need a kernel"),
        ({"append": "quiet"}, "initrd and append need a kernel"),
    ],
)
def test_an_impossible_machine_says_why(fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        spec(**fields)


@pytest.mark.parametrize("bus", list(DiskBus))
def test_the_disk_hangs_on_the_chosen_bus_under_the_same_name(bus: DiskBus) -> None:
    argv = command(spec(disk_bus=bus, disk_size_mib=4096))
    devices = values(argv, "-device")
    assert [device for device in devices if "id=disk0,drive=disk" in device] == [bus.devices()[-1]]
    for earlier, later in pairwise(bus.devices()):
        assert devices.index(earlier) < devices.index(later)


@pytest.mark.parametrize("card", list(NetworkCard))
def test_the_network_card_is_the_chosen_one(card: NetworkCard) -> None:
    devices = values(command(spec(network_card=card)), "-device")
    assert [device for device in devices if "netdev=net0" in device] == [card.devices("net0")[-1]]


def test_a_machine_has_one_watchdog() -> None:
    argv = command(spec(watchdog_device="itco"))
    assert "i6300esb" not in argv
    assert values(argv, "-global") == ["ICH9-LPC.noreboot=off"]
    assert values(argv, "-action") == ["watchdog=reset"]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"arch": "aarch64", "watchdog_device": "itco"}, "aarch64 machines have no watchdog itco"),
        ({"disk_bus": "sd"}, "a power of two, not 2560 MiB"),
        ({"disk_bus": "floppy"}, "disk_bus"),
    ],
)
def test_hardware_that_cannot_be_is_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        spec(**fields)


@pytest.mark.parametrize("bus", list(SeedBus))
@pytest.mark.parametrize("iso", [True, False])
def test_a_seed_is_a_second_disk_that_no_firmware_tries(
    tmp_path: Path, bus: SeedBus, iso: bool
) -> None:
    seed = tmp_path / "seed,1"
    seed.write_bytes(bytes(0x8001) + b"CD001" if iso else bytes(0x9000))
    storage = Storage(Path("/run/disk.qcow2"), None, seed)
    argv = build(spec(firmware="bios", seed_bus=bus), Tools(), "tcg", storage, STREAMS)
    blocks = [block for block in values(argv, "-blockdev") if "node-name=seed" in block]
    assert len(blocks) == 2
    assert all(block.endswith("read-only=on") is iso for block in blocks)
    assert f"filename={tmp_path}/seed,,1" in blocks[0]
    [device] = [device for device in values(argv, "-device") if "drive=seed" in device]
    assert "bootindex" not in device
    assert "node-name=seed" not in " ".join(command(spec()))
