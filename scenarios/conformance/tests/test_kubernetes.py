"""What images/go/conformance, its Kubernetes and the files of this project say of each other."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

import pytest

from product.image.cache import Cache
from scenarios.conformance.images import IMAGES_MADE, MANIFEST, image_names
from scenarios.conformance.programs import FOLDER, PACKAGES, Listed, Programs
from scenarios.conformance.run import focuses
from scenarios.conformance.selection import area, load_left_out, select


@pytest.fixture(scope="module")
def programs(cache: Cache) -> Programs:
    return Programs(cache)


@pytest.fixture(scope="module")
def listed(programs: Programs) -> list[Listed]:
    return programs.listed()


def test_every_pattern_of_what_is_left_out_fits_a_test(listed: list[Listed]) -> None:
    names = [test.name for test in listed]
    found = select(names, load_left_out())
    assert len(found.chosen) > 350
    assert len(found.chosen) + len(found.left_out) == len(names)


def test_the_list_is_whole(listed: list[Listed]) -> None:
    assert len(listed) > 400
    assert all(test.name.endswith("[Conformance]") for test in listed)
    assert {"sig-node", "sig-network", "sig-apps"} < {area(test.name) for test in listed}


def test_the_program_has_the_packages_of_all_tests(listed: list[Listed]) -> None:
    imported = re.findall(
        r'_ "k8s\.io/kubernetes/(test/e2e/\w+)"', (FOLDER / "main.go").read_text()
    )
    files = [PurePosixPath(name.strip()) for test in listed for name in test.file.split(",")]
    assert {str(PurePosixPath(*file.parts[:3])) for file in files} <= {*imported}


def test_each_program_is_named_in_go_mod() -> None:
    text = (FOLDER / "go.mod").read_text()
    for package in PACKAGES.values():
        assert package == "." or f"\t{package}\n" in text[text.index("tool (") :]


def test_kubernetes_is_the_nodes() -> None:
    def versions(folder: str) -> set[str]:
        text = (FOLDER.parent / folder / "go.mod").read_text()
        return set(re.findall(r"\tk8s\.io/(?:kubernetes|apiserver) v[\w.]+", text))

    assert versions("conformance") >= {line for line in versions("node") if "kubernetes" in line}


def test_images_have_the_names_that_the_tests_ask_for(programs: Programs) -> None:
    names = image_names((programs.sources() / MANIFEST).read_text())
    assert names["Pause"].startswith("registry.k8s.io/pause:")
    assert names["BusyBox"].startswith("registry.k8s.io/e2e-test-images/busybox:")
    assert IMAGES_MADE.keys() <= names.keys()
    made = [names[identifier] for identifier in IMAGES_MADE]
    assert len(made) == len(set(made))


def test_images_of_a_manifest_that_has_changed_are_not_found() -> None:
    assert image_names("configs[Agnhost] = Config{list.Elsewhere, agnhostName, agnhostTag}") == {}


def test_each_argument_is_short_enough_for_linux(listed: list[Listed]) -> None:
    names = [test.name for test in listed] * 10
    found = focuses(names)
    assert len(found) > 1
    assert all(len(one) < 128 * 1024 for one in found)
    assert sum(one.count("|[".replace("[", r"\[")) + 1 for one in found) == len(names)


def test_the_sources_are_in_the_cache(programs: Programs, cache: Cache) -> None:
    assert Path(programs.sources(), "test/e2e/e2e_test.go").is_file()
