"""Where locked packages are looked for: the mirror, its other archive, a snapshot archive."""

from __future__ import annotations

import pytest

from product.image import relock
from product.image.cache import Cache
from product.image.errors import LockError, VanishedError
from product.image.locks import Lock
from product.image.packages import fetch
from product.image.recipe import Recipe
from product.image.tests.debian_archive import HELLO, LIBRARY, STAMP, Deb, DebianArchive
from product.image.tools import host_arch

DAY_AFTER = "20261201T120000Z"


def lock_of(recipe: Recipe) -> Lock:
    return Lock.load(recipe.lock_path(host_arch()))


def test_a_lock_says_when_it_was_resolved(recipe: Recipe) -> None:
    lock = lock_of(recipe)
    assert lock.snapshot == STAMP
    assert {package.snapshot for package in lock.packages} == {STAMP}
    path = recipe.lock_path(host_arch())
    assert path.read_text() == lock.dump()
    assert path.read_text().count(STAMP) == 1
    # Locks from before say nothing, and still load.
    path.write_text(path.read_text().replace(f', "snapshot": "{STAMP}"', ""))
    assert lock_of(recipe).snapshot is None
    path.write_text(lock.dump().replace(STAMP, "yesterday"))
    with pytest.raises(LockError, match="damaged at snapshot"):
        lock_of(recipe)


def test_a_lock_keeps_its_stamp_where_nothing_changed(
    recipe: Recipe, archive: DebianArchive, store: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relock, "now_stamp", lambda: DAY_AFTER)
    assert relock.relock(recipe, host_arch(), store) == []
    assert lock_of(recipe).snapshot == STAMP
    archive.add(Deb("libgreet", "1.0-2"))
    assert relock.relock(recipe, host_arch(), store) == [("libgreet", "1.0-1", "1.0-2")]
    assert lock_of(recipe).snapshot == DAY_AFTER


def test_the_mirror_is_asked_first(recipe: Recipe, archive: DebianArchive, store: Cache) -> None:
    fetch(lock_of(recipe).packages, store)
    assert sorted(archive.asked) == [
        f"/debian/{archive.pool_path(HELLO)}",
        f"/debian/{archive.pool_path(LIBRARY)}",
    ]


def test_then_the_other_archive(recipe: Recipe, archive: DebianArchive, store: Cache) -> None:
    archive.reap(HELLO)
    archive.place(HELLO, f"debian-security/{archive.pool_path(HELLO, 'debian-security')}")
    files = fetch(lock_of(recipe).packages, store)
    assert files["hello:all"].read_bytes() == HELLO.content


def test_a_security_update_is_found_in_main(
    recipe: Recipe, archive: DebianArchive, store: Cache
) -> None:
    update = Deb("hello", "1.0-1+deb13u1", HELLO.relations)
    archive.add(update, "debian-security")
    relock.relock(recipe, host_arch(), store)
    assert {p.archive for p in lock_of(recipe).packages if p.name == "hello"} == {"debian-security"}
    archive.reap(update, "debian-security")
    archive.add(update)
    fetch(lock_of(recipe).packages, store)
    assert f"/debian/{archive.pool_path(update)}" in archive.asked


@pytest.mark.parametrize("stamp", [STAMP, DAY_AFTER], ids=["the lock's", "the next run"])
def test_then_the_snapshot_archive(
    recipe: Recipe,
    archive: DebianArchive,
    store: Cache,
    monkeypatch: pytest.MonkeyPatch,
    stamp: str,
) -> None:
    archive.reap(HELLO)
    archive.place(HELLO, f"snapshots/archive/debian/{stamp}/{archive.pool_path(HELLO)}")
    with pytest.raises(VanishedError, match=r"no place has the locked hello 1\.0-1"):
        fetch(lock_of(recipe).packages, store)
    monkeypatch.setenv("KUBESOLO_DEBIAN_SNAPSHOT", f"{archive.url}/snapshots/")
    files = fetch(lock_of(recipe).packages, store)
    assert files["hello:all"].read_bytes() == HELLO.content
    old = lock_of(recipe).model_copy(update={"snapshot": None})
    with pytest.raises(VanishedError):
        fetch(Lock.model_validate(old.model_dump()).packages, Cache(store.root / "other"))


def test_another_file_is_refused_and_the_next_place_asked(
    recipe: Recipe, archive: DebianArchive, store: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBESOLO_DEBIAN_SNAPSHOT", f"{archive.url}/snapshots")
    snapshot = f"snapshots/archive/debian/{STAMP}/{archive.pool_path(HELLO)}"
    wrong = bytes(len(HELLO.content))
    for place in (
        f"debian/{archive.pool_path(HELLO)}",
        f"debian-security/{archive.pool_path(HELLO, 'debian-security')}",
        snapshot,
    ):
        archive.place(HELLO, place, content=wrong)
    with pytest.raises(VanishedError) as caught:
        fetch(lock_of(recipe).packages, store)
    assert caught.value.message.count("is not the locked one") == 3
    assert caught.value.message.count("answered 404") == 1
    archive.place(HELLO, snapshot)
    files = fetch(lock_of(recipe).packages, store)
    assert files["hello:all"].read_bytes() == HELLO.content


def test_every_vanished_package_is_named(
    recipe: Recipe, archive: DebianArchive, store: Cache
) -> None:
    archive.reap(HELLO)
    archive.reap(LIBRARY)
    lock = lock_of(recipe)
    with pytest.raises(VanishedError) as caught:
        fetch(lock.packages, store)
    error = caught.value
    assert error.message.startswith("2 locked packages have vanished: hello 1.0-1, libgreet 1.0-1;")
    for place in ("the mirror's debian ", "the mirror's debian-security ", archive.url):
        assert place in error.message
    for words in ("KUBESOLO_DEBIAN_SNAPSHOT", "./noxw -s lock", "--allow-drift"):
        assert words in str(error.hint)
