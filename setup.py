"""Puts ``images/`` into what is installed; everything else is said in pyproject.toml."""

from __future__ import annotations

import tarfile
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

IMAGES = Path(__file__).parent / "images"


def _alike(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """No owner, time or umask of the machine that builds."""
    member.uid = member.gid = member.mtime = 0
    member.uname = member.gname = ""
    member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
    return member


class BuildWithImages(build_py):
    """Recipes, locks and overlays as one archive: a wheel cannot hold their symbolic links."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        if not (IMAGES / "appliance.toml").is_file():
            raise SystemExit(f"error: {IMAGES} holds no recipes: build from a checkout")
        target = Path(self.build_lib) / "product" / "images.tar"
        with tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as archive:
            for path in sorted(IMAGES.rglob("*")):
                archive.add(path, str(path.relative_to(IMAGES)), recursive=False, filter=_alike)


setup(cmdclass={"build_py": BuildWithImages})
