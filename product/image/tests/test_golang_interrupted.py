"""A build of a Go program that ends early, by a signal or a full disk: no half of one counts."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from product.image.cache import Cache
from product.image.errors import CacheError, ImageError, ToolError
from product.image.golang.modules import GoModule
from product.image.golang.toolchain import Toolchain
from product.image.tests.go_proxy import GoProxy, make_module
from product.image.tools import host_arch

SECONDS = 120
_BUILD = """
import sys
from pathlib import Path
from product.image.cache import Cache
from product.image.golang.modules import GoModule
from product.image.tools import host_arch
folder, root, target = map(Path, sys.argv[1:])
GoModule(folder).build(Cache(root), host_arch(), ".", target)
"""


def _until(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not what():
        assert time.monotonic() < deadline, f"not within {SECONDS} s"
        time.sleep(0.05)


def _processes(word: str) -> list[str]:
    """Command lines that hold ``word``."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if word in line:
            found.append(line)
    return found


def test_a_build_that_was_ended_goes_on_at_the_next(
    tmp_path: Path, shelf: Cache, toolchain: Toolchain, proxy: GoProxy
) -> None:
    folder = make_module(tmp_path / "program", proxy)
    GoModule(folder).build(shelf, host_arch(), ".", tmp_path / "expected")
    # Nothing is compiled yet in this one.
    store = Cache(tmp_path / "store")
    (store.trees / toolchain.root.name).symlink_to(toolchain.root)
    target = tmp_path / "target"
    compiled = store.root / "go-build"
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        # Enough is left to do for a signal to come in time.
        shutil.rmtree(compiled, ignore_errors=True)
        before = len(list(compiled.glob("??/*-d")))
        process = subprocess.Popen(
            [sys.executable, "-c", _BUILD, folder, store.root, target],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            # Ignored where these tests were started in the background.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )  # fmt: skip
        _until(
            lambda start=before, one=process: (  # type: ignore[misc]
                one.poll() is not None or len(list(compiled.glob("??/*-d"))) > start + 2
            )
        )
        process.send_signal(number)
        assert process.wait(SECONDS) != 0
        assert not target.exists()
        _until(lambda: not _processes(str(store.root)))
    # It goes on: what was compiled is still there.
    assert list(compiled.glob("??/*-d"))
    GoModule(folder).build(store, host_arch(), ".", target)
    assert target.read_bytes() == (tmp_path / "expected").read_bytes()


class StandIn(Toolchain):
    """A Go command that only fails."""

    script = ""

    @property
    def go(self) -> Path:
        path = self.root / "go"
        path.write_text(f"#!/bin/sh\n{self.script}\n")
        path.chmod(0o755)
        return path


@pytest.mark.parametrize(
    ("script", "error", "words"),
    [
        (
            "echo 'write /x/go-build/1: no space left on device' >&2; exit 1", CacheError,
            "no space left on the disk",
        ),
        ("kill -9 $$", ToolError, "killed by signal 9"),
        ("echo 'fork/exec: cannot allocate memory' >&2; exit 2", ToolError, "allocate memory"),
    ],
    ids=["full", "killed", "no memory"],
)  # fmt: skip
def test_a_host_that_lacks_something_is_one_error(
    tmp_path: Path, store: Cache, monkeypatch: pytest.MonkeyPatch, script: str,
    error: type[ImageError], words: str,
) -> None:  # fmt: skip
    folder = make_module(tmp_path / "program", GoProxy(tmp_path / "proxy"))
    module = GoModule(folder)
    stand_in = StandIn(tmp_path, module.toolchain)
    monkeypatch.setattr(StandIn, "script", f'[ "$1" = build ] || exit 0; {script}')
    monkeypatch.setattr(Toolchain, "prepare", lambda *_args: stand_in)
    (tmp_path / "target").write_text("of an earlier build")
    with pytest.raises(error, match=words):
        module.build(store, host_arch(), ".", tmp_path / "target")
    assert (tmp_path / "target").read_text() == "of an earlier build"
    assert list(store.tmp.glob("go.*")) == []
    monkeypatch.setattr(StandIn, "script", script)
    with pytest.raises(ImageError, match=words):
        GoModule(folder).download(Cache(tmp_path / "another"))


def test_a_cache_that_cannot_be_written_is_one_error(
    tmp_path: Path, store: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = GoModule(make_module(tmp_path / "program", GoProxy(tmp_path / "proxy")))
    stand_in = StandIn(tmp_path, module.toolchain)
    monkeypatch.setattr(Toolchain, "prepare", lambda *_args: stand_in)
    (store.root / "go-mod").write_text("in the way")
    with pytest.raises(CacheError, match=f"cannot write the cache at {store.root}"):
        module.build(store, host_arch(), ".", tmp_path / "target")
    assert os.listdir(store.root / "blobs") == []
