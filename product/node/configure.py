"""`kubesolo-node configure`: everything that Kubernetes finds when it starts."""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress

from product.agent.system import program
from product.agent.system.files import make_directories, read_bounded
from product.node import (
    access,
    address,
    certificates,
    cluster_dns,
    encryption,
    images,
    policies,
    upstream,
)
from product.node.console import Reporter
from product.node.defaults import are_hardened
from product.node.errors import ProgramFailedError
from product.node.machine import read_machine
from product.node.names import node_name
from product.node.paths import NodePaths
from product.node.payload import Payload
from product.node.pki import Identity
from product.node.settings import Settings, known_settings, read_settings
from product.node.space import require_space
from product.node.trial import is_on_trial

# Which CPUs and memory the kubelet gave to which container. Worthless after a reboot; the kubelet
# refuses to start with one that is torn or was made under other settings.
_KUBELET_LEFTOVERS = ("cpu_manager_state", "memory_manager_state")


def configure(paths: NodePaths, payload: Payload, reporter: Reporter) -> Identity:
    """Make certificates and configuration fit the node as it is now. Raises NodeError."""
    require_space(paths.data)
    settings = read_settings(paths.settings, known_settings(payload), read_machine(paths))
    for problem in settings.problems:
        reporter.problem(f"Kubernetes: {problem}")
    identity = _identity(paths, settings, reporter)
    make_directories(paths.data)
    os.chmod(paths.data, 0o700)
    # Of a first start: neither certificates nor a datastore were ever made.
    fresh = certificates.known_identity(paths.pki) is None and not os.path.exists(
        f"{payload.datastore}/member"
    )
    hardened = are_hardened(paths, fresh=fresh)
    _ensure_certificates(paths, identity, reporter)
    secrets = _settle_secrets(paths, payload, settings, reporter, hardened, fresh)
    _make_private(paths.audit)
    made = upstream.configuration(
        paths,
        identity,
        datastore=payload.datastore,
        containerd=payload.containerd,
        settings=settings,
        secrets=secrets,
        pod_security=settings.text("pod-security") or _pod_security(hardened),
    )
    access_file = f"{paths.config}/{cluster_dns.KUBECONFIG}"
    kubelet = f"{paths.config}/{upstream.KUBELET}"
    before, kubelet_before = _content(access_file), _content(kubelet)
    _write_configuration(paths, identity, made)
    if before is not None and before != _content(access_file):
        # One that runs would go on with the certificate of before.
        cluster_dns.begin_anew(paths)
    for folder in (paths.static_pods, f"{paths.kubelet}/volumeplugins"):
        os.makedirs(folder, exist_ok=True)
    if kubelet_before != _content(kubelet):
        for name in _KUBELET_LEFTOVERS:
            with suppress(FileNotFoundError):
                os.unlink(f"{paths.kubelet}/{name}")
    for name in (paths.announcement, paths.ready, paths.import_request, paths.rewrite_request):
        if os.path.exists(name):
            os.unlink(name)
    # kubenode writes into it when the node is Ready; the service's run script reads it.
    os.mkfifo(paths.announcement, 0o600)
    if secrets.due:
        open(paths.rewrite_request, "w").close()
    access.restrict(paths, settings.names("api-access"), reporter)
    unwanted = settings.unwanted_images
    if payload.images and images.pending(payload.images, paths.imported, unwanted):
        open(paths.import_request, "w").close()
    return identity


def rotate_key(paths: NodePaths, payload: Payload, reporter: Reporter) -> None:
    """Have Secrets encrypted with a new key, and start Kubernetes anew. Raises NodeError."""
    name = encryption.rotate(paths)
    reporter.say(f"kubernetes: made {name} for Secrets")
    _restart(paths, payload)


def renew(paths: NodePaths, payload: Payload, reporter: Reporter) -> bool:
    """Make certificates anew that are about to expire, of a node that runs; whether there were any.

    Kubernetes, where it runs, is started again to use them; pods run on. Raises NodeError.
    """
    known = certificates.known_identity(paths.pki)
    if known is None:
        return False
    sans = read_settings(paths.settings, known_settings(payload)).names("apiserver-extra-sans")
    if not _ensure_certificates(paths, known._replace(sans=sans), reporter):
        return False
    _restart(paths, payload)
    return True


