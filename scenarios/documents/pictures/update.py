"""An update from the publisher to the confirmed slot, with the gates that the agent asks."""

from __future__ import annotations

from product.agent.update.gates import GATES
from scenarios.documents.pictures.canvas import Canvas, Tone


def draw() -> str:
    """The picture as SVG; raises ValueError where a gate's name has no room."""
    height = 196 + len(GATES) * 17
    canvas = Canvas(1000, height, "An update from the published release to the confirmed slot")
    canvas.title("An update: what decides, what is written, and the way back")
    publisher = canvas.box(16, 48, 150, 64, ["Publisher", "signs with TUF,", "keys on sticks"])
    source = canvas.box(
        16,
        150,
        150,
        82,
        ["Source", "web server, disk,", "registry, USB stick", "need not be trusted"],
    )
    gates = canvas.box(
        206,
        48,
        204,
        34 + len(GATES) * 17,
        [f"{len(GATES)} gates, in order", *(g.name for g in GATES)],
    )
    write = canvas.box(
        450,
        48,
        240,
        116,
        [
            "Write the passive slot",
            "its manifest goes first",
            "stream and hash, resume",
            "sync, read back by direct I/O",
            "the manifest comes last",
        ],
        Tone.B,
    )
    arm = canvas.box(
        450,
        196,
        240,
        82,
        [
            "Arm, in one write",
            "active_slot, boot_counter=3,",
            "boot_success=0",
            "before it: copy the datastore",
        ],
        Tone.B,
    )
    trial = canvas.box(
        740, 48, 244, 64, ["Trial", "boots at most three times,", "judged by health checks"], Tone.B
    )
    commit = canvas.box(
        740, 150, 244, 48, ["Commit: boot_success=1", "the boot loader follows"], Tone.GOOD
    )
    back = canvas.box(
        740,
        240,
        244,
        82,
        [
            "Rollback",
            "the other slot, as it was,",
            "with its copy of the datastore;",
            "the digest is quarantined",
        ],
        Tone.BAD,
    )
    refused = canvas.box(450, 310, 240, 48, ["Refused by name", "nothing was written"], Tone.BAD)
    canvas.arrow([publisher.bottom, source.top])
    canvas.arrow([source.right, (gates.x, source.right[1])])
    canvas.arrow([(gates.x + gates.width, write.left[1]), write.left], Tone.GOOD)
    canvas.arrow(
        [
            (gates.x + gates.width, refused.left[1] - 110),
            (430, refused.left[1] - 110),
            (430, refused.left[1]),
            refused.left,
        ],
        Tone.BAD,
    )
    canvas.arrow([write.bottom, arm.top])
    canvas.arrow([arm.right, (715, arm.right[1]), (715, trial.left[1]), trial.left])
    canvas.arrow([trial.bottom, commit.top], Tone.GOOD)
    canvas.arrow([(trial.x, 98), (727, 98), (727, back.left[1]), back.left], Tone.BAD)
    return canvas.svg()
