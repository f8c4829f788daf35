"""A failure as one file that opens on another host: ``NAME.failure.tar.zst``.

A tar archive, compressed with zstd. It begins with ``manifest.json``: ``schema``, ``test``,
``made`` (a UTC time), ``result`` (result.json), ``nodes`` and ``files`` (name to ``sha256`` and
``size``).
Then come the files: the scenario's evidence below its own names, and below ``files`` what lay
elsewhere: images, kernels, firmware. A node has what ``machine.json`` says (harness.qemu.left) with
``spec`` naming files of the archive; ``firmware`` (names below the tools' root to files of the
archive), ``memory`` and ``tpm`` (names in the archive, or null).
"""

from __future__ import annotations

import datetime
import hashlib
import json
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from pydantic import ValidationError

from harness.errors import HarnessError
from harness.qemu import left, storage
from harness.qemu.arch import Firmware
from harness.qemu.board import Board
from harness.qemu.spec import MachineSpec
from harness.qemu.tools import HostTools

SCHEMA = 1
SUFFIX = ".failure.tar.zst"
_MANIFEST = "manifest.json"
# Fields of MachineSpec that name files which lie outside of the evidence.
_OUTSIDE = ("kernel", "initrd", "cdrom", "device_tree")
_PIECE = 1 << 20


def pack(folder: Path, into: Path, tools: HostTools) -> Path:
    """Write the failure whose evidence is in ``folder`` into the file ``into``; returns that.

    Raises HarnessError where there is no failure, or a file of it has gone.
    """
    result = _result(folder)
    found = left.nodes(folder)
    if not found:
        raise HarnessError(
            f"{folder} has no machine that could be started again",
            hint="a failed scenario leaves a machine.json for each machine that had begun",
        )
    try:
        with tempfile.TemporaryDirectory(prefix=".pack-", dir=into.parent) as scratch:
            files: dict[str, Path] = {
                path.relative_to(folder).as_posix(): path
                for path in sorted(folder.rglob("*"))
                if path.is_file() and not path.is_symlink()
            }
            packed = {
                node.name: _node(node, files, Path(scratch) / node.name, tools) for node in found
            }
            manifest = {
                "schema": SCHEMA,
                "test": result.get("test"),
                "made": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
                "result": result,
                "nodes": packed,
                "files": {name: _digest(path) for name, path in sorted(files.items())},
            }
            _write(manifest, files, into, tools)
    except OSError as error:
        raise HarnessError(f"{folder} cannot be packed into {into}: {error}") from error
    return into


