"""Programs built from Go modules: the same bytes, offline once fetched, one clear error each."""

from __future__ import annotations

import http.server
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from product.image.cache import Cache
from product.image.errors import CacheError, DownloadError, ImageError, LockError, ToolError
from product.image.golang.modules import Change, GoModule
from product.image.golang.toolchain import Toolchain, ToolchainLock
from product.image.recipe import Arch
from product.image.tests.go_proxy import GREETING, GoProxy, make_module
from product.image.tools import host_arch

OTHER = next(arch for arch in Arch if arch != host_arch())


def said(program: Path) -> str:
    result = subprocess.run([program], capture_output=True, text=True, check=True)
    return result.stderr.strip()


def test_a_program_is_built_with_its_modules(module: GoModule, shelf: Cache) -> None:
    target = shelf.root / "program"
    module.build(shelf, host_arch(), ".", target, variables=["main.mark=here"])
    assert said(target) == "hello here"
    assert [path.name for path in shelf.root.glob(".*")] == []


def test_the_other_architecture_is_built_as_well(module: GoModule, shelf: Cache) -> None:
    target = shelf.root / "program"
    module.build(shelf, OTHER, ".", target)
    machine = {Arch.X86_64: 62, Arch.AARCH64: 183}[OTHER]
    assert int.from_bytes(target.read_bytes()[18:20], "little") == machine


def test_another_folder_and_cache_give_the_same_bytes(
    tmp_path: Path, module: GoModule, shelf: Cache, toolchain: Toolchain
) -> None:
    module.build(shelf, host_arch(), ".", tmp_path / "one")
    other = Cache(tmp_path / "a" / "longer" / "place")
    (other.trees / toolchain.root.name).symlink_to(toolchain.root)
    again = GoModule(shutil.copytree(module.folder, tmp_path / "elsewhere/program"))
    assert again.digest == module.digest
    again.build(other, host_arch(), ".", tmp_path / "two")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert str(tmp_path).encode() not in (tmp_path / "one").read_bytes()


def test_the_second_build_needs_no_network(
    module: GoModule, shelf: Cache, proxy: GoProxy, tmp_path: Path
) -> None:
    module.build(shelf, host_arch(), ".", tmp_path / "one")
    shutil.rmtree(proxy.root)
    again = GoModule(module.folder)
    again.build(shelf, host_arch(), ".", tmp_path / "two")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_settings_of_the_user_do_not_reach_a_program(
    module: GoModule, shelf: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module.build(shelf, host_arch(), ".", tmp_path / "one")
    settings = tmp_path / "go-env"
    settings.write_text("GOFLAGS=-tags=x -ldflags=-X=main.mark=y\nGOAMD64=v3\nGOARM64=v9.0\n")
    monkeypatch.setenv("GOENV", str(settings))
    monkeypatch.setenv("GOFLAGS", "-mod=mod -race")
    monkeypatch.setenv("CGO_ENABLED", "1")
    monkeypatch.setenv("GOEXPERIMENT", "nosuchexperiment")
    monkeypatch.setenv("GOTOOLCHAIN", "go1.99.0")
    shutil.rmtree(shelf.root / "go-mod")
    GoModule(module.folder).build(shelf, host_arch(), ".", tmp_path / "two")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_the_users_own_settings_say_where_modules_come_from(
    module: GoModule, shelf: Cache, tmp_path: Path, proxy: GoProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GOENV")
    monkeypatch.delenv("GOPROXY")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    (tmp_path / "config/go").mkdir(parents=True)
    (tmp_path / "config/go/env").write_text(f"GOPROXY={proxy.url}\n")
    module.build(shelf, host_arch(), ".", tmp_path / "one")
    assert said(tmp_path / "one") == "hello none"


def test_nothing_is_written_into_the_checkout(
    module: GoModule, shelf: Cache, tmp_path: Path
) -> None:
    before = {path: path.read_bytes() for path in module.folder.rglob("*")}
    module.build(shelf, host_arch(), ".", tmp_path / "one")
    assert {path: path.read_bytes() for path in module.folder.rglob("*")} == before


def test_a_modfile_of_another_name_counts(tmp_path: Path, proxy: GoProxy, shelf: Cache) -> None:
    proxy.add_greeting("v1.0.1", "good morning")
    folder = make_module(tmp_path / "program", proxy)
    other = make_module(tmp_path / "other", proxy, (GREETING, "v1.0.1"))
    shutil.copy(other / "go.mod", folder / "newer.mod")
    shutil.copy(other / "go.sum", folder / "newer.sum")
    module = GoModule(folder, "newer.mod")
    assert module.digest != GoModule(folder).digest
    module.build(shelf, host_arch(), ".", tmp_path / "one")
    assert said(tmp_path / "one") == "good morning none"


def test_a_file_of_a_module_is_replaced(module: GoModule, shelf: Cache, tmp_path: Path) -> None:
    module.build(
        shelf, host_arch(), ".", tmp_path / "one",
        changes=[Change(f"{GREETING}/greeting.go", (('"hello"', '"mine"', 1),))],
    )  # fmt: skip
    assert said(tmp_path / "one") == "mine none"


@pytest.mark.parametrize(
    ("name", "times", "words"),
    [
        (f"{GREETING}/gone.go", 1, "has no such file"),
        ("example.com/none/x.go", 1, "names no such module"),
        (f"{GREETING}/greeting.go", 2, "'\"hello\"' stands there 1 times instead of 2"),
    ],
)
def test_a_change_that_does_not_fit_is_an_error(
    module: GoModule, shelf: Cache, tmp_path: Path, name: str, times: int, words: str
) -> None:
    change = Change(name, (('"hello"', '"mine"', times),))
    with pytest.raises(ToolError, match=f"the change of {name} does not fit: .*{words}"):
        module.build(shelf, host_arch(), ".", tmp_path / "one", changes=[change])
    assert not (tmp_path / "one").exists()


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "main.go").write_text("package main\nfunc main() {}\n"),
        lambda folder: (folder / "go.sum").write_text(""),
        lambda folder: (folder / "more.go").write_text("package main\n"),
    ],
    ids=["code", "go.sum", "another file"],
)
def test_another_source_is_another_digest(
    module: GoModule, change: Callable[[Path], object]
) -> None:
    before = module.digest
    change(module.folder)
    assert module.digest != before


