"""``support``: a bundle for whoever helps: status, logs, configuration, without secrets."""

from __future__ import annotations

import argparse
import os
import sys
import time

from product.agent.cli.output import print_progress, print_result
from product.agent.errors import EXIT_DONE, AgentError
from product.agent.node import Node

# By itself, and late.
LOADS_CONFIG = True


def configure(parser: argparse.ArgumentParser) -> None:
    """The flags of support."""
    parser.add_argument(
        "--output", metavar="FILE", help="where to write it, - for standard output (default: /tmp)"
    )


def run(node: Node, options: argparse.Namespace) -> int:
    """Exit 0 where a bundle was written, be it that some of its parts are missing."""
    from product.agent.support.bundle import open_output, write_bundle
    from product.agent.support.parts import parts_of

    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(node.clock.now()))
    root = f"kubesolo-support-{_hostname(node)}-{stamp}"
    path = options.output or f"/tmp/{root}.tar.gz"
    parts = parts_of(node, options.load_config)
    now, monotonic = node.clock.now(), node.clock.monotonic
    if path == "-":
        try:
            outcome = write_bundle(
                parts, sys.stdout.buffer, node.paths, root=root, now=now, monotonic=monotonic
            )
            sys.stdout.buffer.flush()
        except BrokenPipeError:
            # Whoever reads it has seen enough.
            return EXIT_DONE
        for name, reason in outcome.failed.items():
            print_progress(f"not complete: {name}: {reason}")
        return EXIT_DONE
    try:
        with open_output(path) as target:
            outcome = write_bundle(
                parts, target, node.paths, root=root, now=now, monotonic=monotonic
            )
    except OSError as error:
        raise AgentError(
            f"cannot write the bundle {path}: {error.strerror}",
            hint="name another place by --output, or - for standard output",
            code="bundle-unwritable",
        ) from None
    size = os.path.getsize(path)
    lines = [f"{path}: {size} bytes, {len(outcome.files)} parts, secrets redacted"]
    lines += [f"not complete: {name}: {reason}" for name, reason in outcome.failed.items()]
    document = {"file": path, "bytes": size, "parts": outcome.files, "failed": outcome.failed}
    print_result("\n".join(lines), document, as_json=options.json)
    return EXIT_DONE


def _hostname(node: Node) -> str:
    try:
        with open(node.paths.hostname, encoding="utf-8", errors="replace") as file:
            text = file.read().strip()
    except OSError:
        text = ""
    return "".join(c for c in text if c.isascii() and (c.isalnum() or c in "-.")) or "node"
