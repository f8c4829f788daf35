"""The readers of foreign bytes, each as a function that ends well for any input.

A reader may refuse, by the errors that its docstring names; anything else that leaves it is a
fault. Where something follows from what was read, it is asserted here.
"""

from __future__ import annotations

import json
import os
import tempfile
from base64 import b64decode
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from product.errors import KubesoloError
from product.image.recipe import Arch
from product.image.tools import IMAGES
from scenarios.fuzz.acting import CHANNEL_SEEDS, FOLDER_SEEDS, channel_daemon, request_folder

_KIB = 1024
_EXAMPLES = IMAGES.parent / "docs/examples"
_MANIFEST = {
    "schema": 1,
    "version": "1.2.3-rc.1",
    "architecture": "x86_64",
    "artifacts": [{"name": "kernel", "size": 5, "sha256": "a" * 64}],
    "kubernetes": "1.36.3",
}
_TERMS = {"paused": "why", "rollout": {"percent": 25, "start": "2026-12-01T08:00:00Z"}}
_DELTA = {
    "format": "kubesolo-delta-1",
    "name": "root.squashfs",
    "from": "a" * 64,
    "to": "b" * 64,
    "size": 9,
    "sha256": "c" * 64,
}
_STATE = {"phase": "staged", "attempt_count": 2, "to_version": "1.2.3", "last_error": None}
_INTERFACE = {
    "id": "eth0",
    "name": "eth0",
    "dhcp4": False,
    "addresses": ["192.0.2.7/24"],
    "routes": [{"to": "default", "via": "192.0.2.1"}],
}
_OCI_LAYER = {
    "mediaType": "application/vnd.oci.image.manifest.v1+json",
    "digest": f"sha256:{'0' * 64}",
    "size": 5,
    "artifactType": "application/vnd.kubesolo.os.metadata.v1",
    "platform": {"architecture": "amd64", "os": "linux"},
    "annotations": {"org.opencontainers.image.title": "metadata/timestamp.json"},
}
_OCI_IMAGE = {"schemaVersion": 2, "artifactType": "x", "layers": [_OCI_LAYER]}
_CHALLENGE = b'Basic realm="a \\" b", Bearer realm="https://a.b/t",service=a\nNTLM abc=='
_OCI_ROW = {
    "digest": "sha256:" + "a" * 64,
    "artifactType": "application/vnd.kubesolo.os.metadata.v1",
    "annotations": {"org.opencontainers.image.title": "metadata/timestamp.json"},
}
_OCI_INDEX = {"schemaVersion": 2, "manifests": [_OCI_ROW]}
_OCI_MANIFEST = {"schemaVersion": 2, "layers": [_OCI_ROW]}
_STICK = {"timestamp": "a" * 64, "outcome": "done", "tries": 1, "reason": "why", "time": "now"}
_KUBECONFIG = """apiVersion: v1
clusters: [{name: c, cluster: {server: "https://127.0.0.1:6443", certificate-authority-data: QQ==}}]
users: [{name: u, user: {client-certificate-data: QQ==, client-key-data: QQ==}}]
contexts: [{name: x, context: {cluster: c, user: u}}]
current-context: x
"""


@dataclass(frozen=True, slots=True)
class Target:
    """A reader; ``seeds`` are inputs that it accepts, ``longest`` the bytes of a fuzzed one."""

    name: str
    run: Callable[[bytes], None]
    seeds: tuple[bytes, ...]
    longest: int = 4 * _KIB


def _json(document: object) -> bytes:
    return json.dumps(document).encode()


@contextmanager
def _file(data: bytes, name: str = "input") -> Iterator[str]:
    """``data`` as a file in memory, one for each process."""
    folder = Path(tempfile.gettempdir(), f"kubesolo-fuzz-{os.getpid()}")
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_bytes(data)
    try:
        yield str(path)
    finally:
        path.unlink(missing_ok=True)
        with suppress(OSError):
            folder.rmdir()


# The boot loader's and the agent's own records.


def _boot_environment(data: bytes) -> None:
    from product.agent.bootloader.grubenv import format_block, parse_block

    try:
        block = parse_block(data)
    except ValueError:
        return
    own = {"active_slot": "A", "boot_counter": "3", "boot_success": "0"}
    again = parse_block(format_block(own, block.variables)).variables
    for name, value in own.items():
        assert again[name.encode()] == value.encode(), f"{name} does not come back"


