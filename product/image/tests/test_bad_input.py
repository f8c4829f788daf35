"""Bad input to the builders: one clear error each, nothing lost."""

from __future__ import annotations

import hashlib
import http.server
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from product.image.build import DEFAULT_RECIPE, Builder
from product.image.cache import Cache
from product.image.cli import main
from product.image.errors import (
    CacheError,
    DownloadError,
    ImageError,
    LockError,
    RecipeError,
    ToolError,
    UnsupportedHostError,
)
from product.image.locks import Lock, Package
from product.image.mirror import Mirrors, find_mirrors
from product.image.packages import fetch
from product.image.recipe import Arch, Recipe
from product.image.tools import HostTools, host_arch

CONTENT = b"a package's bytes"


def package(content: bytes = CONTENT, size: int | None = None, name: str = "thing") -> Package:
    return Package(
        name=name,
        version="1.0-1",
        architecture="amd64",
        group="root",
        archive="debian",
        path=f"pool/main/t/thing/{name}_1.0-1_amd64.deb",
        size=len(content) if size is None else size,
        sha256=hashlib.sha256(content).hexdigest(),
    )


class _Mirror(http.server.BaseHTTPRequestHandler):
    answers: dict[str, bytes]

    def do_GET(self) -> None:
        body = self.answers.get(self.path.rsplit("/", 1)[-1].split("_")[0])
        self.send_response(404 if body is None else 200)
        self.send_header("Content-Length", str(len(body or b"")))
        self.end_headers()
        self.wfile.write(body or b"")

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def mirror() -> Iterator[tuple[Mirrors, dict[str, bytes]]]:
    answers: dict[str, bytes] = {}
    handler = type("Handler", (_Mirror,), {"answers": answers})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        base = f"http://127.0.0.1:{server.server_address[1]}"
        yield Mirrors(f"{base}/debian", f"{base}/debian-security"), answers
        server.shutdown()
        thread.join()


def test_fetch_brings_the_locked_bytes_and_asks_once(
    tmp_path: Path, mirror: tuple[Mirrors, dict[str, bytes]]
) -> None:
    mirrors, answers = mirror
    cache = Cache(tmp_path)
    answers["thing"] = CONTENT
    path = fetch([package()], cache, mirrors)["thing:amd64"]
    assert path.read_bytes() == CONTENT
    answers.clear()
    assert fetch([package()], cache, mirrors)["thing:amd64"] == path


@pytest.mark.parametrize(
    ("served", "words"),
    [
        (None, "no place has the locked thing 1.0-1: .* answered 404"),
        (b"another package's", "is not the locked one"),
        (CONTENT + b"!", "is not the locked one"),
        (CONTENT[:-1], "is not the locked one"),
    ],
    ids=["gone", "tampered", "too long", "truncated"],
)
def test_a_package_that_is_not_the_locked_one_is_refused(
    tmp_path: Path,
    mirror: tuple[Mirrors, dict[str, bytes]],
    served: bytes | None,
    words: str,
) -> None:
    mirrors, answers = mirror
    if served is not None:
        answers["thing"] = served
    cache = Cache(tmp_path)
    with pytest.raises(DownloadError, match=words) as caught:
        fetch([package()], cache, mirrors)
    assert caught.value.hint
    assert not list(cache.blobs.glob("*/*"))


def test_an_unreachable_mirror_is_named(tmp_path: Path) -> None:
    nobody = Mirrors("http://127.0.0.1:9/debian", "http://127.0.0.1:9/debian-security")
    with pytest.raises(DownloadError, match=r"cannot fetch thing 1\.0-1: .* cannot be asked"):
        fetch([package()], Cache(tmp_path), nobody)


def test_a_corrupt_cache_entry_is_fetched_again(
    tmp_path: Path, mirror: tuple[Mirrors, dict[str, bytes]]
) -> None:
    mirrors, answers = mirror
    answers["thing"] = CONTENT
    cache = Cache(tmp_path)
    path = fetch([package()], cache, mirrors)["thing:amd64"]
    path.write_bytes(b"x" * len(CONTENT))
    assert fetch([package()], cache, mirrors)["thing:amd64"].read_bytes() == CONTENT


