"""One mutation in a copy of the checkout, and the scenarios that must notice it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from product.errors import KubesoloError
from product.image import kernel, rootfs
from product.image.build import DEFAULT_RECIPE, Builder
from product.image.cache import Cache
from product.image.recipe import Arch
from scenarios import kubectl
from scenarios.kubectl import RECIPE
from scenarios.mutations.table import ROOT, Edit, Mutation, MutationError
from scenarios.mutations.witness import NOTICED
from scenarios.releases import FACTORY, GOOD

# The copy's image is built for one run: pack it quickly. Nothing but time and size depends on it.
_QUICK = (
    Edit(
        file="product/image/rootfs.py",
        old='"-Xcompression-level", "6"',
        new='"-Xcompression-level", "1"',
    ),
    Edit(file="product/image/initramfs.py", old='"zstd", "-19"', new='"zstd", "-3"'),
)
# What of the cache no mutation can change: it is not built again for each.
_SHARED_TREES = ("host-tools-*", "kernel-*", "packages-*", "go-*", "kubernetes-*", "pause-*")
_LIMIT = 3600.0
_TAIL = 30


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one scenario ended; ``caught`` only where the scenario itself noticed."""

    scenario: str
    caught: bool
    how: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Result:
    """How a mutation ended; ``digest`` is the mutation's. Without ``ran`` it says nothing of it."""

    name: str
    digest: str
    arch: str
    outcomes: tuple[Outcome, ...]
    ran: bool = True

    @property
    def caught(self) -> bool:
        """Whether every scenario noticed."""
        return all(outcome.caught for outcome in self.outcomes)


@dataclass(frozen=True, slots=True)
class _Workspace:
    """A copy with its mutation applied and its images built; ``end`` removes it."""

    folder: Path
    copy: Path
    cache: Path
    arch: Arch
    end: ExitStack


class Bench:
    """Runs mutations; ``evidence`` gets what a mutation left that ended otherwise than it must."""

    def __init__(self, arch: Arch, evidence: Path) -> None:
        self._arch = arch
        self._evidence = evidence
        self._cache = Cache()
        self._prepared: set[tuple[Arch, Path]] = set()

    def run(self, mutations: Sequence[Mutation]) -> Iterator[Result]:
        """One result after the other. The next copy is built while a machine runs this one."""
        with ThreadPoolExecutor(max_workers=1) as ahead, ExitStack() as last:
            waiting = [ahead.submit(self._build, mutation) for mutation in mutations[:1]]
            for mutation, following in zip(mutations, [*mutations[1:], None], strict=True):
                try:
                    workspace = waiting.pop().result()
                except KubesoloError as error:
                    yield _not_run(mutation, self._arch, error)
                    workspace = None
                if following is not None:
                    waiting.append(ahead.submit(self._build, following))
                    last.callback(_discard, waiting[0])
                if workspace is not None:
                    with workspace.end:
                        result = self._judge(mutation, workspace)
                    yield result

    def _judge(self, mutation: Mutation, workspace: _Workspace) -> Result:
        try:
            records = self._pytest(mutation, workspace)
        except MutationError as error:
            return _not_run(mutation, workspace.arch, error)
        outcomes = tuple(_outcome(name, records, workspace.folder) for name in mutation.scenarios)
        result = Result(mutation.name, mutation.digest, workspace.arch.value, outcomes)
        if not result.caught:
            kept = self._evidence / mutation.name
            shutil.rmtree(kept, ignore_errors=True)
            shutil.copytree(workspace.copy / "out", kept)
        return result

    def _build(self, mutation: Mutation) -> _Workspace:
        arch = Arch(mutation.arch) if mutation.arch else self._arch
        self._prepare(arch, _recipe(mutation))
        with ExitStack() as stack:
            folder = stack.enter_context(self._cache.scratch("mutation"))
            copy = folder / "checkout"
            copy_checkout(copy)
            for edit in (*mutation.edit, *_QUICK):
                edit.apply(copy)
            workspace = _Workspace(
                folder, copy, self._private_cache(folder / "cache"), arch, ExitStack()
            )
            recipe = _recipe(mutation).relative_to(ROOT)
            for what, version in (("build", FACTORY), ("slot", GOOD)):
                _run_in(
                    workspace,
                    [
                        "-m", "product.image", what, "--arch", arch.value, "--version", version,
                        "--recipe", str(recipe),
                    ],
                )  # fmt: skip
            workspace.end.push(stack.pop_all())
            return workspace

    def _prepare(self, arch: Arch, recipe: Path) -> None:
        """Have what mutations share in the user's cache."""
        if (arch, recipe) not in self._prepared:
            builder = Builder(arch, cache=self._cache, recipe=recipe)
            kernel.prepare(builder.lock, arch, self._cache, builder.tools)
            rootfs.packages_tree(builder.recipe, builder.lock, arch, self._cache, builder.tools)
            if builder.payload is not None:
                builder.payload.prepare(arch, self._cache, builder.tools)
            if recipe == RECIPE:
                kubectl.program()
            self._prepared.add((arch, recipe))

    def _private_cache(self, root: Path) -> Path:
        """A cache of its own, so that no broken image stays; downloads and the pool are shared."""
        (root / "trees").mkdir(parents=True)
        (root / "harness").mkdir()
        (root / "blobs").symlink_to(self._cache.blobs)
        pool = self._cache.root / "harness" / "pool"
        pool.mkdir(parents=True, exist_ok=True)
        (root / "harness" / "pool").symlink_to(pool)
        for pattern in _SHARED_TREES:
            for tree in self._cache.trees.glob(pattern):
                (root / "trees" / tree.name).symlink_to(tree)
        return root

    def _pytest(self, mutation: Mutation, workspace: _Workspace) -> list[dict[str, object]]:
        out = workspace.copy / "out"
        out.mkdir()
        witness = out / "witness.jsonl"
        command = [
            "-m", "pytest", "-p", "no:cacheprovider", "-p", "scenarios.mutations.witness",
            "--witness", str(witness), "--arch", workspace.arch.value,
            *(f"--scenario={name}" for name in mutation.scenarios),
            *sorted({f"scenarios/{name.partition('::')[0]}" for name in mutation.scenarios}),
        ]  # fmt: skip
        done = _run_in(workspace, command, allowed=(0, 1))
        (out / "pytest.log").write_text(done)
        if not witness.exists():
            raise MutationError(f"pytest ran no scenario of {mutation.name}:\n{_tail(done)}")
        return [json.loads(line) for line in witness.read_text().splitlines()]


