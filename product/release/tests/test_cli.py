"""``kubesolo-release`` from the first key to a verified repository, and its users' mistakes."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from product.release.cli import main
from product.release.keys import KeyDirectory
from product.release.repository import Repository
from product.release.tests.slotfiles import make_slot


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_slot(tmp_path / "slot", "0.2.0")


@pytest.mark.usefixtures("run")
def test_the_whole_way(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["keys", "keys", "--count", "root=2"]) == 0
    assert main(["init", "repo", "--keys", "keys", "--threshold", "root=2"]) == 0
    assert main(["publish", "repo", "slot", "--keys", "keys", "--notes", "first"]) == 0
    assert main(["rotate", "repo", "root", "--keys", "keys"]) == 0
    assert main(["refresh", "repo", "--keys", "keys", "--role", "targets"]) == 0
    capsys.readouterr()
    assert main(["verify", "repo"]) == 0
    out = capsys.readouterr().out
    assert "stable/x86_64/manifest.json  0.2.0  x86_64" in out
    assert out.count("valid until") == 4


@pytest.mark.usefixtures("run")
def test_what_was_not_built_as_locked_is_published_on_request(
    capsys: pytest.CaptureFixture[str],
) -> None:
    make_slot(Path("drifted"), "0.3.0", drift=("appliance: libc6 1 -> libc6 2",))
    assert main(["keys", "keys"]) == 0
    assert main(["init", "repo", "--keys", "keys"]) == 0
    publish = ["publish", "repo", "drifted", "--keys", "keys"]
    assert main(publish) == 1
    error = capsys.readouterr().err
    assert "drifted was not built from what is locked, 1 packages are others: appliance:" in error
    assert "--allow-drift" in error
    assert main([*publish, "--allow-drift"]) == 0
    assert "not as locked: appliance: libc6 1 -> libc6 2" in capsys.readouterr().out
    assert main(["verify", "repo"]) == 0
    assert "manifest.json  not as locked: 1 packages are others" in capsys.readouterr().out


@pytest.mark.usefixtures("run")
@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["publish", "repo", "slot"], 2, "--keys"),
        (["frobnicate"], 2, "frobnicate"),
        (["keys", "keys"], 1, "exists already"),
        (["keys", "more", "--count", "root"], 1, "ROLE=NUMBER"),
        (["init", "repo", "--keys", "keys"], 1, "already holds a repository"),
        (["init", "new", "--keys", "none"], 1, "no key directory"),
        (["publish", "none", "slot", "--keys", "keys"], 1, "not a release repository"),
        (["publish", "repo", "none", "--keys", "keys"], 1, "not a directory of slot files"),
        (["publish", "repo", "slot", "--keys", "keys", "--channel", "A B"], 1, "malformed"),
        (["publish", "repo", "slot", "--keys", "keys", "--expires", "2020-01-01"], 1, "has passed"),
        (["refresh", "repo", "--keys", "keys", "--expires", "2020-01-01"], 1, "has passed"),
        (["publish", "repo", "slot", "--keys", "keys", "--rollout", "101"], 1, "0 to 100"),
        (["rollout", "repo", "10", "--keys", "keys"], 1, "no release of the channel 'stable'"),
        (["pause", "repo", "--keys", "keys", "--channel", "beta"], 1, "'beta'"),
        (["withdraw", "repo", "--keys", "keys", "--architecture", "riscv"], 1, "for riscv"),
        (["promote", "repo", "--keys", "keys", "--from", "a", "--to", "a"], 1, "to itself"),
        (["prune", "repo", "--keep", "0"], 1, "at least 1"),
        (["prune", "none"], 1, "none"),
        (["root", "export", "repo", "keys/root.pem", "--keys", "keys"], 1, "exists already"),
        (["root", "export", "repo", "n", "--keys", "keys", "--add", "root"], 1, "ROLE=FILE"),
        (["root", "export", "repo", "n", "--keys", "keys", "--threshold", "root=2"], 1, "1 keys"),
        (["root", "sign", "none", "--keys", "keys"], 1, "cannot read none"),
        (["root", "sign", "slot/vmlinuz", "--keys", "keys"], 1, "is no root metadata"),
        (["root", "merge", "repo", "repo/metadata/1.root.json", "--keys", "keys"], 1, "version 1"),
        (["rotate", "repo", "mirror", "--keys", "keys"], 1, "no role 'mirror'"),
        (["refresh", "repo", "--keys", "keys", "--role", "mirror"], 1, "cannot refresh"),
        (["verify", "slot"], 1, "not a release repository"),
        (["keys", "/proc/keys"], 1, "/proc/keys"),
        (["init", "slot/vmlinuz", "--keys", "keys"], 1, "cannot make the repository"),
    ],
)
def test_mistakes_get_one_clear_error(
    capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, words: str
) -> None:
    assert main(["keys", "keys"]) == 0
    assert main(["init", "repo", "--keys", "keys"]) == 0
    capsys.readouterr()
    assert main(arguments) == code
    err = capsys.readouterr().err
    assert words in err
    assert "Traceback" not in err


@pytest.mark.usefixtures("run")
def test_problems_make_verify_fail(capsys: pytest.CaptureFixture[str]) -> None:
    main(["keys", "keys"])
    main(["init", "repo", "--keys", "keys"])
    Repository.open(Path("repo"), KeyDirectory(Path("keys"))).refresh(
        expires=datetime(2020, 1, 1, tzinfo=UTC)
    )
    assert main(["verify", "repo"]) == 1
    assert "timestamp metadata expired on 2020-01-01" in capsys.readouterr().err
