"""How slow this host is: measured again where it seems slow."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

from harness.errors import HarnessError, WaitError
from harness.qemu import accel
from harness.qemu.arch import Arch
from harness.qemu.tools import HostTools

REFERENCE = accel.REFERENCE[Arch.AARCH64]


@pytest.fixture
def measure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., accel.Accelerator]:
    """The answer where TCG's boots take so long, one after the other; None does not end."""

    def run(*outcomes: float | None) -> accel.Accelerator:
        left = list(outcomes)

        def boot(*_: object) -> float:
            seconds = left.pop(0)
            if seconds is None:
                raise WaitError("nothing within 120 s")
            return seconds

        monkeypatch.setattr(accel, "boot", boot)
        monkeypatch.setattr(accel, "_kvm_opens", lambda: False)
        found = accel._measure(cast(HostTools, None), tmp_path, Arch.AARCH64, tmp_path)
        assert left == []
        return found

    return run


@pytest.mark.parametrize(
    ("outcomes", "scale"),
    [
        ((0.9,), 1.0),
        ((1.5,), 1.5),
        ((3.0, 1.2), 1.2),
        ((3.0, 2.0, 2.5), 2.0),
        ((3.0, None), 3.0),
    ],
)
def test_the_fastest_of_some_boots_counts(
    measure: Callable[..., accel.Accelerator], outcomes: tuple[float | None, ...], scale: float
) -> None:
    times = [None if factor is None else factor * REFERENCE for factor in outcomes]
    found = measure(*times)
    assert found.name == "tcg"
    assert found.scale == pytest.approx(scale)


def test_a_kernel_that_never_boots_is_an_error(
    measure: Callable[..., accel.Accelerator],
) -> None:
    with pytest.raises(HarnessError, match=r"no accelerator boots .* on aarch64"):
        measure(None)


@pytest.mark.parametrize(
    ("kvm", "tcg", "name", "seconds", "scale"),
    [
        # KVM that works is several times as fast: TCG need not be tried.
        (0.2, None, "kvm", 0.2, 1.0),
        # Nested, it may boot and yet be the slower one.
        (2.6, 1.0, "tcg", 1.0, 1.0),
        (4.9, 1.2, "tcg", 1.2, 1.2),
        # Both are slow, and the faster one says by how much.
        (1.4, 1.6, "kvm", 1.4, 1.4),
        # TCG boots nothing here, KVM does.
        (4.0, WaitError("nothing within 120 s"), "kvm", 4.0, 4.0),
        (WaitError("nothing within 10 s"), 1.3, "tcg", 1.3, 1.3),
    ],
)
def test_the_faster_accelerator_is_taken_with_its_own_scale(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    kvm: float | WaitError,
    tcg: float | WaitError | None,
    name: str,
    seconds: float,
    scale: float,
) -> None:
    def boot(_tools: HostTools, _kernel: Path, _arch: Arch, accelerator: str, *_: object) -> float:
        outcome = {"kvm": kvm, "tcg": tcg}[accelerator]
        assert outcome is not None, f"{accelerator} was tried"
        if isinstance(outcome, WaitError):
            raise outcome
        return outcome * REFERENCE

    monkeypatch.setattr(accel, "boot", boot)
    monkeypatch.setattr(accel, "_kvm_opens", lambda: True)
    monkeypatch.setattr(Arch, "is_hosts", True)
    found = accel._measure(cast(HostTools, None), tmp_path, Arch.AARCH64, tmp_path)
    assert found.name == name
    assert (found.seconds, found.scale) == pytest.approx((seconds * REFERENCE, scale))


def test_a_copy_of_a_kernel_is_not_booted_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, host_tools: HostTools
) -> None:
    booted: list[str] = []

    def boot(_tools: HostTools, kernel: Path, *_: object) -> float:
        booted.append(kernel.name)
        return REFERENCE

    monkeypatch.setattr(accel, "boot", boot)
    monkeypatch.setattr(accel, "_kvm_opens", lambda: False)
    for name, content in (("one", b"kernel"), ("copy", b"kernel"), ("other", b"another")):
        kernel = tmp_path / name
        kernel.write_bytes(content)
        accel.probe(host_tools, kernel, Arch.AARCH64, tmp_path / "cache")
    assert booted == ["one", "other"]
