"""Changes of the data partition's layout from release to release, forward and back.

A release lists its migrations in order, each with the paths that it changes. Before anything uses
the data, the boot brings them to its release's level. Forward: the paths are copied, the copy is
changed and takes their place, and what was there is kept. A release of a lower level, which does
not know the migration, puts back what was kept: so a trial that fails leaves the data as they were.
``rollback`` of a confirmed release first changes a copy of the present data backward and keeps that
instead, so that nothing written meanwhile is lost.

``/var/lib/kubesolo/migrations/journal.json``: ``schema`` 1; ``level``, the latest migration's
number; ``levels``, slot to the level of the release that ran there; ``done``, a list of ``number``,
``name``, ``release``, ``kept`` (the folder beside the journal), ``paths``, and ``existed``, those
of them that there were; ``doing``, one of that list and ``back`` (boolean), or null. From its being
written on, an exchange is finished whoever boots; before, the live data are untouched.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from product.agent.bootloader.boot import SLOTS
from product.agent.datastore import tree
from product.agent.errors import AgentError
from product.agent.system.files import make_directories, read_bounded, sync_directory, write_atomic

SCHEMA = 1
MAX_BYTES = 1024 * 1024
JOURNAL = "journal.json"
STAGED = "staged"


class MigrationError(AgentError):
    """The data cannot be brought to the level of this release."""

    code = "migration-failed"


class Migration(NamedTuple):
    """``paths`` are relative to /var/lib/kubesolo, none below another. ``forward`` and ``backward``
    get a folder that holds a copy of those that exist, and change that; they may be run again on
    another copy. Numbers begin with 1 and leave none out."""

    number: int
    name: str
    paths: tuple[str, ...]
    forward: Callable[[str], None]
    backward: Callable[[str], None]


# In stage 25 stands how many those are: a boot that has none does not start Python for them.
MIGRATIONS: tuple[Migration, ...] = ()


class Step(NamedTuple):
    """A migration that was made, or is being made."""

    number: int
    name: str
    release: str
    kept: str
    paths: tuple[str, ...]
    existed: tuple[str, ...]


class Journal(NamedTuple):
    """The file's content."""

    level: int = 0
    levels: dict[str, int] = {}  # noqa: RUF012 -- never changed in place
    done: tuple[Step, ...] = ()
    doing: Step | None = None
    back: bool = False


