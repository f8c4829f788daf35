"""Container images under the names that conformance tests ask for, from Debian and Go programs.

One archive holds all of them. It goes to the node when the node runs: the disk image under test is
the one that ships.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from product.image import progress
from product.image.cache import Cache, digest_of, tree_digest
from product.image.drift import settle
from product.image.errors import LockError
from product.image.oci.images import FILES
from product.image.oci.layer import Entry, file, folder, link, pack
from product.image.oci.layout import Config, Image, archive
from product.image.packages import fetch, unpack_all
from product.image.recipe import Arch, Recipe
from product.image.tools import IMAGES
from scenarios.conformance.programs import Programs

RECIPE = IMAGES / "conformance-images.toml"
# Where Kubernetes' sources have names and tags.
MANIFEST = "test/utils/image/manifest.go"
_REGISTRIES = re.compile(r"^\t\t(\w+): +\"([\w./-]+)\",$", re.M)
_CONFIGS = re.compile(r"configs\[(\w+)\] = Config\{list\.(\w+), \"([\w./-]+)\", \"([\w.-]+)\"\}")
_CODE_DIGEST = tree_digest(Path(__file__).resolve().parent, without="tests")
_MERGED = ("bin", "sbin", "lib", "lib64")
# Of the packages: programs, libraries, the loader. Tables for other character sets are left out.
_TAKEN = re.compile(r"usr/(bin|sbin|lib|lib64)/(?!.*(gconv|python|systemd)/)")
_PASSWD = (
    "root:x:0:0:root:/root:/bin/sh\n"
    "nobody:x:65534:65534:nobody:/:/bin/false\n"
    # Tests look for these.
    "user-defined-in-image:x:1000:1000::/:/bin/sh\n"
)
_GROUP = (
    "root:x:0:\nnogroup:x:65534:\nuser-defined-in-image:x:1000:\n"
    "group-defined-in-image:x:50000:user-defined-in-image\n"
)


_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class _Made(NamedTuple):
    """How an image is made: names of layers, from the lowest one on, and how it starts."""

    layers: tuple[str, ...]
    config: Config


_AGNHOST = _Made(
    ("debian", "agnhost"), Config(("/agnhost",), ("pause",), ports=("80/tcp", "8080/tcp"))
)
_NGINX = _Made(
    ("debian", "nginx"),
    Config(
        ("/usr/sbin/nginx",),
        ("-e", "stderr", "-c", "/etc/nginx/nginx.conf", "-g", "daemon off;"),
        ports=("80/tcp",),
    ),
)
# By Kubernetes' own identifiers.
IMAGES_MADE: Mapping[str, _Made] = {
    "Agnhost": _AGNHOST,
    "AgnhostPrev": _AGNHOST,
    "Kitten": _Made(("debian", "agnhost", "kitten"), Config(("/agnhost",), ("test-webserver",))),
    "Nautilus": _Made(
        ("debian", "agnhost", "nautilus"), Config(("/agnhost",), ("test-webserver",))
    ),
    "BusyBox": _Made(("busybox",), Config(command=("sh",))),
    "GlibcDnsTesting": _Made(("debian",), Config(command=("bash",))),
    "NonRoot": _Made(("debian",), Config(command=("bash",), user="1234:0")),
    "Nonewprivs": _Made(("busybox", "nonewprivs"), Config(command=("nnp",), path=_PATH)),
    "Nginx": _NGINX,
    "NginxNew": _NGINX,
    "Pause": _Made(("pause",), Config(("/pause",), user="65535:65535")),
    "APIServer": _Made(("sample-apiserver",), Config(("/sample-apiserver",))),
    "Etcd": _Made(("etcd",), Config(command=("etcd",), path=_PATH)),
}


def image_names(manifest: str) -> dict[str, str]:
    """Names with tags by Kubernetes' identifiers, from the text of its ``manifest.go``."""
    registries = dict(_REGISTRIES.findall(manifest))
    return {
        identifier: f"{registries[registry]}/{name}:{tag}"
        for identifier, registry, name, tag in _CONFIGS.findall(manifest)
        if registry in registries
    }


