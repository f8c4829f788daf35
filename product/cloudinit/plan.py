"""All that a configuration would write; nothing is written here."""

from __future__ import annotations

from typing import NamedTuple

from product.cloudinit.appliers import (
    authorities,
    files,
    hostname,
    kubernetes,
    message,
    network,
    security,
    ssh,
    time,
    updates,
)
from product.cloudinit.load import UserData
from product.cloudinit.network import Network
from product.cloudinit.planned import Part, PlannedFile


class Plan(NamedTuple):
    """``notes`` are lines for people; with ``kubeconfig_to_seed`` the node owes a kubeconfig.

    ``install``: a system that runs from a medium is to be installed; an installed one is not.
    """

    files: tuple[PlannedFile, ...]
    notes: tuple[str, ...]
    kubeconfig_to_seed: bool = False
    install: bool = False


INSTALL_NOTE = "install is passed over: it is for a system that runs from a medium alone"


def plan_user_data(
    user_data: UserData,
    *,
    payload_settings: frozenset[str] | None = None,
    local_hostname: str | None = None,
    network_config: bool = False,
) -> Plan:
    """What ``user_data`` asks for.

    ``payload_settings`` are the settings that the image's Kubernetes knows, None meaning all;
    ``local_hostname`` is that of meta-data, which counts where user-data names no host. With
    ``network_config`` there is a file of that name, which replaces the network of ``user_data``.
    """
    config = user_data.config
    parts: list[Part] = [Part(notes=tuple(str(note) for note in user_data.notes))]
    parts.append(hostname.plan(config.host or local_hostname))
    if config.network is not None and network_config:
        parts.append(Part(notes=("network of user-data is passed over: network-config counts",)))
    elif config.network is not None:
        parts.append(network.plan(config.network))
    parts += [
        kubernetes.plan(config.kubesolo, payload_settings),
        updates.plan(config.updates),
        security.plan(config.security),
        time.plan(config.timezone, config.ntp),
        authorities.plan(config.authorities),
        ssh.plan(config.ssh_authorized_keys),
        message.plan(config.final_message),
        files.plan(config.write_files),
    ]
    if config.install is not None:
        parts.append(Part(notes=(INSTALL_NOTE,)))
    plan = _join(parts, config.kubeconfig == "to-seed")
    return plan._replace(install=config.install is not None)


def plan_network(config: Network) -> Plan:
    """What network-config asks for."""
    notes = Part(notes=tuple(str(note) for note in config.notes))
    return _join([notes, network.plan(config)], False)


def _join(parts: list[Part], to_seed: bool) -> Plan:
    return Plan(
        tuple(file for part in parts for file in part.files),
        tuple(note for part in parts for note in part.notes),
        to_seed,
    )