def _autoboot(data: bytes) -> None:
    from product.agent.bootloader.tryboot import TrybootEnv
    from product.disk.autoboot import PARTITIONS, choose, parse_autoboot

    with _file(data) as path:
        folder, name = os.path.split(path)
        found = TrybootEnv(lambda writable: nullcontext(folder), name).read()
    try:
        content = parse_autoboot(data)
    except ValueError:
        assert not found.valid, "what is not ours is valid"
        return
    for slot, flag in ((content.default, False), (content.tryboot, True)):
        assert PARTITIONS[slot] == choose(data, tryboot=flag).partition
    if found.valid and found.boot_success:
        assert content.default == found.active_slot, "the firmware boots another slot"


def _update_state(data: bytes) -> None:
    from product.agent.records.state import load_state

    with _file(data) as path:
        loaded = load_state(path)
    json.dumps(loaded.state._asdict()).encode()


def _history(data: bytes) -> None:
    from product.agent.records.history import History

    with _file(data) as path:
        json.dumps(History(path).entries())


def _counters(data: bytes) -> None:
    from product.agent.records.counters import CounterFile, _parse

    with _file(data) as path:
        found = CounterFile(path, f"{path}.history", f"{path}.lock").read()
    assert _parse(_json(found.as_json())).as_json() == found.as_json()


def _metrics_request(data: bytes) -> None:
    from product.agent.metrics.server import Server

    answer = Server([], 0, "/dev/null", "/nowhere")._answer(data, b"\n\n" in data)
    head, _, body = answer.partition(b"\r\n\r\n")
    lines = head.decode("ascii").split("\r\n")
    assert f"Content-Length: {len(body)}" in lines or not body
    assert lines[0].split()[1] in ("200", "400", "404", "405", "431")


def _quarantine(data: bytes) -> None:
    from product.agent.records.quarantine import Quarantine

    with _file(data) as path, suppress(KubesoloError):
        Quarantine(path).entries()


def _manifest(data: bytes) -> None:
    from product.manifest import Manifest

    with suppress(KubesoloError):
        manifest = Manifest.parse(data)
        again = Manifest.parse(manifest.to_bytes())
        assert again.artifacts == manifest.artifacts, "what is written is not what was read"


def _cosign_payload(data: bytes) -> None:
    """Signed, because nothing else is read."""
    from product.agent.trust.cosign import Flaw, check_payload
    from product.agent.trust.tests import support_cosign as made

    with suppress(Flaw):
        check_payload(made.KEY.public_key(), data, made.signed(data), made.DIGEST)
        image = json.loads(data)["critical"]["image"]
        assert image == image | {"docker-manifest-digest": made.DIGEST}, "another digest counts"


def _cosign_statement(data: bytes) -> None:
    from product.agent.trust.cosign import Flaw, check_bundle
    from product.agent.trust.tests import support_cosign as made

    with suppress(Flaw):
        check_bundle(made.KEY.public_key(), _json(made.bundle(data)), made.DIGEST)
        digests = [subject["digest"]["sha256"] for subject in json.loads(data)["subject"]]
        assert made.DIGEST.partition(":")[2] in digests, "another digest counts"


def _cosign_bundle(data: bytes) -> None:
    from product.agent.trust.cosign import Flaw, check_bundle
    from product.agent.trust.tests import support_cosign as made

    with suppress(Flaw):
        check_bundle(made.KEY.public_key(), data, made.DIGEST)
        envelope = json.loads(data)["dsseEnvelope"]
        body = b64decode(envelope["payload"])
        assert json.loads(body) == json.loads(made.statement()), "what nobody signed counts"


def _cosign_key(data: bytes) -> None:
    from product.agent.trust.cosign import parse_key

    with suppress(ValueError):
        parse_key(data)


def _signatures() -> tuple[bytes, ...]:
    """What support_cosign made, of which the payload, the statement and the bundle are read."""
    from product.agent.trust.tests import support_cosign as made

    return tuple(
        (made.FIXTURES / name).read_bytes()
        for name in ("payload.json", "bundle.json", "cosign.pub")
    )


def _statement() -> bytes:
    document = json.loads(_signatures()[1])
    return b64decode(document["dsseEnvelope"]["payload"])


def _version(data: bytes) -> None:
    from product.version import parse_version

    text = data.decode("utf-8", "replace")
    with suppress(KubesoloError):
        version = parse_version(text)
        assert version == parse_version(text.removeprefix("v")), "the letter counts"
        assert min(version.core) >= 0, "a number below zero"


