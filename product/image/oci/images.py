"""What each container image holds; one archive an image, cached by what it is made from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from product.image import progress
from product.image.cache import Cache, digest_of, file_sha256, tree_digest
from product.image.drift import Settled, settle
from product.image.errors import ImageError, RecipeError
from product.image.images import find_product
from product.image.locks import Lock, Package
from product.image.oci.layer import Entry, file, folder, link, pack
from product.image.oci.layout import Config, Image, archive
from product.image.packages import fetch, unpack_all
from product.image.recipe import Arch, Recipe
from product.image.tools import IMAGES
from product.image.tree import Tree

RECIPE = IMAGES / "oci-images.toml"
FILES = IMAGES / "oci"
# The agent's pods run as this user and group; the host's request directory belongs to the group.
AGENT_USER = "65532:65532"
# Taken when the code is loaded, as the builder's digest is.
_CODE_DIGEST = tree_digest(find_product() / "image" / "oci")
NO_PROGRAMS: Mapping[str, Path] = {}
# What nginx is linked with, by the names that the loader looks for.
_NGINX_LIBRARIES = (
    "libc.so.6", "libcrypt.so.1", "libcrypto.so.3", "libpcre2-8.so.0", "libssl.so.3", "libz.so.1",
    "libzstd.so.1",
)  # fmt: skip
_LOADERS = {Arch.X86_64: "lib64/ld-linux-x86-64.so.2", Arch.AARCH64: "lib/ld-linux-aarch64.so.1"}
_PASSWD = b"root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"
_GROUP = b"root:x:0:\nnogroup:x:65534:\n"


@dataclass(frozen=True, slots=True)
class _Sources:
    """Where an image's files come from: the unpacked packages, ours, and the image's program."""

    arch: Arch
    packages: Path
    built: Path | None

    def program(self, path: str) -> bytes:
        try:
            return Tree(self.packages).follow(path).read_bytes()
        except OSError:
            raise ImageError(
                f"the packages of {RECIPE} hold no {path} for {self.arch}",
                hint="was a package renamed or excluded?",
            ) from None


@dataclass(frozen=True, slots=True)
class _Image:
    packages: tuple[str, ...]
    config: Config
    entries: Callable[[_Sources], list[Entry]]
    # Whether it holds a program that is built for it, of the image's name.
    built: bool = False


def image_name(name: str) -> str:
    """The name that pods use, as containerd stores it."""
    return f"kubesolo.io/{name}:1"


def build_archives(
    names: Iterable[str], arch: Arch, cache: Cache, *, programs: Mapping[str, Path] = NO_PROGRAMS
) -> dict[str, Path]:
    """The archives of ``names``, built unless the cache has them.

    ``programs`` are the static programs of the images in BUILT, by their names. Raises RecipeError
    for a name that is not in NAMES, and ImageError where a program is wanted and not given.
    """
    names = list(names)
    recipe, (lock, _) = _settled(names, arch, cache)
    lock.check_request(recipe.request(arch), recipe.lock_path(arch))
    return {name: _build(name, arch, cache, recipe, lock, programs.get(name)) for name in names}


def images_digest(names: Iterable[str], arch: Arch) -> str:
    """Names what the archives of ``names`` are made from, without making them; programs that are
    built are not part of it. Raises as ``build_archives`` does."""
    names = list(names)
    recipe, settled = _settled(names, arch)
    keys = [_key(name, _packages(_image(name), settled.lock), arch, recipe, None) for name in names]
    return digest_of(keys, settled.drift)


def images_packages(names: Iterable[str], arch: Arch) -> tuple[Package, ...]:
    """The packages whose files the container images hold, each once."""
    names = list(names)
    lock = _settled(names, arch)[1].lock
    found = {one.sha256: one for name in names for one in _packages(_image(name), lock)}
    return tuple(found.values())


def images_drift(names: Iterable[str], arch: Arch) -> tuple[str, ...]:
    """Which packages of the container images are not the locked ones."""
    return _settled(names, arch)[1].drift


def _settled(
    names: Iterable[str], arch: Arch, cache: Cache | None = None
) -> tuple[Recipe, Settled]:
    """The recipe and its packages, which are not fetched where no image of ``names`` has any."""
    recipe = Recipe.load(RECIPE)
    if not any(_image(name).packages for name in names):
        return recipe, Settled(Lock.load(recipe.lock_path(arch)))
    return recipe, settle(recipe, arch, cache)


def _image(name: str) -> _Image:
    image = _IMAGES.get(name)
    if image is None:
        raise RecipeError(
            f"there is no container image {name!r}", hint=f"there are: {', '.join(_IMAGES)}"
        )
    return image


def _packages(image: _Image, lock: Lock) -> list[Package]:
    return [package for package in lock.packages if package.name in image.packages]


def _key(
    name: str, packages: list[Package], arch: Arch, recipe: Recipe, program: Path | None
) -> str:
    return digest_of(
        name,
        [package.sha256 for package in packages],
        tree_digest(FILES),
        file_sha256(program) if program else "",
        arch,
        recipe.source_date,
        _CODE_DIGEST,
    )


def _build(
    name: str, arch: Arch, cache: Cache, recipe: Recipe, lock: Lock, program: Path | None
) -> Path:
    image = _image(name)
    if not image.built:
        program = None
    elif program is None or not program.is_file():
        raise ImageError(f"the image {name} needs its program, and {program} is no file")
    packages = _packages(image, lock)
    key = _key(name, packages, arch, recipe, program)

    def build(tree: Path) -> None:
        with progress.step(f"container image {name} for {arch}"), cache.scratch("oci") as work:
            for merged in ("bin", "sbin", "lib", "lib64"):
                (work / "usr" / merged).mkdir(parents=True)
                (work / merged).symlink_to(f"usr/{merged}")
            unpack_all(list(fetch(packages, cache).values()), work)
            layer = pack(image.entries(_Sources(arch, work, program)), recipe.source_date)
            only = Image(image_name(name), image.config, (layer,))
            data = archive([only], arch.debian, recipe.source_date)
            (tree / f"{name}.tar").write_bytes(data)

    return cache.tree(f"oci-{name}-{arch}", key, build) / f"{name}.tar"


def _alone(path: str) -> Callable[[_Sources], list[Entry]]:
    """An image that holds one static program, at ``path``."""

    def entries(sources: _Sources) -> list[Entry]:
        assert sources.built is not None
        return [file(path, sources.built.read_bytes(), 0o755)]

    return entries


def _busybox(sources: _Sources) -> list[Entry]:
    applets = (FILES / "applets").read_text().split()
    return [
        file("bin/busybox", sources.program("usr/bin/busybox"), 0o755),
        *[link(f"bin/{name}", "busybox") for name in applets],
        *[folder(path) for path in ("dev", "proc", "sys", "root", "etc", "usr/bin", "var")],
        folder("tmp", 0o1777),
        file("etc/passwd", _PASSWD),
        file("etc/group", _GROUP),
    ]


def _agent(sources: _Sources) -> list[Entry]:
    script = (FILES / "agent/kubesolo-update-request").read_bytes()
    return [*_busybox(sources), file("usr/bin/kubesolo-update-request", script, 0o755)]


def _nginx(sources: _Sources) -> list[Entry]:
    libraries = f"usr/lib/{sources.arch.multiarch}"
    loader = _LOADERS[sources.arch]
    # Links are followed: an image needs each library by its loader's name only.
    return [
        file("usr/sbin/nginx", sources.program("usr/sbin/nginx"), 0o755),
        file(loader, sources.program(loader), 0o755),
        *[
            file(f"{libraries}/{name}", sources.program(f"{libraries}/{name}"))
            for name in _NGINX_LIBRARIES
        ],
        file("etc/nginx/nginx.conf", (FILES / "nginx/nginx.conf").read_bytes()),
        file("var/www/index.html", (FILES / "nginx/index.html").read_bytes()),
        file("etc/passwd", _PASSWD),
        file("etc/group", _GROUP),
        *[folder(path) for path in ("dev", "proc", "sys")],
        folder("tmp", 0o1777),
    ]


_IMAGES = {
    "pause": _Image((), Config(("/pause",), user="65535:65535"), _alone("pause"), built=True),
    "busybox": _Image(("busybox-static",), Config(command=("sh",)), _busybox),
    "nginx": _Image(
        ("nginx", "libc6", "libcrypt1", "libpcre2-8-0", "libssl3t64", "libzstd1", "zlib1g"),
        Config(
            ("/usr/sbin/nginx",),
            ("-e", "stderr", "-c", "/etc/nginx/nginx.conf", "-g", "daemon off;"),
            ports=("80/tcp",),
        ),
        _nginx,
    ),
    "agent": _Image(
        ("busybox-static",),
        Config(("/usr/bin/kubesolo-update-request",), user=AGENT_USER),
        _agent,
    ),
}
# Programs of Go modules; each says in its manifest how it is started.
_IMAGES |= {
    name: _Image((), Config((f"/{name}",), user=user), _alone(name), built=True)
    for name, user in (
        ("local-path-provisioner", "65532:65532"),
        ("metrics-server", "65532:65532"),
        # It speaks to netfilter.
        ("network-policies", "0:0"),
    )
}
NAMES = tuple(_IMAGES)
BUILT = tuple(name for name, image in _IMAGES.items() if image.built)