def test_another_toolchain_is_another_digest(module: GoModule) -> None:
    lock = ToolchainLock.load()
    other = GoModule(module.folder, toolchain=lock.model_copy(update={"version": "1.26.7"}))
    assert other.digest != module.digest


# What lies in the cache is what go.sum says.


def _gone(folder: Path) -> None:
    shutil.rmtree(folder / "go-mod/example.com")
    shutil.rmtree(folder / "go-mod/cache/download/example.com")


def _changed(folder: Path) -> None:
    [code] = folder.glob("go-mod/example.com/*/greeting.go")
    code.chmod(0o644)
    code.write_text(code.read_text().replace("hello", "bye"))


def _changed_unseen(folder: Path) -> None:
    """The size and the time of the last change stay."""
    [code] = folder.glob("go-mod/example.com/*/greeting.go")
    status = code.stat()
    code.chmod(0o644)
    code.write_text(code.read_text().replace("hello", "howdy"))
    os.utime(code, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert code.stat().st_size == status.st_size


def _hollow(folder: Path) -> None:
    for path in folder.glob("go-mod/cache/download/example.com/*/@v/v1.0.0.*"):
        path.write_bytes(b"")


def _another_sum(folder: Path) -> None:
    """As an attacker leaves it who changed a module and its checksum file."""
    [ziphash] = folder.glob("go-mod/cache/download/example.com/*/@v/v1.0.0.ziphash")
    ziphash.write_text("h1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=")
    _changed(folder)


@pytest.mark.parametrize("damage", [_gone, _changed, _changed_unseen, _hollow, _another_sum])
def test_a_damaged_module_of_the_cache_is_fetched_again(
    module: GoModule, shelf: Cache, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    module.build(shelf, host_arch(), ".", tmp_path / "one")
    damage(shelf.root)
    GoModule(module.folder).build(shelf, host_arch(), ".", tmp_path / "two")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_modules_that_did_not_change_are_compared_once(
    module: GoModule, shelf: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    module.download(shelf)
    asked = []
    monkeypatch.setattr(GoModule, "_compare", lambda *_args: asked.append("compared"))
    GoModule(module.folder).download(shelf)
    assert asked == []
    _changed_unseen(shelf.root)
    GoModule(module.folder).download(shelf)
    assert asked == ["compared"]


def test_modules_are_compared_for_each_go_sum(
    module: GoModule, shelf: Cache, proxy: GoProxy, tmp_path: Path
) -> None:
    """What one module's go.sum took is not what another's locks."""
    module.download(shelf)
    proxy.add_greeting(text="other")
    other = GoModule(make_module(tmp_path / "other", proxy))
    other.build(shelf, host_arch(), ".", tmp_path / "one")
    assert said(tmp_path / "one") == "other none"
    with pytest.raises(DownloadError, match="is not what was locked"):
        GoModule(module.folder).build(shelf, host_arch(), ".", tmp_path / "two")


def test_a_damaged_module_without_network_is_an_error(
    module: GoModule, shelf: Cache, tmp_path: Path, proxy: GoProxy
) -> None:
    module.build(shelf, host_arch(), ".", tmp_path / "one")
    shutil.rmtree(proxy.root)
    _changed(shelf.root)
    with pytest.raises(DownloadError, match=r"nobody has example\.com/Greeting@v1"):
        GoModule(module.folder).build(shelf, host_arch(), ".", tmp_path / "two")
    assert not (tmp_path / "two").exists()


# Bad input: one error that says what was tried, what was found, what to do.


def _refused(error: type[ImageError], words: str, module: GoModule, cache: Cache) -> ImageError:
    target = cache.root / "refused"
    with pytest.raises(error, match=words) as caught:
        module.build(cache, host_arch(), ".", target)
    assert caught.value.hint
    assert not target.exists()
    assert list(cache.tmp.glob("go.*")) == []
    return caught.value


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("off", "it is not in the cache, and GOPROXY is off"),
        ("http://127.0.0.1:9", "nobody answers as GOPROXY=http://127.0.0.1:9 says"),
        ("http://127.0.0.1:9,off", "nobody answers as GOPROXY=http://127.0.0.1:9,off says"),
        ("file:///nowhere", "nobody has example.com/Greeting@v1.0.0; GOPROXY is file:///nowhere"),
        ("http://me:secret@127.0.0.1:9", r"GOPROXY=http://\*\*\*@127.0.0.1:9 says"),
    ],
)
def test_without_modules_the_proxy_is_named(
    module: GoModule, shelf: Cache, monkeypatch: pytest.MonkeyPatch, value: str, words: str
) -> None:
    monkeypatch.setenv("GOPROXY", value)
    error = _refused(DownloadError, words, module, shelf)
    assert "secret" not in f"{error.message} {error.hint}"


class _Handler(http.server.BaseHTTPRequestHandler):
    status: int
    body: bytes

    def do_GET(self) -> None:
        self.send_response(self.status)
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int, bytes], None]]:
    """The user's proxy gives this answer to everything."""
    handler = type("Handler", (_Handler,), {"status": 404, "body": b""})

    def answers(status: int, body: bytes) -> None:
        handler.status, handler.body = status, body  # type: ignore[attr-defined]

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setenv("GOPROXY", f"http://127.0.0.1:{server.server_address[1]}")
        for name in ("http_proxy", "HTTP_PROXY"):
            monkeypatch.delenv(name, raising=False)
        yield answers
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("status", [404, 410])
def test_a_version_that_was_removed_can_be_had_elsewhere(
    module: GoModule, shelf: Cache, answer: Callable[[int, bytes], None], status: int
) -> None:
    answer(status, b"not found: example.com/Greeting@v1.0.0: invalid version")
    error = _refused(DownloadError, "nobody has example.com/Greeting@v1.0.0", module, shelf)
    assert "a proxy that keeps modules" in (error.hint or "")
    assert "the cache of somebody who has built it" in (error.hint or "")


