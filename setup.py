"""Puts ``product`` and ``harness`` below ``kubesolo_os`` in a wheel, and what they build from.

Everything else is said in pyproject.toml. An editable installation has the checkout's own names.
"""

from __future__ import annotations

import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py
from setuptools.command.editable_wheel import editable_wheel

HERE = Path(__file__).resolve().parent
IMAGES = HERE / "images"
sys.path.insert(0, str(HERE))

from kubesolo_os.relocation import PACKAGES, TOP, relocate  # noqa: E402

FOUND = find_packages(
    str(HERE), include=[f"{name}*" for name in PACKAGES], exclude=["*.tests", "*.tests.*"]
)


def _alike(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """No owner, time or umask of the machine that builds."""
    member.uid = member.gid = member.mtime = 0
    member.uname = member.gname = ""
    member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
    return member


def _pack(source: Path, target: Path, wanted: Callable[[Path], bool]) -> None:
    with tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as archive:
        for path in sorted(source.rglob("*")):
            inside = path.relative_to(source)
            if wanted(inside):
                archive.add(path, str(inside), recursive=False, filter=_alike)


class BuildRelocated(build_py):
    """Relocated modules; recipes, locks and overlays, and the product as a node has it.

    Both are archives: a wheel cannot hold symbolic links, and what ships in images is the code
    under its own names.
    """

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        if not (IMAGES / "appliance.toml").is_file():
            raise SystemExit(f"error: {IMAGES} holds no recipes: build from a checkout")
        top = Path(self.build_lib) / TOP
        relocate(top)
        (top / "relocation.py").unlink(missing_ok=True)
        _pack(IMAGES, top / "product" / "images.tar", lambda path: True)
        _pack(
            HERE / "product",
            top / "product" / "code.tar",
            lambda path: not {"tests", "__pycache__"} & set(path.parts),
        )


class EditableUnderOwnNames(editable_wheel):
    """The checkout's packages by the names that they have there."""

    def run(self) -> None:
        self.distribution.packages = [TOP, *FOUND]
        self.distribution.package_dir = {}
        super().run()


setup(
    cmdclass={"build_py": BuildRelocated, "editable_wheel": EditableUnderOwnNames},
    packages=[TOP, *(f"{TOP}.{name}" for name in FOUND)],
    package_dir={f"{TOP}.{name}": name for name in PACKAGES},
)
