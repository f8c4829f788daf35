"""Options that several commands have."""

from __future__ import annotations

from typing import Annotated

import typer

from harness.qemu.arch import Arch

ProfileOption = Annotated[
    str | None,
    typer.Option(
        metavar="MODULE:NAME",
        help="the system's profile [pytest's option harness_profile, else any Linux]",
    ),
]
ArchOption = Annotated[Arch, typer.Option(help="architecture of the guest")]
