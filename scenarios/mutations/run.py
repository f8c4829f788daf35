"""Mutations in copies of the checkout, and the scenarios that must notice them."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from product.image.cache import Cache
from product.image.recipe import Arch
from scenarios.command_line import ERRORS
from scenarios.mutations.copies import (
    Copies,
    Workspace,
    commit,
    copy_checkout,
    recipe_for,
    run_in,
    tail,
)
from scenarios.mutations.digests import Sources
from scenarios.mutations.freshness import Job
from scenarios.mutations.results import Control, Outcome, Result, now
from scenarios.mutations.table import MutationError
from scenarios.mutations.witness import NOTICED

Record = dict[str, object]


@dataclass(frozen=True, slots=True)
class Ran:
    """What came of a job: results, and by scenario why there is none."""

    job: Job
    results: tuple[Result, ...]
    not_judged: dict[str, str]


class Bench:
    """Runs jobs; ``evidence`` gets what scenarios left that ended otherwise than they must.

    Everything of one ``run`` is of the checkout as it was when that began. A scenario counts as a
    witness once it has passed on the unmutated copy, in the same run and just before it is first
    needed.
    """

    def __init__(self, evidence: Path) -> None:
        self._evidence = evidence
        self._cache = Cache()
        self._copies = Copies(self._cache)
        self._controls: dict[tuple[Arch, str], Control | str] = {}
        self._unmutated: dict[Arch, Workspace] = {}
        self._built: set[tuple[Arch, Path]] = set()

    def run(
        self, jobs: Sequence[Job], is_caught: Callable[[Result], bool], *, until: float | None
    ) -> Iterator[Ran]:
        """One job after the other; none begins after ``until`` on the monotonic clock.

        The next copy is built while a machine runs this one. Raises MutationError where the
        checkout cannot be copied.
        """
        with ExitStack() as stack:
            folder = stack.enter_context(self._cache.scratch("mutations"))
            origin = folder / "checkout"
            copy_checkout(origin)
            judge = _Judge(Sources(origin), commit())
            self._controls.clear()
            ahead = stack.enter_context(ThreadPoolExecutor(max_workers=1))
            last = stack.enter_context(ExitStack())
            last.callback(self._forget_unmutated)

            def build(job: Job) -> Future[Workspace]:
                future = ahead.submit(self._build, job, origin)
                last.callback(_discard, future)
                return future

            waiting = [build(job) for job in jobs[:1]]
            for job, following in zip(jobs, [*jobs[1:], None], strict=True):
                if until is not None and time.monotonic() >= until:
                    return
                try:
                    workspace = waiting.pop().result()
                except ERRORS as error:
                    yield Ran(job, (), dict.fromkeys(job.scenarios, f"did not run: {error}"))
                    workspace = None
                # A folder that was not written to for hours is swept.
                for used in (folder, *(w.folder for w in self._unmutated.values())):
                    os.utime(used)
                if following is not None:
                    waiting.append(build(following))
                if workspace is not None:
                    with workspace.end:
                        ran = self._judge(job, workspace, judge)
                        if ran.not_judged or not all(is_caught(r) for r in ran.results):
                            self._keep_evidence(f"{job.mutation.name}-{job.arch}", workspace)
                    yield ran

    def _judge(self, job: Job, workspace: Workspace, judge: _Judge) -> Ran:
        not_judged: dict[str, str] = {}
        try:
            controls = self._control(workspace.arch, job.scenarios)
            sound = {name: c for name, c in controls.items() if isinstance(c, Control)}
            not_judged |= {n: f"not judged: {c}" for n, c in controls.items() if n not in sound}
            records = self._pytest(list(sound), workspace) if sound else []
        except MutationError as error:
            return Ran(job, (), dict.fromkeys(job.scenarios, f"did not run: {error}"))
        results = []
        for name, control in sound.items():
            own = [record for record in records if record["scenario"] == name]
            result = judge.result(job, name, own, control, workspace.folder)
            if isinstance(result, Result):
                results.append(result)
            else:
                not_judged[name] = result
        return Ran(job, tuple(results), not_judged)

    def _control(self, arch: Arch, scenarios: Sequence[str]) -> dict[str, Control | str]:
        """How each passed on the unmutated copy, or why it counts for nothing in this run."""
        if new := [name for name in scenarios if (arch, name) not in self._controls]:
            workspace = self._unmutated[arch]
            records = self._pytest(new, workspace)
            for name in new:
                own = [record for record in records if record["scenario"] == name]
                self._controls[arch, name] = found = _passed(own, workspace.folder)
                if isinstance(found, str):
                    self._keep_evidence(f"unmutated-{arch.value}", workspace)
        return {name: self._controls[arch, name] for name in scenarios}

    def _keep_evidence(self, name: str, workspace: Workspace) -> None:
        kept = self._evidence / name
        shutil.rmtree(kept, ignore_errors=True)
        if workspace.out.exists():
            shutil.copytree(workspace.out, kept)

    def _forget_unmutated(self) -> None:
        for workspace in self._unmutated.values():
            workspace.end.close()
        self._unmutated.clear()
        self._built.clear()

    def _build(self, job: Job, origin: Path) -> Workspace:
        """A copy with the mutation, beside one without that is built first."""
        arch, recipe = Arch(job.arch), recipe_for(job.scenarios)
        if arch not in self._unmutated:
            self._unmutated[arch] = self._copies.make(origin, arch, ())
        if (arch, recipe) not in self._built:
            self._copies.images(self._unmutated[arch], recipe)
            self._built.add((arch, recipe))
        workspace = self._copies.make(origin, arch, job.mutation.edit)
        try:
            self._copies.images(workspace, recipe)
        except BaseException:
            workspace.end.close()
            raise
        return workspace

    def _pytest(self, scenarios: Sequence[str], workspace: Workspace) -> list[Record]:
        workspace.out.mkdir(exist_ok=True)
        witness = workspace.out / "witness.jsonl"
        witness.unlink(missing_ok=True)
        command = [
            "-m", "pytest", "-p", "no:cacheprovider", "-p", "scenarios.mutations.witness",
            "--witness", str(witness), "--arch", workspace.arch.value,
            *(f"--scenario={name}" for name in scenarios),
            *sorted({f"scenarios/{name.partition('::')[0]}" for name in scenarios}),
        ]  # fmt: skip
        done = run_in(workspace, command, allowed=(0, 1))
        (workspace.out / "pytest.log").write_text(done)
        if not witness.exists():
            raise MutationError(f"pytest ran none of {', '.join(scenarios)}:\n{tail(done)}")
        return [json.loads(line) for line in witness.read_text().splitlines()]


@dataclass(frozen=True, slots=True)
class _Judge:
    """Makes results of what pytest wrote down; ``sources`` are what was run."""

    sources: Sources
    commit: str

    def result(
        self, job: Job, scenario: str, records: Sequence[Record], control: Control, work: Path
    ) -> Result | str:
        """The result, or why there is none."""
        call = next((record for record in records if record["when"] == "call"), None)
        if call is None:
            return f"did not run: {_words(records, work)}"
        outcome = Outcome.SURVIVED
        if call["outcome"] == "failed":
            outcome = Outcome.FAILED if call["verdict"] == NOTICED else Outcome.ELSEWHERE
        elif call["outcome"] != "passed":
            return f"not judged: the scenario {call['outcome']}"
        how = _words([call], work) if outcome is not Outcome.SURVIVED else ""
        return Result(
            mutation=job.mutation.name,
            scenario=scenario,
            arch=job.arch,
            outcome=outcome,
            how=how if outcome is not Outcome.ELSEWHERE else f"{call['verdict']}: {how}",
            seconds=_seconds(records),
            measured_at=now(),
            commit=self.commit,
            digests=self.sources.digests(job.mutation, scenario),
            control=control,
        )


def _passed(records: Sequence[Record], work: Path) -> Control | str:
    called = any(record["when"] == "call" for record in records)
    if called and all(record["outcome"] == "passed" for record in records):
        return Control(seconds=_seconds(records), measured_at=now())
    return f"it does not pass on the unmutated product: {_words(records, work)}"


def _seconds(records: Sequence[Record]) -> float:
    return round(sum(float(str(record["seconds"])) for record in records), 1)


def _words(records: Sequence[Record], work: Path) -> str:
    """What went wrong first; a broken product's evidence names the run's own directories."""
    bad = next((record for record in records if record["outcome"] != "passed"), None)
    if bad is None:
        return "no record"
    words = str(bad.get("error", bad["outcome"]))
    return words.replace(str(work), "").replace(str(Path.home()), "~")


def _discard(future: Future[Workspace]) -> None:
    """Remove a copy that nobody came to use; closing one twice does nothing."""
    if not future.cancel() and future.exception() is None:
        future.result().end.close()
