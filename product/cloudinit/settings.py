"""The ``kubesolo:`` block: KubeSolo's settings, by the name of the flag or of its own file.

What comes out is a mapping of flag names; the image's payload translates it. Settings that no flag
has are named after those of KubeSolo's file: ``node-name``, ``pki-ca-cert``, ``pki-ca-key``.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

from product.cloudinit.checking import flag, guess, shown, whole
from product.cloudinit.document import Path
from product.cloudinit.edge import edge_key
from product.cloudinit.errors import Faults
from product.cloudinit.hosts import address, dns_name, is_address, require_text

Setting = bool | int | str | list[str] | dict[str, str]
_RESOURCES = ("cpu", "memory", "ephemeral-storage", "pid")
_QUANTITY = re.compile(r"(0|[1-9][0-9]*)(\.[0-9]+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?")
_CPUS = re.compile(r"[0-9]{1,4}(-[0-9]{1,4})?(,[0-9]{1,4}(-[0-9]{1,4})?)*")
_IMAGE = re.compile(r"[a-z0-9][A-Za-z0-9._/:@-]{0,254}")


def _text(value: object) -> str:
    return require_text(value).strip()


def _whole(low: int, high: int, zero: bool = False) -> Callable[[object], int]:
    def check(value: object) -> int:
        if zero and value == "0":
            return 0
        return whole(value, low, high)

    return check


def _names(value: object) -> list[str]:
    """Addresses and DNS names: a list, or text with commas."""
    found = []
    for entry in _entries(value):
        if is_address(entry):
            found.append(str(address(entry)))
        elif entry.startswith("*."):
            found.append("*." + dns_name(entry[2:]))
        else:
            found.append(dns_name(entry))
    return found


def _entries(value: object) -> list[str]:
    if isinstance(value, list):
        return [_text(entry) for entry in value]
    return [part.strip() for part in _text(value).split(",") if part.strip()]


def _pairs(value: object) -> dict[str, str]:
    """``KEY: VALUE`` pairs: a mapping, or text such as ``cpu=100m,memory=500Mi``."""
    if isinstance(value, dict):
        return {key: _text(entry) for key, entry in value.items()}
    pairs = {}
    for entry in _entries(value):
        key, equals, text = entry.partition("=")
        if not equals or not key.strip() or not text.strip():
            raise ValueError(f"{shown(entry)} is not KEY=VALUE")
        if key.strip() in pairs:
            raise ValueError(f"{shown(key)} is there twice")
        pairs[key.strip()] = text.strip()
    return pairs


def _reserved(value: object) -> dict[str, str]:
    pairs = _pairs(value)
    for key, text in pairs.items():
        if key not in _RESOURCES:
            raise ValueError(f"{shown(key)} is none of {', '.join(_RESOURCES)}")
        if not _QUANTITY.fullmatch(text):
            raise ValueError(f"{key}: {shown(text)} is not a quantity, such as 500Mi or 250m")
    return pairs


def _choice(*names: str) -> Callable[[object], str]:
    def check(value: object) -> str:
        text = _text(value)
        if text not in names:
            raise ValueError(f"{shown(text)} is none of {', '.join(names)}")
        return text

    return check


def _ip(value: object) -> str:
    found = address(value)
    if found.is_link_local or str(found) == "255.255.255.255":
        raise ValueError(f"{shown(value)} is not an address that Kubernetes takes")
    return str(found)


def _node_name(value: object) -> str:
    text = _text(value)
    if is_address(text):
        raise ValueError(f"{shown(text)} is an address, not a name")
    return dns_name(text)


def _namespace(value: object) -> str:
    text = dns_name(value)
    if "." in text:
        raise ValueError(f"{shown(text)} is not a namespace: it has a dot")
    return text


def _directory(value: object) -> str:
    text = _text(value)
    if not text.startswith("/") or ".." in text.split("/"):
        raise ValueError(f"{shown(text)} is not an absolute path")
    return text


def _access(value: object) -> list[str]:
    """``all``, ``node``, or addresses and networks: a list, or text with commas."""
    found = _entries(value)
    if found in (["all"], ["node"]):
        return found
    if not found:
        raise ValueError("needs all, node, or a list of addresses and networks")
    return [_network(entry) for entry in found]


def _network(text: str) -> str:
    try:
        return str(ipaddress.ip_network(text)) if "/" in text else str(address(text))
    except ValueError as error:
        raise ValueError(
            f"{shown(text)} is neither all, node, an address nor a network such as 10.0.0.0/8"
            f" ({error})"
        ) from None


def _cpus(value: object) -> str:
    text = _text(value)
    if not _CPUS.fullmatch(text):
        raise ValueError(f"{shown(text)} is not a set of CPUs, such as 0-1,4")
    for part in text.split(","):
        low, _, high = part.partition("-")
        if high and int(low) > int(high):
            raise ValueError(f"{shown(text)}: the range {part} runs backwards")
    return text


def _image(value: object) -> str:
    text = _text(value)
    if not _IMAGE.fullmatch(text):
        raise ValueError(f"{shown(text)} is not the name of an image")
    return text


def _listen(value: object) -> str:
    text = _text(value)
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not (port.isascii() and port.isdigit() and 0 < int(port[:6]) < 65536):
        raise ValueError(f"{shown(text)} is not ADDRESS:PORT, such as 127.0.0.1:9105")
    if host and not is_address(host):
        raise ValueError(f"{shown(text)} is not ADDRESS:PORT, such as 127.0.0.1:9105")
    return text


def _edge_id(value: object) -> str:
    text = _text(value)
    if len(text) > 255 or not text.isprintable() or any(c.isspace() for c in text):
        raise ValueError("is not an Edge ID: at most 255 printable characters without blanks")
    return text


def _mode(value: object) -> str:
    """``auto``, or whether container mode is on: KubeSolo's file has true and false."""
    if value == "auto":
        return "auto"
    return "true" if flag(value) else "false"


