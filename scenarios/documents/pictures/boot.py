"""A boot: what GRUB decides by the boot environment, and how a trial ends."""

from __future__ import annotations

from scenarios.documents.pictures.canvas import Canvas, Tone

_LEFT, _WIDE = 16, 290
_SECOND, _THIRD = 340, 664


def draw() -> str:
    """The picture as SVG; the decisions are those of images/boot/grub.cfg and init."""
    canvas = Canvas(940, 640, "From the firmware to a confirmed slot, and the ways back")
    canvas.title("A boot: GRUB decides, the slot proves itself")
    firmware = canvas.box(_LEFT, 44, _WIDE, 48, ["Firmware", "UEFI with shim, or BIOS"])
    grub = canvas.box(
        _LEFT,
        122,
        _WIDE,
        64,
        ["GRUB reads grubenv", "active_slot, boot_counter,", "boot_success"],
    )
    confirmed = canvas.box(
        _LEFT,
        240,
        _WIDE,
        48,
        ["boot_success=1: confirmed", "boots active_slot, writes nothing"],
        Tone.GOOD,
    )
    trial = canvas.box(
        _SECOND,
        240,
        _WIDE,
        64,
        [
            "boot_counter 3, 2, 1: on trial",
            "counts down, saves the counter,",
            "then loads the kernel",
        ],
        Tone.B,
    )
    spent = canvas.box(
        _THIRD,
        240,
        260,
        64,
        [
            "boot_counter 0: rollback",
            "active_slot = the other one,",
            "boot_success=1, saves, boots it",
        ],
        Tone.BAD,
    )
    broken = canvas.box(
        _SECOND,
        128,
        584,
        52,
        [
            "grubenv missing or garbage",
            "boots a slot with a kernel, writes nothing; the node reports it",
        ],
    )
    canvas.arrow([firmware.bottom, grub.top])
    canvas.arrow([grub.right, broken.left])
    canvas.arrow([grub.bottom, confirmed.top], Tone.GOOD)
    canvas.arrow([(grub.bottom[0], 212), (trial.top[0], 212), trial.top])
    canvas.arrow([(trial.top[0], 212), (spent.top[0], 212), spent.top], Tone.BAD)
    early = canvas.box(
        _LEFT,
        352,
        _WIDE,
        64,
        [
            "Early boot (initramfs)",
            "feeds the watchdog, finds the disk,",
            "copies the root to memory",
        ],
    )
    proof = canvas.box(
        _SECOND,
        352,
        _WIDE,
        64,
        [
            "The same on trial",
            "flushes GRUB's counter to the disk,",
            "hashes the root before it runs",
        ],
        Tone.B,
    )
    canvas.arrow([confirmed.bottom, early.top], Tone.GOOD)
    canvas.arrow([trial.bottom, proof.top])
    stages = canvas.box(
        _LEFT,
        462,
        _WIDE,
        64,
        ["Stages 00 to 90, services", "mounts, data, configuration,", "network, clock, Kubernetes"],
    )
    judged = canvas.box(
        _SECOND,
        462,
        _WIDE,
        64,
        ["The agent judges", "disk, network, Kubernetes, a URL", "against the baseline"],
        Tone.B,
    )
    canvas.arrow([early.bottom, stages.top], Tone.GOOD)
    canvas.arrow([proof.bottom, judged.top])
    ready = canvas.box(
        _LEFT, 572, _WIDE, 48, ["Ready", "nothing rolls it back by itself"], Tone.GOOD
    )
    commit = canvas.box(_SECOND, 572, _WIDE, 48, ["Commit", "boot_success=1"], Tone.GOOD)
    canvas.arrow([stages.bottom, ready.top], Tone.GOOD)
    canvas.arrow([judged.bottom, commit.top], Tone.GOOD)
    canvas.box(
        _THIRD,
        372,
        260,
        134,
        [
            "A try is spent",
            "panic, hang (the watchdog resets),",
            "boot failed, a root that does not",
            "match, no verdict, unhealthy;",
            "a power cut spends it as well:",
            "the machine restarts",
        ],
        Tone.BAD,
    )
    canvas.arrow([proof.right, (_THIRD, proof.right[1])], Tone.BAD)
    canvas.arrow([judged.right, (_THIRD, judged.right[1])], Tone.BAD)
    canvas.arrow([(930, 440), (930, 68), (firmware.right[0], 68)], Tone.BAD)
    canvas.arrow([(924, 440), (930, 440)], Tone.BAD, head=False)
    canvas.box(
        _THIRD,
        552,
        260,
        68,
        [
            "A confirmed slot that fails",
            "yields to the other one, with three",
            "tries, if that holds a system",
        ],
        Tone.A,
    )
    return canvas.svg()
