"""What a release was built from, as SLSA's provenance says it: a predicate of in-toto.

It holds no time and no name of a host: the same commit gives the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from product.image.cache import file_sha256
from product.image.recipe import Arch, Recipe
from product.image.tools import IMAGES, host_arch
from product.release.downloads import PREDICATE_TYPE, STATEMENT_TYPE

BUILD_TYPE = "urn:kubesolo-os:release:1"
LOCAL_BUILDER = "urn:kubesolo-os:builder:local"
_SOURCE = "git+urn:kubesolo-os"


def statement(
    subjects: Mapping[str, str],
    *,
    external: Mapping[str, Any],
    internal: Mapping[str, Any],
    dependencies: list[dict[str, Any]],
    builder: str,
) -> bytes:
    """The statement's bytes; ``subjects`` are names with their SHA-256.

    ``external`` is what the publisher chose, ``internal`` what the builder adds.
    """
    document = {
        "_type": STATEMENT_TYPE,
        "subject": [
            {"name": name, "digest": {"sha256": subjects[name]}} for name in sorted(subjects)
        ],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": dict(external),
                "internalParameters": dict(internal),
                "resolvedDependencies": dependencies,
            },
            "runDetails": {"builder": {"id": builder}},
        },
    }
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def dependencies(root: Path, commit: str, recipes: Mapping[Arch, list[Recipe]]) -> list[Any]:
    """The commit, then each lock that names what was fetched, by its path below ``root``."""
    source = {"uri": f"{_SOURCE}@{commit}", "digest": {"gitCommit": commit}}
    locks = {root / "requirements" / "dev.txt"}
    locks.add(IMAGES / "locks" / f"host-tools-{host_arch()}.json")
    for arch, chosen in recipes.items():
        locks.add(IMAGES / "locks" / f"licences-{arch}.json")
        locks.update(recipe.lock_path(arch) for recipe in chosen)
    if any(recipe.payload is not None for chosen in recipes.values() for recipe in chosen):
        locks.add(IMAGES / "go" / "toolchain.json")
        locks.update((IMAGES / "go").glob("*/*.sum"))
        locks.update(IMAGES / "locks" / f"oci-images-{arch}.json" for arch in recipes)
        locks.add(IMAGES / "locks" / "kubesolo-release.json")
    return [
        source,
        *(
            {"name": _name(path, root), "digest": {"sha256": file_sha256(path)}}
            for path in sorted(locks, key=lambda path: _name(path, root))
            if path.is_file()
        ),
    ]


def _name(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name
