"""What is said before anything is built."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from product.image.cache import Cache
from product.image.payload.table import payload_of
from product.image.payload.upstream import KUBECTL, KUBENODE, Program, UpstreamPayload
from product.image.recipe import Arch, Recipe
from product.image.tools import IMAGES, host_arch
from scenarios.demo.estimate import Estimate

UPSTREAM = IMAGES / "upstream.toml"


class Hollow(Cache):
    """Has an empty tree for whatever is asked for."""

    def tree(self, name: str, key: str, build: Callable[[Path], None]) -> Path:
        path = self.trees / f"{name}-{key}"
        path.mkdir(exist_ok=True)
        return path


def put(cache: Cache, program: Program, arch: Arch) -> None:
    payload = payload_of(Recipe.load(UPSTREAM))
    assert isinstance(payload, UpstreamPayload)
    payload.program(program, arch, Hollow(cache.root))


@pytest.mark.parametrize("arch", list(Arch))
def test_it_is_compiled_once_every_program_lies_in_the_cache(tmp_path: Path, arch: Arch) -> None:
    cache = Cache(tmp_path)
    for program, of in ((KUBENODE, arch), (KUBECTL, host_arch())):
        assert Estimate.ask(arch, cache, recipe=UPSTREAM).kubernetes
        put(cache, program, of)
    there = sorted(cache.trees.iterdir())
    assert not Estimate.ask(arch, cache, recipe=UPSTREAM).kubernetes
    # To ask is not to build.
    assert sorted(cache.trees.iterdir()) == there


def test_the_other_architectures_programs_do_not_count(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    put(cache, KUBECTL, host_arch())
    put(cache, KUBENODE, Arch.AARCH64)
    assert Estimate.ask(Arch.X86_64, cache, recipe=UPSTREAM).kubernetes
    assert not Estimate.ask(Arch.AARCH64, cache, recipe=UPSTREAM).kubernetes


def test_host_programs_are_looked_for(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    assert Estimate.ask(host_arch(), cache, recipe=UPSTREAM).host_programs
    (cache.trees / "host-tools-0").mkdir()
    assert not Estimate.ask(host_arch(), cache, recipe=UPSTREAM).host_programs


def test_an_empty_cache_is_told_what_it_costs() -> None:
    first, second, stop = Estimate(True, True, 2).lines(kubernetes=True)
    assert first == "first, without Kubernetes: about 4 minutes"
    assert second == (
        "then, with Kubernetes: about 9 minutes, after it is compiled: "
        "about 12 minutes on 2 cores, once"
    )
    assert stop == (
        "Ctrl-C in the second part keeps what the first has shown, and what is compiled"
    )


def test_a_full_cache_promises_no_compiler() -> None:
    lines = Estimate(False, False, 2).lines(kubernetes=True)
    assert lines[0] == "first, without Kubernetes: about 2 minutes"
    assert "compiled" not in " ".join(lines)


def test_without_the_second_part_nothing_is_said_of_it() -> None:
    assert Estimate(False, True, 2).lines(kubernetes=False) == [
        "first, without Kubernetes: about 2 minutes"
    ]


@pytest.mark.parametrize(
    ("cores", "words"),
    [(1, "about 24 minutes on 1 core, once"), (4, "about 6 minutes on 4 cores, once"),
     (64, "about 5 minutes on 64 cores, once")],
)  # fmt: skip
def test_more_cores_compile_sooner(cores: int, words: str) -> None:
    assert Estimate(False, True, cores).lines(kubernetes=True)[1].endswith(words)
