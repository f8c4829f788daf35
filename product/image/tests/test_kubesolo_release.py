"""KubeSolo's archives: fetched from a local server, pinned, resumed, unpacked, refused."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import io
import json
import random
import struct
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from product.image.cache import Cache
from product.image.errors import DownloadError, ImageError, LockError
from product.image.payload.kubesolo_elf import check_program, kubernetes_version
from product.image.payload.kubesolo_release import (
    OTHER_WAYS,
    Pin,
    ReleaseLock,
    archive_name,
    fetch,
    lock_release,
    unpack_program,
)
from product.image.recipe import Arch

RELEASE = "v1.2.3"
VARIANT = "musl-offline"
NAME = archive_name(RELEASE, VARIANT, Arch.X86_64)
MACHINES = {Arch.X86_64: 62, Arch.AARCH64: 183}


def program(arch: Arch = Arch.X86_64, kubernetes: str | None = "1.35.1", loader: str = "") -> bytes:
    """A program as far as its headers go, with Go's build information in it."""
    interpreter = loader.encode() + b"\0" if loader else b""
    head = b"\x7fELF\x02\x01\x01" + bytes(9)
    head += struct.pack(
        "<HHIQQQIHHHHHH", 2, MACHINES[arch], 1, 0, 64, 0, 0, 64, 56, bool(loader), 0, 0, 0
    )
    row = struct.pack("<IIQQQQQQ", 3, 4, 120, 0, 0, len(interpreter), 0, 1) if loader else b""
    body = random.Random(1).randbytes(20_000)
    if kubernetes:
        body += b"path\tgithub.com/portainer/kubesolo\ndep\tk8s.io/api\tv0.1.0\n"
        body += b"dep\tk8s.io/kubernetes\tv" + kubernetes.encode() + b"\n"
    return head + row + interpreter + body


def tar_gz(*members: tuple[str, bytes | None]) -> bytes:
    """An archive; a member without content is a link to /etc/passwd."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            if data is None:
                info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
            info.size = len(data or b"")
            info.mode = 0o4755
            tar.addfile(info, io.BytesIO(data or b""))
    return gzip.compress(buffer.getvalue(), mtime=0)


ARCHIVE = tar_gz(("kubesolo", program()))


class Server(http.server.ThreadingHTTPServer):
    """A server of releases whose manners a test chooses."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {f"/{RELEASE}/{NAME}": ARCHIVE}
        self.asked: list[tuple[str, str | None]] = []
        self.cut_after: list[int] = []
        self.ranges = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        wanted = self.headers.get("Range")
        self.server.asked.append((self.path, wanted))
        if self.path.startswith("/moved/"):
            self.send_response(302)
            self.send_header("Location", self.server.url + self.path.removeprefix("/moved"))
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        data = self.server.files.get(self.path)
        start = 0
        if data is None:
            self.send_response(404)
        elif wanted and self.server.ranges:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
            if start >= len(data):
                self.send_response(416)
                data = b""
            else:
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        else:
            self.send_response(200)
        content = (data or b"")[start:]
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if not body:
            return
        if content and self.server.cut_after:
            self.wfile.write(content[: self.server.cut_after.pop(0)])
            self.wfile.flush()
            self.connection.close()
            self.close_connection = True
            return
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.02,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def pin(server: Server, data: bytes = ARCHIVE, path: str = f"/{RELEASE}/{NAME}") -> Pin:
    return Pin(url=server.url + path, size=len(data), sha256=hashlib.sha256(data).hexdigest())


