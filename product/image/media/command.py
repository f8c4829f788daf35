"""``media`` and ``from-oci``: the image in the form that is wanted, and back."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from product.current import VERSION
from product.image import drift, progress
from product.image.build import Builder
from product.image.cache import Cache, file_sha256
from product.image.errors import ImageError
from product.image.flash_command import read_files
from product.image.media import kinds, registry
from product.image.media.from_oci import disk_from
from product.image.media.kinds import Kind, MediaOptions, Medium
from product.image.media.oci import merge
from product.image.options import (
    DEFAULT_RECIPE,
    ArchiveOption,
    ArchOption,
    BinaryOption,
    DriftOption,
    HardwareOption,
    RecipeOption,
    Sha256Option,
    payload_options,
    recipe_path,
    warn_of_drift,
)  # fmt: skip
from product.image.recipe import Arch
from product.image.tools import HostTools, host_arch


def media(
    kind: Annotated[list[Kind], typer.Option("--kind", help="What to build; may be repeated.")],
    arch: Annotated[
        list[Arch] | None,
        typer.Option(help="Guest architecture; may be repeated; the host's if absent."),
    ] = None,
    version: Annotated[str, typer.Option(help="Version of slot A.")] = VERSION,
    recipe: RecipeOption = DEFAULT_RECIPE,
    hardware: HardwareOption = None,
    output: Annotated[Path, typer.Option(help="Folder that the files are written to.")] = Path(),
    disk_size: Annotated[
        str, typer.Option(help="Size of the disks of hypervisors, such as 8G.")
    ] = "8G",
    config: Annotated[
        Path | None, typer.Option("--config", help="user-data of one machine, for disks.")
    ] = None,
    network_config: Annotated[Path | None, typer.Option(help="Its network-config.")] = None,
    meta_data: Annotated[Path | None, typer.Option(help="Its meta-data.")] = None,
    repository: Annotated[
        Path | None, typer.Option(help="A release repository that a USB stick brings.")
    ] = None,
    images: Annotated[
        Path | None, typer.Option(help="A folder of container images that a USB stick brings.")
    ] = None,
    channel: Annotated[
        str | None, typer.Option(help="Channel that an OCI image says it is of.")
    ] = None,
    payload_binary: BinaryOption = None,
    payload_archive: ArchiveOption = None,
    payload_sha256: Sha256Option = None,
    allow_drift: DriftOption = False,
) -> None:
    """Build media from the disk image; print path, bytes and SHA-256 of each.

    Beside each lies FILE.sha256, for sha256sum -c. With several architectures, an OCI image of
    all of them is written as well.
    """
    size = kinds.parse_size(disk_size)
    files = read_files(config, network_config, meta_data)
    options = MediaOptions(files, size, repository, images, channel)
    wanted = list(dict.fromkeys(kind))
    for one in wanted:
        kinds.check(one, options)
    if not output.is_dir():
        raise ImageError(f"there is no folder {output}", hint="make it, or name another --output")
    made: list[Medium] = []
    with drift.allowing(allow_drift):
        payload = payload_options(payload_binary, payload_archive, payload_sha256)
        for one_arch in list(dict.fromkeys(arch or [host_arch()])):
            builder = Builder(
                one_arch, recipe=recipe_path(recipe), hardware=hardware, payload=payload
            )
            for one in wanted:
                made.append(kinds.build(one, builder, version, output, options=options))
                _show(made[-1])
            warn_of_drift(builder.slot(version))
    layouts = [medium.path for medium in made if medium.kind is Kind.OCI]
    if len(layouts) > 1:
        target = output / f"kubesolo-os-{version}{_between(hardware)}.{Kind.OCI.suffix}"
        merge(layouts, version, target)
        _show(kinds.described(Kind.OCI, target, file_sha256(target)))


def _between(hardware: str | None) -> str:
    return f"-{hardware}" if hardware else ""


def _show(medium: Medium) -> None:
    print(medium.path)
    progress.note(f"{medium.size} bytes, sha256 {medium.sha256}")


def from_oci(
    source: Annotated[
        str,
        typer.Argument(
            help="An image layout, as a tar or a folder, or docker://REGISTRY/NAME[:TAG]."
        ),
    ],
    output: Annotated[Path, typer.Option(help="The disk image that is written.")],
    arch: ArchOption = None,
    plain_http: Annotated[
        bool, typer.Option("--plain-http", help="The registry speaks HTTP without TLS.")
    ] = False,
    ca_file: Annotated[
        Path | None, typer.Option(help="PEM file of the authority of the registry's certificate.")
    ] = None,
) -> None:
    """Write the disk image that an OCI image holds, each part and the whole by SHA-256.

    Whether the image is the publisher's own, cosign says; nodes never update from it.
    """
    cache = Cache()
    tools = HostTools.prepare(cache)
    if output.exists() and not output.is_file():
        raise ImageError(
            f"{output} is no regular file", hint="write to a file, then flash that to the disk"
        )
    with cache.scratch("from-oci") as work, tempfile.TemporaryDirectory(dir=work) as files:
        place = Path(source)
        if source.startswith(registry.SCHEME):
            place = work / "layout"
            registry.fetch(source, place, plain_http=plain_http, ca_file=ca_file)
        elif not place.exists():
            raise ImageError(
                f"there is no {source}",
                hint=f"a place in a registry starts with {registry.SCHEME}",
            )
        sha256 = disk_from(place, arch or host_arch(), tools, Path(files), output)
    print(output)
    progress.note(f"{output.stat().st_size >> 20} MiB, sha256 {sha256}")
