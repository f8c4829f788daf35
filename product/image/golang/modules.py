"""A Go module below ``images/go``, fetched once and built for any architecture: the same bytes.

``go.sum`` locks what it is built from. Modules are fetched with the user's own configuration of Go
(GOPROXY, GOPRIVATE, GOAUTH and the like, from the environment or ``go env -w``) into ``go-mod`` of
the project's cache, which all modules share. Nothing of that configuration reaches a build: it has
no network and no C, and what it finds in the cache was compared with ``go.sum`` before.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from product.image import progress
from product.image.cache import Cache, digest_of, remove_tree, require_unchanged, tree_digest
from product.image.errors import CacheError, LockError, ToolError
from product.image.golang.diagnosis import Attempt, explain, redacted
from product.image.golang.run import Ended, run
from product.image.golang.toolchain import Toolchain, ToolchainLock
from product.image.golang.verified import Verified, escaped
from product.image.recipe import Arch
from product.image.tools import IMAGES, host_arch

# Bytes that depend on the sources alone, and nothing that would not be needed on a node.
_REPRODUCIBLE = ("-trimpath", "-buildvcs=false")
_LINKER = ("-s", "-w", "-buildid=")
# go.mod and go.sum are never changed; folders of the cache can be removed.
_GOFLAGS = "-mod=readonly -modcacherw"
# Settings of a user that say how programs are built, which nobody but this module does.
_NOT_THE_USERS = ("GOBIN", "GOCACHEPROG", "GODEBUG", "GOEXPERIMENT")
# A module of the cache that is not what go.sum, or its own checksum file, says.
_DAMAGED = re.compile(
    r"^(?:\S+: )?(?:verifying )?(?P<path>[\w.!/~-]+)[@ ](?P<version>v[\w.+-]+)(?:/go\.mod)?: "
    r"(?:checksum mismatch|dir has been modified|zip has been modified|missing ziphash)",
    re.M,
)
# A module that go.mod requires, in a line of its own or in a block.
_REQUIRED = re.compile(r"^(?:require)?\s+(\S+) v\S+(?: // indirect)?$", re.M)
# Raised when the same sources would give another program.
_REVISION = 1


class Change(NamedTuple):
    """A change of ``file``, named ``MODULE/FILE`` as in ``k8s.io/apiserver/pkg/server/config.go``.

    Each of ``replacements`` is a text of the file, the one that takes its place, and how often the
    first stands there: another number is an error, as the file is then not the one that was meant.
    """

    file: str
    replacements: tuple[tuple[str, str, int], ...]

    def applied(self, text: str) -> str:
        """``text`` changed. Raises ToolError."""
        for old, new, times in self.replacements:
            if (found := text.count(old)) != times:
                raise self.unfit(f"{old.strip()!r} stands there {found} times instead of {times}")
            text = text.replace(old, new)
        return text

    def unfit(self, why: str) -> ToolError:
        """The error for a file that the change does not fit."""
        return ToolError(
            f"the change of {self.file} does not fit: {why}",
            hint="look at the file in the version that go.mod names",
        )


class GoModule:
    """The module in ``folder``; ``modfile`` names another file than ``go.mod`` in it, such as
    ``tools.mod``, beside which ``tools.sum`` lies. Raises LockError where it is missing."""

    def __init__(
        self, folder: Path, modfile: str = "go.mod", *, toolchain: ToolchainLock | None = None
    ) -> None:
        self.folder = folder.absolute()
        self.modfile = self.folder / modfile
        self._lock = toolchain or ToolchainLock.load()
        self._fetched: set[Path] = set()
        for path in (self.folder / "go.mod", self.modfile):
            if not path.is_file():
                raise LockError(
                    f"{self.name} is no Go module that can be built: {path} is missing",
                    hint="restore it from version control",
                )

    @property
    def name(self) -> str:
        """The folder as people name it."""
        inside = self.folder.is_relative_to(IMAGES.parent)
        folder = self.folder.relative_to(IMAGES.parent) if inside else self.folder
        own = self.modfile.name == "go.mod"
        return str(folder) if own else f"{folder} ({self.modfile.name})"

    @property
    def toolchain(self) -> ToolchainLock:
        """What it is built with."""
        return self._lock

    @property
    def digest(self) -> str:
        """Names what its programs are built from: its files, the toolchain, the flags."""
        return digest_of(
            tree_digest(self.folder), self.modfile.name, self._lock.digest,
            _REPRODUCIBLE, _LINKER, _GOFLAGS, _REVISION,
        )  # fmt: skip

    def download(self, cache: Cache) -> None:
        """Bring all of its modules into the cache, unless they are there as ``go.sum`` says.

        What is damaged there is fetched again. Raises CacheError, DownloadError, LockError,
        ToolError.
        """
        if cache.root in self._fetched:
            return
        go = GoCommand(Toolchain.prepare(cache, self._lock), cache)
        verified = Verified(cache, go.modules, self.modfile)
        if not verified.holds():
            self._bring(go, cache)
            verified.remember()
        self._fetched.add(cache.root)

    def _bring(self, go: GoCommand, cache: Cache) -> None:
        with cache.lock("go-mod"), cache.scratch("go-mod") as work:
            # Go adds to go.sum what it lacks, here to a copy, so that the build finds it lacking.
            copy = Path(shutil.copytree(self.folder, work / "module"))
            self._compare(go, copy)

    def _compare(self, go: GoCommand, copy: Path) -> None:
        here = self._run(go, ["mod", "download"], go.offline(), cwd=copy)
        if here.status:
            go.remove_damaged(here.words)
            self._fetch(go, copy)
        checked = self._run(go, ["mod", "verify"], go.offline(), cwd=copy)
        if checked.status and go.remove_damaged(checked.words):
            progress.note(f"the cache held damaged modules, fetched again: {checked.words}")
            self._fetch(go, copy)
            checked = self._run(go, ["mod", "verify"], go.offline(), cwd=copy)
        if checked.status:
            raise explain(self.attempt("check the Go modules in the cache"), checked)

    def _fetch(self, go: GoCommand, copy: Path) -> None:
        with progress.step(f"download the Go modules of {self.name}"):
            ended = self._run(
                go, ["mod", "download", "-x"], go.online(), cwd=copy, counted="modules fetched"
            )
            if ended.status:
                what = f"fetch the Go modules of {self.name}"
                raise explain(self.attempt(what, go.proxy(copy)), ended)

    def build(
        self, cache: Cache, arch: Arch, package: str, target: Path, *, what: str = "",
        tags: Iterable[str] = (), variables: Iterable[str] = (),
        changes: Iterable[Change] = (),
    ) -> None:  # fmt: skip
        """Build ``package`` (``./cmd/x``, or an import path) for ``arch`` into the file ``target``.

        ``variables`` are the linker's NAME=VALUE, ``changes`` those of files of the modules that it
        is made from. The target appears as a whole or not at all. Raises CacheError, DownloadError,
        LockError, ToolError.
        """
        before = self.digest
        self.download(cache)
        go = GoCommand(Toolchain.prepare(cache, self._lock), cache)
        linker = " ".join([*_LINKER, *(f"-X={one}" for one in variables)])
        shown = what or target.name
        part = target.with_name(f".{target.name}.part")
        with progress.step(f"compile {shown} for {arch}"), cache.scratch("go") as work:
            environment = go.offline(arch, work)
            flags = ["-v", *_REPRODUCIBLE, "-tags", ",".join(tags), "-ldflags", linker]
            if changes := tuple(changes):
                environment["GOMODCACHE"] = str(self._changed(go, work / "mod", changes))
            command = ["build", *flags, "-o", str(part), package]
            ended = self._run(go, command, environment, cwd=self.folder)
            if ended.status:
                part.unlink(missing_ok=True)
                raise explain(self.attempt(f"build {shown} for {arch}"), ended)
        require_unchanged(before, self.digest)
        part.replace(target)

    def query(self, go: GoCommand, *args: str, environment: Mapping[str, str]) -> str:
        """What a Go command prints that is run in the module's folder. Raises as ``build``."""
        ended, printed = go.ask(self.folder, self.with_modfile(args), environment)
        if ended.status:
            raise explain(self.attempt(f"read the Go modules of {self.name}"), ended)
        return printed

    def _changed(self, go: GoCommand, target: Path, changes: Iterable[Change]) -> Path:
        """A cache of modules whose files have the ``changes``, else links to this one.

        Go's own ``-overlay`` takes no file of a module that was fetched, and a ``replace`` would
        have the program name the replacement. Raises ToolError.
        """
        named = _REQUIRED.findall(self.modfile.read_text())
        target.mkdir()
        _link_all(go.modules, target)
        for change in changes:
            found = [path for path in named if change.file.startswith(f"{path}/")]
            if not found:
                raise change.unfit("go.mod names no such module")
            module = max(found, key=len)
            where = self.query(go, "list", "-m", "-f", "{{.Dir}}", module, environment=go.offline())
            folder = Path(where.strip())
            inside = change.file.removeprefix(f"{module}/")
            if not folder.is_relative_to(go.modules) or not (folder / inside).is_file():
                raise change.unfit(f"{module} has no such file")
            place = _own_copy(folder.relative_to(go.modules), go.modules, target) / inside
            text = change.applied((folder / inside).read_text())
            place.unlink()
            place.write_text(text)
        return target

    def _run(
        self, go: GoCommand, args: list[str], environment: Mapping[str, str], *, cwd: Path,
        counted: str = "packages compiled",
    ) -> Ended:  # fmt: skip
        command: list[str | Path] = [go.path, *self.with_modfile(args)]
        return run(command, cwd=cwd, environment=environment, counted=counted)

    def with_modfile(self, args: Iterable[str]) -> list[str]:
        """``go mod`` and ``go list`` take the flag after the words that name the command."""
        words = list(args)
        if self.modfile.name == "go.mod":
            return words
        at = 2 if words[0] == "mod" else 1
        return [*words[:at], f"-modfile={self.modfile.name}", *words[at:]]

    def attempt(self, what: str, proxy: str = "off") -> Attempt:
        """What is tried with this module, for an error."""
        return Attempt(what, self.name.partition(" ")[0], self._lock.version, proxy)


