"""A publisher over the years: clocks, ends of validity, backups."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from product.release.cli import main
from product.release.errors import RepositoryError
from product.release.keys import KeyDirectory
from product.release.marks import Marks
from product.release.repository import Repository
from product.release.tests.slotfiles import make_slot
from product.release.verify import verify

NOW = datetime(2026, 12, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)


class Publisher:
    """Keys, a repository with a release, and a clock that the test sets."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.now = NOW
        self.keys = KeyDirectory.generate(base / "keys")
        self.directory = base / "repository"
        self.made = Repository.create(
            self.directory, self.keys, clock=self.clock, marks=Marks(self.keys.path)
        )
        self.made.publish(make_slot(base / "slot", "0.2.0"), channel="stable")

    def clock(self) -> datetime:
        return self.now

    def open(self, *, clock_is_right: bool = False) -> Repository:
        return Repository.open(
            self.directory,
            self.keys,
            clock=self.clock,
            marks=Marks(self.keys.path),
            clock_is_right=clock_is_right,
        )

    def lock_away(self, role: str) -> None:
        """The key lies on another medium."""
        (self.keys.path / f"{role}.pem").rename(self.base / f"{role}.pem")

    def versions(self) -> dict[str, int]:
        state = self.made.read()
        return {role: getattr(state, role).version for role in state._fields}


@pytest.fixture
def publisher(tmp_path: Path) -> Publisher:
    return Publisher(tmp_path)


# Clocks.


@pytest.mark.parametrize("days", [60, 32, -1, -400])
@pytest.mark.parametrize("change", ["publish", "refresh", "rotate"])
def test_nothing_is_signed_by_a_clock_far_from_the_last_signing(
    publisher: Publisher, days: int, change: str
) -> None:
    opened = publisher.open()
    before = {path: path.read_bytes() for path in publisher.base.rglob("*.json")}
    publisher.now = NOW + days * DAY
    changes: dict[str, Callable[[], object]] = {
        "publish": lambda: opened.publish(publisher.base / "slot", channel="stable"),
        "refresh": opened.refresh,
        "rotate": lambda: opened.rotate("timestamp"),
    }
    with pytest.raises(RepositoryError, match=rf"{abs(days)} days (after|before)") as caught:
        changes[change]()
    assert "--clock-is-right" in (caught.value.hint or "")
    assert {path: path.read_bytes() for path in publisher.base.rglob("*.json")} == before


def test_a_clock_that_is_right_signs_on_request(publisher: Publisher) -> None:
    publisher.now = NOW + 60 * DAY
    publisher.open(clock_is_right=True).refresh()
    publisher.now = NOW + DAY
    with pytest.raises(RepositoryError, match="59 days before"):
        publisher.open().refresh()
    publisher.open(clock_is_right=True).refresh()
    publisher.open().refresh()


# Ends.


def test_a_daily_refresh_keeps_everything_valid_for_years(publisher: Publisher) -> None:
    renewed = set()
    for _ in range(60):
        publisher.now += 20 * DAY
        done = publisher.open().refresh()
        assert done.lacking == ()
        renewed |= set(done.renewed)
        report = verify(publisher.directory, now=publisher.now)
        assert (report.problems, report.warnings) == ((), ())
    assert renewed == {"root", "targets", "snapshot", "timestamp"}
    assert publisher.now - NOW > timedelta(days=3 * 365)


@pytest.mark.parametrize(("role", "days"), [("targets", 365), ("root", 730)])
def test_what_cannot_be_renewed_is_said_and_the_rest_is_renewed(
    publisher: Publisher, role: str, days: int
) -> None:
    [keyid] = publisher.made.read().root.roles[role].keyids
    publisher.lock_away(role)
    publisher.now = NOW + (days - 61) * DAY
    assert publisher.open(clock_is_right=True).refresh().lacking == ()
    for left, urgent in ((59, False), (31, False), (29, True)):
        publisher.now = NOW + (days - left) * DAY
        done = publisher.open().refresh()
        [lacking] = [each for each in done.lacking if each.role == role]
        assert lacking.urgent == urgent
        assert keyid[:16] in str(lacking)
        assert {"snapshot", "timestamp"} <= set(done.renewed)
        assert verify(publisher.directory, now=publisher.now).problems == ()
    [warning] = verify(publisher.directory, now=publisher.now).warnings
    assert warning.startswith(f"{role} metadata ends in 29 days")


