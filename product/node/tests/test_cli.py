"""The command line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from product.node.cli import main
from product.node.tests.conftest import NodeWorld

COSTLY = {
    "argparse", "asyncio", "cryptography", "dataclasses", "datetime", "email", "http", "inspect",
    "ipaddress", "logging", "pathlib", "socket", "ssl", "subprocess", "tempfile", "urllib",
}  # fmt: skip


@pytest.mark.parametrize(
    ("argv", "code"),
    [
        ([], 2),
        (["--help"], 0),
        (["dance"], 2),
        (["configure", "now"], 2),
        (["ended"], 2),
        (["ended", "x"], 2),
        (["ended", "1", "2"], 2),
        (["configure"], 0),
    ],
)
def test_exit_codes(world: NodeWorld, argv: list[str], code: int) -> None:
    assert main(argv, world.paths) == code


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "[" * 100000, '{"schema": 2}', '{"schema": 1}', "\x00"]
)
def test_a_garbage_payload_is_one_clear_error(
    world: NodeWorld, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    world.write(world.paths.payload, text)
    assert main(["configure"], world.paths) == 1
    assert capsys.readouterr().err.count("error: ") == 1
    assert len(world.problems) == 1
    assert "payload.json" in world.console


def test_an_image_without_kubernetes_says_so(
    world: NodeWorld, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(world.paths.payload).unlink()
    assert main(["configure"], world.paths) == 1
    captured = capsys.readouterr().err
    assert "carries no Kubernetes" in captured
    assert "hint: " in captured


def test_a_missing_hostname_is_no_traceback(world: NodeWorld) -> None:
    Path(world.paths.hostname).unlink()
    assert main(["configure"], world.paths) == 1
    assert "configure failed: " in world.problems[0]


def test_a_boot_with_nothing_to_do_imports_nothing_costly(world: NodeWorld) -> None:
    script = (
        "import sys\n"
        "from product.node.cli import main\n"
        "from product.node.paths import NodePaths\n"
        "from product.node import address\n"
        "address.wait_for_address = lambda paths, known: '10.0.2.15'\n"
        f"assert main(['configure'], NodePaths({str(world.root)!r})) == 0\n"
        "print(','.join(sorted({m.split('.')[0] for m in sys.modules})))"
    )
    for expected in (True, False):
        done = subprocess.run(
            [sys.executable, "-S", "-c", script],
            env={"PYTHONPATH": ":".join(path for path in sys.path if path)},
            capture_output=True,
            text=True,
            check=True,
        )
        found = set(done.stdout.strip().split(",")) & COSTLY
        assert bool(found) is expected, found