def test_an_archive_is_fetched_once(server: Server, tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    assert fetch(pin(server), cache).read_bytes() == ARCHIVE
    assert fetch(pin(server), cache).read_bytes() == ARCHIVE
    assert len(server.asked) == 1
    assert not [path for path in cache.tmp.iterdir() if path.is_dir()]


def test_a_redirect_is_followed(server: Server, tmp_path: Path) -> None:
    moved = pin(server, path=f"/moved/{RELEASE}/{NAME}")
    assert fetch(moved, Cache(tmp_path)).read_bytes() == ARCHIVE


def test_a_mirror_takes_the_place_of_the_address(server: Server, tmp_path: Path) -> None:
    upstream = Pin(
        url=f"https://upstream.invalid/a/b/{RELEASE}/{NAME}",
        size=len(ARCHIVE),
        sha256=hashlib.sha256(ARCHIVE).hexdigest(),
    )
    assert fetch(upstream, Cache(tmp_path), f"{server.url}/").read_bytes() == ARCHIVE


def test_a_broken_transfer_goes_on_where_it_broke(server: Server, tmp_path: Path) -> None:
    server.cut_after = [3000, 2000]
    assert fetch(pin(server), Cache(tmp_path)).read_bytes() == ARCHIVE
    assert [wanted for _, wanted in server.asked] == [None, "bytes=3000-", "bytes=5000-"]


def test_a_later_run_goes_on_where_an_earlier_one_ended(server: Server, tmp_path: Path) -> None:
    server.cut_after = [1000] * 4
    with pytest.raises(DownloadError, match="cannot fetch"):
        fetch(pin(server), Cache(tmp_path))
    server.asked.clear()
    assert fetch(pin(server), Cache(tmp_path)).read_bytes() == ARCHIVE
    assert [wanted for _, wanted in server.asked] == ["bytes=4000-"]


def test_a_server_without_ranges_sends_all_again(server: Server, tmp_path: Path) -> None:
    server.ranges = False
    server.cut_after = [3000]
    assert fetch(pin(server), Cache(tmp_path)).read_bytes() == ARCHIVE


def test_what_an_earlier_run_left_may_be_damaged(server: Server, tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    wanted = pin(server)
    assert wanted.sha256 is not None
    folder = cache.tmp / f"release-{wanted.sha256[:32]}"
    folder.mkdir()
    (folder / "partial").write_bytes(b"\0" * 5000)
    assert fetch(wanted, cache).read_bytes() == ARCHIVE
    (folder / "partial").parent.mkdir()
    (folder / "partial").write_bytes(b"\0" * (len(ARCHIVE) + 1))
    cache.blob(wanted.sha256).unlink()
    assert fetch(wanted, cache).read_bytes() == ARCHIVE


@pytest.mark.parametrize(
    ("served", "words"),
    [
        (None, "the server answered 404"),
        (ARCHIVE[:-1] + b"x", "not the pinned archive: expected SHA-256"),
        (ARCHIVE + b"x", "not the pinned archive: expected [0-9]+ bytes, got more"),
        (ARCHIVE[:-5], "not the pinned archive: expected [0-9]+ bytes, got [0-9]+"),
        (b"", "not the pinned archive: expected [0-9]+ bytes, got 0"),
    ],
    ids=["gone", "tampered", "too long", "too short", "empty"],
)
def test_another_archive_is_refused(
    server: Server, tmp_path: Path, served: bytes | None, words: str
) -> None:
    wanted = pin(server)
    if served is None:
        server.files.clear()
    else:
        server.files[f"/{RELEASE}/{NAME}"] = served
    cache = Cache(tmp_path)
    with pytest.raises(DownloadError, match=words) as caught:
        fetch(wanted, cache)
    assert caught.value.hint
    assert "\n" not in caught.value.message
    assert not list(cache.blobs.rglob("*/*"))
    # What was wrong is not gone on from.
    server.files[f"/{RELEASE}/{NAME}"] = ARCHIVE
    assert fetch(wanted, cache).read_bytes() == ARCHIVE


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "https://nowhere.invalid"])
def test_no_network_is_one_line_that_names_the_other_ways(url: str, tmp_path: Path) -> None:
    with pytest.raises(DownloadError) as caught:
        fetch(Pin(url=f"{url}/{RELEASE}/{NAME}", size=1, sha256="0" * 64), Cache(tmp_path))
    assert caught.value.message.startswith(f"cannot fetch {url}/")
    assert "\n" not in caught.value.message
    assert "Pool" not in caught.value.message
    assert "--payload-archive" in str(caught.value.hint)
    assert "images/upstream.toml" in str(caught.value.hint)
    assert caught.value.message.endswith(f"; {OTHER_WAYS}")


