"""A look without the lock leaves what was proved, and takes away nothing."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from product.agent.errors import AgentError
from product.agent.system.lock import exclusive
from product.agent.trust.borrow import borrowed


class Place:
    """A store, and the folder of this boot."""

    def __init__(self, base: Path) -> None:
        self.store, self.run = base / "store", base / "run"
        self.store.mkdir()
        self.run.mkdir()
        self.lock = str(self.run / "lock")

    def write(self, **files: str) -> None:
        for name, text in files.items():
            (self.store / f"{name}.json").write_text(text)

    def read(self) -> dict[str, str]:
        return {path.stem: path.read_text() for path in sorted(self.store.iterdir())}

    def renew(self, folder: str, **files: str) -> None:
        for name, text in files.items():
            Path(folder, f"{name}.json").write_text(text)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    made = Place(tmp_path)
    made.write(anchor="a", root="1", timestamp="1", snapshot="1", targets="1")
    return made


def borrow(place: Place, **files: str) -> None:
    with borrowed(str(place.store), str(place.run), place.lock) as copy:
        assert {path.stem for path in Path(copy).iterdir()} == set(place.read())
        place.renew(copy, **files)


def test_what_was_proved_is_kept_and_no_copy_stays(place: Place) -> None:
    borrow(place, timestamp="2", snapshot="2")
    assert place.read() == {
        "anchor": "a", "root": "1", "timestamp": "2", "snapshot": "2", "targets": "1",
    }  # fmt: skip
    assert [path.name for path in place.run.iterdir()] == ["lock"]


def test_what_was_proved_before_an_error_is_kept(place: Place) -> None:
    def look() -> None:
        with borrowed(str(place.store), str(place.run), place.lock) as copy:
            place.renew(copy, root="2")
            raise AgentError("expired")

    with pytest.raises(AgentError, match="expired"):
        look()
    assert place.read()["root"] == "2"


def test_nothing_is_put_back_while_somebody_has_the_lock(place: Place) -> None:
    before = place.read()
    with exclusive(place.lock):
        borrow(place, timestamp="2")
    assert place.read() == before


def test_somebody_elses_newer_metadata_is_not_replaced(place: Place) -> None:
    with borrowed(str(place.store), str(place.run), place.lock) as copy:
        place.renew(copy, timestamp="2")
        place.write(timestamp="3")
    assert place.read()["timestamp"] == "3"


def test_the_lock_is_free_meanwhile(place: Place) -> None:
    with borrowed(str(place.store), str(place.run), place.lock), exclusive(place.lock):
        pass


def test_another_trust_begins_without_the_former_ones_numbers(place: Place) -> None:
    borrow(place, anchor="b", root="b", timestamp="b")
    assert place.read()["anchor"] == "b"
    with borrowed(str(place.store), str(place.run), place.lock) as copy:
        for name in ("timestamp", "snapshot", "targets"):
            Path(copy, f"{name}.json").unlink()
        place.renew(copy, anchor="c", root="c")
    assert place.read() == {"anchor": "c", "root": "c"}


def test_an_empty_store_is_filled(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.store.rmdir()
    with borrowed(str(place.store), str(place.run), place.lock) as copy:
        place.renew(copy, root="1", anchor="1")
    assert place.read() == {"anchor": "1", "root": "1"}


def test_copies_of_processes_that_were_killed_go(place: Place) -> None:
    died = subprocess.Popen(["true"])
    died.wait()
    for process in (died.pid, os.getpid(), os.getppid()):
        (place.run / f"metadata.{process}").mkdir()
    borrow(place, root="2")
    assert place.read()["root"] == "2"
    left = [path.name for path in place.run.iterdir() if path.name.startswith("metadata.")]
    assert left == [f"metadata.{os.getppid()}"]
