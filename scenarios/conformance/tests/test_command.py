"""The command itself, up to the machine."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from product.errors import KubesoloError
from scenarios.conformance.__main__ import app


def invoke(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, list(words))
    if done.exception and not isinstance(done.exception, SystemExit):
        assert isinstance(done.exception, KubesoloError)
        return done.exception.exit_code, done.exception.message
    return done.exit_code, done.output


def test_it_lists_what_it_would_run() -> None:
    status, said = invoke("--list", "--focus", "ConfigMap", "--limit", "3")
    assert status == 0
    lines = said.splitlines()
    assert len(lines) == 3
    assert all("ConfigMap" in line for line in lines)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--limit", "0"], "Invalid value for '--limit'"),
        (["--limit", "many"], "Invalid value for '--limit'"),
        (["--minutes", "0"], "Invalid value for '--minutes'"),
        (["--arch", "mips"], "'mips' is not one of"),
        (["--focus", "no such test"], "is found in no name of the"),
        (["--focus", "["], "is no regular expression"),
        (["--unknown"], "No such option"),
    ],
)
def test_bad_input_is_refused(words: list[str], message: str) -> None:
    status, said = invoke("--list", *words)
    assert status == 2
    assert message in " ".join(said.replace("│", " ").split())
