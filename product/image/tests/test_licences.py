"""An image carries the licence of everything that it holds."""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
from pathlib import Path

import pytest

from product.image.build import Builder
from product.image.cache import Cache
from product.image.errors import LockError
from product.image.licences import COMMON, DOC, Licences
from product.image.locks import Lock, Package
from product.image.recipe import Arch, Recipe
from product.image.tests.debian_archive import make_deb
from product.image.tools import IMAGES, HostTools

TEXT = b"Copyright: the authors\nLicense: GPL-2+\n"


def _tar(members: dict[str, bytes | str]) -> bytes:
    """``str`` is the target of a link."""
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            if isinstance(data, str):
                info.type, info.linkname = tarfile.SYMTYPE, data
                archive.addfile(info)
            else:
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    return output.getvalue()


class Shelf:
    """Packages in a cache of their own."""

    def __init__(self, folder: Path) -> None:
        self.cache = Cache(folder / "cache")
        self._folder = folder

    def add(self, name: str, members: dict[str, bytes | str], source: str = "") -> Package:
        """A ``.deb``; ``source`` names the source package where it has another name."""
        content = make_deb(f"Package: {name}\nVersion: 1\n", {}, data=_tar(members))
        digest = hashlib.sha256(content).hexdigest()
        (self._folder / "new").write_bytes(content)
        self.cache.add_blob(self._folder / "new", digest)
        return Package(
            name=name,
            version="1",
            architecture="all",
            group="root",
            archive="debian",
            path=f"pool/main/x/{source or name}/{name}_1_all.deb",
            size=len(content),
            sha256=digest,
        )

    def licences(self, *more: Package) -> Licences:
        """``more`` are the packages of which the texts alone are taken."""
        (self._folder / "licences.toml").write_text(
            'name = "licences"\nsuite = "trixie"\n[packages]\nroot = []\n'
        )
        recipe = Recipe.load(self._folder / "licences.toml")
        lock = Lock(suite="trixie", request=recipe.request(Arch.X86_64), packages=more)
        path = recipe.lock_path(Arch.X86_64)
        path.parent.mkdir(exist_ok=True)
        path.write_text(lock.dump())
        return Licences(Arch.X86_64, self.cache, self._folder / "licences.toml")


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


def test_each_package_has_its_text_or_that_of_the_one_it_leads_to(shelf: Shelf) -> None:
    plain = shelf.add("plain", {f"./{DOC}/plain/copyright": TEXT})
    linked = shelf.add("kmod", {f"./{DOC}/kmod": "libkmod2"}, "kmod")
    twice = shelf.add("twice", {f"./{DOC}/twice/copyright": "../kmod/copyright"})
    target = shelf.add("libkmod2", {f"./{DOC}/libkmod2/copyright": b"kmod's"}, "kmod")
    left_out = shelf.add("libgcc-s1", {f"./{DOC}/libgcc-s1": "gcc-14-base"}, "gcc-14")
    base = shelf.add("gcc-14-base", {f"./{DOC}/gcc-14-base/copyright": b"gcc's"}, "gcc-14")
    # Leads to a package that is nowhere.
    sibling = shelf.add("grub-pc-bin", {f"./{DOC}/grub-pc-bin": "grub-common"}, "grub2")
    grub = shelf.add("grub-efi", {f"./{DOC}/grub-efi/copyright": b"grub's"}, "grub2")
    packages = [plain, linked, twice, target, left_out, sibling, grub]
    tree = shelf.licences(base).tree(packages)
    found = {path.parent.name: path.read_bytes() for path in (tree / DOC).glob("*/copyright")}
    assert found == {
        "plain": TEXT,
        "kmod": b"kmod's",
        "twice": b"kmod's",
        "libkmod2": b"kmod's",
        "libgcc-s1": b"gcc's",
        "grub-pc-bin": b"grub's",
        "grub-efi": b"grub's",
    }


@pytest.mark.parametrize(
    ("members", "words"),
    [({}, "it has none"), ({f"./{DOC}/bare": "base"}, "it leads to base")],
)
def test_a_package_without_a_text_is_an_error(
    shelf: Shelf, members: dict[str, bytes | str], words: str
) -> None:
    with pytest.raises(LockError, match=f"no licence text of bare 1 is locked: {words}") as caught:
        shelf.licences().tree([shelf.add("bare", members)])
    assert "packages.root of licences.toml" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("recipe", "arch"),
    [("appliance", Arch.X86_64), ("upstream", Arch.X86_64), ("upstream", Arch.AARCH64)],
)
def test_an_image_carries_each_text_and_what_the_texts_refer_to(
    cache: Cache, host_tools: HostTools, recipe: str, arch: Arch
) -> None:
    builder = Builder(arch, cache=cache, tools=host_tools, recipe=IMAGES / f"{recipe}.toml")
    tree = builder.licences_tree()
    for package in builder.packages:
        text = tree / DOC / package.name / "copyright"
        assert text.stat().st_size > 100, package.name
    if recipe == "upstream":
        assert (tree / DOC / "nginx/copyright").is_file()
    referred = {
        name
        for text in (tree / DOC).glob("*/copyright")
        for name in re.findall(rf"/{COMMON}/([A-Z]\w*(?:-\d+(?:\.\d+)*)?)", text.read_text())
    }
    assert {"GPL-2", "Apache-2.0"} < referred
    assert not {name for name in referred if not (tree / COMMON / name).is_file()}


def test_the_products_own_licence_is_in_the_image() -> None:
    own = IMAGES / "overlay/usr/share/doc/kubesolo-os/copyright"
    assert own.read_bytes() == (IMAGES.parent / "LICENSE").read_bytes()
