"""``kubesolo-release`` from the first key to a verified repository, and its users' mistakes."""

from __future__ import annotations

from pathlib import Path

import pytest

from product.release.cli import main
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
    main(["publish", "repo", "slot", "--keys", "keys", "--expires", "2020-01-01"])
    assert main(["verify", "repo"]) == 1
    assert "timestamp metadata expired on 2020-01-01" in capsys.readouterr().err
