"""Write below a root as ``chroot`` would: a link leads to what its target names below the root.

Every tree of an image is written through this module: overlays, packages' files, payloads. A link
such as ``etc/cni -> /var/lib/cni`` names a folder of the image, never one of the build host, and
one that climbs past the root is an error. Files are replaced, never written through a link.
"""

from __future__ import annotations

import os
import shutil
import stat
import tarfile
from pathlib import Path, PurePosixPath

from product.image.errors import TreeError

CHUNK = 1 << 20
# As many links as the kernel follows in one name.
_MAX_LINKS = 40


class Tree:
    """A folder that stands for a root; ``who`` in messages is who wants to write: an archive, an
    overlay. Names are relative to the root. Every method raises TreeError."""

    def __init__(self, root: Path, who: str = "the image builder") -> None:
        self.root = root
        self._who = who
        # Folders with no link on the way: no method of this class ever replaces a folder.
        self._plain: set[str] = set()

    def follow(self, name: str) -> Path:
        """What ``name`` leads to, which need not exist. It and its parents are no links."""
        return self._resolve(name, last=True)

    def place(self, name: str) -> Path:
        """Where ``name`` lies itself, be it a link; its parents are folders, made where missing."""
        path = self._resolve(name, last=False)
        self._folders(path.parent, name)
        return path

    def folder(self, name: str) -> Path:
        """The folder that ``name`` leads to, made where it is missing."""
        path = self._resolve(name, last=True)
        self._folders(path, name)
        return path

    def free(self, name: str) -> Path:
        """Where ``name`` lies, with no file or link in its place."""
        path = self.place(name)
        if path.is_dir() and not path.is_symlink():
            raise self._error(name, f"{path.relative_to(self.root)} is a folder, which stays")
        path.unlink(missing_ok=True)
        return path

    def write(self, name: str, data: bytes, mode: int = 0o644) -> None:
        """A file of these bytes in the place of what is there."""
        path = self.free(name)
        path.write_bytes(data)
        path.chmod(mode)

    def copy(self, name: str, source: Path, mode: int = 0o644) -> None:
        """A copy of the file ``source`` in the place of what is there."""
        path = self.free(name)
        shutil.copyfile(source, path)
        path.chmod(mode)

    def link(self, name: str, target: str) -> None:
        """A symbolic link in the place of what is there; ``target`` may be anything."""
        self.free(name).symlink_to(target)

    def lay(self, overlay: Path) -> list[str]:
        """Lay ``overlay`` over the tree: its files and links replace, its folders come together.

        Programs get the mode 0755, other files 0644. Returns what was written, as it lies in the
        tree once links are followed.
        """
        if not overlay.is_dir():
            raise TreeError(f"overlay {overlay} is not a directory")
        over = Tree(self.root, f"overlay {overlay}")
        written = []
        for path in sorted(overlay.rglob("*")):
            name = path.relative_to(overlay).as_posix()
            kind = path.lstat().st_mode
            if stat.S_ISDIR(kind):
                continue  # Made with what lies in it.
            if stat.S_ISLNK(kind):
                over.link(name, str(path.readlink()))
            elif stat.S_ISREG(kind):
                over.copy(name, path, 0o755 if kind & stat.S_IXUSR else 0o644)
            else:
                raise over._error(name, "it is neither a file, nor a folder, nor a link")
            written.append(over.place(name).relative_to(self.root).as_posix())
        return written

    def unpack(self, tar: tarfile.TarFile, member: tarfile.TarInfo, name: str) -> None:
        """One member of an archive, as ``name``. Of owners nothing is kept.

        Modes are, but the owner may always read. A set-uid or set-gid bit stays where it is root's;
        it would give root's rights where it was to give somebody else's.
        """
        if member.isdir():
            self.folder(name)
        elif member.issym():
            self.link(name, member.linkname)
        elif member.islnk():
            source = self._resolve(member_name(member.linkname, self._who), last=False)
            if not source.is_file() or source.is_symlink():
                raise self._error(name, f"it is a hard link to {member.linkname}, which is no file")
            path = self.place(name)
            if not (path.exists() and path.samefile(source)):
                os.link(source, self.free(name), follow_symlinks=False)
        elif member.isfile():
            stream = tar.extractfile(member)
            assert stream is not None
            path = self.free(name)
            with path.open("wb") as output:
                shutil.copyfileobj(stream, output, CHUNK)
            path.chmod(kept_mode(member) | 0o400)
        else:
            raise self._error(name, "it is a device or a pipe, which no tree may hold")

    def _folders(self, path: Path, name: str) -> None:
        try:
            path.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            below = path.relative_to(self.root)
            steps = [*reversed(below.parents), below]
            there = next((one for one in steps if not (self.root / one).is_dir()), below)
            raise self._error(name, f"{there} is in its way, which is no folder") from None

    def _resolve(self, name: str, *, last: bool) -> Path:
        """Follow links below the root, the last part's only if ``last``."""
        parts = list(reversed(PurePosixPath(name.lstrip("/")).parts))
        if not parts or ".." in parts:
            raise self._error(name, "it is no name below a root")
        done: list[str] = []
        # The link that is followed, and how many of the waiting parts came from it.
        link, links = "", 0
        while parts:
            part = parts.pop()
            if part == "..":
                if not done:
                    raise self._error(name, f"the link {link} leads out of the root")
                done.pop()
                continue
            here = "/".join([*done, part])
            if here in self._plain:
                done.append(part)
                continue
            path = self.root / here
            try:
                kind = path.lstat().st_mode
            except (FileNotFoundError, NotADirectoryError):
                kind = 0
            if stat.S_ISLNK(kind) and (parts or last):
                target = os.readlink(path)
                links += 1
                if links > _MAX_LINKS:
                    raise self._error(name, f"the link {here} leads round in a circle")
                link = f"{here} -> {target}"
                if target.startswith("/"):
                    done = []
                parts += reversed(PurePosixPath(target.lstrip("/")).parts)
                continue
            if stat.S_ISDIR(kind):
                self._plain.add(here)
            done.append(part)
        return self.root.joinpath(*done)

    def _error(self, name: str, why: str) -> TreeError:
        return TreeError(
            f"{self._who}: {name} cannot be put below {self.root}: {why}",
            hint="take it out of there, or name it by where it shall lie",
        )


def member_name(name: str, archive: str) -> str:
    """An archive's name of a member, relative to its root (which is ``.``). Raises TreeError."""
    found = os.path.normpath(name)
    if os.path.isabs(name) or found.split("/")[0] == "..":
        raise TreeError(
            f"{archive} holds a path outside of its root: {name}",
            hint="no archive of ours has one: fetch it anew, and look who made it",
        )
    return found


def kept_mode(member: tarfile.TarInfo) -> int:
    """The mode of a member that is to be root's."""
    mode = member.mode & 0o1777
    if member.uid == 0:
        mode |= member.mode & stat.S_ISUID
    if member.gid == 0:
        mode |= member.mode & stat.S_ISGID
    return mode
