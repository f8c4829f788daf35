"""Profiles of AppArmor, compiled when the image is built: a node loads them with one write.

Their texts lie in the image's tree, one file a program, as overlays and payloads bring them. Those
in ``containers`` are for pods and are always enforced; the others have a mode, which the node's
configuration sets.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from product.image.errors import RecipeError, ToolError
from product.image.tools import HostTools
from product.image.tree import Tree

# Texts; in `parts` what they include.
TEXTS = "usr/lib/kubesolo/apparmor.d"
CONTAINERS = "containers"
# What the kernel takes by a write to .replace: all profiles of a mode, one after another.
BLOBS = "usr/lib/kubesolo/apparmor"
MODES = ("enforce", "complain")
# What Debian's kernel of this release can mediate, and what its own parser compiles for by default.
FEATURES = "usr/share/apparmor-features/features"


def compile_profiles(root: Path, tools: HostTools) -> None:
    """Compile the tree's profiles, if it has any.

    Raises RecipeError for a text that is no profile, or for two profiles of one name.
    """
    tree = Tree(root)
    texts = tree.follow(TEXTS)
    own = _files(texts)
    containers = _files(texts / CONTAINERS)
    if not own and not containers:
        return
    _require_unique([name for text in (*own, *containers) for name in _names(text, texts, tools)])
    always = b"".join(_compiled(text, texts, tools) for text in containers)
    for mode in MODES:
        flags = () if mode == "enforce" else ("--Complain",)
        blob = b"".join(_compiled(text, texts, tools, *flags) for text in own)
        tree.write(f"{BLOBS}/{mode}", blob + always)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file()) if folder.is_dir() else []


def _require_unique(names: list[str]) -> None:
    twice = sorted(name for name, times in Counter(names).items() if times > 1)
    if twice:
        raise RecipeError(
            f"AppArmor: two texts in {TEXTS} have a profile of the name {', '.join(twice)}",
            hint="rename one of them: the kernel knows profiles by their names",
        )


def _names(text: Path, texts: Path, tools: HostTools) -> list[str]:
    return _parse(text, texts, tools, "--names").decode().split("\n")[:-1]


def _compiled(text: Path, texts: Path, tools: HostTools, *flags: str) -> bytes:
    return _parse(text, texts, tools, "--stdout", *flags)


def _parse(text: Path, texts: Path, tools: HostTools, *flags: str) -> bytes:
    try:
        return tools.run(
            "apparmor_parser", "--config-file", "/dev/null", "--skip-kernel-load", "--skip-cache",
            # The host's own kernel has no say in it.
            "--features-file", tools.path(FEATURES), "--base", tools.path("etc/apparmor.d"),
            "--Include", texts, *flags, text,
        )  # fmt: skip
    except ToolError as error:
        place = text.relative_to(texts.parent)
        raise RecipeError(
            f"the AppArmor profile {place} cannot be compiled: {error.message}",
            hint="man 5 apparmor.d describes the language",
        ) from None
