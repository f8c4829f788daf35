"""Applying deltas: mksquashfs' own bytes, in bounded memory, whoever wrote the delta."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from product.agent.errors import AgentError
from product.agent.slots.delta import (
    BLOCK,
    COPY,
    EMIT,
    END,
    HEADER,
    LOAD,
    MAGIC,
    MAX_CONTENT,
    MAX_FRAME,
    MAX_REFERENCE,
    MAX_REFERENCES,
    META,
    PLAIN,
    DeltaError,
    apply_delta,
)
from product.agent.slots.zstd import Zstd
from product.agent.tests.support_delta import (
    as_artifact,
    locked_library,
    make_pair,
    number,
    record,
    signed,
    words,
    written,
)
from product.image.tools import HostTools
from product.release.delta_maker import Maker

ENOUGH = 4_000_000


class Bench:
    """Two images, the delta between them, and a node's disk."""

    def __init__(self, tools: HostTools, folder: Path) -> None:
        self.library = locked_library(tools)
        self.folder = folder
        self.old, self.new = make_pair(tools, folder)
        with Zstd(self.library) as zstd:
            maker = Maker(self.old, self.new, zstd)
            self.delta = maker.make()
            self.figures = maker.figures
        (folder / "old").write_bytes(self.old)

    def frame(self, content: bytes, prefix: bytes = b"") -> bytes:
        with Zstd(self.library) as zstd:
            return zstd.compress_against(content, prefix, 3, 23)

    def apply(
        self, delta: bytes, new: bytes | None = None, budget: float | None = None
    ) -> tuple[bytes, int]:
        """What is there afterwards, and its CRC-32."""
        (self.folder / "delta").write_bytes(delta)
        applied = apply_delta(
            str(self.folder / "delta"),
            str(self.folder / "old"),
            as_artifact(self.new if new is None else new),
            str(self.folder / "out"),
            budget=budget,
            library=self.library,
        )
        return (self.folder / "out").read_bytes(), applied.checksum


