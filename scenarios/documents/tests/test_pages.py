"""How pages are read, and that no link leads nowhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from scenarios.documents.links import broken
from scenarios.documents.pages import every_page, parse_page

PAGE = """# A page: of `code`!

See [this](other.md#there), ![a picture](p.svg) and `./noxw -l`.

| a | b |
|---|---|
| [that](#a-page-of-code) | `x` |

```sh
one
```

## There

- ```text
  two
  ```
"""


def test_a_page_is_what_is_checked_of_it() -> None:
    page = parse_page("docs/a.md", PAGE)
    assert [(b.line, b.info, b.text) for b in page.blocks] == [
        (10, "sh", "one\n"),
        (16, "text", "two\n"),
    ]
    assert [s.text for s in page.spans] == ["code", "./noxw -l", "x"]
    assert [(link.target, link.picture) for link in page.links] == [
        ("other.md#there", False),
        ("p.svg", True),
        ("#a-page-of-code", False),
    ]
    assert page.anchors == {"a-page-of-code", "there"}


def test_every_link_of_every_page_leads_somewhere() -> None:
    assert list(broken(every_page())) == []


@pytest.mark.parametrize(
    ("link", "fault"),
    [
        ("[a](gone.md)", "docs/gone.md, which is not there"),
        ("![a](gone.svg)", "the picture gone.svg"),
        ("[a](#gone)", "an anchor that docs/a.md does not have"),
        ("[a](b.md#gone)", "an anchor that docs/b.md does not have"),
        ("[a](../../x)", "leads out of the checkout"),
        ("[a](b.md#here)", None),
        ("[a](../docs/b.md)", None),
        ("[a](https://example.com/#x)", None),
    ],
)
def test_what_a_broken_link_is_told_as(tmp_path: Path, link: str, fault: str | None) -> None:
    (tmp_path / "docs").mkdir()
    pages = [parse_page("docs/a.md", f"# A\n\n{link}\n"), parse_page("docs/b.md", "# Here\n")]
    for page in pages:
        (tmp_path / page.name).touch()
    found = list(broken(pages, tmp_path))
    if fault is None:
        assert found == []
    else:
        [one] = found
        assert one.startswith("docs/a.md:3: ")
        assert fault in one
