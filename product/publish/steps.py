"""Steps that are taken once: a run that was cut off goes on where it stopped.

A step writes into an empty folder. When it is done its files are moved to the output, and a record
in ``.steps`` says what it was made from and each file's SHA-256; it is written last. A later run
takes a step again where there is no record, where it is of other inputs, or where a file is not
what the record says.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from product.errors import KubesoloError
from product.image import progress
from product.publish.errors import PublishError, StepError
from product.release.storage import sha256_file, sync_directory, write_file

RECORDS = ".steps"
_WORK = ".part"
Facts = Mapping[str, object]


class Record(BaseModel):
    """What a step left: ``files`` by name with their SHA-256, and ``facts`` for later steps."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    step: str
    inputs: str
    files: Mapping[str, str] = Field(default_factory=dict)
    facts: Mapping[str, object] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Step:
    """``run`` writes files into the folder that it is given, and returns facts about them.

    ``inputs`` is asked when the step's turn comes: a digest of all that its result depends on.
    ``holds`` may say that what it did elsewhere does not stand any more.
    """

    name: str
    inputs: Callable[[], str]
    run: Callable[[Path], Facts]
    holds: Callable[[Record], bool] = field(default=lambda record: True)

    @property
    def slug(self) -> str:
        """Its name as a file's."""
        return re.sub(r"[^a-z0-9_.-]+", "-", self.name.lower())


class Output:
    """The folder of a release while it is made."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def record(self, step: Step) -> Record | None:
        """What the step left, if it can be read."""
        try:
            return Record.model_validate_json(self._path(step).read_bytes())
        except (OSError, ValidationError):
            return None

    def done(self, step: Step) -> Record | None:
        """The step's record where everything that it says still holds."""
        record = self.record(step)
        if record is None or record.step != step.name or record.inputs != step.inputs():
            return None
        for name, sha256 in record.files.items():
            path = self.folder / name
            if not path.is_file() or sha256_file(path) != sha256:
                return None
        return record if step.holds(record) else None

    def records(self, steps: Sequence[Step]) -> list[Record]:
        """The records of all ``steps``. Raises PublishError where one is missing."""
        found = []
        for step in steps:
            record = self.record(step)
            if record is None:
                raise PublishError(f"the step {step.name} has not been taken")
            found.append(record)
        return found

    def take(self, step: Step) -> Record:
        """Run the step, keep what it left."""
        work = self.folder / _WORK
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        self._path(step).unlink(missing_ok=True)
        inputs = step.inputs()
        facts = step.run(work)
        names = sorted(entry.name for entry in work.iterdir())
        files = {name: sha256_file(work / name) for name in names}
        for name in names:
            (work / name).chmod(0o644)
            _flush(work / name)
            (work / name).replace(self.folder / name)
        sync_directory(self.folder)
        work.rmdir()
        record = Record(step=step.name, inputs=inputs, files=files, facts=facts)
        text = json.dumps(record.model_dump(), indent=1, sort_keys=True) + "\n"
        write_file(self._path(step), text.encode())
        return record

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Keep every other run out. Raises PublishError where one is under way."""
        self.folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise PublishError(
                    f"another run is making a release in {self.folder}",
                    hint="wait for it, or name another folder: --output",
                ) from None
            yield
        finally:
            os.close(descriptor)

    def _path(self, step: Step) -> Path:
        return self.folder / RECORDS / f"{step.slug}.json"


def take_all(
    output: Output, steps: Sequence[Step], again: Callable[[Step], str], only: str | None = None
) -> None:
    """Take each step that is not done, in order; with ``only`` that one alone, done or not.

    Raises StepError with the step's name, and the command that ``again`` says runs it alone.
    """
    chosen = [step for step in steps if only in (None, step.name)]
    if not chosen:
        raise PublishError(
            f"there is no step {only!r}", hint=f"there are: {', '.join(s.name for s in steps)}"
        )
    for number, step in enumerate(chosen, 1):
        title = f"{number}/{len(chosen)} {step.name}"
        try:
            if only is None and output.done(step) is not None:
                progress.note(f"{title}: done already")
                continue
            with progress.step(title):
                output.take(step)
        except (KubesoloError, OSError) as error:
            raise StepError(
                f"step {step.name}: {_said(error)}", hint=_hint(error, again(step))
            ) from error


def _said(error: KubesoloError | OSError) -> str:
    if isinstance(error, KubesoloError):
        return error.message
    return f"{error.filename or 'a file'}: {error.strerror or error}"


def _hint(error: KubesoloError | OSError, command: str) -> str:
    own = getattr(error, "hint", None)
    return f"{own + '; ' if own else ''}this step alone again: {command}"


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