class Kind(NamedTuple):
    """A setting: its place in KubeSolo's own file, empty where it has none; how it is read."""

    place: str
    check: Callable[[object], Setting]


SETTINGS: Mapping[str, Kind] = {
    "debug": Kind("logging.debug", flag),
    "pprof-server": Kind("logging.pprof", flag),
    "node-ip": Kind("network.nodeIP", _ip),
    "mtu": Kind("network.mtu", _whole(576, 65535, zero=True)),
    "disable-ipv6": Kind("network.disableIPv6", flag),
    "load-balancer": Kind("network.loadBalancer.enabled", flag),
    "load-balancer-ip": Kind("network.loadBalancer.ip", _ip),
    "container-mode": Kind("runtime.containerMode", _mode),
    "node-name": Kind("kubernetes.nodeName", _node_name),
    "apiserver-extra-sans": Kind("kubernetes.apiServer.extraSANs", _names),
    "startup-timeout": Kind("kubernetes.apiServer.startupTimeoutSeconds", _whole(10, 86400)),
    "cpu-manager-policy": Kind("kubernetes.kubelet.cpuManager.policy", _choice("none", "static")),
    "cpu-manager-policy-options": Kind("kubernetes.kubelet.cpuManager.policyOptions", _pairs),
    "reserved-cpus": Kind("kubernetes.kubelet.cpuManager.reservedCPUs", _cpus),
    "system-reserved": Kind("kubernetes.kubelet.systemReserved", _reserved),
    "local-storage": Kind("storage.localPath.enabled", flag),
    "local-storage-shared-path": Kind("storage.localPath.sharedPath", _directory),
    "db-wal-repair": Kind("storage.dbWALRepair", flag),
    "portainer-edge-id": Kind("portainer.edgeID", _edge_id),
    "portainer-edge-key": Kind("portainer.edgeKey", edge_key),
    "portainer-edge-async": Kind("portainer.async", flag),
    "portainer-edge-image": Kind("portainer.image", _image),
    "d2k": Kind("d2k.enabled", flag),
    "d2k-namespace": Kind("d2k.namespace", _namespace),
    "metrics-server": Kind("metrics.enabled", flag),
    "metrics-bind-address": Kind("metrics.bindAddress", _listen),
    "pki-ca-cert": Kind("pki.caCert", _directory),
    "pki-ca-key": Kind("pki.caKey", _directory),
    # Of the project's own Kubernetes alone.
    "api-access": Kind("", _access),
    "audit-log": Kind("", flag),
    "pod-security": Kind("", _choice("privileged", "baseline", "restricted")),
    "secrets-encryption": Kind("", flag),
}
# An empty text takes the default in KubeSolo's own file; so it does here.
_EMPTY_IS_DEFAULT = frozenset(
    {"node-ip", "load-balancer-ip", "local-storage-shared-path", "reserved-cpus", "node-name",
     "apiserver-extra-sans", "pki-ca-cert", "pki-ca-key", "system-reserved",
     "cpu-manager-policy-options", "portainer-edge-id", "portainer-edge-key"}
)  # fmt: skip
_FIXED = "is fixed by the image"
REFUSED: Mapping[str, str] = {
    "path": f"{_FIXED}: /var/lib/kubesolo is the data partition",
    "container-runtime-endpoint": f"{_FIXED}: it carries its own containerd",
    "runtime.endpoint": f"{_FIXED}: it carries its own containerd",
    "full": "has no effect in KubeSolo; leave it out",
    "config": f"{_FIXED}: the node writes KubeSolo's file from this block",
    "api.socketPath": f"{_FIXED}: KubeSolo's configuration API stays off",
    "kubernetes.kubelet.external": f"{_FIXED}: it carries its own kubelet",
    "kubernetes.bootstrapToken": "is not supported: the node's own kubelet needs none",
}
# What KubeSolo's own file has at its top and means nothing here.
_HEAD = ("apiVersion", "kind")
_BY_PLACE = {kind.place: name for name, kind in SETTINGS.items() if kind.place}
_GROUPS = frozenset(
    ".".join(place.split(".")[:depth])
    for place in [*_BY_PLACE, *REFUSED, "api.enabled"]
    for depth in range(1, place.count(".") + 1)
)


