"""The tests of our own Go programs, run with the locked toolchain.

The first run on a machine compiles what they are made of, which takes minutes.
"""

from __future__ import annotations

import pytest

from product.image.cache import Cache
from product.image.golang.modules import GoCommand, GoModule
from product.image.golang.toolchain import Toolchain
from product.image.tools import IMAGES

GO = IMAGES / "go"


@pytest.mark.parametrize("name", sorted({path.parent.name for path in GO.glob("*/*_test.go")}))
def test_the_programs_own_tests_pass(name: str, cache: Cache) -> None:
    module = GoModule(GO / name)
    module.download(cache)
    go = GoCommand(Toolchain.prepare(cache, module.toolchain), cache)
    # As a build does, which shares what was compiled for it. Vet would look at all imports.
    flags = ["-trimpath", "-buildvcs=false", "-vet=off", "-tags", "osusergo,netgo,grpcnotrace"]
    ended, printed = go.ask(module.folder, ["test", *flags, "./..."], go.offline())
    assert ended.status == 0, printed + ended.words
    assert "ok" in printed