@pytest.mark.parametrize(
    ("status", "body"),
    [(500, b"out of order"), (403, b"forbidden")],
    ids=["an error", "forbidden"],
)
def test_what_is_no_proxy_is_named(
    module: GoModule, shelf: Cache, answer: Callable[[int, bytes], None], status: int, body: bytes
) -> None:
    answer(status, body)
    _refused(DownloadError, "GOPROXY=http://127.0.0.1:[0-9]+ says is no proxy", module, shelf)


def test_a_page_in_place_of_a_module_is_refused(
    module: GoModule, shelf: Cache, answer: Callable[[int, bytes], None]
) -> None:
    answer(200, b"<html>please log in</html>")
    _refused(DownloadError, "is not what was locked .*GOPROXY is http://127", module, shelf)


def test_a_module_that_is_not_the_locked_one_is_refused(
    module: GoModule, shelf: Cache, proxy: GoProxy
) -> None:
    """The safety of the build: who serves modules cannot choose what is built."""
    proxy.add_greeting(text="evil")
    words = "what is offered as example.com/Greeting@v1.0.0 is not what was locked"
    error = _refused(DownloadError, words, module, shelf)
    assert "SECURITY ERROR" in error.message
    assert "do not use it" in (error.hint or "")
    # Nor is it taken from the cache at the next try.
    proxy.root.rename(proxy.root.with_name("gone"))
    _refused(DownloadError, "nobody has", module, shelf)


