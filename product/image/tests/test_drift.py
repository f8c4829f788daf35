"""Builds where locked packages have vanished: refused, or with present versions and marked so."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from product.image import build, drift, relock
from product.image.build import Builder
from product.image.cache import Cache
from product.image.cli import main
from product.image.drift import Settled, settle
from product.image.errors import DownloadError, LockError, VanishedError
from product.image.locks import Lock
from product.image.recipe import Arch, Recipe
from product.image.tests.debian_archive import HELLO, LIBRARY, STAMP, SUITE, Deb, DebianArchive
from product.image.tools import HostTools, host_arch


def another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget what this one decided."""
    monkeypatch.setattr(drift, "_decided", {})


def lock_of(recipe: Recipe) -> Lock:
    return Lock.load(recipe.lock_path(host_arch()))


def test_a_present_version_is_taken_where_drift_is_allowed(
    recipe: Recipe,
    archive: DebianArchive,
    store: Cache,
    monkeypatch: pytest.MonkeyPatch,
    told: io.StringIO,
) -> None:
    archive.add(Deb("libgreet", "1.0-2"))
    newer = Deb("hello", "1.1-1", HELLO.relations)
    archive.add(newer)
    archive.reap(HELLO)
    assert settle(recipe, host_arch(), store) == (lock_of(recipe), ())
    monkeypatch.setenv(drift.VARIABLE, "1")
    lock, lines = settle(recipe, host_arch(), store)
    # Exactly the missing one: the library has an update too, and its locked version is served.
    assert lines == ("tools: hello 1.0-1 -> hello 1.1-1",)
    assert [str(package) for package in lock.packages] == ["hello 1.1-1", "libgreet 1.0-1"]
    assert told.getvalue().count("not as locked: tools: hello 1.0-1 -> hello 1.1-1") == 1
    settle(recipe, host_arch(), store)
    assert told.getvalue().count("not as locked") == 1
    # Other processes build with the same, and say so, although the archive goes on.
    archive.add(Deb("hello", "1.2-1", HELLO.relations))
    another_process(monkeypatch)
    assert settle(recipe, host_arch(), store) == (lock, lines)
    assert told.getvalue().count("not as locked") == 2
    assert drift.recorded(store) == list(lines)
    # The locked file comes back.
    archive.place(HELLO, f"snapshots/archive/debian/{STAMP}/{archive.pool_path(HELLO)}")
    monkeypatch.setenv("KUBESOLO_DEBIAN_SNAPSHOT", f"{archive.url}/snapshots")
    another_process(monkeypatch)
    assert settle(recipe, host_arch(), store) == (lock_of(recipe), ())
    assert drift.recorded(store) == []