def read_settings(block: object) -> dict[str, Setting]:
    """The block by flag names. Raises Faults with every fault, ValueError if it is no mapping."""
    if not isinstance(block, dict):
        raise ValueError(f"needs a mapping of KubeSolo's settings, found {shown(block)}")
    found: dict[str, Setting] = {}
    names: dict[str, Path] = {}
    faults: list[tuple[Path, str]] = []
    for name, path, value in _flatten(block, (), faults):
        if value is None or (value in ("", [], {}) and name in _EMPTY_IS_DEFAULT):
            continue
        if name in names:
            earlier = ".".join(str(step) for step in names[name])
            faults.append((path, f"is the same setting as {earlier}, which is there, too"))
            continue
        names[name] = path
        try:
            found[name] = SETTINGS[name].check(value)
        except ValueError as error:
            faults.append((path, str(error)))
    faults += _together(found, names)
    if faults:
        raise Faults(faults)
    return found


def _flatten(
    block: Mapping[str, object], path: Path, faults: list[tuple[Path, str]]
) -> list[tuple[str, Path, object]]:
    """Name, path and value of each setting; what is none goes to ``faults``."""
    found: list[tuple[str, Path, object]] = []
    for key, value in block.items():
        here = (*path, key)
        place = ".".join(str(step) for step in here)
        if place in REFUSED:
            if value not in (None, "", "false"):
                faults.append((here, REFUSED[place]))
        elif place == "api.enabled":
            if not (isinstance(value, str) and value.lower() in ("false", "no", "off")):
                faults.append(
                    (here, "must stay false: KubeSolo would replace its own program, which an "
                     "immutable image cannot allow; update the node instead")
                )  # fmt: skip
        elif not path and key in _HEAD:
            faults.append((here, "is the head of KubeSolo's own file; leave it out"))
        elif not path and key in SETTINGS and not (key in _GROUPS and isinstance(value, dict)):
            found.append((key, here, value))
        elif place in _BY_PLACE:
            found.append((_BY_PLACE[place], here, value))
        elif place in _GROUPS:
            if isinstance(value, dict):
                found += _flatten(value, here, faults)
            elif value is not None:
                faults.append((here, f"needs a mapping, found {shown(value)}"))
        else:
            known = [name.rpartition(".")[2] for name in _BY_PLACE if name.startswith(f"{place}.")]
            inside = [
                other.split(".")[len(path)] for other in _BY_PLACE
                if other.split(".")[: len(path)] == list(path)
            ]  # fmt: skip
            names = inside if path else [*SETTINGS, *inside]
            better = guess(key, names + known) if len(faults) < 20 else ""
            faults.append((here, f"unknown key: KubeSolo has no such setting{better}"))
    return found


def _together(found: Mapping[str, Setting], names: Mapping[str, Path]) -> list[tuple[Path, str]]:
    """Settings that do not go together."""
    faults: list[tuple[Path, str]] = []
    for one, other in (
        ("portainer-edge-id", "portainer-edge-key"),
        ("portainer-edge-key", "portainer-edge-id"),
        ("pki-ca-cert", "pki-ca-key"),
        ("pki-ca-key", "pki-ca-cert"),
    ):
        if one in names and other not in names:
            faults.append((names[one], f"needs {other}, too: KubeSolo takes both or none"))
    if found.get("d2k") and found.get("load-balancer") is False:
        faults.append((names["d2k"], "needs load-balancer, which is false here"))
    if found.get("cpu-manager-policy") == "static" and found.get("container-mode") == "true":
        faults.append((names["cpu-manager-policy"], "static is not possible in container mode"))
    return faults
