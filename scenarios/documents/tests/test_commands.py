"""Every command of every page is held by something, and those that can run here do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from product.image.cache import default_root
from scenarios.documents import parsers
from scenarios.documents.claims import Claim, Hold, claim_of, hold, is_test, read_claims
from scenarios.documents.commands import Line, lines, named_commands, split
from scenarios.documents.errors import DocumentError
from scenarios.documents.pages import ROOT, Page, kept_pages, parse_page

PAGES = list(kept_pages())
CLAIMS = read_claims()
# What a sandbox's commands are, as PATH has them where the project is installed.
PROGRAMS = f"""set -eu
umask 077
{
    "".join(
        f'{name}() {{ PYTHONPATH={ROOT} "{sys.executable}" -m {entry} "$@"; }}' + chr(10)
        for name, entry in (
            ("kubesolo-config", "scenarios.documents.tests.config"),
            ("kubesolo-release", "product.release"),
        )
    )
}"""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_is_held(page: Page) -> None:
    for line in lines(page):
        hold(line, CLAIMS)
    for line in named_commands(page):
        for words in line.commands():
            try:
                parsers.check(words)
            except DocumentError as error:
                raise DocumentError(f"{line.where}: `{line.text}`: {error.message}") from error


def test_pages_have_commands_of_every_hold() -> None:
    holds = [hold(line, CLAIMS) for page in PAGES for line in lines(page)]
    assert len(holds) > 100
    assert set(holds) == set(Hold)
    # What nothing but a person can run stays the exception.
    assert holds.count(Hold.BY_HAND) < 5


def test_every_claim_fits_a_command_and_names_a_test() -> None:
    everything = [line for page in PAGES for line in lines(page)]
    for claim in CLAIMS:
        assert any(claim_of(line, CLAIMS) is claim for line in everything), claim
        if claim.test:
            assert is_test(claim.test), claim.test


@pytest.mark.parametrize(
    "page", [page for page in PAGES if any(c.run and c.page == page.name for c in CLAIMS)],
    ids=lambda page: page.name,
)  # fmt: skip
def test_what_can_run_here_runs(page: Page, tmp_path: Path) -> None:
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    for name in ("noxw", "noxfile.py", "requirements"):
        (tmp_path / name).symlink_to(ROOT / name)
    run = [line.text for line in lines(page) if (claim := claim_of(line, CLAIMS)) and claim.run]
    assert run
    for command in run:
        done = subprocess.run(
            ["bash", "-c", PROGRAMS + command], cwd=tmp_path, capture_output=True, text=True,
            timeout=600, check=False,
            env={"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(tmp_path),
                 "KUBESOLO_CACHE": str(default_root()),
                 "PYTHON": str(Path(sys.base_prefix) / "bin/python3"), "COLUMNS": "100"},
        )  # fmt: skip
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("kubesolo-update logs usb", "takes nothing like 'usb'"),
        ("kubesolo-update aply", "no command 'aply'"),
        ("kubesolo-update apply --forced", "no option --forced"),
        ("kubesolo-config validate --anotate FILE", "no option --anotate"),
        ("kubesolo-config vlidate FILE", "no command 'vlidate'"),
        ("kubesolo-release publich repository", "no command 'publich'"),
        ("kubesolo-release root sing next.json", "no command 'sing'"),
        ("kubesolo-release publish repository slot --chanel beta", "No such option: --chanel"),
        ("kubesolo-image build --outputt disk.img", "No such option: --outputt"),
        ("kubesolo-image build disk.img", "takes nothing like 'disk.img'"),
        ("./noxw -s imge", "no session imge"),
        ("./noxw -s image -- --outputt disk.img", "No such option: --outputt"),
        ("./noxw -s scenarios -- --archh x86_64", "no option --archh"),
        ("./noxw -s mutate -- --stall", "No such option: --stall"),
        ("./noxw -s lint -- --fix", "takes nothing behind --"),
        ("./noxw --verbos", "--verbos"),
        ("python -m product.manifests --sever x", "no option --sever"),
    ],
)
def test_a_command_that_would_fail_is_found(words: str, reason: str) -> None:
    with pytest.raises(DocumentError, match=reason.replace("'", ".")):
        parsers.check(words.split())


def test_a_line_is_split_as_a_shell_does() -> None:
    text = "A=1 one -x 'a b' | two > file && three \"$(four | five)\"; six 2> /dev/null # seven"
    assert split(text) == [["one", "-x", "a b"], ["two"], ["three", "$(four | five)"], ["six"]]


def test_lines_are_those_that_one_would_type() -> None:
    page = parse_page(
        "x.md", "```sh\n# no\none \\\n    two\n\nthree\n```\n\n```yaml\nfour: 5\n```\n"
    )
    assert [(line.number, line.text) for line in lines(page)] == [(3, "one     two"), (6, "three")]


def test_what_nothing_holds_is_one_error() -> None:
    page = parse_page("x.md", "```\nrm -rf data\n```\n")
    [line] = lines(page)
    with pytest.raises(DocumentError, match=r"x\.md:2: nothing holds the command .rm -rf data."):
        hold(line, ())
    assert hold(line, (Claim(command="rm .*", by_hand="why"),)) is Hold.BY_HAND


def test_a_claim_does_not_excuse_an_option_that_is_none() -> None:
    line = Line("x.md", 1, "sh", "kubesolo-release refresh repository --key keys")
    with pytest.raises(DocumentError, match=r"x\.md:1: .*--key"):
        hold(line, (Claim(page="x.md", run=True),))


@pytest.mark.parametrize("fields", [{}, {"run": True, "test": "a::b"}, {"by_hand": "why"}])
def test_a_claim_says_one_thing_of_something(fields: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="a claim"):
        Claim.model_validate(fields)


def test_a_test_that_is_gone_is_none() -> None:
    here = "scenarios/documents/tests/test_commands.py"
    assert is_test(f"{here}::test_a_test_that_is_gone_is_none")
    assert not is_test(f"{here}::test_gone")
    assert not is_test("scenarios/gone.py::test_gone")