def test_the_end_that_nears_and_the_key_are_named_on_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["keys", "keys"]) == 0
    assert main(["init", "repo", "--keys", "keys"]) == 0
    soon = (datetime.now(UTC) + 20 * DAY).strftime("%Y-%m-%d")
    assert main(["refresh", "repo", "--keys", "keys", "--role", "root", "--expires", soon]) == 0
    Path("keys/root.pem").rename("away.pem")
    capsys.readouterr()
    assert main(["verify", "repo"]) == 0
    assert "warning: root metadata ends in" in capsys.readouterr().err
    assert main(["refresh", "repo", "--keys", "keys"]) == 1
    error = capsys.readouterr().err
    [keyid] = (
        Repository.open(Path("repo"), KeyDirectory(Path("keys"))).read().root.roles["root"].keyids
    )
    assert f"1 of its keys must sign ({keyid[:16]})" in error
    assert "kubesolo-release root export" in error
    Path("away.pem").rename("keys/root.pem")
    assert main(["refresh", "repo", "--keys", "keys"]) == 0
    assert main(["verify", "repo"]) == 0
    assert "warning" not in capsys.readouterr().err


# Backups.


def test_a_repository_from_a_backup_continues_above_what_was_signed(publisher: Publisher) -> None:
    backup = publisher.base / "backup"
    shutil.copytree(publisher.directory, backup)
    for _ in range(3):
        publisher.open().publish(publisher.base / "slot", channel="stable")
    before = publisher.versions()
    shutil.rmtree(publisher.directory)
    backup.rename(publisher.directory)
    opened = publisher.open()
    opened.refresh(roles=["targets"])
    after = publisher.versions()
    for role in ("targets", "snapshot", "timestamp"):
        assert after[role] == before[role] + 1
        assert any(note.startswith(f"{role} is at version 2 here, and") for note in opened.notes)
    assert verify(publisher.directory, now=NOW).problems == ()
    opened = publisher.open()
    opened.refresh()
    assert opened.notes == []


def test_a_root_that_the_backup_lacks_is_asked_for(publisher: Publisher) -> None:
    publisher.open().rotate("timestamp")
    (publisher.directory / "metadata/2.root.json").rename(publisher.base / "2.root.json")
    with pytest.raises(RepositoryError, match="version 2 was signed already") as caught:
        publisher.open()
    assert "metadata/2.root.json" in (caught.value.hint or "")
    (publisher.base / "2.root.json").rename(publisher.directory / "metadata/2.root.json")
    publisher.open().refresh()


def test_two_repositories_of_the_same_keys_have_marks_of_their_own(publisher: Publisher) -> None:
    publisher.now = NOW + DAY
    other = Repository.create(
        publisher.base / "other",
        publisher.keys,
        clock=publisher.clock,
        marks=Marks(publisher.keys.path),
    )
    other.refresh()
    assert other.notes == []
    assert other.read().targets.version == 1
    document = json.loads((publisher.keys.path / "versions.json").read_text())
    assert len(document["repositories"]) == 2


@pytest.mark.parametrize("content", ["", "{", "[]", '{"schema": 1}', '{"repositories": {}}'])
def test_damaged_marks_are_named_and_nothing_is_signed(publisher: Publisher, content: str) -> None:
    (publisher.keys.path / "versions.json").write_text(content)
    with pytest.raises(RepositoryError, match=r"versions\.json is damaged"):
        publisher.open()


def test_lost_marks_begin_anew(publisher: Publisher) -> None:
    (publisher.keys.path / "versions.json").unlink()
    publisher.open().refresh()
    document = json.loads((publisher.keys.path / "versions.json").read_text())
    [versions] = document["repositories"].values()
    assert versions == {"root": 1, "snapshot": 3, "timestamp": 3}


def test_keys_where_nothing_can_be_written_sign_all_the_same(publisher: Publisher) -> None:
    """As a volume of secrets: a directory in the way, because root writes everywhere."""
    marks = publisher.keys.path / "versions.json"
    marks.unlink()
    repository = Repository.open(
        publisher.directory,
        publisher.keys,
        clock=publisher.clock,
        marks=Marks(publisher.base / "nowhere"),
    )
    repository.refresh()
    repository.refresh()
    [note] = repository.notes
    assert "cannot write" in note
    assert "take it for a replay" in note
    assert verify(publisher.directory, now=NOW).problems == ()
