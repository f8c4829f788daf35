"""Tables of the demo, and README's copies of them."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path
from types import ModuleType

import pytest
from rich.console import Console

from product.errors import KubesoloError
from scenarios.demo import appliance, kubernetes
from scenarios.demo.story import Story, show_in_readme

ROOT = Path(__file__).resolve().parents[3]
TEMPLATE = """# Title

```
./noxw -s demo
```

```
what  old
```
between
```
what  x
```
"""


def story(*rows: tuple[str, float, str]) -> Story:
    return Story(list(rows))


def test_a_chapter_is_a_row_with_its_outcome() -> None:
    told = Story()
    with told.chapter("boot") as outcome:
        outcome += ["slot A", "confirmed"]
    with pytest.raises(KubesoloError), told.chapter("break"):
        raise KubesoloError("no")
    [(what, seconds, outcome_of_it)] = told.rows
    assert (what, outcome_of_it) == ("boot", "slot A; confirmed")
    assert 0 <= seconds < 60
    assert told.plain().splitlines()[0].split() == ["what", "seconds", "outcome"]


def test_the_table_has_every_row_and_the_sum() -> None:
    console = Console(width=100, record=True, quiet=True)
    with console.capture() as shown:
        console.quiet = False
        console.print(story(("boot", 1.25, "slot A"), ("apply", 2.5, "")).table("with it"))
    text = shown.get()
    assert "with it" in text
    assert "slot A" in text
    assert "3.8" in text


def test_readme_gets_both_tables_in_order_and_the_pictures(tmp_path: Path) -> None:
    readme, picture, place = (tmp_path / name for name in ("README.md", "new.svg", "old.svg"))
    readme.write_text(TEMPLATE)
    picture.write_text("new")
    place.write_text("old")
    stories = [story(("first \\1", 1.0, "a")), story(("later", 2.0, "b"))]
    show_in_readme(readme, stories, {picture: place})
    text = readme.read_text()
    assert text.index("first \\1") < text.index("between") < text.index("later")
    assert "old" not in text
    assert "./noxw -s demo" in text
    assert place.read_text() == "new"


def test_readme_with_another_number_of_tables_is_one_error_and_stays(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(TEMPLATE)
    with pytest.raises(KubesoloError, match="has 2 tables of the demo, and 1 were expected"):
        show_in_readme(readme, [story()], {})
    assert readme.read_text() == TEMPLATE


def chapters(module: ModuleType) -> list[str]:
    """The titles in a part's source, in order."""
    tree = ast.parse(inspect.getsource(module))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    told = [call for call in calls if getattr(call.func, "attr", "") == "chapter"]
    titles = [call.args[0] for call in sorted(told, key=lambda call: call.lineno)]
    return [str(title.value) for title in titles if isinstance(title, ast.Constant)]


def test_readmes_tables_are_those_of_this_demo() -> None:
    text = (ROOT / "README.md").read_text()
    tables = [block for block in text.split("```\n") if block.startswith("what  ")]
    assert len(tables) == 2
    for table, part in zip(tables, (appliance, kubernetes), strict=True):
        titles = chapters(part)
        assert len(titles) >= 5
        shown = [line.split("  ")[0] for line in table.splitlines()]
        assert shown[-len(titles) :] == titles


@pytest.mark.parametrize(
    ("page", "words"),
    [
        ("<!doctype html>\n<title>a nginx</title>\n<p>it answers", "a nginx it answers"),
        ("plain", "plain"),
        ("<p>" + "word " * 30, "word word word word word word word ..."),
    ],
)  # fmt: skip
def test_a_page_is_told_by_its_first_words(page: str, words: str) -> None:
    assert kubernetes.heading(page) == words


def test_another_page_after_an_update_is_an_error() -> None:
    kubernetes.same("a", "a", "the update")
    with pytest.raises(KubesoloError, match="after the update the Service gave 'b'"):
        kubernetes.same("b", "a", "the update")
