"""What the node's Kubernetes was told: ``/etc/kubesolo/kubernetes.json``.

``{"schema": 1, "settings": {NAME: value}}``. Names are those of KubeSolo's flags; settings without
a flag are called ``node-name``, ``pki-ca-cert`` and ``pki-ca-key``. Whoever wrote the file has
checked it; a person may have changed it since. A value that cannot be used is left out and said: a
typing error must not keep a node's pods from running.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

from product.agent.system.files import read_bounded
from product.node.machine import Machine, cpu_set
from product.node.names import is_address, is_link_local, is_network
from product.node.payload import Payload

SCHEMA = 1
POD_SECURITY = ("privileged", "baseline", "restricted")
MAX_BYTES = 256 * 1024
_CPUS = re.compile(r"[0-9]{1,4}(-[0-9]{1,4})?(,[0-9]{1,4}(-[0-9]{1,4})?)*")
_QUANTITY = re.compile(r"(0|[1-9][0-9]*)(\.[0-9]+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?")
_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_NAME = re.compile(rf"(\*\.)?{_LABEL}(\.{_LABEL})*")

Setting = bool | int | str | list[str] | dict[str, str]


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("true or false was expected")
    return value


def _whole(low: int, high: int) -> Callable[[object], int]:
    def check(value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise ValueError(f"a whole number from {low} to {high} was expected")
        return value

    return check


def _text(value: object) -> str:
    if not isinstance(value, str) or not value or "\n" in value or "\0" in value:
        raise ValueError("a text was expected")
    return value


def _ip(value: object) -> str:
    if not is_address(text := _text(value)):
        raise ValueError("an IP address was expected")
    if is_link_local(text):
        raise ValueError("a link-local address is none that Kubernetes takes")
    return text


def _mtu(value: object) -> int:
    return 0 if value == 0 else _whole(576, 65535)(value)


def _names(value: object) -> list[str]:
    """A list, or text with commas."""
    entries = value.split(",") if isinstance(value, str) else value
    if not isinstance(entries, list):
        raise ValueError("a list of names and addresses was expected")
    found = [_text(entry).strip() for entry in entries]
    for entry in found:
        if not is_address(entry) and not _NAME.fullmatch(entry):
            raise ValueError(f"{entry!r} is neither a lower-case DNS name nor an IP address")
    return found


def _pairs(value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        raise ValueError("an object of texts was expected")
    return {_text(key): _text(entry) for key, entry in value.items()}


def _reserved(value: object) -> dict[str, str]:
    pairs = _pairs(value)
    for key, text in pairs.items():
        if key not in ("cpu", "memory", "ephemeral-storage", "pid"):
            raise ValueError(f"there is no resource {key!r}")
        if not _QUANTITY.fullmatch(text):
            raise ValueError(f"{text!r} is not a quantity")
    return pairs


def _choice(*names: str) -> Callable[[object], str]:
    def check(value: object) -> str:
        if value not in names:
            raise ValueError(f"one of {', '.join(names)} was expected")
        return str(value)

    return check


def _cpus(value: object) -> str:
    if not _CPUS.fullmatch(text := _text(value)):
        raise ValueError("a set of CPUs such as 0-1,4 was expected")
    cpu_set(text)
    return text


def _access(value: object) -> list[str]:
    """``all``, ``node``, or a list of addresses and networks."""
    entries = value.split(",") if isinstance(value, str) else value
    if not isinstance(entries, list) or not entries:
        raise ValueError("all, node, or a list of addresses and networks was expected")
    found = [_text(entry).strip() for entry in entries]
    if found in (["all"], ["node"]):
        return found
    for entry in found:
        if not is_network(entry):
            raise ValueError(f"{entry!r} is neither an address nor a network such as 10.0.0.0/8")
    return found


class Kind(NamedTuple):
    """A setting: its place in KubeSolo's own file, empty where it has none; how it is checked."""

    place: str
    check: Callable[[object], Setting]