@pytest.fixture(scope="module")
def bench(host_tools: HostTools, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(host_tools, tmp_path_factory.mktemp("delta"))


def test_one_changed_library_is_a_few_percent(bench: Bench) -> None:
    data, _ = bench.apply(bench.delta)
    assert data == bench.new
    assert bench.figures["copied"] > len(bench.new) / 3
    assert bench.figures["literal"] == 0, "blocks of the locked mksquashfs do not come back"
    assert len(bench.delta) < len(bench.new) * 0.04


def test_the_same_pair_gives_the_same_delta(bench: Bench) -> None:
    with Zstd(bench.library) as zstd:
        assert Maker(bench.old, bench.new, zstd).make() == bench.delta


def test_files_that_are_no_squashfs(bench: Bench) -> None:
    old = words(3, 9_000_000)
    new = old[:5_000_000] + b"something new" + old[5_000_000:]
    with Zstd(bench.library) as zstd:
        delta = Maker(old, new, zstd).make()
    (bench.folder / "old").write_bytes(old)
    try:
        assert bench.apply(delta, new)[0] == new
    finally:
        (bench.folder / "old").write_bytes(bench.old)
    assert len(delta) < 10_000


def test_another_old_file_is_noticed(bench: Bench) -> None:
    (bench.folder / "old").write_bytes(bytes(len(bench.old)))
    try:
        with pytest.raises(DeltaError) as caught:
            bench.apply(bench.delta)
        assert caught.value.code in ("delta-damaged", "delta-mismatch")
    finally:
        (bench.folder / "old").write_bytes(bench.old)


def test_an_old_file_with_one_wrong_byte_in_a_copied_block_is_noticed(bench: Bench) -> None:
    wrong = bytearray(bench.old)
    # Noise is stored, and copied.
    at = bench.old.index(random.Random(5).randbytes(64))
    wrong[at] ^= 1
    (bench.folder / "old").write_bytes(wrong)
    try:
        with pytest.raises(DeltaError, match="not to the release's") as caught:
            bench.apply(bench.delta)
        assert caught.value.code == "delta-mismatch"
    finally:
        (bench.folder / "old").write_bytes(bench.old)


def test_no_damage_is_accepted_and_none_ends_otherwise(bench: Bench) -> None:
    chance = random.Random(11)
    for _ in range(150):
        data = bytearray(bench.delta)
        kind = chance.randrange(3)
        if kind == 0:
            del data[chance.randrange(len(data)) :]
        elif kind == 1:
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        else:
            # Records are near the beginning and the end.
            at = chance.choice([chance.randrange(400), len(data) - 1 - chance.randrange(200)])
            data[at : at + 4] = chance.randbytes(4)
        if bytes(data) == bench.delta:
            continue
        try:
            made, _ = bench.apply(bytes(data))
        except DeltaError:
            continue
        assert made == bench.new
        # Only what is of no consequence, as how much work is announced.
        assert data[HEADER.size + len(MAGIC) :] == bench.delta[HEADER.size + len(MAGIC) :]


def test_a_result_is_never_longer_than_the_artifact(bench: Bench) -> None:
    endless = written(10, [record(COPY, signed(0 if n == 0 else -1000), 1000) for n in range(100)])
    with pytest.raises(DeltaError, match="more than the artifact's 10 bytes"):
        bench.apply(endless, bytes(10))
    assert (bench.folder / "out").stat().st_size <= 10


HUGE = (1 << 62) - 1


@pytest.mark.parametrize(
    ("records", "reason"),
    [
        ([record(9)], "a record of the kind 9"),
        ([], "ends too early"),
        ([record(COPY, signed(-1), 5)], "5 bytes at -1 of an old file"),
        ([record(COPY, signed(0), HUGE)], "of an old file of"),
        ([record(COPY, signed(HUGE), 1)], "of an old file of"),
        ([record(COPY, b"\xff" * 12)], "a number without an end"),
        ([record(LOAD, MAX_REFERENCES + 1, 1, 1)], "references"),
        ([record(LOAD, 0, MAX_CONTENT + 1, 1)], "bytes of content"),
        ([record(LOAD, 0, 1, MAX_FRAME + 1)], "a frame of"),
        ([record(LOAD, 0, 1, HUGE)], "a frame of"),
        ([record(LOAD, 1, 1, 1, signed(0), (1 << 21) * 2, 1)], "a reference to"),
        ([record(LOAD, 1, 1, 1, signed(0), 11, MAX_REFERENCE)], "a reference to"),
        ([record(LOAD, 1, 1, 1, signed(0), 11, 6)], "a stored reference to 5 bytes that are 6"),
        ([record(LOAD, 1, 1, 1, signed(-7), 11, 5)], "5 bytes at -7"),
        ([record(LOAD, 1, 1, 1, signed(0), 10, 5)], "libzstd"),
        ([record(LOAD, 0, 4, 4, b"abcd")], "libzstd"),
        ([record(LOAD, 0, 4, 40, b"abcd")], "in the middle of a frame"),
        ([record(LOAD, 0, 4, 9, b"\x28\xb5\x2f\xfd\x20\xff\x00\x00\x00")], "libzstd"),
        ([record(EMIT, PLAIN, 1, 1)], "1 pieces of 1 bytes"),
        ([record(EMIT, PLAIN, HUGE, 0)], "pieces of 0 bytes"),
        ([record(EMIT, 7, 1, 1)], "mode 7"),
    ],
)
def test_what_a_stranger_may_write(bench: Bench, records: list[bytes], reason: str) -> None:
    with pytest.raises(DeltaError, match=reason) as caught:
        bench.apply(written(ENOUGH, records), bytes(ENOUGH))
    assert caught.value.code == "delta-damaged"


def load(frame: bytes, content: int) -> bytes:
    return record(LOAD, 0, content, len(frame), frame)


def test_pieces_are_those_of_the_content(bench: Bench) -> None:
    frame = bench.frame(b"a" * 100)
    for records, reason in (
        ([load(frame, 100), record(EMIT, PLAIN, 2, 51)], "2 pieces of 51"),
        ([load(frame, 100), record(EMIT, PLAIN, HUGE, 1)], "pieces of 1 bytes"),
        ([load(frame, 100), record(EMIT, META, 1, 9000)], "mode 2"),
        ([load(frame, 100), record(EMIT, BLOCK, 1, 70_000)], "mode 1"),
        ([load(frame, 100), load(frame, 100)], "content that is never used"),
        ([load(frame, 100), record(END)], "content that is never used"),
        ([load(frame, 99)], "libzstd"),
        ([load(frame, 101)], "100 bytes of content instead of 101"),
        ([load(bench.frame(b"abcdefgh"), 8), record(EMIT, BLOCK, 1, 8)], "does not get smaller"),
    ):
        with pytest.raises(DeltaError, match=reason):
            bench.apply(written(ENOUGH, records), bytes(ENOUGH))


def test_no_more_work_than_was_announced(bench: Bench) -> None:
    frame = bench.frame(bytes(MAX_CONTENT))
    bomb = [load(frame, MAX_CONTENT), record(EMIT, BLOCK, 64, 65536)]
    with pytest.raises(DeltaError, match="more content than the header says"):
        bench.apply(written(ENOUGH, bomb * 3, work=2 * MAX_CONTENT), bytes(ENOUGH))


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (b"KSDELTA2" + bytes(33), "no delta of this format"),
        (MAGIC + HEADER.pack(5, 0, 0, 0, 0, 0), "a delta to 5 bytes, not to 4000000"),
        (MAGIC + HEADER.pack(ENOUGH, 0, 0, 1 << 30, 6, 0), "blocks of"),
        (MAGIC + HEADER.pack(ENOUGH, 0, 0, 65536, 99, 0), "level 99"),
        (MAGIC + b"\0", "ends too early"),
    ],
)
def test_headers_of_strangers(bench: Bench, header: bytes, reason: str) -> None:
    with pytest.raises(DeltaError, match=reason):
        bench.apply(header, bytes(ENOUGH))


