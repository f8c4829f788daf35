"""Pictures and reference are what their sources give, and the site's rules hold."""

from __future__ import annotations

import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from product.agent.records.state import TRANSITIONS, Phase
from product.agent.update.gates import GATES, Gate
from scenarios.documents import __main__ as command
from scenarios.documents import reference
from scenarios.documents.errors import DocumentError
from scenarios.documents.pages import DOCS, ROOT
from scenarios.documents.pictures import PICTURES, phases, update
from scenarios.documents.pictures.canvas import Canvas
from scenarios.documents.site import on_config, on_page_markdown

SITE = yaml.safe_load((ROOT / "mkdocs.yml").read_text())


@pytest.mark.parametrize("path", PICTURES, ids=lambda path: path.name)
def test_a_picture_is_what_its_sources_give(path: Path) -> None:
    assert path.read_text() == PICTURES[path]()


@pytest.mark.parametrize("path", PICTURES, ids=lambda path: path.name)
def test_a_picture_stands_alone_and_has_a_dark_scheme(path: Path) -> None:
    text = path.read_text()
    root = ET.fromstring(text)
    assert root.get("aria-label")
    assert "prefers-color-scheme: dark" in text
    assert re.findall(r"https?://[^\"]*", text) == ["http://www.w3.org/2000/svg"]
    light, dark = text.split("@media")
    defined = [set(re.findall(r"(--[\w-]+):", part)) for part in (light, dark)]
    assert defined[0] == defined[1] >= set(re.findall(r"var\((--[\w-]+)\)", text))


def test_the_reference_is_what_the_parsers_give() -> None:
    assert (DOCS / "reference.md").read_text() == reference.render()


def test_the_reference_has_commands_of_every_program() -> None:
    text = reference.render()
    for words in ("kubesolo-update rollback", "kubesolo-config render", "kubesolo-image flash",
                  "kubesolo-release root merge"):  # fmt: skip
        assert f"### {words}\n" in text
    assert "| `--annotate` | print FILE with its errors marked |" in text
    assert "| `docs` | Check the documents" in text


def test_a_phase_or_a_step_without_a_place_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TRANSITIONS, Phase.STAGED, TRANSITIONS[Phase.STAGED] | {Phase.SUCCESS})
    with pytest.raises(ValueError, match="steps without a place"):
        phases.draw()


def test_a_step_that_is_gone_leaves_the_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    before = phases.draw()
    monkeypatch.setitem(TRANSITIONS, Phase.SUCCESS, frozenset({Phase.CHECKING}))
    assert phases.draw() != before


def test_the_picture_of_an_update_has_the_gates_that_are_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for gate in GATES:
        assert f">{gate.name}<" in update.draw()
    monkeypatch.setattr(update, "GATES", (*GATES, Gate("moon", GATES[0].judge)))
    assert "12 gates" in update.draw()
    assert ">moon<" in update.draw()


def test_text_that_does_not_fit_and_boxes_that_overlap_are_errors() -> None:
    canvas = Canvas(200, 100, "")
    with pytest.raises(ValueError, match="wider"):
        canvas.box(10, 10, 60, 40, ["much too long a text"])
    canvas.box(80, 10, 60, 40, ["one"])
    with pytest.raises(ValueError, match="over another"):
        canvas.box(130, 20, 60, 40, ["two"])
    with pytest.raises(ValueError, match="higher"):
        canvas.box(10, 60, 60, 20, ["one", "two"])
    with pytest.raises(ValueError, match="leaves the sheet"):
        canvas.text(150, 90, "out of the sheet")


def test_the_check_names_every_fault(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    stale = tmp_path / "a.svg"
    monkeypatch.setattr(command, "ROOT", tmp_path)
    monkeypatch.setattr(command, "PICTURES", {stale: lambda: "new"})
    monkeypatch.setattr(command, "every_page", lambda: ())
    monkeypatch.setattr(command, "kept_pages", lambda: ())
    monkeypatch.setattr(reference, "TARGET", tmp_path / "reference.md")
    for content in (None, "old"):
        if content:
            stale.write_text(content)
        with pytest.raises(DocumentError, match="2 faults in the documents"):
            command.main()
        assert "a.svg: the picture is not what its sources give" in capsys.readouterr().err
    command.main(renew=True)
    assert stale.read_text() == "new"


def test_the_command_says_faults_without_a_traceback() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "scenarios.documents", "--gone"], cwd=ROOT, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


# The site


def test_the_navigation_has_every_page_once() -> None:
    config = on_config({"docs_dir": str(DOCS), "nav": list(SITE["nav"])})
    named: list[str] = []

    def walk(entry: object) -> None:
        if isinstance(entry, str):
            named.append(entry)
        elif isinstance(entry, list):
            for one in entry:
                walk(one)
        elif isinstance(entry, dict):
            walk(list(entry.values()))

    walk(config["nav"])
    assert sorted(named) == sorted(p.relative_to(DOCS).as_posix() for p in DOCS.rglob("*.md"))


def test_the_site_is_strict_and_loads_nothing() -> None:
    assert SITE["validation"]["links"] == dict.fromkeys(
        ("not_found", "anchors", "absolute_links", "unrecognized_links"), "warn"
    )
    assert SITE["validation"]["nav"]["omitted_files"] == "warn"
    assert SITE["theme"]["font"] is False
    [build] = re.findall(r'"mkdocs", "build"[^)]*', (ROOT / "noxfile.py").read_text())
    assert '"--strict"' in build
    # With it warnings are not counted, and nothing fails.
    assert "quiet" not in build


@pytest.mark.parametrize(
    ("page", "text", "kept"),
    [
        ("a.md", "see [it](../fixtures/x.toml#y).", "see it."),
        ("decisions/1.md", "see [it](../../README.md).", "see it."),
        ("decisions/1.md", "see [it](../testing.md#x).", "see [it](../testing.md#x)."),
        ("a.md", "see [it](b.md).", "see [it](b.md)."),
        ("a.md", "```sh media\nls\n```\n", "```sh\nls\n```\n"),
        ("a.md", "```\nls\n```\n", "```\nls\n```\n"),
    ],
)
def test_links_out_of_the_documents_become_their_text(page: str, text: str, kept: str) -> None:
    source = SimpleNamespace(file=SimpleNamespace(src_uri=page))
    assert on_page_markdown(text, source, {"docs_dir": str(DOCS)}) == kept


# Documents about tests


def test_the_first_scenario_of_the_handbook_is_one(tmp_path: Path) -> None:
    text = (DOCS / "harness/scenarios.md").read_text()
    [block] = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    path = tmp_path / "test_mine.py"
    path.write_text(block)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider",
         "--confcutdir", str(ROOT), "-c", str(ROOT / "pyproject.toml"), "-p",
         "harness.pytest_plugin", str(path)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "test_what_was_written_stays" in done.stdout, done.stdout + done.stderr


def test_the_mutation_of_the_handbook_is_one_that_there_is() -> None:
    text = (DOCS / "harness/scenarios.md").read_text()
    [block] = re.findall(r"^```toml\n(\[\[mutation\]\].*?)^```$", text, re.MULTILINE | re.DOTALL)
    table = (ROOT / "fixtures/mutations.toml").read_text()
    for line in block.splitlines():
        assert line.startswith("scenarios = ") or line in table