class GoCommand:
    """The Go command with the caches of this project."""

    def __init__(self, toolchain: Toolchain, cache: Cache) -> None:
        self._toolchain = toolchain
        self._cache = cache
        self.modules = cache.root / "go-mod"
        try:
            for folder in (self.modules, cache.root / "go-build"):
                folder.mkdir(exist_ok=True)
        except OSError as error:
            raise CacheError(f"cannot write the cache at {cache.root}: {error.strerror}") from None

    @property
    def path(self) -> Path:
        """The program."""
        return self._toolchain.go

    def offline(self, arch: Arch | None = None, work: Path | None = None) -> dict[str, str]:
        """For a command that needs no network: nothing of the host or the user counts."""
        return {
            "PATH": "/usr/bin:/bin",
            "LC_ALL": "C.UTF-8",
            **self._settings(arch or host_arch()),
            "GOENV": "off",
            "GOPROXY": "off",
            "GOSUMDB": "off",
            **({"GOTMPDIR": str(work)} if work else {}),
        }

    def online(self) -> dict[str, str]:
        """For a command that fetches: the user's environment, and settings from ``go env -w``."""
        users = {name: value for name, value in os.environ.items() if name not in _NOT_THE_USERS}
        return {**users, **self._settings(host_arch()), "LC_ALL": "C.UTF-8"}

    def _settings(self, arch: Arch) -> dict[str, str]:
        return {
            "GOROOT": str(self._toolchain.root),
            # Holds what the checksum database has signed.
            "GOPATH": str(self._cache.root / "go-path"),
            "GOMODCACHE": str(self.modules),
            "GOCACHE": str(self._cache.root / "go-build"),
            "GOFLAGS": _GOFLAGS,
            "GOTOOLCHAIN": "local",
            "GOWORK": "off",
            "GO111MODULE": "on",
            "GOOS": "linux",
            "GOARCH": arch.debian,
            "CGO_ENABLED": "0",
        }

    def proxy(self, cwd: Path) -> str:
        """The user's GOPROXY, without passwords."""
        ended, printed = self.ask(cwd, ["env", "GOPROXY"], self.online())
        return redacted(printed.strip()) if not ended.status else "unknown"

    def ask(
        self, cwd: Path, args: Iterable[str], environment: Mapping[str, str]
    ) -> tuple[Ended, str]:
        """Run a command to its end; how it ended, and what it printed."""
        result = subprocess.run(
            [self.path, *args], stdin=subprocess.DEVNULL, capture_output=True, text=True,
            errors="replace", cwd=cwd, env=dict(environment), check=False,
        )  # fmt: skip
        return Ended(result.returncode, result.stderr.strip()), result.stdout

    def remove_damaged(self, words: str) -> bool:
        """Remove from the cache what ``words`` of Go call damaged; whether it was anything."""
        found = {(one["path"], one["version"]) for one in _DAMAGED.finditer(words)}
        for path, version in found:
            remove_tree(self.folder(path, version))
            below = self.modules / "cache/download" / escaped(path) / "@v"
            for file in below.glob(f"{escaped(version)}.*"):
                file.unlink(missing_ok=True)
        return bool(found)

    def folder(self, path: str, version: str) -> Path:
        """Where the files of a module lie in the cache."""
        return self.modules / f"{escaped(path)}@{escaped(version)}"


def _link_all(source: Path, target: Path) -> None:
    """Links in ``target`` to what lies in ``source``."""
    for path in source.iterdir():
        (target / path.name).symlink_to(path)


def _own_copy(name: Path, source: Path, target: Path) -> Path:
    """The folder ``name`` below ``target``, a copy of that below ``source``, all else links."""
    here = target
    for part in name.parts:
        here = here / part
        if here.is_symlink():
            original = source / here.relative_to(target)
            here.unlink()
            if here == target / name:
                shutil.copytree(original, here, symlinks=True)
            else:
                here.mkdir()
                _link_all(original, here)
    return here
