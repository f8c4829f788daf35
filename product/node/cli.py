"""`kubesolo-node COMMAND`: what the services of a Kubernetes payload call.

address     print the node's address: that of the last `configure` while an interface has it
configure   make certificates and configuration fit the node (before Kubernetes starts)
fixed IMAGE OWN KEY=DEFAULT...
            refuse an operator's file OWN that changes one of the keys of IMAGE
import      bring the image's container images into containerd
objects     bring the image's own objects into the cluster
rewrite     write all Secrets anew, as this start has them encrypted (when Kubernetes is ready)
rotate-secrets-key
            make a new key for Secrets, and start Kubernetes again with it
renew       renew what is about to expire, and let Kubernetes take it up (once a day)
settings BASE TARGET
            write KubeSolo's file TARGET: BASE, and the node's settings in it
kubeconfig [--server ADDRESS]
            print a kubeconfig that works from elsewhere
ended CODE  say that Kubernetes ended by itself; replace its datastore if that is the reason

Exit codes: 0 done, 1 failed, 2 wrong usage. argparse would cost an emulated node a quarter of a
second at every boot, and there are no flags.
"""

from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

from product.errors import KubesoloError
from product.node.console import Reporter
from product.node.paths import NodePaths
from product.node.payload import Payload, read_payload

EXIT_USAGE = 2


def _configure(paths: NodePaths, payload: Payload, reporter: Reporter) -> None:
    from product.node.configure import configure

    configure(paths, payload, reporter)


def _address(paths: NodePaths, payload: Payload, reporter: Reporter) -> None:
    from product.node.address import present_address

    known = None
    with suppress(OSError), open(paths.address) as file:
        known = file.read().strip() or None
    if found := present_address(paths, known):
        print(found)


def _fixed(
    paths: NodePaths, payload: Payload, reporter: Reporter, image: str, own: str, keys: list[str]
) -> None:
    from product.node.fixed import require_fixed

    require_fixed(image, own, keys)


def _import(paths: NodePaths, payload: Payload, reporter: Reporter) -> None:
    from product.node.images import await_quiet, import_pending
    from product.node.settings import known_settings, read_settings

    descriptor = os.open(f"{paths.config}/import.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    await_quiet(paths.ready)
    unwanted = read_settings(paths.settings, known_settings(payload)).unwanted_images
    import_pending(payload.images, paths.imported, payload.containerd, unwanted, report=print)


def _objects(paths: NodePaths, payload: Payload, reporter: Reporter) -> None:
    from product.node.objects import apply_patiently

    if apply_patiently(paths, payload, reporter):
        print("applied the image's objects")


def _renew(paths: NodePaths, payload: Payload, reporter: Reporter) -> None:
    from product.node.configure import renew

    renew(paths, payload, reporter)


def _rewrite(paths: NodePaths, payload: Payload, reporter: Reporter) -> None:
    from product.node.rewrite import rewrite

    rewrite(paths, payload, reporter)


def _rotate(paths: NodePaths, payload: Payload, reporter: Reporter) -> None:
    from product.node.configure import rotate_key

    rotate_key(paths, payload, reporter)


def _ended(paths: NodePaths, payload: Payload, reporter: Reporter, code: str) -> None:
    from product.node.datastore import examine

    examine(paths, payload, reporter, int(code))


def _settings(
    paths: NodePaths, payload: Payload, reporter: Reporter, base: str, target: str
) -> None:
    from product.node.kubesolo_file import write_file

    write_file(paths, base, target, reporter)


def _kubeconfig(paths: NodePaths, payload: Payload, reporter: Reporter, server: str | None) -> None:
    from product.node.remote import remote_kubeconfig, unnamed

    sys.stdout.write(remote_kubeconfig(paths, payload, server).decode())
    if server and (hint := unnamed(paths, payload, server)):
        print(f"hint: {hint}", file=sys.stderr)


def main(argv: Sequence[str], paths: NodePaths | None = None) -> int:
    """Run one command; the exit code. An error is also said on the console."""
    match list(argv):
        case ["-h"] | ["--help"]:
            print(__doc__)
            return 0
        case ["address"]:
            command: Callable[[NodePaths, Payload, Reporter], None] = _address
        case ["configure"]:
            command = _configure
        case ["fixed", image, own, *keys] if keys and all("=" in key for key in keys):
            command = partial(_fixed, image=image, own=own, keys=keys)
        case ["import"]:
            command = _import
        case ["objects"]:
            command = _objects
        case ["renew"]:
            command = _renew
        case ["rewrite"]:
            command = _rewrite
        case ["rotate-secrets-key"]:
            command = _rotate
        case ["settings", base, target]:
            command = partial(_settings, base=base, target=target)
        case ["kubeconfig"]:
            command = partial(_kubeconfig, server=None)
        case ["kubeconfig", "--server", server] if server:
            command = partial(_kubeconfig, server=server)
        case ["ended", code] if code.removeprefix("-").isdecimal():
            command = partial(_ended, code=code)
        case _:
            print(f"error: '{' '.join(argv)}' is no command of kubesolo-node", file=sys.stderr)
            names = (
                "address, configure, fixed, import, objects, renew, rewrite, "
                "rotate-secrets-key, settings, kubeconfig, ended CODE"
            )
            print(f"hint: commands are {names}", file=sys.stderr)
            return EXIT_USAGE
    paths = paths or NodePaths()
    reporter = Reporter(paths)
    try:
        command(paths, read_payload(paths.payload), reporter)
        return 0
    except KubesoloError as error:
        message, hint = error.message, error.hint
    except OSError as error:
        where = f" {error.filename}" if error.filename else ""
        message, hint = f"{argv[0]} failed:{where}: {error.strerror or error}", None
    print(f"error: {message}", file=sys.stderr)
    if hint:
        print(f"hint: {hint}", file=sys.stderr)
    # What a person asked for is that person's to read.
    if argv[0] not in ("kubeconfig", "rotate-secrets-key"):
        reporter.problem(f"Kubernetes: {message}")
    return 1