def _result(folder: Path) -> dict[str, Any]:
    path = folder / "result.json"
    try:
        result = json.loads(path.read_bytes())
        outcome = result["outcome"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise HarnessError(
            f"{folder} is no scenario's evidence: {path.name} cannot be read: {error}",
            hint="name the folder of one failed scenario, below out/scenarios",
        ) from None
    if outcome != "failed":
        raise HarnessError(f"the scenario of {folder} {outcome}: what failed can be packed")
    return dict(result)


def _node(folder: Path, files: dict[str, Path], scratch: Path, tools: HostTools) -> dict[str, Any]:
    """A node's entry in the manifest; ``files`` gets what lies outside of the evidence."""
    document: dict[str, Any] = json.loads((folder / left.MACHINE).read_bytes())
    spec = MachineSpec.model_validate(document["spec"])
    name = folder.name
    fields: dict[str, Any] = {"log_writes": False}
    for field, file in (("variables", left.VARIABLES), ("seed", left.SEED)):
        fields[field] = f"{name}/{file}" if (folder / file).is_file() else None
    for field in _OUTSIDE:
        if (path := getattr(spec, field)) is not None:
            fields[field] = _outside(path, files)
    if (folder / left.DISK).is_file():
        fields["image"] = f"{name}/{left.DISK}"
        if (below := storage.backing(folder / left.DISK, tools)) is not None:
            scratch.mkdir()
            own = scratch / left.DISK
            shutil.copyfile(folder / left.DISK, own)
            base = _outside(below[0], files)
            storage.rebase(own, f"../{base}", below[1], tools)
            files[fields["image"]] = own
    elif spec.image is not None:
        raise HarnessError(f"{folder} has no {left.DISK}", hint="it was removed: run it again")
    firmware = {}
    if spec.firmware is Firmware.UEFI and spec.board is Board.VIRTUAL:
        code = spec.firmware_files.code
        firmware[code] = _outside(tools.path(code), files)
    memory, tpm = folder / left.MEMORY, folder / left.TPM
    return {
        **document,
        "spec": {**document["spec"], **fields},
        "firmware": firmware,
        "memory": f"{name}/{left.MEMORY}" if memory.is_file() else None,
        "tpm": f"{name}/{left.TPM}" if tpm.is_dir() else None,
    }


def _outside(path: Path, files: dict[str, Path]) -> str:
    """The name in the archive of a file that lies elsewhere."""
    if not path.is_file():
        raise HarnessError(
            f"{path} has gone, which the machine was started with",
            hint="run the scenario again with --pack-failures, which packs at once",
        )
    name = f"files/{hashlib.sha256(str(path).encode()).hexdigest()[:8]}-{path.name}"
    files[name] = path.resolve()
    return name


def _digest(path: Path) -> dict[str, Any]:
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return {"sha256": digest, "size": path.stat().st_size}


def _write(
    manifest: Mapping[str, Any], files: Mapping[str, Path], into: Path, tools: HostTools
) -> None:
    partial = into.with_name(f".{into.name}.part")
    try:
        with (
            partial.open("wb") as target,
            _zstd(tools, "-q", "-T0", "-3", "-c", stdin=subprocess.PIPE, stdout=target) as process,
        ):
            assert process.stdin is not None  # asked for
            with (
                process.stdin,
                tarfile.open(fileobj=process.stdin, mode="w|", format=tarfile.PAX_FORMAT) as tar,
            ):
                text = json.dumps(manifest, indent=1).encode() + b"\n"
                _add_text(tar, _MANIFEST, text)
                for name in manifest["files"]:
                    # Neither the owner nor the rights of this host.
                    entry = tarfile.TarInfo(name)
                    entry.size, entry.mode = files[name].stat().st_size, 0o600
                    with files[name].open("rb") as stream:
                        tar.addfile(entry, stream)
        partial.replace(into)
    finally:
        partial.unlink(missing_ok=True)


def _add_text(tar: tarfile.TarFile, name: str, text: bytes) -> None:
    with tempfile.TemporaryFile() as stream:
        stream.write(text)
        stream.seek(0)
        entry = tarfile.TarInfo(name)
        entry.size, entry.mode = len(text), 0o600
        tar.addfile(entry, stream)


@contextmanager
def _zstd(
    tools: HostTools, *words: str, stdin: int | IO[bytes], stdout: int | IO[bytes]
) -> Iterator[subprocess.Popen[bytes]]:
    """The program zstd, the tools' or the host's. Raises HarnessError with its words."""
    try:
        argv = tools.argv("zstd", *words)
    except Exception:  # A project's own tools have errors of their own.
        found = shutil.which("zstd")
        if found is None:
            raise HarnessError(
                "zstd is not there, which packed failures need", hint="install its package"
            ) from None
        argv = [found, *words]
    if not Path(argv[0]).exists() and (found := shutil.which("zstd")) is not None:
        argv = [found, *words]
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(argv, stdin=stdin, stdout=stdout, stderr=said)
        broken: Exception | None = None
        try:
            yield process
        except (BrokenPipeError, tarfile.TarError, EOFError) as error:
            broken = error
        except BaseException:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
            raise
        if process.stdout is not None:
            # What is left of a damaged archive; its end says what zstd thinks of it.
            while process.stdout.read(_PIECE):
                pass
            process.stdout.close()
        status = process.wait()
        said.seek(0)
        words_said = said.read().decode(errors="replace").strip()
        if status != 0:
            raise HarnessError(f"zstd failed: {words_said or status}")
        if broken is not None:
            raise HarnessError(f"the archive is damaged: {broken}") from broken


@dataclass(frozen=True, slots=True)
class PackedNode:
    """A node of an opened failure: what starts it again."""

    name: str
    folder: Path
    spec: MachineSpec
    qemu: str
    accelerator: str
    scale: float
    profile: str
    firmware: Mapping[str, Path]
    memory: Path | None
    tpm: Path | None


@dataclass(frozen=True, slots=True)
class Packed:
    """An opened failure."""

    test: str
    made: str
    result: Mapping[str, Any]
    folder: Path
    nodes: tuple[PackedNode, ...]

    def node(self, name: str | None) -> PackedNode:
        """The node of a name, or the only one. Raises HarnessError."""
        found = [node for node in self.nodes if name in (None, node.name)]
        if len(found) == 1:
            return found[0]
        names = ", ".join(node.name for node in self.nodes)
        if name is None:
            raise HarnessError(f"it has {len(found)} nodes: {names}", hint="choose with --node")
        raise HarnessError(f"it has no node {name!r}", hint=f"it has {names}")


def unpack(file: Path, into: Path, tools: HostTools) -> Packed:
    """Open a packed failure in the folder ``into``, each file by its digest.

    Raises HarnessError for what is no packed failure, or a damaged one.
    """
    if not file.is_file():
        raise HarnessError(f"there is no packed failure {file}", hint="harness pack makes one")
    into.mkdir(parents=True, exist_ok=True)
    try:
        with (
            file.open("rb") as source,
            _zstd(tools, "-q", "-d", "-c", stdin=source, stdout=subprocess.PIPE) as process,
            tarfile.open(fileobj=process.stdout, mode="r|") as tar,
        ):
            manifest = _extract(tar, into)
    except HarnessError as error:
        raise HarnessError(
            f"{file} cannot be opened: {error.message}",
            hint=error.hint or "copy it again, and compare its sha256 with the original's",
        ) from error
    except OSError as error:
        raise HarnessError(f"{file} cannot be opened in {into}: {error}") from error
    packed = _opened(manifest, into, file)
    for node in packed.nodes:
        _require_whole(node, into.absolute(), file, tools)
    return packed


def _require_whole(node: PackedNode, folder: Path, file: Path, tools: HostTools) -> None:
    """Raise HarnessError for a disk that reaches for files of this host."""
    disk = node.spec.image
    while disk is not None and (below := storage.backing(disk, tools)) is not None:
        if folder.resolve() not in below[0].resolve().parents:
            raise HarnessError(f"{file}: the disk of {node.name} lies over {below[0]}")
        disk = below[0] if below[1] == "qcow2" else None


def _extract(tar: tarfile.TarFile, into: Path) -> dict[str, Any]:
    manifest: dict[str, Any] | None = None
    missing: set[str] = set()
    for entry in tar:
        stream = tar.extractfile(entry) if entry.isreg() else None
        if manifest is None:
            if entry.name != _MANIFEST or stream is None:
                raise HarnessError("it is no packed failure: it does not begin with a manifest")
            manifest = _manifest(stream.read())
            missing = set(manifest["files"])
            continue
        if stream is None or entry.name not in missing or _leaves(entry.name):
            raise HarnessError(f"it has {entry.name!r}, which its manifest does not")
        missing.discard(entry.name)
        _extract_one(stream, into / entry.name, entry.name, manifest["files"][entry.name])
    if manifest is None or missing:
        some = ", ".join(sorted(missing)[:3]) or "everything"
        raise HarnessError(f"it ends too early: {some} is missing")
    return manifest


def _leaves(name: str) -> bool:
    """Whether a name leads out of the folder."""
    path = PurePosixPath(name)
    return path.is_absolute() or ".." in path.parts or name == _MANIFEST


def _manifest(raw: bytes) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = json.loads(raw)
        schema = int(manifest["schema"])
        files = manifest["files"]
        assert isinstance(files, dict)
    except (ValueError, KeyError, TypeError, AssertionError) as error:
        raise HarnessError(f"its manifest cannot be read: {error}") from None
    if schema > SCHEMA:
        raise HarnessError(
            f"a newer harness packed it (schema {schema}; this one knows {SCHEMA})",
            hint="open it with the version that packed it, or a newer one",
        )
    return manifest


def _extract_one(stream: IO[bytes], path: Path, name: str, told: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with path.open("wb") as target:
        while piece := stream.read(_PIECE):
            digest.update(piece)
            target.write(piece)
    if digest.hexdigest() != told.get("sha256"):
        path.unlink()
        raise HarnessError(
            f"{name} is damaged: its sha256 is {digest.hexdigest()}, the manifest says "
            f"{told.get('sha256')}"
        )


def _opened(manifest: Mapping[str, Any], folder: Path, file: Path) -> Packed:
    try:
        nodes = tuple(_opened_node(name, node, folder) for name, node in manifest["nodes"].items())
        return Packed(
            str(manifest["test"]), str(manifest["made"]), manifest["result"], folder, nodes
        )
    except (KeyError, TypeError, ValueError, ValidationError) as error:
        raise HarnessError(
            f"{file} describes a machine that this harness cannot build: {error}",
            hint="open it with the version that packed it",
        ) from None


def _opened_node(name: str, node: Mapping[str, Any], folder: Path) -> PackedNode:
    def place(word: object) -> Path | None:
        if word is None:
            return None
        if _leaves(str(word)):
            raise ValueError(f"{word} lies outside of the archive")
        return (folder / str(word)).absolute()

    spec = dict(node["spec"])
    for field in ("image", "variables", "seed", *_OUTSIDE):
        spec[field] = place(spec.get(field))
    return PackedNode(
        name,
        folder / name,
        MachineSpec.model_validate(spec),
        str(node["qemu"]),
        str(node["accelerator"]),
        float(node["scale"]),
        str(node["profile"]),
        {code: path for code, word in node["firmware"].items() if (path := place(word))},
        place(node.get("memory")),
        place(node.get("tpm")),
    )
