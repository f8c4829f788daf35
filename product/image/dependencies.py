"""Whether packages find each other: what their control files need, and what they provide."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from pathlib import Path
from typing import NamedTuple

from debian.deb822 import PkgRelation
from debian.debfile import DebFile
from debian.debian_support import Version

_FULFILS = {
    "<<": lambda order: order < 0,
    "<=": lambda order: order <= 0,
    "=": lambda order: order == 0,
    ">=": lambda order: order >= 0,
    ">>": lambda order: order > 0,
}


class Alternative(NamedTuple):
    """One package that would do; ``relation`` and ``version`` are "" where any version does."""

    name: str
    relation: str
    version: str

    def __str__(self) -> str:
        return f"{self.name} ({self.relation} {self.version})" if self.relation else self.name


Need = tuple[Alternative, ...]


def needs(need: Need) -> str:
    """A need as a control file writes it."""
    return " | ".join(str(one) for one in need)


class _Control(NamedTuple):
    version: str
    needs: tuple[Need, ...]
    provides: tuple[Alternative, ...]


def unmet(
    debs: Mapping[str, Path], changed: Set[str], excluded: Set[str]
) -> tuple[str, Need] | None:
    """The first need that a change left unmet, and the package that has it.

    ``debs`` are files by package name. Looked at are the needs of the packages ``changed``, and
    what others need of those. A need that names a package of ``excluded`` is left out on purpose.
    """
    controls = {name: _control(path) for name, path in debs.items()}
    offered: dict[str, list[str]] = {}
    for name, control in controls.items():
        offered.setdefault(name, []).append(control.version)
        for one in control.provides:
            offered.setdefault(one.name, []).append(one.version)
    touched = set(changed)
    for name in changed:
        touched.update(one.name for one in controls[name].provides)
    for name, control in controls.items():
        for need in control.needs:
            if name not in changed and not any(one.name in touched for one in need):
                continue
            if not any(one.name in excluded or _is_met(one, offered) for one in need):
                return name, need
    return None


def _is_met(wanted: Alternative, offered: Mapping[str, list[str]]) -> bool:
    versions = offered.get(wanted.name, [])
    if not wanted.relation:
        return bool(versions)
    # What provides a name without a version meets no need for a version.
    orders = [_compare(version, wanted.version) for version in versions if version]
    return any(_FULFILS[wanted.relation](order) for order in orders)


def _compare(one: str, other: str) -> int:
    left, right = Version(one), Version(other)
    return (left > right) - (left < right)


def _control(deb: Path) -> _Control:
    with DebFile(str(deb)) as package:
        control = package.debcontrol()
    fields = [control.get(name, "") for name in ("Pre-Depends", "Depends")]
    return _Control(
        control["Version"],
        tuple(need for field in fields for need in _parse(field)),
        tuple(one for need in _parse(control.get("Provides", "")) for one in need),
    )


def _parse(field: str) -> Iterable[Need]:
    for group in PkgRelation.parse_relations(field) if field.strip() else ():
        yield tuple(Alternative(one["name"], *(one.get("version") or ("", ""))) for one in group)