@pytest.mark.parametrize("missing", ["archive", "SHA256SUMS", "size"])
def test_every_way_of_not_being_reached_names_the_other_ways(
    server: Server, tmp_path: Path, missing: str
) -> None:
    publish(server)
    for path in list(server.files):
        if path.endswith("SUMS") == (missing == "SHA256SUMS"):
            del server.files[path]

    def ask() -> object:
        if missing == "archive":
            return fetch(pin(server), Cache(tmp_path))
        return lock_release(tmp_path / "lock.json", RELEASE, VARIANT, server.url)

    with pytest.raises(DownloadError) as caught:
        ask()
    assert caught.value.message.endswith(f"; {OTHER_WAYS}")
    assert "--payload-archive FILE" in OTHER_WAYS
    assert "images/upstream.toml" in OTHER_WAYS


def test_what_cannot_be_an_archives_size_is_not_fetched(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("product.image.payload.kubesolo_release.MAX_PROGRAM", len(ARCHIVE) - 1)
    wanted = pin(server).model_copy(update={"size": None})
    with pytest.raises(DownloadError, match=f"said to have {len(ARCHIVE)} bytes"):
        fetch(wanted, Cache(tmp_path))
    assert len(server.asked) == 1


def publish(server: Server) -> None:
    lines = []
    for arch in Arch:
        name = archive_name(RELEASE, VARIANT, arch)
        data = tar_gz(("kubesolo", program(arch)))
        server.files[f"/{RELEASE}/{name}"] = data
        lines.append(f"{hashlib.sha256(data).hexdigest()}  {name}\n")
    server.files[f"/{RELEASE}/SHA256SUMS"] = "".join(lines).encode()


def test_a_lock_records_what_the_release_says(server: Server, tmp_path: Path) -> None:
    publish(server)
    path = tmp_path / "lock.json"
    old, new = lock_release(path, RELEASE, VARIANT, server.url)
    assert old is None
    assert ReleaseLock.load(path) == new
    for arch in Arch:
        found = new.pin(arch, RELEASE, VARIANT, path)
        assert fetch(found, Cache(tmp_path / "cache")).is_file()
    assert lock_release(path, RELEASE, VARIANT, server.url)[0] == new


@pytest.mark.parametrize(
    ("sums", "words"),
    [
        (None, "the server answered 404"),
        (b"nonsense\n", f"names no {NAME}"),
        (b"0" * 64 + b"  another.tar.gz\n", f"names no {NAME}"),
    ],
)
def test_without_sums_the_lock_stays(
    server: Server, tmp_path: Path, sums: bytes | None, words: str
) -> None:
    if sums is not None:
        server.files[f"/{RELEASE}/SHA256SUMS"] = sums
    path = tmp_path / "lock.json"
    path.write_text("as it was")
    with pytest.raises(DownloadError, match=words):
        lock_release(path, RELEASE, VARIANT, server.url)
    assert path.read_text() == "as it was"


def test_an_archive_that_was_never_verified_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "lock.json"
    row = {"url": f"https://upstream.invalid/{NAME}", "size": None, "sha256": None}
    document = {"release": RELEASE, "variant": VARIANT, "archives": {"x86_64": row}}
    path.write_text(json.dumps(document))
    lock = ReleaseLock.load(path)
    for arch in Arch:
        with pytest.raises(LockError, match="no verified digest") as caught:
            lock.pin(arch, RELEASE, VARIANT, path)
        assert "./noxw -s lock" in str(caught.value.hint)
        assert "--payload-archive" in str(caught.value.hint)
    with pytest.raises(LockError, match=r"the recipe wants v1\.2\.4"):
        lock.pin(Arch.X86_64, "v1.2.4", VARIANT, path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "is missing"),
        ("{", "is not JSON"),
        ("[]", "is damaged at"),
        ('{"release": "v1", "variant": "", "archives": {"mips": {}}}', "damaged at archives.mips"),
        (
            '{"release": "v1", "variant": "", "archives": {"x86_64": {"url": "ftp://x/y"}}}',
            "damaged at archives.x86_64.url",
        ),
    ],
)
def test_a_bad_lock_is_one_error(tmp_path: Path, text: str | None, words: str) -> None:
    path = tmp_path / "lock.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(LockError, match=words) as caught:
        ReleaseLock.load(path)
    assert caught.value.hint


