"""The disk's partitions, by the sizes that the image builder gives them."""

from __future__ import annotations

from product.image.disk import DATA_LABEL, ESP_LABEL, ESP_MIB, SLOT_LABELS, SLOT_MIB
from product.manifest import MANIFEST_NAME
from scenarios.documents.pictures.canvas import Canvas, Tone

_SLOT = ("vmlinuz", "initramfs.img", "kernel.env", "root.squashfs", MANIFEST_NAME)


def draw() -> str:
    """The picture as SVG."""
    canvas = Canvas(900, 330, "The partitions of the disk, and what is in each")
    canvas.title("The disk: GPT, four partitions")
    slot = f"ext4, {SLOT_MIB} MiB"
    columns = [
        (16, 200, ESP_LABEL, f"FAT32, {ESP_MIB} MiB", Tone.PLAIN),
        (226, 190, SLOT_LABELS["A"], slot, Tone.A),
        (426, 190, SLOT_LABELS["B"], slot, Tone.B),
        (626, 258, DATA_LABEL, "ext4, the rest of the disk", Tone.GOOD),
    ]
    contents = [
        ("EFI: shim, GRUB, grub.cfg", "SPARE: the boot loader before", "boot/grub/grubenv:",
         "   which slot, how many tries", "kubesolo: configuration"),
        _SLOT,
        _SLOT,
        ("/var/lib/kubesolo, /etc/kubesolo", "/var/lib/containerd, kubelet", "/var/log",
         "the update's state and history", "made by the first boot"),
    ]  # fmt: skip
    for (x, width, label, size, tone), lines in zip(columns, contents, strict=True):
        canvas.box(x, 44, width, 50, [label, size], tone)
        for number, line in enumerate(lines):
            canvas.text(x + 10, 118 + number * 19, line)
    memory = canvas.box(
        226, 262, 390, 50,
        ["Memory: the root of the slot that runs", "copied at the start; the slot is unmounted"],
    )  # fmt: skip
    for x in (321, 521):
        canvas.arrow([(x, 204), (x, memory.y)], Tone.PLAIN)
    canvas.text(331, 240, "either")
    canvas.text(531, 240, "or")
    return canvas.svg()
