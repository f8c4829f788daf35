"""The root tree: what is made of packages, overlays and the recipe."""

from __future__ import annotations

import io
from pathlib import Path

from product.image import rootfs
from product.image.tools import HostTools


def test_no_program_of_this_host_is_compiled_into_a_tree(
    tmp_path: Path, host_tools: HostTools
) -> None:
    """Debian's Python holds a link to /etc/python3.13/sitecustomize.py, which a host may have."""
    (tmp_path / "sitecustomize.py").write_text("HOST = 1\n")
    folder = tmp_path / "tree" / rootfs.PYTHON
    folder.mkdir(parents=True)
    (folder / "own.py").write_text("OWN = 1\n")
    (folder / "linked.py").symlink_to("own.py")
    (folder / "sitecustomize.py").symlink_to(tmp_path / "sitecustomize.py")
    rootfs.byte_compile(tmp_path / "tree", [rootfs.PYTHON], host_tools)
    compiled = sorted(path.name for path in (folder / "__pycache__").iterdir())
    assert compiled == ["linked.cpython-313.pyc", "own.cpython-313.pyc"]


def test_a_file_that_the_node_mounts_something_over_is_told_of(
    tmp_path: Path, told: io.StringIO
) -> None:
    rootfs.note_covered(tmp_path, ["etc/motd", "var/lib/kubesolo/cni/net.d/x", "variety"])
    assert told.getvalue() == (
        f"{tmp_path}: var/lib/kubesolo/cni/net.d/x will not be seen: the node mounts something "
        "over it\n"
    )
