"""``flash``: an image, and one machine's configuration with it, onto a disk or into a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn
from rich.progress import TransferSpeedColumn as SpeedColumn

from product.cloudinit.errors import InvalidFileError, Problem
from product.cloudinit.load import load_meta_data, load_network, load_user_data
from product.encryption import wish
from product.encryption.wish import Kind
from product.image import flash as flashing
from product.image import inject, progress, sources, target
from product.image.cache import Cache
from product.image.errors import ImageError
from product.image.tools import HostTools

# More than any of them may have: the loaders say so.
_MAX_FILE = 1 << 20
_TITLES = {"write": "written", "verify": "read back"}


def read_files(
    user_data: Path | None, network_config: Path | None, meta_data: Path | None
) -> dict[str, bytes]:
    """The files of a seed by their proper names, each checked as a node checks it.

    Notes on what a node passes over go to the user. Raises InvalidFileError with every fault,
    ImageError.
    """
    found: dict[str, bytes] = {}
    problems: list[Problem] = []
    for name, path, load in (
        ("user-data", user_data, load_user_data),
        ("network-config", network_config, load_network),
        ("meta-data", meta_data, load_meta_data),
    ):
        if path is None:
            continue
        try:
            with path.open("rb") as stream:
                found[name] = stream.read(_MAX_FILE)
        except OSError as error:
            raise ImageError(f"{path} cannot be read: {error.strerror}") from None
        try:
            for note in load(found[name], str(path)).notes:
                progress.note(f"note: {note}")
        except InvalidFileError as error:
            problems += error.problems
    if problems:
        raise InvalidFileError(problems)
    if meta_data is not None and len(found) == 1:
        raise ImageError(
            "meta-data alone configures nothing", hint="give user-data or network-config, too"
        )
    return found


def flash(
    image: Annotated[Path, typer.Argument(help="Disk image (also .zst), or an ISO image.")],
    device: Annotated[str, typer.Argument(help="The whole disk, such as /dev/sdb, or a file.")],
    config: Annotated[
        Path | None, typer.Option("--config", help="user-data: the machine's configuration.")
    ] = None,
    network_config: Annotated[Path | None, typer.Option(help="Its network-config.")] = None,
    meta_data: Annotated[Path | None, typer.Option(help="Its meta-data.")] = None,
    repository: Annotated[
        Path | None,
        typer.Option(help="A release repository, put onto the EFI partition as updates/."),
    ] = None,
    encrypt: Annotated[
        Kind | None,
        typer.Option(help="Let the first boot encrypt the data, its key in the TPM or on a stick."),
    ] = None,
    yes_i_mean: Annotated[
        str | None, typer.Option(metavar="DEVICE", help="The disk again: all on it will be lost.")
    ] = None,
) -> None:
    """Write IMAGE to DEVICE, with configuration for one machine, and read it back.

    A disk in use, by a mount, as swap, in a RAID or LVM volume, is never written to.
    """
    files = read_files(config, network_config, meta_data)
    if encrypt is not None:
        files[wish.NAME] = wish.write(encrypt)
    path = Path(device)
    # Before the host programs are fetched: whoever mistyped something knows it at once.
    found = target.inspect(path)
    if not sources.is_compressed(image):
        target.require_room(path, found, sources.look_at(image).size)
    target.require_meant(device, found, yes_i_mean)
    if repository is not None:
        inject.require_repository(repository)
    cache = Cache()
    tools = HostTools.prepare(cache)
    with cache.scratch("flash") as work, _Shown() as shown:
        plain = sources.unpacked(image, tools, work)
        done = flashing.flash(
            plain, path, tools, work, files=files, repository=repository, meant=yes_i_mean,
            progress=shown,
        )  # fmt: skip
    what = f" with {', '.join(files)}" if files else ""
    print(f"{device} holds {image}{what}: {done.written} bytes written and read back")
    progress.note(f"sha256 of what was written: {done.sha256}")


class _Shown:
    """Bars where a person watches; else a line for each quarter."""

    def __init__(self) -> None:
        self._bar = Progress(
            TextColumn("{task.description:>9}"), BarColumn(), DownloadColumn(), SpeedColumn(),
            console=progress.console, disable=not progress.interactive(),
        )  # fmt: skip
        self._tasks: dict[str, TaskID] = {}
        self._quarters: dict[str, int] = {}

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def __call__(self, what: str, done: int, total: int) -> None:
        title = _TITLES[what]
        if progress.interactive():
            if what not in self._tasks:
                self._tasks[what] = self._bar.add_task(title, total=total)
            self._bar.update(self._tasks[what], completed=done)
            return
        quarter = done * 4 // total if total else 4
        if quarter > self._quarters.get(what, 0):
            self._quarters[what] = quarter
            progress.note(f"{title}: {quarter * 25} %")
