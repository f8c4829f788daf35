"""Migrations of the data: forward, back, and cut off at every change of the disk."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from product.agent.services.migration import main as boot_stage
from product.agent.tests.test_power_cuts import cut_after
from product.agent.tests.world import FakeRelease, World
from product.agent.update import migrations
from product.agent.update.migrations import JOURNAL, Migration, MigrationError, Migrator

STAGE = Path(__file__).resolve().parents[4] / (
    "images/overlay/usr/lib/kubesolo/stages/25-migrations"
)

Tree = dict[str, str]

OLD: Tree = {"a/one": "1", "a/deep/two": "2", "b": "file", "other": "untouched"}


def write(data: Path, files: Tree) -> None:
    for name, text in files.items():
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        (data / name).write_text(text)


def read(data: Path) -> Tree:
    found = (path for path in data.rglob("*") if path.is_file())
    files = {str(path.relative_to(data)): path.read_text() for path in found}
    return {name: text for name, text in files.items() if not name.startswith("migrations/")}


def split(folder: str) -> None:
    """``a/one`` becomes ``c/one``, and ``b`` goes into it."""
    home = Path(folder)
    if (home / "a/one").exists():
        (home / "c").mkdir()
        (home / "a/one").rename(home / "c/one")
    if (home / "b").exists():
        (home / "c").mkdir(exist_ok=True)
        (home / "b").rename(home / "c/b")


def join(folder: str) -> None:
    home = Path(folder)
    (home / "a").mkdir(exist_ok=True)
    (home / "c/one").rename(home / "a/one")
    (home / "c/b").rename(home / "b")
    (home / "c").rmdir()


def louder(folder: str) -> None:
    for path in (Path(folder) / "c").glob("*"):
        path.write_text(path.read_text() + "!")


def quieter(folder: str) -> None:
    for path in (Path(folder) / "c").glob("*"):
        path.write_text(path.read_text().removesuffix("!"))


FIRST = Migration(1, "split a", ("a", "b", "c"), split, join)
SECOND = Migration(2, "louder", ("c",), louder, quieter)
BETWEEN: Tree = {"a/deep/two": "2", "c/one": "1", "c/b": "file", "other": "untouched"}
NEW: Tree = {"a/deep/two": "2", "c/one": "1!", "c/b": "file!", "other": "untouched"}


def old(data: Path) -> Migrator:
    return Migrator(str(data), "A", "0.1.0", ())


def new(data: Path, *migrations: Migration) -> Migrator:
    return Migrator(str(data), "B", "0.2.0", migrations or (FIRST, SECOND))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    write(folder, OLD)
    return folder


def test_without_migrations_nothing_is_written(data: Path) -> None:
    assert old(data).migrate() == []
    assert not (data / "migrations").exists()


def test_forward_and_a_failed_trial(data: Path) -> None:
    assert new(data).migrate() == [
        "migration 1 (split a) is made",
        "migration 2 (louder) is made",
    ]
    assert read(data) == NEW
    assert new(data).migrate() == []
    write(data, {"c/one": "broken by the trial"})
    assert old(data).migrate() == [
        "migration 2 (louder) is undone",
        "migration 1 (split a) is undone",
    ]
    assert read(data) == OLD
    assert new(data).migrate() != []
    assert read(data) == NEW


def test_a_rollback_keeps_what_was_written_meanwhile(data: Path) -> None:
    new(data).migrate()
    write(data, {"c/one": "changed!", "a/deep/two": "3"})
    before = read(data)
    assert len(new(data).prepare_return("A")) == 2
    assert read(data) == before, "the running system is not disturbed"
    assert new(data).prepare_return("A"), "it may be done again"
    assert old(data).migrate() != []
    assert read(data) == {**OLD, "a/one": "changed", "a/deep/two": "3"}


def test_what_no_slot_wants_is_dropped(data: Path) -> None:
    new(data, FIRST).migrate()
    new(data).migrate()
    assert {path.name for path in (data / "migrations").iterdir()} == {JOURNAL, "0001", "0002"}
    Migrator(str(data), "A", "0.2.0", (FIRST, SECOND)).migrate()
    assert [path.name for path in (data / "migrations").iterdir()] == [JOURNAL]
    with pytest.raises(MigrationError, match=r"of level 2, 0\.1\.0 knows 0, and nothing is kept"):
        old(data).migrate()
    assert read(data) == NEW


@pytest.mark.parametrize("fault", [ValueError("odd"), OSError(28, "No space left on device")])
def test_one_that_fails_leaves_the_data_as_they_were(data: Path, fault: Exception) -> None:
    def fail(folder: str) -> None:
        (Path(folder) / "c").mkdir()
        raise fault

    with pytest.raises(MigrationError, match="the data stay as they were"):
        new(data, FIRST._replace(forward=fail)).migrate()
    assert read(data) == OLD
    assert old(data).migrate() == []
    new(data).migrate()
    assert read(data) == NEW


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"schema": 2}', '{"schema": 1, "level": "x"}', "\0"]
)
def test_a_journal_that_is_garbage_changes_nothing(data: Path, text: str) -> None:
    new(data).migrate()
    (data / "migrations" / JOURNAL).write_text(text)
    for migrator in (new(data), old(data)):
        with pytest.raises(MigrationError, match="the data stay as they are"):
            migrator.migrate()
    assert read(data) == NEW


def test_a_journal_leads_nowhere_else(data: Path) -> None:
    new(data).migrate()
    path = data / "migrations" / JOURNAL
    path.write_text(path.read_text().replace('"c"', '"../../c"'))
    with pytest.raises(MigrationError, match="no path below the data"):
        old(data).migrate()


def cuts(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    prepare: Callable[[Path], object],
    action: Callable[[Path], object],
) -> list[Path]:
    """The data after a cut before each change, the last without one."""
    # The order counts, and no disk; thousands of them take minutes.
    monkeypatch.setattr(os, "fsync", lambda _: None)
    found = []
    for steps in range(400):
        data = tmp_path / str(steps)
        write(data, OLD)
        prepare(data)
        found.append(data)
        if cut_after(steps, monkeypatch, lambda data=data: action(data)):  # type: ignore[misc]
            assert steps > 20
            return found
    raise AssertionError("it does not come to an end")


def test_a_cut_on_the_way_forward(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, data in enumerate(
        cuts(tmp_path, monkeypatch, lambda _: None, lambda data: new(data).migrate())
    ):
        if number % 2:
            new(data).migrate()
            assert read(data) == NEW
        old(data).migrate()
        assert read(data) == OLD
        new(data).migrate()
        assert read(data) == NEW


def test_a_cut_on_the_way_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, data in enumerate(
        cuts(
            tmp_path,
            monkeypatch,
            lambda data: new(data).migrate(),
            lambda data: old(data).migrate(),
        )
    ):
        if number % 2:
            new(data).migrate()
            assert read(data) == NEW
        old(data).migrate()
        assert read(data) == OLD


def test_a_cut_while_a_rollback_is_prepared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def changed(data: Path) -> None:
        new(data).migrate()
        write(data, {"c/one": "changed!"})

    found = cuts(tmp_path, monkeypatch, changed, lambda data: new(data).prepare_return("A"))
    outcomes = set()
    for data in found:
        assert read(data) == {**NEW, "c/one": "changed!"}
        if os.fspath(data).endswith(("1", "3", "5")):
            new(data).migrate()
            assert read(data) == {**NEW, "c/one": "changed!"}
        old(data).migrate()
        outcomes.add(read(data)["a/one"])
        assert read(data) == {**OLD, "a/one": read(data)["a/one"]}
    assert outcomes == {"1", "changed"}


def test_through_boots_and_a_rollback(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def boot(version: str) -> None:
        slot = world.power_on()
        world.write_file(world.paths.early, f"slot={slot}\ndata=persistent\n")
        known = (FIRST, SECOND) if version == "0.2.0" else ()
        monkeypatch.setattr(migrations, "MIGRATIONS", known)
        assert world.node().release.version == version
        assert boot_stage(world.node()) == 0
        assert world.boot_service() == 0

    data = Path(world.paths.data)
    write(data, OLD)
    world.update(FakeRelease("0.2.0"))
    boot("0.2.0")
    assert NEW.items() <= read(data).items()
    write(data, {"c/one": "changed!"})
    assert world.run("rollback") == 0
    boot("0.1.0")
    assert {**OLD, "a/one": "changed"}.items() <= read(data).items()


def test_a_release_that_cannot_migrate_is_given_up(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: str) -> None:
        raise ValueError("odd")

    world.write_file(world.paths.config, "auto_rollback_after=1\nserver=http://x/\npubkey=y\n")
    world.update(FakeRelease("0.2.0"))
    slot = world.power_on()
    world.write_file(world.paths.early, f"slot={slot}\ndata=persistent\n")
    monkeypatch.setattr(migrations, "MIGRATIONS", (FIRST._replace(forward=fail),))
    capsys.readouterr()
    assert boot_stage(world.node()) == 1
    # As the stage does.
    world.write_file(world.paths.migration_failed, capsys.readouterr().out)
    assert world.boot_service() is None
    assert "migration 1 (split a) failed" in str(world.state()["last_error"])
    assert world.power_on() == "A"


def test_a_rollback_does_not_hang_on_the_data(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    world.update(FakeRelease("0.2.0"))
    world.power_on()
    world.boot_service()
    world.write_file(f"{world.paths.data}/migrations/{JOURNAL}", "garbage")
    assert world.run("rollback") == 0
    assert "the data return as they were before the update" in capsys.readouterr().err


def test_the_stage_knows_how_many_there_are() -> None:
    assert f"\nmigrations={len(migrations.MIGRATIONS)}\n" in STAGE.read_text()
    numbers = [one.number for one in migrations.MIGRATIONS]
    assert numbers == list(range(1, len(numbers) + 1))