def _recipe(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    return path


GOOD = 'name = "x"\nsuite = "trixie"\n[packages]\nroot = ["busybox-static"]\n'


def _stale_lock(tmp_path: Path) -> object:
    path = _recipe(tmp_path, GOOD)
    (tmp_path / "locks").mkdir()
    lock = Lock(suite="trixie", request="0" * 32, packages=(package(),))
    (tmp_path / "locks/x-x86_64.json").write_text(lock.dump())
    return Builder(Arch.X86_64, cache=Cache(tmp_path / "cache"), recipe=path)


def _damaged_lock(tmp_path: Path, text: str) -> object:
    (tmp_path / "lock.json").write_text(text)
    return Lock.load(tmp_path / "lock.json")


def _read_only_cache(tmp_path: Path) -> object:
    (tmp_path / "file").write_text("")
    return Cache(tmp_path / "file" / "cache")


CASES: list[tuple[str, Callable[[Path], object], type[ImageError], str]] = [
    (
        "unknown recipe key",
        lambda tmp: Recipe.load(_recipe(tmp, GOOD + 'colour = "red"\n')),
        RecipeError,
        r"unknown key 'packages.colour'",
    ),
    (
        "recipe of a wrong type",
        lambda tmp: Recipe.load(
            _recipe(tmp, GOOD.replace("[packages]", "source_date='x'\n[packages]"))
        ),
        RecipeError,
        "source_date: Input should be a valid integer",
    ),
    ("recipe not TOML", lambda tmp: Recipe.load(_recipe(tmp, "=")), RecipeError, "is not TOML"),
    ("no recipe", lambda tmp: Recipe.load(tmp / "none.toml"), RecipeError, "does not exist"),
    ("no lock", lambda tmp: Lock.load(tmp / "none.json"), LockError, "is missing"),
    ("lock not JSON", lambda tmp: _damaged_lock(tmp, "{"), LockError, "is not JSON"),
    ("lock of another kind", lambda tmp: _damaged_lock(tmp, "[]"), LockError, "is damaged"),
    (
        "lock with a path that leaves the pool",
        lambda tmp: _damaged_lock(
            tmp,
            Lock(suite="trixie", request="", packages=(package(),))
            .dump()
            .replace("pool/main", "/etc/passwd"),
        ),
        LockError,
        "damaged at packages.0.path",
    ),
    ("lock of other lists", _stale_lock, LockError, "other package lists"),
    ("cache not writable", _read_only_cache, CacheError, "cannot write the cache"),
    ("no mirror", lambda tmp: find_mirrors(tmp), DownloadError, "no Debian mirror is known"),
]


@pytest.mark.parametrize(
    ("attempt", "error", "words"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_one_clear_error(
    attempt: Callable[[Path], object],
    error: type[ImageError],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("KUBESOLO_DEBIAN_MIRROR", raising=False)
    with pytest.raises(error, match=words):
        attempt(tmp_path)


def test_an_unsupported_host_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    with pytest.raises(UnsupportedHostError, match="no host programs are locked for riscv64"):
        host_arch()
    monkeypatch.setattr("sys.platform", "darwin")
    with pytest.raises(UnsupportedHostError, match="need Linux"):
        host_arch()


def test_no_space_is_one_error_and_leaves_no_half_tree(tmp_path: Path) -> None:
    cache = Cache(tmp_path)

    def full(tree: Path) -> None:
        (tree / "half").write_text("written")
        raise OSError(28, "No space left on device")

    with pytest.raises(CacheError, match="no space left"):
        cache.tree("thing", "0" * 32, full)
    assert not list(cache.trees.iterdir())
    assert not [path for path in cache.tmp.iterdir() if path.is_dir()]


def test_a_program_that_fails_shows_its_last_words(host_tools: HostTools, tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="mksquashfs failed with 1"):
        host_tools.run("mksquashfs", tmp_path / "none", tmp_path / "out")
    with pytest.raises(ToolError, match="no package of the host programs holds 'frobnicate'"):
        host_tools.argv("frobnicate")


def test_the_command_line_prints_one_error_and_a_hint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = _recipe(tmp_path, GOOD + "colour = 1\n")
    monkeypatch.setattr("sys.argv", ["image", "build", "--arch", "x86_64", "--recipe", str(path)])
    assert main() == 1
    error = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in error] == ["error", "hint"]


@pytest.mark.parametrize("output", ["/no/such/folder/disk.img", "/proc/disk.img"])
def test_a_place_that_cannot_be_written_is_one_error(
    output: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["image", "build", "--arch", "x86_64", "--recipe", str(DEFAULT_RECIPE)]
    monkeypatch.setattr("sys.argv", [*words, "--output", output])
    assert main() == 1
    [error] = [x for x in capsys.readouterr().err.splitlines() if x.startswith("error")]
    assert error.startswith(f"error: {output}: ")


def test_a_program_of_the_users_own_is_part_of_what_is_built(
    cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    locked = HostTools.prepare(cache)
    own = tmp_path / "mksquashfs"
    own.write_text("#!/bin/sh")
    monkeypatch.setenv("KUBESOLO_HOST_TOOL_MKSQUASHFS", str(own))
    first = HostTools.prepare(cache)
    own.write_text("#!/bin/sh -e")
    second = HostTools.prepare(cache)
    assert len({tools.digest for tools in (locked, first, second)}) == 3
    assert first.root == locked.root
    own.unlink()
    with pytest.raises(ToolError, match=r"KUBESOLO_HOST_TOOL_MKSQUASHFS names .* cannot be read"):
        HostTools.prepare(cache)


def test_a_file_that_changes_under_a_build_spoils_it(
    cache: Cache, host_tools: HostTools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was built then must not lie under the digest of what the files were before."""
    overlay = tmp_path / "overlay"
    overlay.mkdir()
    (overlay / "motd").write_text("before")
    builder = Builder(Arch.X86_64, cache=Cache(tmp_path / "cache"), tools=host_tools)

    def build(version: str, overlays: tuple[Path, ...], tree: Path) -> None:
        (overlay / "motd").write_text("after")

    monkeypatch.setattr(builder, "_build_slot", build)
    with pytest.raises(CacheError, match="changed while it was built from"):
        builder.slot("0.1.0", (overlay,))
    assert not list(builder.cache.trees.iterdir())


def test_versions_that_no_manifest_may_carry_are_refused(
    cache: Cache, host_tools: HostTools
) -> None:
    builder = Builder(Arch.X86_64, cache=cache, tools=host_tools, recipe=DEFAULT_RECIPE)
    for version in ("", "1 2", "../x", "1.2.202611301230", "1.2.\u0663", "latest"):
        with pytest.raises(RecipeError, match="is not a version") as caught:
            builder.slot(version)
        assert "a build that is no release is dev" in (caught.value.hint or "")


def test_what_is_no_release_is_built_as_dev(
    cache: Cache, host_tools: HostTools, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    builder = Builder(Arch.X86_64, cache=Cache(tmp_path / "cache"), tools=host_tools)
    monkeypatch.setattr(builder, "_build_slot", lambda version, overlays, tree: None)
    assert builder.slot("dev").version == "dev"