def test_a_truncated_module_is_refused(module: GoModule, shelf: Cache, proxy: GoProxy) -> None:
    archive = proxy.place(GREETING, "v1.0.0", "zip")
    archive.write_bytes(archive.read_bytes()[:-40])
    _refused(DownloadError, "is no proxy of Go modules, or is out of order", module, shelf)


@pytest.mark.parametrize("kept", [0, 1], ids=["neither", "no go.mod's"])
def test_what_go_sum_lacks_is_named(module: GoModule, shelf: Cache, kept: int) -> None:
    lines = (module.folder / "go.sum").read_text().splitlines(keepends=True)
    (module.folder / "go.sum").write_text("".join(lines[:kept]))
    error = _refused(LockError, "go.sum is not complete: it lacks example.com/", module, shelf)
    assert f"lock -- {module.folder}" in (error.hint or "")


def test_a_newer_go_than_the_locked_one_is_named(
    tmp_path: Path, proxy: GoProxy, shelf: Cache
) -> None:
    module = GoModule(make_module(tmp_path / "program", proxy, go="1.99.1"))
    version = ToolchainLock.load().version
    words = rf"it needs Go 1.99.1, and images/go/toolchain.json names {version}"
    _refused(LockError, words, module, shelf)


def test_a_module_that_needs_a_newer_go_is_named(
    tmp_path: Path, proxy: GoProxy, shelf: Cache
) -> None:
    proxy.add(GREETING, "v1.1.0", {"greeting.go": "package greeting\n"}, go="1.99.1")
    module = GoModule(make_module(tmp_path / "program", proxy, (GREETING, "v1.1.0")))
    _refused(LockError, r"example.com/Greeting@v1.1.0 requires go >= 1.99.1", module, shelf)


@pytest.mark.parametrize(
    "package", ["./cmd/none", f"{GREETING}/none", "example.com/other", "nosuchpackage"]
)
def test_a_package_that_does_not_exist_is_named(
    module: GoModule, shelf: Cache, tmp_path: Path, package: str
) -> None:
    with pytest.raises(ToolError, match=f"there is no package \\S*{package.strip('.')}") as caught:
        module.build(shelf, host_arch(), package, tmp_path / "one")
    assert caught.value.hint


def test_code_that_does_not_compile_shows_the_compilers_words(
    module: GoModule, shelf: Cache
) -> None:
    (module.folder / "main.go").write_text("package main\n\nfunc main() { return 1 }\n")
    with pytest.raises(ToolError, match="too many return values"):
        module.build(shelf, host_arch(), ".", shelf.root / "refused")


@pytest.mark.parametrize("modfile", ["go.mod", "tools.mod"])
def test_a_folder_that_is_no_module_is_named(module: GoModule, modfile: str) -> None:
    (module.folder / "go.mod").unlink()
    with pytest.raises(LockError, match=r"go\.mod is missing") as caught:
        GoModule(module.folder, modfile)
    assert caught.value.hint


def test_a_module_that_needs_no_other_has_no_go_sum(
    module: GoModule, shelf: Cache, tmp_path: Path
) -> None:
    (module.folder / "go.sum").unlink()
    _refused(LockError, f"go.sum is not complete: it lacks {GREETING}", module, shelf)
    (module.folder / "go.mod").write_text("module example.com/program\n\ngo 1.25\n")
    (module.folder / "main.go").write_text('package main\n\nfunc main() { println("alone") }\n')
    GoModule(module.folder).build(shelf, host_arch(), ".", tmp_path / "one")
    assert said(tmp_path / "one") == "alone"


def test_sources_that_change_during_the_build_are_not_built(
    module: GoModule, shelf: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    def change(*_args: object) -> None:
        (module.folder / "main.go").write_text("package main\n\nfunc main() {}\n")

    monkeypatch.setattr(module, "download", change)
    module_cache = GoModule(module.folder)
    module_cache.download(shelf)
    _refused(CacheError, "changed while it was built from", module, shelf)
