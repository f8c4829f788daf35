"""``python -m scenarios.fuzz``: feed every reader of foreign bytes with what might break it.

Exit status 0 where all readers ended well, 1 where one did not, 2 for wrong usage. What coverage
led to is kept in the cache and goes on from there; an input that broke a reader is kept as a file.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from product.errors import KubesoloError
from product.image.cache import Cache
from scenarios.command_line import guarded
from scenarios.fuzz.targets import PLANTED, TARGETS, Target

ROOT = Path(__file__).resolve().parents[2]
# Inputs that once broke a reader, by target: unit tests read them for ever.
KEPT = ROOT / "fixtures/fuzz"
OUT = ROOT / "out/fuzz"
# libFuzzer ends an input that takes longer, in seconds, or a process that grows beyond so many MB.
SLOWEST, LARGEST = 5, 1024
_DONE = re.compile(r"^(?:Done |#)(\d+)\s?(?:runs|DONE| *\w+)", re.M)
_COVERED = re.compile(r"cov: (\d+)")
_BROKEN = re.compile(r"^ === Uncaught Python exception: ===\n(.*)", re.M)

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


class FuzzError(KubesoloError):
    """The fuzzer cannot run, or was told something wrong."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Ended:
    """How one target did; ``fault`` and ``input`` are empty where it ended well."""

    runs: int
    covered: int
    seconds: float
    fault: str = ""
    input: Path | None = None


@app.command()
def main(
    word: Annotated[
        list[str] | None, typer.Option("-k", help="Targets whose name contains this.")
    ] = None,
    runs: Annotated[int, typer.Option(min=1, help="Inputs for each target.")] = 1_000_000,
    minutes: Annotated[
        float | None, typer.Option(help="At most so many minutes for each target.")
    ] = None,
    given: Annotated[
        Path | None, typer.Option("--input", help="Run this one input through the target.")
    ] = None,
    listing: Annotated[bool, typer.Option("--list", help="Name the targets.")] = False,
) -> None:
    """Feed the readers of foreign bytes with a million inputs each."""
    chosen = _chosen(word or [])
    if listing:
        for target in chosen:
            print(target.name)
        return
    if given is not None:
        _repeat(chosen, given)
        return
    _require_atheris()
    _require_the_planted_fault()
    broken = False
    for target in chosen:
        print(f"> {target.name}", flush=True)
        ended = fuzz(target, runs, minutes)
        said = f"{ended.runs} inputs, {ended.covered} places covered, {ended.seconds:.0f} s"
        if not ended.fault:
            print(f"  {target.name}: {said}")
            continue
        broken = True
        print(f"  {target.name}: BROKEN after {said}: {ended.fault}")
        print(f"  again: ./noxw -s fuzz -- -k {target.name} --input {ended.input}")
    raise typer.Exit(1 if broken else 0)


def _chosen(words: Sequence[str]) -> list[Target]:
    found = [t for t in TARGETS.values() if not words or any(word in t.name for word in words)]
    if not found:
        raise FuzzError(
            f"no target's name contains {' or '.join(words)}", hint="--list names them all"
        )
    return found


def _repeat(chosen: Sequence[Target], path: Path) -> None:
    if len(chosen) != 1:
        raise FuzzError("--input is for one target", hint="choose it by its whole name: -k NAME")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise FuzzError(f"cannot read {path}: {error.strerror}") from None
    chosen[0].run(data)
    print(f"{chosen[0].name} ends well with {path}")


def _require_atheris() -> None:
    try:
        import atheris  # noqa: F401
    except ImportError:
        raise FuzzError(
            "atheris is missing: it exists for x86_64 and Python 3.11 to 3.13",
            hint="run ./noxw -s fuzz on such a machine",
        ) from None


def _require_the_planted_fault() -> None:
    """A session that cannot find it would find nothing."""
    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder, "corpus")
        ended = fuzz(PLANTED, 1_000_000, 5.0, corpus=corpus, out=Path(folder, "out"))
    if "the planted fault" not in ended.fault:
        raise FuzzError(
            f"the fuzzer did not find a planted fault in {ended.runs} inputs "
            f"({ended.fault or 'it ended well'}): what it says of others counts for nothing"
        )


def fuzz(
    target: Target, runs: int, minutes: float | None = None, *, corpus: Path | None = None,
    out: Path = OUT,
) -> Ended:  # fmt: skip
    """Feed one target from ``corpus``, by default the cache's, which grows."""
    corpus = corpus or Cache().root / "fuzz" / target.name
    corpus.mkdir(parents=True, exist_ok=True)
    for seed in seeds(target):
        (corpus / hashlib.sha256(seed).hexdigest()[:16]).write_bytes(seed)
    place = out / target.name
    place.mkdir(parents=True, exist_ok=True)
    limits = [f"-max_total_time={int(minutes * 60)}"] if minutes else []
    command = [
        sys.executable, "-m", "scenarios.fuzz.work", target.name, f"-runs={runs}",
        f"-max_len={target.longest}", f"-timeout={SLOWEST}", f"-rss_limit_mb={LARGEST}",
        f"-artifact_prefix={place}/", "-print_final_stats=1", *limits, str(corpus),
    ]  # fmt: skip
    begun = time.monotonic()
    before = set(place.iterdir())
    # Both of its streams, in order: what an exception says comes before libFuzzer's words.
    result = subprocess.run(
        command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, errors="replace", check=False,
    )  # fmt: skip
    log = place / "log"
    log.write_text(result.stdout)
    done = [int(number) for number in _DONE.findall(result.stdout)]
    covered = [int(number) for number in _COVERED.findall(result.stdout)]
    ended = Ended(max(done, default=0), max(covered, default=0), time.monotonic() - begun)
    if result.returncode == 0:
        return ended
    found = sorted(set(place.iterdir()) - before - {log})
    said = _BROKEN.search(result.stdout)
    tail = result.stdout.strip().splitlines()[-1:] or [f"exit status {result.returncode}"]
    fault = said[1] if said else f"{tail[0]} (see {log})"
    return Ended(ended.runs, ended.covered, ended.seconds, fault, found[0] if found else log)


def seeds(target: Target) -> Iterator[bytes]:
    """What the target begins with: its own inputs, and those that once broke it."""
    yield from target.seeds
    for path in sorted((KEPT / target.name).glob("*")):
        yield path.read_bytes()


def entry() -> int:
    """The command line: an exit status, or SystemExit with one."""
    return guarded(app)


if __name__ == "__main__":
    sys.exit(entry())