def _recipe(mutation: Mutation) -> Path:
    """The image that most of its scenarios run on."""
    kubernetes = sum(name.startswith("k8s/") for name in mutation.scenarios)
    return RECIPE if 2 * kubernetes > len(mutation.scenarios) else DEFAULT_RECIPE


def _run_in(workspace: _Workspace, arguments: list[str], allowed: Sequence[int] = (0,)) -> str:
    """Run this interpreter in the copy; returns what it printed. Raises MutationError."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(workspace.copy),
        "KUBESOLO_CACHE": str(workspace.cache),
    }
    try:
        done = subprocess.run(
            [sys.executable, *arguments], cwd=workspace.copy, env=environment, timeout=_LIMIT,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise MutationError(f"{arguments[1]} took over {_LIMIT:.0f} s") from None
    if done.returncode not in allowed:
        raise MutationError(
            f"{arguments[1]} in the copy ended with {done.returncode}:\n{_tail(done.stdout)}"
        )
    return done.stdout


def _tail(text: str) -> str:
    return "\n".join(text.splitlines()[-_TAIL:])


def _not_run(mutation: Mutation, arch: Arch, error: KubesoloError) -> Result:
    how = f"did not run: {error}"
    outcomes = tuple(Outcome(name, False, how, 0.0) for name in mutation.scenarios)
    return Result(mutation.name, mutation.digest, arch.value, outcomes, ran=False)


def _discard(future: Future[_Workspace]) -> None:
    """Remove a copy that nobody came to use; closing one twice does nothing."""
    if not future.cancel() and future.exception() is None:
        future.result().end.close()


def copy_checkout(target: Path) -> None:
    """Copy the files that git tracks, as they are in the working tree. Raises MutationError."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False, text=True
    )
    if listed.returncode != 0:
        raise MutationError(f"cannot list the files of {ROOT}: {listed.stderr.strip()}")
    for name in listed.stdout.split("\0"):
        source = ROOT / name
        if name and (source.is_file() or source.is_symlink()):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target / name, follow_symlinks=False)


def _outcome(name: str, records: list[dict[str, object]], work: Path) -> Outcome:
    own = [record for record in records if record["scenario"] == name]
    seconds = sum(float(str(record["seconds"])) for record in own)
    calls = [record for record in own if record["when"] == "call"]
    if not calls:
        words = str(own[0].get("error", own[0]["outcome"])) if own else "no record"
        return Outcome(name, False, f"did not run: {words}", seconds)
    call = calls[0]
    if call["outcome"] != "failed":
        return Outcome(name, False, f"survived: the scenario {call['outcome']}", seconds)
    # A broken product's evidence names the run's own directories.
    words = str(call["error"]).replace(str(work), "").replace(str(Path.home()), "~")
    if call["verdict"] != NOTICED:
        return Outcome(name, False, f"{call['verdict']}: {words}", seconds)
    return Outcome(name, True, words, seconds)


class Store:
    """Results of earlier runs in the file at ``path``, so that a table is run in pieces."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def results(self) -> dict[str, Result]:
        """Name to result; an absent file is an empty one. Raises MutationError."""
        try:
            document = json.loads(self._path.read_text())
            return {
                name: Result(
                    name, entry["digest"], entry["arch"],
                    tuple(Outcome(**outcome) for outcome in entry["outcomes"]),
                )
                for name, entry in document.items()
            }  # fmt: skip
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise MutationError(
                f"{self._path} cannot be read: {error}", hint="remove it and run again"
            ) from None

    def add(self, result: Result) -> None:
        """Keep ``result`` in place of an earlier one of its name."""
        results = self.results() | {result.name: result}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        document = {name: _stored(found) for name, found in sorted(results.items())}
        partial = self._path.with_suffix(".part")
        partial.write_text(json.dumps(document, indent=1) + "\n")
        partial.replace(self._path)


def _stored(result: Result) -> dict[str, object]:
    fields = asdict(result)
    del fields["ran"]
    return fields


def all_scenarios() -> list[str]:
    """The names of every scenario there is. Raises MutationError."""
    with _scratch_file() as witness:
        done = subprocess.run(
            [
                sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider",
                "-p", "scenarios.mutations.witness", "--witness", str(witness), "--arch", "all",
                "scenarios",
            ],
            cwd=ROOT, capture_output=True, text=True, check=False,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        if done.returncode != 0 or not witness.exists():
            raise MutationError(f"cannot collect the scenarios:\n{done.stdout[-2000:]}")
        return witness.read_text().splitlines()


@contextmanager
def _scratch_file() -> Iterator[Path]:
    with Cache().scratch("collect") as folder:
        yield folder / "names"