def build(programs: Programs, arch: Arch, cache: Cache, pause: Path) -> Path:
    """The archive for ``arch``; minutes where it is not in the cache. ``pause`` is that program.

    Raises ImageError.
    """
    sources = programs.sources()
    names = image_names((sources / MANIFEST).read_text())
    if lost := IMAGES_MADE.keys() - names.keys():
        raise LockError(
            f"{sources / MANIFEST} names no image {', '.join(sorted(lost))}",
            hint=f"look what its tests use now, and correct {Path(__file__).name}",
        )
    recipe = Recipe.load(RECIPE)
    lock, _ = settle(recipe, arch, cache)
    lock.check_request(recipe.request(arch), recipe.lock_path(arch))
    key = digest_of(
        programs.module.digest, [p.sha256 for p in lock.packages], tree_digest(FILES),
        pause.parent.name, recipe.source_date, arch, _CODE_DIGEST,
    )  # fmt: skip

    def make(tree: Path) -> None:
        built = {
            name: programs.build(name, arch).read_bytes()
            for name in ("agnhost", "nonewprivs", "sample-apiserver", "etcd")
        }
        built["pause"] = pause.read_bytes()
        with (
            progress.step(f"container images of the tests for {arch}"),
            cache.scratch("conformance") as work,
        ):
            for merged in _MERGED:
                (work / "usr" / merged).mkdir(parents=True)
                (work / merged).symlink_to(f"usr/{merged}")
            unpack_all(list(fetch(lock.packages, cache).values()), work)
            layers = {
                name: pack(entries, recipe.source_date)
                for name, entries in made_layers(work, sources / "test/images", built).items()
            }
            images = [
                Image(names[name], made.config, tuple(layers[one] for one in made.layers))
                for name, made in IMAGES_MADE.items()
            ]
            data = archive(images, arch.debian, recipe.source_date)
            (tree / "images.tar").write_bytes(data)

    return cache.tree(f"conformance-images-{arch}", key, make) / "images.tar"


def made_layers(work: Path, sources: Path, built: Mapping[str, bytes]) -> dict[str, list[Entry]]:
    """Entries by the names of layers, from the unpacked packages, Kubernetes' ``test/images`` and
    programs."""
    porter = sources / "agnhost/porter"
    return {
        "debian": _debian(work),
        "agnhost": [
            file("agnhost", built["agnhost"], 0o755),
            # Tests of entry points look for both.
            link("agnhost-2", "agnhost"),
            *[file(name, (porter / name).read_bytes()) for name in _CERTIFICATE],
            folder("uploads"),
        ],
        **{name: _page(sources / name / "html") for name in ("kitten", "nautilus")},
        "nginx": [
            file("etc/nginx/nginx.conf", (FILES / "nginx/nginx.conf").read_bytes()),
            file("var/www/index.html", (FILES / "nginx/index.html").read_bytes()),
        ],
        "busybox": [
            file("bin/busybox", (work / "usr/bin/busybox").read_bytes(), 0o755),
            *[link(f"bin/{name}", "busybox") for name in _applets()],
            *_skeleton(),
        ],
        # It says as whom it runs, whatever its file's bits ask for.
        "nonewprivs": [file("usr/local/bin/nnp", built["nonewprivs"], 0o6755)],
        "pause": [file("pause", built["pause"], 0o755)],
        "sample-apiserver": [file("sample-apiserver", built["sample-apiserver"], 0o755), _TMP],
        "etcd": [file("usr/local/bin/etcd", built["etcd"], 0o755), _TMP],
    }


_TMP = folder("tmp", 0o1777)
_CERTIFICATE = ("localhost.crt", "localhost.key")


def _page(html: Path) -> list[Entry]:
    return [file(path.name, path.read_bytes()) for path in sorted(html.iterdir())]


def _applets() -> list[str]:
    return (FILES / "applets").read_text().split()


def _skeleton() -> Iterable[Entry]:
    yield _TMP
    yield from (folder(path) for path in ("dev", "proc", "sys", "root", "var"))
    yield file("etc/passwd", _PASSWD.encode())
    yield file("etc/group", _GROUP.encode())


def _debian(work: Path) -> list[Entry]:
    """All programs of the packages, and busybox for what they lack."""
    found: dict[str, Entry] = {}
    for path in sorted((work / "usr").rglob("*")):
        name = str(path.relative_to(work))
        if not _TAKEN.match(name):
            continue
        if path.is_symlink():
            found[name] = link(name, str(path.readlink()))
        elif path.is_file():
            mode = 0o755 if path.stat().st_mode & stat.S_IXUSR else 0o644
            found[name] = file(name, path.read_bytes(), mode)
    # Debian's alternatives make this link when a package is installed.
    found["usr/bin/nc"] = link("usr/bin/nc", "nc.openbsd")
    for applet in _applets():
        if f"usr/sbin/{applet}" not in found:
            found.setdefault(f"usr/bin/{applet}", link(f"usr/bin/{applet}", "busybox"))
    return [*found.values(), *(link(one, f"usr/{one}") for one in _MERGED), *_skeleton()]