KINDS: Mapping[str, Kind] = {
    "debug": Kind("logging.debug", _flag),
    "pprof-server": Kind("logging.pprof", _flag),
    "node-ip": Kind("network.nodeIP", _ip),
    "mtu": Kind("network.mtu", _mtu),
    "disable-ipv6": Kind("network.disableIPv6", _flag),
    "load-balancer": Kind("network.loadBalancer.enabled", _flag),
    "load-balancer-ip": Kind("network.loadBalancer.ip", _ip),
    "container-mode": Kind("runtime.containerMode", _choice("auto", "true", "false")),
    "node-name": Kind("kubernetes.nodeName", _text),
    "apiserver-extra-sans": Kind("kubernetes.apiServer.extraSANs", _names),
    "startup-timeout": Kind("kubernetes.apiServer.startupTimeoutSeconds", _whole(10, 86400)),
    "cpu-manager-policy": Kind("kubernetes.kubelet.cpuManager.policy", _choice("none", "static")),
    "cpu-manager-policy-options": Kind("kubernetes.kubelet.cpuManager.policyOptions", _pairs),
    "reserved-cpus": Kind("kubernetes.kubelet.cpuManager.reservedCPUs", _cpus),
    "system-reserved": Kind("kubernetes.kubelet.systemReserved", _reserved),
    "local-storage": Kind("storage.localPath.enabled", _flag),
    "local-storage-shared-path": Kind("storage.localPath.sharedPath", _text),
    "db-wal-repair": Kind("storage.dbWALRepair", _flag),
    "portainer-edge-id": Kind("portainer.edgeID", _text),
    "portainer-edge-key": Kind("portainer.edgeKey", _text),
    "portainer-edge-async": Kind("portainer.async", _flag),
    "portainer-edge-image": Kind("portainer.image", _text),
    "d2k": Kind("d2k.enabled", _flag),
    "d2k-namespace": Kind("d2k.namespace", _text),
    "metrics-server": Kind("metrics.enabled", _flag),
    "metrics-bind-address": Kind("metrics.bindAddress", _text),
    "pki-ca-cert": Kind("pki.caCert", _text),
    "pki-ca-key": Kind("pki.caKey", _text),
    "api-access": Kind("", _access),
    "audit-log": Kind("", _flag),
    "pod-security": Kind("", _choice(*POD_SECURITY)),
    "secrets-encryption": Kind("", _flag),
}
# Those that KubeSolo has as well.
OF_KUBESOLO = tuple(name for name, kind in KINDS.items() if kind.place)
# What the payload ``upstream`` does with them; its payload.json says so.
OF_UPSTREAM = (
    "api-access", "apiserver-extra-sans", "audit-log", "cpu-manager-policy", "debug",
    "disable-ipv6", "load-balancer", "load-balancer-ip", "local-storage",
    "local-storage-shared-path", "metrics-server", "mtu", "node-ip", "node-name", "pod-security",
    "portainer-edge-async", "portainer-edge-id", "portainer-edge-image", "portainer-edge-key",
    "pprof-server", "reserved-cpus", "secrets-encryption", "startup-timeout", "system-reserved",
)  # fmt: skip
# Settings that need a container image of their name in the image.
OF_IMAGES = ("metrics-server",)


def known_settings(payload: Payload) -> tuple[str, ...]:
    """Names of the settings that the image's Kubernetes takes."""
    return payload.settings or OF_UPSTREAM


class Settings(NamedTuple):
    """What was said, checked; ``problems`` are sentences on what was left out."""

    values: dict[str, Setting]
    problems: tuple[str, ...] = ()

    @property
    def unwanted_images(self) -> frozenset[str]:
        """Container images of the image, by name, that nothing on this node asks for."""
        return frozenset(name for name in OF_IMAGES if self.values.get(name) is not True)

    def text(self, name: str) -> str | None:
        """A setting that is a text."""
        value = self.values.get(name)
        return value if isinstance(value, str) else None

    def names(self, name: str) -> tuple[str, ...]:
        """A setting that is a list."""
        value = self.values.get(name)
        return tuple(value) if isinstance(value, list) else ()


def read_settings(
    path: str, known: tuple[str, ...] | None = None, machine: Machine | None = None
) -> Settings:
    """The settings in ``path``, none where there is no file; ``known`` are those of the payload.

    What ``machine`` has too little of is left out. A secret never stands in a problem.
    """
    try:
        document = json.loads(read_bounded(path, MAX_BYTES).decode("utf-8-sig"))
    except FileNotFoundError:
        return Settings({})
    except OSError as error:
        return Settings({}, (f"cannot read {path}: {error.strerror}",))
    except (ValueError, RecursionError) as error:
        return Settings({}, (f"{path} is no JSON, none of its settings count: {error}",))
    settings = document.get("settings") if isinstance(document, dict) else None
    if not isinstance(settings, dict) or document.get("schema") != SCHEMA:
        wanted = f'{{"schema": {SCHEMA}, "settings": {{}}}}'
        return Settings({}, (f"{path} is not of the form {wanted}: none of its settings count",))
    found: dict[str, Setting] = {}
    problems = []
    for name, value in settings.items():
        if name not in KINDS:
            problems.append(f"{path}: there is no setting {name!r}")
        elif known is not None and name not in known:
            problems.append(f"{path}: this image's Kubernetes has no {name}")
        else:
            try:
                found[name] = KINDS[name].check(value)
            except ValueError as error:
                problems.append(f"{path}: {name}: {error}; it is left out")
    if machine is not None:
        problems += [f"{path}: {problem}; it is left out" for problem in _leave_out(found, machine)]
    # The kubelet does not start where the static policy finds no processor set aside.
    reserved = found.get("system-reserved")
    set_aside = "reserved-cpus" in found or (isinstance(reserved, dict) and "cpu" in reserved)
    if found.get("cpu-manager-policy") == "static" and not set_aside:
        del found["cpu-manager-policy"]
        problems.append(
            f"{path}: cpu-manager-policy: static needs reserved-cpus, or cpu in system-reserved; "
            "it is left out"
        )
    return Settings(found, tuple(problems))


def _leave_out(found: dict[str, Setting], machine: Machine) -> list[str]:
    """Remove what is to be set aside and exceeds the machine: the kubelet would not start."""
    problems = []
    cpus, reserved = found.get("reserved-cpus"), found.get("system-reserved")
    if isinstance(cpus, str) and (reason := machine.lacks_cpus(cpus)):
        del found["reserved-cpus"]
        problems.append(f"reserved-cpus: {reason}")
    if isinstance(reserved, dict):
        for resource, text in reserved.items():
            if reason := machine.exceeds(resource, text):
                problems.append(f"system-reserved: {resource}: {reason}")
                reserved = {name: value for name, value in reserved.items() if name != resource}
        found["system-reserved"] = reserved
        if not reserved:
            del found["system-reserved"]
    return problems