def _release_terms(data: bytes) -> None:
    from product.terms import Terms

    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return
    if isinstance(document, dict):
        with suppress(KubesoloError):
            terms = Terms.parse(document)
            assert Terms.parse(terms.to_custom()) == terms, "what is signed is not what was read"


# A Zstandard frame of one raw block, and an old file that begins with a frame.
_FRAME = b"\x28\xb5\x2f\xfd\x20\x40" + (64 << 3 | 1).to_bytes(3, "little") + b"content " * 8
_OLD = (_FRAME + bytes(range(256)) * 16)[: 4 * _KIB]


def _delta_seed() -> bytes:
    from product.agent.slots.delta import COPY, EMIT, END, HEADER, LOAD, MAGIC, META, PLAIN

    # One reference to the old file's frame; 16 bytes as they are, 48 compressed as metadata.
    load = bytes([LOAD, 1, 64, len(_FRAME), 0, len(_FRAME) * 2 & 0x7F | 0x80, 1, 64]) + _FRAME
    emit = bytes([EMIT, PLAIN, 1, 16, EMIT, META, 1, 48])
    copy = bytes([COPY, 0, 0x80, 2])
    header = HEADER.pack(1000, 4096, 4096, 65536, 6, 0)
    return MAGIC + header + copy + load + emit + copy + bytes([END])


@cache
def _locked_zstd() -> str:
    from product.image.cache import Cache
    from product.image.tools import HostTools

    tools = HostTools.prepare(Cache())
    return str(tools.path(f"usr/lib/{tools.arch.multiarch}/libzstd.so.1"))


def _delta(data: bytes) -> None:
    from product.agent.slots.delta import apply_delta
    from product.manifest import Artifact

    artifact = Artifact("root.squashfs", 1000, "0" * 64)
    with _file(data, "delta") as delta, _file(_OLD, "old") as old, _file(b"", "made") as made:
        try:
            apply_delta(delta, old, artifact, made, library=_locked_zstd())
        except KubesoloError:
            assert os.stat(made).st_size <= artifact.size, "more than the artifact was written"
        else:
            raise AssertionError("bytes with another digest were accepted")


def _signed_deltas(data: bytes) -> None:
    from product.deltas import parse_deltas

    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return
    if isinstance(document, dict):
        with suppress(KubesoloError):
            found = parse_deltas(document)
            again = {"deltas": [delta.to_custom() for delta in found]}
            assert parse_deltas(again) == found, "what is signed is not what was read"


def _root_metadata(data: bytes) -> None:
    from tuf.api.exceptions import RepositoryError

    from product.agent.trust.pin import parse_root

    with suppress(RepositoryError):
        parse_root(data)


# What people and other programs write.


def _update_conf(data: bytes) -> None:
    from product.agent.config import load_config

    with _file(data) as path:
        load_config(path)


