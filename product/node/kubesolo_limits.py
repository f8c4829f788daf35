"""Settings with which KubeSolo would not start; the project's own Kubernetes takes most of them.

By KubeSolo's public source, version 1.2: its validation of the configuration file. What is left
out are the node's own settings, never what the file says that they are put into.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from product.node.machine import Machine, cpu_set, quantity
from product.node.settings import KINDS, Setting

POLICY, OPTIONS, RESERVED = "cpu-manager-policy", "cpu-manager-policy-options", "reserved-cpus"
# Those that need no gate of alpha features.
POLICY_OPTIONS = (
    "distribute-cpus-across-numa", "full-pcpus-only", "prefer-align-cpus-by-uncorecache",
    "strict-cpu-reservation",
)  # fmt: skip
# Not both of them.
_EITHER = {"distribute-cpus-across-numa", "prefer-align-cpus-by-uncorecache"}
# As Go reads them.
_TRUE = ("1", "t", "T", "TRUE", "true", "True")
_FALSE = ("0", "f", "F", "FALSE", "false", "False")


def look_up(document: Mapping[str, object], place: str) -> object:
    """What a file says at ``network.nodeIP`` and the like; KubeSolo's reader ignores capitals."""
    found: object = document
    for name in place.split("."):
        if not isinstance(found, Mapping):
            return None
        found = next((v for key, v in found.items() if str(key).lower() == name.lower()), None)
    return found


def startable(
    values: Mapping[str, Setting], document: Mapping[str, object], machine: Machine
) -> tuple[dict[str, Setting], list[str]]:
    """The settings that can be put into the file ``document``, and why the others cannot."""
    limits = _Limits(dict(values), document, machine)
    limits.check_policy()
    limits.check_reserved()
    limits.check_options()
    limits.check_pairs()
    return limits.values, limits.problems


class _Limits:
    def __init__(
        self, values: dict[str, Setting], document: Mapping[str, object], machine: Machine
    ) -> None:
        self.values = values
        self.problems: list[str] = []
        self._document = document
        self._cpus = machine.cpus

    def check_policy(self) -> None:
        """Static needs two CPUs and none of the bounds of a container."""
        mode = self.values.get("container-mode", self._said("container-mode"))
        if self._static and mode in ("true", True):
            self._drop(POLICY, "static is not possible in container mode")
        elif self._static and self._cpus is not None and len(self._cpus) < 2:
            self._drop(POLICY, "static needs two CPUs, this machine has one")
        if not self._static:
            for name in (RESERVED, OPTIONS):
                self._drop(name, f"KubeSolo takes it with {POLICY} static alone")

    def check_reserved(self) -> None:
        """A CPU must be left for pods."""
        if self._cpus is None:
            return
        cpus = self.values.get(RESERVED)
        if isinstance(cpus, str) and not self._cpus - cpu_set(cpus):
            self._drop(RESERVED, f"{cpus} leaves pods no CPU")
        reserved = self.values.get("system-reserved")
        if not isinstance(reserved, dict) or "cpu" not in reserved or self._effective(RESERVED):
            return
        if math.ceil(quantity(reserved["cpu"])) >= len(self._cpus):
            self.problems.append(
                f"system-reserved: cpu: {reserved['cpu']} leaves pods no whole CPU of "
                f"{len(self._cpus)}, which KubeSolo wants"
            )
            rest = {name: text for name, text in reserved.items() if name != "cpu"}
            self.values["system-reserved"] = rest
            if not rest:
                del self.values["system-reserved"]

    def check_options(self) -> None:
        """Options of the policy, by name."""
        options = self.values.get(OPTIONS)
        if not isinstance(options, dict):
            return
        known = ", ".join(POLICY_OPTIONS)
        wrong = [name for name in options if name not in POLICY_OPTIONS]
        unclear = [name for name, text in options.items() if text not in (*_TRUE, *_FALSE)]
        if wrong:
            self._drop(OPTIONS, f"{wrong[0]!r} is none of {known}")
        elif unclear:
            self._drop(OPTIONS, f"{unclear[0]} is neither true nor false")
        elif {name for name, text in options.items() if text in _TRUE} >= _EITHER:
            self._drop(OPTIONS, f"{' and '.join(sorted(_EITHER))} exclude each other")

    def check_pairs(self) -> None:
        """Settings that go together."""
        if self._effective("d2k") is True and self._effective("load-balancer") is False:
            if "d2k" in self.values:
                self._drop("d2k", "it needs load-balancer, which is false")
            else:
                self._drop("load-balancer", "d2k of KubeSolo's file needs it")
        for one, other in (("pki-ca-cert", "pki-ca-key"), ("pki-ca-key", "pki-ca-cert")):
            if self._effective(one) and not self._effective(other):
                self._drop(one, f"it needs {other}, too")

    @property
    def _static(self) -> bool:
        return self._effective(POLICY) == "static"

    def _effective(self, name: str) -> object:
        return self.values.get(name, self._said(name))

    def _said(self, name: str) -> object:
        return look_up(self._document, KINDS[name].place)

    def _drop(self, name: str, reason: str) -> None:
        if self.values.pop(name, None) is not None:
            self.problems.append(f"{name}: {reason}")