def _restart(paths: NodePaths, payload: Payload) -> None:
    service = f"{paths.services}/{payload.datastore_service}"
    status, output = program.run(["sv", "-w", "20", "try-restart", service])
    if status != 0:
        raise ProgramFailedError(f"Kubernetes was not started again ({status}): {output}")


def _settle_secrets(
    paths: NodePaths,
    payload: Payload,
    settings: Settings,
    reporter: Reporter,
    hardened: bool,
    fresh: bool,
) -> encryption.Encryption:
    found = encryption.prepare(
        paths,
        payload.datastore,
        wanted=settings.values.get("secrets-encryption", hardened) is True,
        fresh=fresh,
        on_trial=is_on_trial(paths),
    )
    for problem in found.problems:
        reporter.problem(f"Kubernetes: {problem}")
    return found


def _pod_security(hardened: bool) -> str:
    return policies.BASELINE if hardened else policies.PRIVILEGED


def _make_private(folder: str) -> None:
    make_directories(folder)
    os.chmod(folder, 0o700)


def _ensure_certificates(paths: NodePaths, identity: Identity, reporter: Reporter) -> bool:
    outcome = certificates.ensure(paths.pki, identity, time.time(), _floor(paths))
    for problem in outcome.problems:
        reporter.problem(f"Kubernetes: {problem}")
    if outcome.made:
        reporter.say(f"kubernetes: made {', '.join(outcome.made)}")
    return bool(outcome.made or outcome.problems)


def _identity(paths: NodePaths, settings: Settings, reporter: Reporter) -> Identity:
    hostname = settings.text("node-name") or ""
    if not hostname:
        with open(paths.hostname, encoding="utf-8", errors="replace") as file:
            hostname = file.read().strip()
    name = node_name(hostname)
    if name != hostname:
        reporter.problem(
            f"Kubernetes accepts no node called '{hostname}' (it wants lower-case RFC 1123 names "
            f"of at most 52 letters): the node is called {name}"
        )
    known = certificates.known_identity(paths.pki)
    if known and known.node != name:
        # Pods and volumes belong to the old name; under a new one they would be lost.
        reporter.problem(
            f"the hostname is now '{hostname}', Kubernetes keeps the node's name {known.node}"
        )
        name = known.node
    had = known.address if known and known.address != address.UNCONNECTED else None
    found = address.wait_for_address(paths, had)
    wanted = settings.text("node-ip")
    if wanted and wanted != found:
        # One that the node has, be it not that of the default route.
        if address.has_address(wanted):
            found = wanted
        else:
            reporter.problem(
                f"Kubernetes: node-ip is {wanted}, which no network card of this node has: it runs "
                f"with {found or address.UNCONNECTED}"
            )
    if found is None:
        found = address.UNCONNECTED
        address.take_unconnected_address()
        reporter.problem(
            f"Kubernetes: no network gave this node an address; it runs with {found}, unreachable"
        )
    elif had and had != found:
        reporter.say(f"kubernetes: the node's address changed from {had} to {found}")
    return Identity(name, found, settings.names("apiserver-extra-sans"))


def _content(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None


def _floor(paths: NodePaths) -> float:
    """The image's build date; nothing in particular where it is not known."""
    try:
        document = json.loads(read_bounded(paths.release, 65536).decode())
        return float(document["source_date"])
    except (OSError, ValueError, KeyError, TypeError):
        return time.time()


def _write_configuration(
    paths: NodePaths, identity: Identity, made: upstream.Configuration
) -> None:
    os.makedirs(paths.config, exist_ok=True)
    os.chmod(paths.config, 0o700)
    contents = {f"{paths.config}/{name}": data for name, data in made.files.items()}
    contents[paths.plan] = made.plan.encode()
    contents[paths.node_name] = f"{identity.node}\n".encode()
    contents[paths.address] = f"{identity.address}\n".encode()
    for path, data in contents.items():
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb") as file:
            file.write(data)
