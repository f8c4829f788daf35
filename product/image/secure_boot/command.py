"""``secure-boot-keys``: an owner's keys for Secure Boot."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from product.image import progress
from product.image.secure_boot import keys


def secure_boot_keys(
    folder: Annotated[
        Path, typer.Argument(help="Folder for the keys, away from images and repositories.")
    ],
    owner: Annotated[
        str, typer.Option(help="Whose they are, as it stands in the certificates.")
    ] = "KubeSolo OS owner",
) -> None:
    """Make the keys of an owner for Secure Boot: PK, KEK and db; print the files.

    db.key and db.crt sign images; the certificates (.cer) are enrolled in the firmware's set-up.
    """
    for file in keys.generate(folder, owner):
        print(file)
    progress.note(
        f"{folder} holds private keys: keep it off the nodes and out of repositories, with a copy"
    )