def _window(data: bytes) -> None:
    from product.agent.window import next_opening, window_is_open

    text = data.decode("utf-8", "replace")
    with suppress(KubesoloError):
        window_is_open(text, 721)
        next_opening(text, 1_800_000_000.0, lambda at: int(at) // 60 % 1440)


def _user_data(data: bytes) -> None:
    from product.cloudinit.load import load_user_data

    with suppress(KubesoloError):
        load_user_data(data)


def _network_config(data: bytes) -> None:
    from product.cloudinit.load import load_network

    with suppress(KubesoloError):
        load_network(data)


def _meta_data(data: bytes) -> None:
    from product.cloudinit.load import load_meta_data

    with suppress(KubesoloError):
        load_meta_data(data)


def _network_file(data: bytes) -> None:
    from product.netconf.document import parse

    with suppress(KubesoloError):
        parse(data)


def _kubernetes_settings(data: bytes) -> None:
    from product.node.machine import Machine
    from product.node.settings import read_settings

    machine = Machine(frozenset({0, 1}), {"cpu": 2.0, "memory": 2.0 * (1 << 30)})
    with _file(data) as path:
        json.dumps(read_settings(path, None, machine).values)


def _pod_request(data: bytes) -> None:
    from product.agent.services.request_directory import _parse

    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return
    with suppress(KubesoloError):
        _parse(document)


def _oci_manifest(data: bytes) -> None:
    from product.agent.sources.oci import _is_path
    from product.agent.sources.oci_manifest import is_digest, parse_oci_manifest

    with suppress(KubesoloError):
        for row in parse_oci_manifest(data, "an index").rows:
            assert is_digest(row.digest), "a digest that is none"
            assert row.size >= 0, "a size below nothing"
            if row.title and _is_path(row.title):
                assert ".." not in row.title.split("/"), "a title leads out of the repository"


def _login_challenge(data: bytes) -> None:
    from product.agent.net.challenge import parse_challenges

    lines = data.decode("latin-1").split("\n")
    for challenge in parse_challenges(lines):
        assert challenge.scheme, "a scheme without a name"
        assert all(challenge.parameters), "a parameter without a name"


def _registry_token(data: bytes) -> None:
    from product.agent.sources.registry import _codes, _found_token

    token = _found_token(data)
    assert token is None or (token.isascii() and token.isprintable() and " " not in token)
    _codes(data)


def _registry_reference(data: bytes) -> None:
    from product.agent.settings import check_value
    from product.agent.sources.registry import parse_reference

    registry, _, tag = data.decode("utf-8", "replace").partition("\n")
    if check_value("registry", registry) or check_value("tag", tag):
        with suppress(KubesoloError):
            parse_reference(registry, tag)
        return
    # What a configuration may hold can be asked for, and nowhere but below its own name.
    reference = parse_reference(registry, tag)
    assert reference.base.partition("/v2/")[2] == reference.name
    assert ".." not in reference.base.split("/")


def _kubeconfig(data: bytes) -> None:
    from product.agent.kubernetes.kubeconfig import read_kubeconfig

    with _file(data) as path, suppress(KubesoloError):
        read_kubeconfig(path)


def _certificate_index(data: bytes) -> None:
    from product.node import index

    with _file(data, index.NAME) as path:
        index.read_index(os.path.dirname(path))


# Disks, firmware, kernel.


def _partition_table(data: bytes) -> None:
    from product.disk.gpt import Disk, is_whole, read_table

    with _file(data) as path:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            disk = Disk(descriptor, "disk")
            with suppress(KubesoloError, OSError):
                read_table(disk)
            is_whole(disk)
        finally:
            os.close(descriptor)


def _exfat() -> bytes:
    """512-byte sectors and clusters, the root folder at sector 2."""
    image = bytearray(2 * _KIB)
    image[3:11] = b"EXFAT   "
    image[88:100] = b"".join(number.to_bytes(4, "little") for number in (2, 2, 2))
    image[108] = 9
    image[1024:1036] = b"\x83\4L\0A\0B\0E\0\0\0"
    return bytes(image)


def _ntfs() -> bytes:
    """512-byte sectors and clusters, the table of file records at cluster 1."""
    image = bytearray(4 * _KIB)
    image[3:11] = b"NTFS    "
    image[11:14] = b"\0\2\1"
    image[48], image[64] = 1, 1
    image[2048:2052] = b"FILE"
    image[2068] = 56
    image[2104:2108], image[2108] = b"\x60\0\0\0", 40
    image[2120:2126] = b"\x08\0\0\0\x18\0"
    image[2128:2136] = b"L\0A\0B\0E\0"
    return bytes(image)


def _volume_label(data: bytes) -> None:
    from product.disk.labels import read_volume

    with _file(data) as path:
        read_volume(path)


def _foreign_volume(data: bytes) -> None:
    from product.disk.foreign import read_foreign

    with _file(data) as path:
        found = read_foreign(path)
        assert found is None or all(0 < len(label) < 256 for label in found.labels)


def _registry_documents(data: bytes) -> None:
    from product.release.push import metadata_manifests, titled_files

    assert len(metadata_manifests(data)) < 9
    titled_files(data)


def _sticks(data: bytes) -> None:
    from product.agent.records.sticks import read_sticks

    with _file(data) as path:
        read_sticks(path)


def _folder_exchange(data: bytes) -> None:
    from product.disk.fat import exchange

    with _file(data) as path:
        with suppress(KubesoloError):
            exchange(path, [("KUBESOLO", "INCOMING")])
        assert os.path.getsize(path) == len(data), "a write changed the size of the file system"


def _signed_program(data: bytes) -> None:
    from product.disk.pe import is_signed

    is_signed(data)


def _loader_record(data: bytes) -> None:
    from product.disk.loader import parse_record

    with suppress(KubesoloError):
        parse_record(data, "a record")


def _firmware_strings(data: bytes) -> None:
    from product.channel.credential import oem_strings

    assert sum(map(len, oem_strings(data))) <= len(data), "more than there is"


def _kernel_addresses(data: bytes) -> None:
    from product.agent.net.interfaces import _address, _messages

    for _, body in _messages(data):
        _address(body)


def _name_servers(data: bytes) -> None:
    from product.agent.net.configured import name_servers

    with _file(data) as path:
        name_servers(path)


def _crash_dump(data: bytes) -> None:
    from product.agent.logs.boots import reason_in

    reason_in(data.decode("utf-8", "replace"))


def _log_line(data: bytes) -> None:
    from product.agent.logs.lines import parse_line

    parse_line("kernel", data.decode("utf-8", "replace"))


_AUDIT_EVENT = (
    b'type=SYSCALL msg=audit(1793491300.250:41): success=yes ppid=7 pid=8 uid=0 exe="/a" key="k"\n'
    b"type=PATH msg=audit(1793491300.250:41): item=0 name=2F6574632F70610A nametype=NORMAL\n"
    b"type=PROCTITLE msg=audit(1793491300.250:41): proctitle=6D6F64006475\n"
)


def _audit_log(data: bytes) -> None:
    from product.agent.logs.audit import FILE, audit_lines

    with _file(data, FILE) as path:
        for line in audit_lines(os.path.dirname(path)):
            assert line.text.isprintable(), "what a program is called reaches the terminal"


# Between host and guest, and what a build host is given.


def _channel_frames(data: bytes) -> None:
    from product.channel.framing import Decoder, encode

    whole = Decoder().feed(data)
    split = Decoder()
    parts = [message for byte in data for message in split.feed(bytes([byte]))]
    assert parts == whole, "what arrives in pieces is read differently"
    for message in whole:
        assert Decoder().feed(encode(message)) == [message], "a message does not come back"


def _image_archive(data: bytes) -> None:
    from product.node.images import image_names

    with _file(data) as path, suppress(KubesoloError):
        image_names(path)


def _program_file(data: bytes) -> None:
    from product.image.payload.kubesolo_elf import check_program

    with _file(data) as path, suppress(KubesoloError):
        check_program(Path(path), Arch.X86_64, "the program")


def _planted(data: bytes) -> None:
    # Four comparisons, which nobody guesses and coverage finds one by one.
    if data[:1] == b"K" and data[1:2] == b"S" and data[2:3] == b"O" and data[3:4] == b"L":
        raise RuntimeError("the planted fault")


def _examples(*, network: bool) -> tuple[bytes, ...]:
    found = sorted(_EXAMPLES.glob("*.yaml"))
    return tuple(
        path.read_bytes() for path in found if path.name.startswith("network-config") == network
    )


def _gpt() -> bytes:
    import uuid

    from product.disk.gpt import Disk, Table, write_table

    with _file(bytes(512 * 128)) as path:
        descriptor = os.open(path, os.O_RDWR)
        try:
            write_table(Disk(descriptor, "disk"), Table(uuid.UUID(int=1), 34, {}))
        finally:
            os.close(descriptor)
        return Path(path).read_bytes()


_ALL: tuple[Target, ...] = (
    Target(
        "boot-environment",
        _boot_environment,
        (
            b"# GRUB Environment Block\nactive_slot=A\nboot_counter=3\nboot_success=0\n"
            + b"#" * 200,
        ),
        1200,
    ),
    Target(
        "autoboot",
        _autoboot,
        (
            b"[all]\ntryboot_a_b=1\nboot_partition=5\n[tryboot]\nboot_partition=6\n[all]\n"
            b"# kubesolo active_slot=B boot_counter=3 boot_success=0 tried=0 trial=B-0-1\n",
        ),
        600,
    ),
    Target("update-state", _update_state, (_json(_STATE),)),
    Target("counters", _counters, (_json({"attempts": 3, "refusals": {"rollout": 1}}),)),
    Target("metrics-request", _metrics_request, (b"GET /metrics HTTP/1.1\r\nHost: a\n\n",), 512),
    Target("history", _history, (_json({"at": "x", "event": "apply"}) + b"\n",)),
    Target(
        "quarantine",
        _quarantine,
        (_json({"a" * 64: {"version": "1.2.3", "reason": "bad", "since": "now"}}),),
    ),
    Target("manifest", _manifest, (_json(_MANIFEST),)),
    Target("cosign-payload", _cosign_payload, _signatures()[:1], 1024),
    Target("cosign-statement", _cosign_statement, (_statement(),), 1024),
    Target("cosign-bundle", _cosign_bundle, _signatures()[1:2], 2 * _KIB),
    Target("cosign-key", _cosign_key, _signatures()[2:], 1024),
    Target("version", _version, (b"1.2.3", b"v1.2.3-rc.1+build"), 128),
    Target("release-terms", _release_terms, (_json(_TERMS),)),
    Target("delta", _delta, (_delta_seed(),)),
    Target("signed-deltas", _signed_deltas, (_json({"deltas": [_DELTA]}),)),
    Target(
        "root-metadata", _root_metadata, (_json({"signatures": [], "signed": {"_type": "root"}}),)
    ),
    Target("update-conf", _update_conf, (b"server=http://updates.example/\nchannel=beta\n# x\n",)),
    Target("maintenance-window", _window, (b"22:00-04:00",), 64),
    Target("user-data", _user_data, _examples(network=False)),
    Target("network-config", _network_config, _examples(network=True)),
    Target("meta-data", _meta_data, (b"instance-id: edge-07\nlocal-hostname: edge-07\n",), 512),
    Target("network-file", _network_file, (_json({"schema": 1, "interfaces": [_INTERFACE]}),)),
    Target(
        "kubernetes-settings",
        _kubernetes_settings,
        (_json({"schema": 1, "settings": {"mtu": 1400, "reserved-cpus": "0-1", "debug": True}}),),
    ),
    Target(
        "pod-request", _pod_request, (_json({"action": "apply", "server": "http://a.b/"}),), 1024
    ),
    Target("oci-manifest", _oci_manifest, (_json(_OCI_IMAGE), _json({"manifests": [_OCI_LAYER]}))),
    Target("login-challenge", _login_challenge, (_CHALLENGE,), 1024),
    Target(
        "registry-token",
        _registry_token,
        (_json({"token": "a.b-c"}), _json({"errors": [{"code": "DENIED"}]})),
        1024,
    ),
    Target("registry-reference", _registry_reference, (b"http://10.0.2.2:5000/a/b\nedge",), 512),
    Target("kubeconfig", _kubeconfig, (_KUBECONFIG.encode(),)),
    Target("certificate-index", _certificate_index, (_json({"schema": 1}),)),
    Target("partition-table", _partition_table, (_gpt(),), 80 * _KIB),
    Target("volume-label", _volume_label, (bytes(64 * _KIB),), 80 * _KIB),
    Target("foreign-volume", _foreign_volume, (_exfat(), _ntfs()), 16 * _KIB),
    Target("registry-documents", _registry_documents, (_json(_OCI_INDEX), _json(_OCI_MANIFEST))),
    Target("stick-records", _sticks, (_json({"sticks": [_STICK]}),)),
    Target("folder-exchange", _folder_exchange, (bytes(8 * _KIB),), 16 * _KIB),
    Target("signed-program", _signed_program, (b"MZ" + bytes(58) + b"@\0\0\0PE\0\0" + bytes(200),)),
    Target("loader-record", _loader_record, (_json({"version": "1.2.3", "files": {"a": "b"}}),)),
    Target(
        "firmware-strings", _firmware_strings, (b"\x0b\x05\0\0\1kubesolo\0\0\x7f\4\0\0\0\0",), 512
    ),
    Target("kernel-addresses", _kernel_addresses, (bytes.fromhex("1c00000014000000" + "00" * 20),)),
    Target("name-servers", _name_servers, (b"nameserver 192.0.2.1\nsearch site.example\n",), 512),
    Target("crash-dump", _crash_dump, (b"<0>[   1.0] Kernel panic - not syncing: no init\n",)),
    Target("log-line", _log_line, (b"2026-12-01_10:00:00.12345 kern.err: <3>[    1.0] text",), 512),
    Target("channel-daemon", channel_daemon, CHANNEL_SEEDS, 512),
    Target("request-folder", request_folder, FOLDER_SEEDS, 512),
    Target("audit-log", _audit_log, (_AUDIT_EVENT,), 1024),
    Target("channel-frames", _channel_frames, (b'\x1e{"a": [1, "b"]}\n\x1e{}\n',), 512),
    Target("image-archive", _image_archive, (), 8 * _KIB),
    Target(
        "program-file",
        _program_file,
        ((b"\x7fELF\2\1\1" + bytes(9) + b"\2\0>\0" + bytes(60)),),
        1024,
    ),
)
# Has a fault, which each session must find before it is believed about others.
PLANTED = Target("planted", _planted, (b"kubesolo",), 16)
TARGETS = {target.name: target for target in _ALL}
