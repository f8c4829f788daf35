"""Sign what scenarios found on a board: ``./noxw -s signoff -- --lg-env lab.yaml --keys KEYS``.

Runs every scenario that the board's abilities allow. The folder gets ``signoff.json``, the report
and the evidence, ``SHA256SUMS`` of the first two and its signature by the key for downloads, which
``kubesolo-release verify-download FOLDER --key KEY`` checks. After a failure nothing is signed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from product.errors import KubesoloError
from product.publish.matrix import MatrixReport
from product.release import sshsig
from product.release.downloads import (
    SIGNATURE,
    SIGNERS,
    SUMS,
    signers_text,
    signing_key,
    sums_text,
)
from product.release.keys import KeyDirectory
from product.release.storage import sha256_file
from scenarios.command_line import guarded

NAME = "signoff.json"
PAGE = "report.html"
FOLDER = Path("out/signoff")


class SignoffError(KubesoloError):
    """There is nothing to sign."""


class Signoff(BaseModel):
    """What ran on which board: ``board`` as its lab's file names it, ``abilities`` sorted, ``run``
    as a release's reports have it, with each scenario that was skipped and why."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    board: str
    abilities: tuple[str, ...]
    run: MatrixReport

    def dump(self) -> str:
        """The file's text."""
        return json.dumps(self.model_dump(mode="json"), indent=1, sort_keys=True) + "\n"


def load(folder: Path) -> Signoff:
    """What a run left in ``folder``. Raises SignoffError."""
    path = folder / NAME
    try:
        return Signoff.model_validate_json(path.read_bytes())
    except OSError as error:
        raise SignoffError(
            f"{path} cannot be read: {error.strerror}", hint="the run did not come to its end"
        ) from None
    except ValidationError as error:
        raise SignoffError(f"{path} is no report on a board: {error}") from None


def require_passed(found: Signoff) -> None:
    """Raise SignoffError unless something passed, and nothing failed or was not begun."""
    run = found.run
    ended_early = [test for test in run.not_run if run.not_run[test] == "the run ended before it"]
    if wrong := [*run.failed, *ended_early]:
        raise SignoffError(
            f"nothing is signed: of {len(wrong)} scenarios that failed or did not run the first is "
            f"{wrong[0]}: {run.failed.get(wrong[0], 'the run ended before it')}",
            hint=f"the report has all of them: {PAGE}",
        )
    if not run.passed:
        raise SignoffError(
            f"nothing is signed: no scenario passed on {found.board}, {len(run.skipped)} were "
            "skipped",
            hint="the reasons are in the report; does the lab's file bind the drivers?",
        )


def withdraw(folder: Path) -> None:
    """Remove what an earlier run signed."""
    for name in (NAME, PAGE, SUMS, SIGNATURE, SIGNERS):
        (folder / name).unlink(missing_ok=True)


def sign(folder: Path, keys: KeyDirectory) -> Signoff:
    """Sign the report on a run in which nothing failed. Raises SignoffError, KeyFileError."""
    key = signing_key(keys)
    found = load(folder)
    require_passed(found)
    files = [name for name in (NAME, PAGE) if (folder / name).is_file()]
    text = sums_text({name: sha256_file(folder / name) for name in files})
    (folder / SUMS).write_text(text)
    (folder / SIGNATURE).write_text(sshsig.sign(key, text.encode()))
    (folder / SIGNERS).write_text(signers_text(key.public_key()))
    return found


def told(found: Signoff) -> list[str]:
    """What the user reads: counts, and why scenarios were skipped, the most frequent first."""
    run = found.run
    lines = [
        f"{found.board} can {', '.join(found.abilities)}",
        f"{len(run.passed)} scenarios passed, {len(run.skipped)} were skipped, "
        f"{len(run.not_run)} were left out; commit {run.commit or 'unknown'}"
        + (", with changes" if run.dirty else ""),
    ]
    reasons = Counter(run.skipped.values())
    return lines + [f"  {count} skipped: {reason}" for reason, count in reasons.most_common()]


def arguments(words: Sequence[str] | None = None) -> tuple[argparse.Namespace, list[str]]:
    """Our options, and those of pytest."""
    parser = argparse.ArgumentParser(prog="./noxw -s signoff --", description=__doc__)
    parser.add_argument("--lg-env", type=Path, required=True, help="labgrid's environment file")
    parser.add_argument(
        "--keys", type=Path, required=True, help="release keys; that for downloads signs"
    )
    parser.add_argument("--output", type=Path, default=FOLDER, help=f"folder (default: {FOLDER})")
    return parser.parse_known_args(words)


def main(words: Sequence[str] | None = None) -> None:
    """Run, and sign. Raises SignoffError."""
    options, more = arguments(words)
    keys = KeyDirectory(options.keys)
    # An hour on a board is too late to learn that.
    signing_key(keys)
    options.output.mkdir(parents=True, exist_ok=True)
    withdraw(options.output)
    paths = [] if any(Path(word.split("::")[0]).exists() for word in more) else ["scenarios"]
    command: list[Any] = [
        sys.executable, "-m", "pytest", "-n", "0", "-m", "scenario", "--backend", "lab",
        "--lg-env", options.lg_env, "--artefacts", options.output, *paths, *more,
    ]  # fmt: skip
    status = subprocess.run(list(map(str, command)), check=False).returncode
    found = load(options.output)
    require_passed(found)
    if status:
        raise SignoffError(f"nothing is signed: pytest ended with {status}")
    sign(options.output, keys)
    print("\n".join(told(found)))
    public = options.keys / "downloads.pub.pem"
    print(f"signed: {options.output / NAME}; check it with")
    print(f"  kubesolo-release verify-download {options.output} --key {public}")


if __name__ == "__main__":
    sys.exit(guarded(main))