def test_an_unreachable_mirror_is_no_drift(
    recipe: Recipe, store: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("KUBESOLO_DEBIAN_MIRROR", "KUBESOLO_DEBIAN_SECURITY_MIRROR"):
        monkeypatch.setenv(name, "http://127.0.0.1:9/debian")
    monkeypatch.setattr("product.image.download.RETRIES", 0)
    monkeypatch.setenv(drift.VARIABLE, "1")
    with pytest.raises(DownloadError, match=r"cannot fetch .*cannot be asked") as caught:
        settle(recipe, host_arch(), store)
    assert not isinstance(caught.value, VanishedError)


def test_a_mirror_that_lists_what_it_lacks_is_named(
    recipe: Recipe, archive: DebianArchive, store: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    (archive.root / "debian" / archive.pool_path(HELLO)).unlink()
    monkeypatch.setenv(drift.VARIABLE, "1")
    with pytest.raises(DownloadError, match="yet the archive's index lists it"):
        settle(recipe, host_arch(), store)


def test_an_index_that_nobody_signed_is_refused(
    recipe: Recipe, archive: DebianArchive, store: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive.add(Deb("hello", "1.1-1", HELLO.relations))
    archive.reap(HELLO)
    release = archive.root / f"debian/dists/{SUITE}/InRelease"
    release.write_text(release.read_text().replace("Origin: Debian", "Origin: Elsewhere"))
    monkeypatch.setenv(drift.VARIABLE, "1")
    with pytest.raises(LockError, match=r"no place has .* nor can .*: apt-get .* failed"):
        settle(recipe, host_arch(), store)


def test_without_apt_both_reasons_are_said(
    recipe: Recipe, archive: DebianArchive, store: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive.reap(HELLO)
    monkeypatch.setenv(drift.VARIABLE, "1")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(LockError, match=r"no place has the locked hello .* which this host lacks"):
        settle(recipe, host_arch(), store)


def test_an_older_version_is_neither_locked_nor_taken(
    recipe: Recipe, archive: DebianArchive, store: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive.add(Deb("hello", "1.0~rc1-1", HELLO.relations))
    archive.reap(HELLO)
    before = recipe.lock_path(host_arch()).read_text()
    words = r"older versions .* hello 1\.0~rc1-1 \(locked: 1\.0-1\)"
    with pytest.raises(LockError, match=words) as caught:
        relock.relock(recipe, host_arch(), store)
    assert "--allow-older" in str(caught.value.hint)
    assert recipe.lock_path(host_arch()).read_text() == before
    monkeypatch.setenv(drift.VARIABLE, "1")
    with pytest.raises(LockError, match=words):
        settle(recipe, host_arch(), store)
    [change] = relock.relock(recipe, host_arch(), store, allow_older=True)
    assert change == ("hello", "1.0-1", "1.0~rc1-1")


def test_what_cannot_stand_beside_a_present_version_is_taken_too(
    recipe: Recipe, archive: DebianArchive, store: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Packages of one source often ask for each other's exact version."""
    archive.add(Deb("hello", "2.0-1", ("Depends: libgreet (= 2.0-1)",)))
    archive.add(Deb("libgreet", "2.0-1"))
    archive.reap(HELLO)
    monkeypatch.setenv(drift.VARIABLE, "1")
    assert settle(recipe, host_arch(), store).drift == (
        "tools: hello 1.0-1 -> hello 2.0-1",
        "tools: libgreet 1.0-1 -> libgreet 2.0-1",
    )


def test_a_kept_package_that_asks_for_the_vanished_version_is_taken_too(
    recipe: Recipe, archive: DebianArchive, store: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive.add(Deb("hello", "1.5-1", ("Depends: libgreet (= 1.0-1)",)))
    relock.relock(recipe, host_arch(), store)
    archive.add(Deb("hello", "2.0-1", ("Depends: libgreet (= 2.0-1)",)))
    archive.add(Deb("libgreet", "2.0-1"))
    archive.reap(LIBRARY)
    monkeypatch.setenv(drift.VARIABLE, "1")
    assert settle(recipe, host_arch(), store).drift == (
        "tools: hello 1.5-1 -> hello 2.0-1",
        "tools: libgreet 1.0-1 -> libgreet 2.0-1",
    )


def test_a_new_dependency_comes_along(
    recipe: Recipe, archive: DebianArchive, store: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive.add(Deb("libnew", "1"))
    archive.add(Deb("hello", "2.0-1", (f"{HELLO.relations[0]}, libnew",)))
    archive.reap(HELLO)
    monkeypatch.setenv(drift.VARIABLE, "1")
    assert settle(recipe, host_arch(), store).drift == (
        "tools: hello 1.0-1 -> hello 2.0-1",
        "tools: nothing -> libnew 1",
    )


def test_a_package_that_the_archive_dropped_is_named(
    recipe: Recipe, archive: DebianArchive, store: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive.add(Deb("hello", "2.0-1"))
    archive.reap(LIBRARY)
    monkeypatch.setenv(drift.VARIABLE, "1")
    words = r"nor has the archive a present version of libgreet 1\.0-1"
    with pytest.raises(LockError, match=words) as caught:
        settle(recipe, host_arch(), store)
    assert "./noxw -s lock" in str(caught.value.hint)


def test_a_kernel_is_known_again_by_another_name() -> None:
    lock = Lock.load(Recipe.load(build.DEFAULT_RECIPE).lock_path(Arch.X86_64))
    [kernel] = lock.group("kernel")
    for name in (
        kernel.name,
        "linux-image-6.12.200+deb13-amd64",
        "linux-image-6.1.0-37-amd64",
    ):
        assert kernel.model_copy(update={"name": name}).key == "kernel:linux-image-amd64"


def test_host_programs_drift_too(
    recipe: Recipe,
    archive: DebianArchive,
    store: Cache,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / "tools.toml"
    locked = HostTools.prepare(store, path)
    assert locked.drift == ()
    archive.add(Deb("hello", "1.1-1", HELLO.relations))
    archive.reap(HELLO)
    other = Cache(tmp_path / "fresh")
    with pytest.raises(VanishedError):
        HostTools.prepare(other, path)
    monkeypatch.setenv(drift.VARIABLE, "1")
    drifted = HostTools.prepare(other, path)
    assert drifted.drift == ("tools: hello 1.0-1 -> hello 1.1-1",)
    assert drifted.digest != locked.digest
    assert drifted.path("usr/share/hello").read_text() == "1.1-1"


def test_a_drifted_image_says_so(
    host_tools: HostTools, monkeypatch: pytest.MonkeyPatch, told: io.StringIO
) -> None:
    """Also where the same packages are locked later: it does not take the locked one's name."""
    cache = Cache()
    locked = Builder(Arch.X86_64, cache=cache, tools=host_tools).slot("0.1.0")
    line = "appliance: libc6 1 -> libc6 2"
    monkeypatch.setattr(
        build, "settle", lambda recipe, arch, cache: Settled(settle(recipe, arch).lock, (line,))
    )
    drifted = Builder(Arch.X86_64, cache=cache, tools=host_tools).slot("0.1.0")
    assert drifted.folder != locked.folder
    assert line in drifted.manifest.drift
    assert line not in locked.manifest.drift
    words = ["slot", "--arch", "x86_64", "--recipe", str(build.DEFAULT_RECIPE), "--allow-drift"]
    monkeypatch.setattr("sys.argv", ["image", *words])
    monkeypatch.setenv(drift.VARIABLE, "0")
    assert main() == 0
    assert "this is not the locked image" in told.getvalue()


def test_image_refuses_unless_drift_is_allowed(
    recipe: Recipe,
    archive: DebianArchive,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What the environment says is for other commands."""
    archive.reap(HELLO)
    path = tmp_path / "tools.toml"
    prepare = HostTools.prepare
    monkeypatch.setattr(HostTools, "prepare", lambda cache: prepare(cache, path))
    monkeypatch.setenv(drift.VARIABLE, "1")
    words = ["build", "--arch", str(host_arch()), "--recipe", str(path)]
    monkeypatch.setattr("sys.argv", ["image", *words])
    assert main() == 1
    assert "--allow-drift" in capsys.readouterr().err
