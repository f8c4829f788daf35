"""Which part of a changelog a version has."""

from __future__ import annotations

from pathlib import Path

import pytest

from product.publish.changelog import release_notes
from product.publish.errors import ChangelogError

ROOT = Path(__file__).parents[3]
TEXT = """# Changelog

## [Unreleased]

### Added
- To come.

## [1.2.0] - 2026-12-01
- First line.

### Fixed
- Second line: ## no head.

## [1.1.0]
### Added

## 1.0.0
- Plain.

[1.2.0]: https://example.com/compare
"""


@pytest.fixture
def changelog(tmp_path: Path) -> Path:
    path = tmp_path / "CHANGELOG.md"
    path.write_text(TEXT)
    return path


def test_a_section_without_its_head(changelog: Path) -> None:
    notes = release_notes(changelog, "1.2.0")
    assert notes == "- First line.\n\n### Fixed\n- Second line: ## no head.\n"
    assert release_notes(changelog, "1.0.0") == "- Plain.\n"


def test_a_version_before_a_release_has_its_section_or_what_is_to_come(changelog: Path) -> None:
    assert release_notes(changelog, "1.2.0-rc.1") == release_notes(changelog, "1.2.0")
    assert release_notes(changelog, "1.3.0-rc.1") == "### Added\n- To come.\n"


@pytest.mark.parametrize(
    ("version", "words"),
    [("1.3.0", "no section"), ("1.1.0", "no entries"), ("1.2.0+5", "no section")],
)
def test_nothing_to_say_is_refused(changelog: Path, version: str, words: str) -> None:
    with pytest.raises(ChangelogError, match=words):
        release_notes(changelog, version)


def test_two_sections_of_a_version_and_no_file(changelog: Path, tmp_path: Path) -> None:
    changelog.write_text(f"{TEXT}\n## [1.2.0]\n- Again.\n")
    with pytest.raises(ChangelogError, match="two sections"):
        release_notes(changelog, "1.2.0")
    with pytest.raises(ChangelogError, match="cannot be read"):
        release_notes(tmp_path / "none", "1.2.0")


def test_the_projects_own() -> None:
    assert "### Added" in release_notes(ROOT / "CHANGELOG.md", "99.0.0-rc.1")