class Migrator:
    """The data below ``data``, of a node that runs ``release`` from ``slot``."""

    def __init__(
        self, data: str, slot: str, release: str, migrations: Sequence[Migration] | None = None
    ) -> None:
        self._data = data
        self._home = f"{data}/migrations"
        self._slot = slot
        self._release = release
        self._migrations = MIGRATIONS if migrations is None else migrations

    def migrate(self) -> list[str]:
        """Bring the data to this release's level; what was done. Raises MigrationError."""
        target = len(self._migrations)
        if not target and not os.path.exists(f"{self._home}/{JOURNAL}"):
            return []
        try:
            return self._migrate(target)
        except OSError as error:
            where = f" ({error.filename})" if error.filename else ""
            raise MigrationError(
                f"the data stay as they were: {error.strerror or error}{where}",
                hint="the data partition must be whole and have room for a copy",
            ) from None

    def prepare_return(self, slot: str) -> list[str]:
        """Keep the present data for the release in ``slot``, changed backward; what was done.

        Raises MigrationError: nothing has changed then.
        """
        if not os.path.exists(f"{self._home}/{JOURNAL}"):
            return []
        try:
            return self._prepare(self.read(), slot)
        except OSError as error:
            raise MigrationError(f"the data cannot be changed backward: {error}") from None

    def read(self) -> Journal:
        """The journal, empty where there is none. Raises MigrationError."""
        path = f"{self._home}/{JOURNAL}"
        try:
            document = json.loads(read_bounded(path, MAX_BYTES))
            if document["schema"] != SCHEMA:
                raise ValueError(f"its schema is {document['schema']!r:.20}, not {SCHEMA}")
            doing = document["doing"]
            return Journal(
                int(document["level"]),
                {str(slot): int(level) for slot, level in document["levels"].items()},
                tuple(map(_step, document["done"])),
                _step(doing) if doing else None,
                bool(doing and doing["back"]),
            )
        except FileNotFoundError:
            return Journal()
        except OSError as error:
            problem = error.strerror
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            problem = f"it is garbage ({error!r:.100})"
        raise MigrationError(f"{path} cannot be read, so the data stay as they are: {problem}")

    def _migrate(self, target: int) -> list[str]:
        journal, said = self.read(), []
        if journal.doing is not None:
            journal = self._exchange(journal)
        self._sweep(journal)
        while journal.level > target:
            undone = journal.done[-1] if journal.done else None
            if undone is None or undone.number != journal.level:
                raise MigrationError(
                    f"the data are of level {journal.level}, {self._release} knows {target}, and "
                    "nothing is kept of what they were"
                )
            journal = self._exchange(self._save(journal._replace(doing=undone, back=True)))
            said.append(f"migration {undone.number} ({undone.name}) is undone")
        for migration in self._migrations[journal.level :]:
            journal = self._forward(journal, migration)
            said.append(f"migration {migration.number} ({migration.name}) is made")
        levels = {**journal.levels, self._slot: target}
        # What no slot's release could want any more.
        least = min(levels.get(slot, 0) for slot in SLOTS)
        done = tuple(step for step in journal.done if step.number > least)
        if (levels, done) != (journal.levels, journal.done):
            journal = self._save(journal._replace(levels=levels, done=done))
        self._sweep(journal)
        return said

    def _forward(self, journal: Journal, migration: Migration) -> Journal:
        existed = self._stage(migration.paths)
        _run(migration, migration.forward, f"{self._home}/{STAGED}")
        tree.seal(f"{self._home}/{STAGED}")
        kept = f"{migration.number:04}"
        tree.remove(f"{self._home}/{kept}")
        step = Step(migration.number, migration.name, self._release, kept, migration.paths, existed)
        return self._exchange(self._save(journal._replace(doing=step, back=False)))

    def _exchange(self, journal: Journal) -> Journal:
        """Finish what the journal says is being done; may be done again at any point."""
        step = journal.doing
        assert step is not None
        home = f"{self._home}/{step.kept}"
        for path in step.paths:
            live, kept, staged = (f"{top}/{path}" for top in (self._data, home, self._staged))
            if journal.back:
                if path not in step.existed or os.path.lexists(kept):
                    tree.remove(live)
                    _move(kept, live)
            else:
                if path in step.existed and not os.path.lexists(kept):
                    _move(live, kept)
                _move(staged, live)
        done = tuple(one for one in journal.done if one.number != step.number)
        if journal.back:
            return self._save(Journal(step.number - 1, journal.levels, done))
        return self._save(Journal(step.number, journal.levels, (*done, step)))

    def _prepare(self, journal: Journal, slot: str) -> list[str]:
        if journal.doing is not None:
            raise MigrationError("the data are between two levels: reboot first")
        target = journal.levels.get(slot, 0)
        undone = [step for step in journal.done if step.number > target]
        known = {migration.number: migration for migration in self._migrations}
        if not undone:
            return []
        self._stage({path for step in undone for path in step.paths})
        done = {step.number: step for step in journal.done}
        for step in reversed(undone):
            migration = known[step.number]
            _run(migration, migration.backward, self._staged)
            kept = f"{step.number:04}-back" if step.kept == f"{step.number:04}" else step.kept[:4]
            folder = f"{self._home}/{kept}"
            tree.remove(folder)
            existed = self._copy(step.paths, self._staged, folder)
            tree.seal(folder)
            done[step.number] = step._replace(kept=kept, existed=existed)
        sync_directory(self._home)
        self._sweep(self._save(journal._replace(done=tuple(done.values()))))
        return [f"migration {step.number} ({step.name}) is undone by the boot" for step in undone]

    @property
    def _staged(self) -> str:
        return f"{self._home}/{STAGED}"

    def _stage(self, paths: Iterable[str]) -> tuple[str, ...]:
        """Copy what there is of ``paths``; which of them that was."""
        tree.remove(self._staged)
        return self._copy(paths, self._data, self._staged)

    def _copy(self, paths: Iterable[str], source: str, target: str) -> tuple[str, ...]:
        make_directories(target)
        existed = []
        for path in sorted(paths):
            if os.path.lexists(f"{source}/{path}"):
                make_directories(os.path.dirname(f"{target}/{path}"))
                tree.copy_entry(f"{source}/{path}", f"{target}/{path}")
                existed.append(path)
        return tuple(existed)

    def _save(self, journal: Journal) -> Journal:
        doing = journal.doing and {**journal.doing._asdict(), "back": journal.back}
        document = {
            "schema": SCHEMA,
            "level": journal.level,
            "levels": journal.levels,
            "done": [step._asdict() for step in journal.done],
            "doing": doing,
        }
        write_atomic(f"{self._home}/{JOURNAL}", (json.dumps(document, indent=1) + "\n").encode())
        return journal

    def _sweep(self, journal: Journal) -> None:
        """Remove what the journal does not name."""
        wanted = {JOURNAL, *(step.kept for step in journal.done)}
        with suppress(FileNotFoundError):
            for name in os.listdir(self._home):
                if name not in wanted:
                    tree.remove(f"{self._home}/{name}")


def _step(document: dict[str, Any]) -> Step:
    step = Step(
        int(document["number"]),
        str(document["name"]),
        str(document["release"]),
        str(document["kept"]),
        tuple(map(str, document["paths"])),
        tuple(map(str, document["existed"])),
    )
    for path in (step.kept, *step.paths):
        if not path or any(part in ("", ".", "..") for part in path.split("/")):
            raise ValueError(f"{path!r} is no path below the data")
    return step


def _run(migration: Migration, change: Callable[[str], None], folder: str) -> None:
    try:
        change(folder)
    except OSError:
        raise
    except Exception as error:
        raise MigrationError(
            f"migration {migration.number} ({migration.name}) failed, and the data stay as they "
            f"were: {type(error).__name__}: {error}"
        ) from error


def _move(old: str, new: str) -> None:
    """Nothing where ``old`` is missing: it has been moved, or never was."""
    if not os.path.lexists(old):
        return
    make_directories(os.path.dirname(new))
    os.rename(old, new)
    sync_directory(os.path.dirname(new))
    sync_directory(os.path.dirname(old))