def test_the_program_is_unpacked_without_its_mode(tmp_path: Path) -> None:
    (tmp_path / "a.tar.gz").write_bytes(ARCHIVE)
    unpack_program(tmp_path / "a.tar.gz", tmp_path / "kubesolo")
    assert (tmp_path / "kubesolo").read_bytes() == program()
    assert (tmp_path / "kubesolo").stat().st_mode & 0o7777 == 0o755


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (tar_gz(), "it is empty"),
        (tar_gz(("other", b"x")), "it holds 'other'"),
        (tar_gz(("kubesolo", None)), "it holds 'kubesolo', which is no file"),
        (tar_gz(("../kubesolo", b"x")), "it holds '../kubesolo'"),
        (tar_gz(("/usr/bin/kubesolo", b"x")), "it holds '/usr/bin/kubesolo'"),
        (tar_gz(("kubesolo", b"x"), ("../../etc/passwd", b"x")), r"holds '../../etc/passwd'"),
        (tar_gz(("kubesolo", b"x"), ("kubesolo", b"y")), "it holds 'kubesolo'"),
        (b"", "is no tar.gz"),
        (b"\x7fELF", "is no tar.gz"),
        (gzip.compress(b"no tar", mtime=0), "is no tar.gz"),
        (ARCHIVE[: len(ARCHIVE) // 2], "is no tar.gz, or is damaged"),
        (ARCHIVE[:200] + b"\xff" * 20 + ARCHIVE[220:], "is no tar.gz, or is damaged"),
    ],
)
def test_an_odd_archive_is_refused_and_leaves_nothing(
    tmp_path: Path, data: bytes, words: str
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.tar.gz").write_bytes(data)
    target = tmp_path / "out"
    target.mkdir()
    with pytest.raises(ImageError, match=words):
        unpack_program(folder / "a.tar.gz", target / "kubesolo")
    assert not list(target.iterdir())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out"]


@pytest.mark.parametrize("arch", list(Arch))
def test_the_programs_machine_is_the_images(tmp_path: Path, arch: Arch) -> None:
    path = tmp_path / "kubesolo"
    path.write_bytes(program(arch))
    check_program(path, arch, "the program")
    other = next(each for each in Arch if each is not arch)
    with pytest.raises(ImageError, match=f"is a program for {arch}, the image is for {other}"):
        check_program(path, other, "the program")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is no ELF program"),
        (b"#!/bin/sh\n" * 20, "is no ELF program"),
        (b"\x7fELF\x01\x01" + bytes(60), "not a 64-bit"),
        (b"\x7fELF\x02\x02" + bytes(60), "not a 64-bit"),
        (program(loader="/lib/ld-musl-x86_64.so.1"), "starts with the loader /lib/ld-musl"),
        (program(loader="/lib/x")[:100], "cut off"),
    ],
)
def test_what_cannot_start_is_refused(tmp_path: Path, data: bytes, words: str) -> None:
    path = tmp_path / "kubesolo"
    path.write_bytes(data)
    with pytest.raises(ImageError, match=words):
        check_program(path, Arch.X86_64, "the program")


def test_a_glibc_build_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "kubesolo"
    path.write_bytes(program(loader="/lib64/ld-linux-x86-64.so.2"))
    check_program(path, Arch.X86_64, "the program")


def test_the_kubernetes_version_is_read_across_blocks(tmp_path: Path) -> None:
    path = tmp_path / "kubesolo"
    line = b"dep\tk8s.io/kubernetes\tv1.35.2\t"
    for shift in range(0, len(line) + 1, 5):
        path.write_bytes(b"x" * ((1 << 22) - shift) + line + b"x" * 100)
        assert kubernetes_version(path) == "1.35.2"
    path.write_bytes(program(kubernetes=None))
    assert kubernetes_version(path) is None