def test_another_version_of_the_library(bench: Bench) -> None:
    with pytest.raises(DeltaError, match="needs libzstd number 10499") as caught:
        bench.apply(written(ENOUGH, [record(END)], version=10499), bytes(ENOUGH))
    assert caught.value.code == "delta-unsupported"


def test_a_slow_node_gives_up_and_leaves_a_beginning(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    passed = iter(range(10_000))
    monkeypatch.setattr(time, "monotonic", lambda: float(next(passed)))
    with pytest.raises(DeltaError) as caught:
        bench.apply(bench.delta, budget=5.0)
    assert caught.value.code == "delta-slow"
    left = (bench.folder / "out").read_bytes()
    assert left
    assert bench.new.startswith(left)


def test_an_interrupt_passes_through(bench: Bench) -> None:
    class Stop(AgentError):
        pass

    def interrupt() -> None:
        raise Stop("a rollback goes before it")

    (bench.folder / "delta").write_bytes(bench.delta)
    with pytest.raises(Stop):
        apply_delta(
            str(bench.folder / "delta"),
            str(bench.folder / "old"),
            as_artifact(bench.new),
            str(bench.folder / "out"),
            interrupt=interrupt,
            library=bench.library,
        )


def test_a_system_without_the_library(bench: Bench) -> None:
    (bench.folder / "delta").write_bytes(bench.delta)
    for library in ("libnothing.so.7", "libc.so.6"):
        with pytest.raises(DeltaError, match="cannot be used") as caught:
            apply_delta(
                str(bench.folder / "delta"),
                str(bench.folder / "old"),
                as_artifact(bench.new),
                str(bench.folder / "out"),
                library=library,
            )
        assert caught.value.code == "delta-unsupported"


def test_numbers() -> None:
    assert (number(300), signed(-1), signed(1)) == (b"\xac\x02", b"\x01", b"\x02")
