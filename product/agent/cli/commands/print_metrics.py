"""``metrics``: the node's figures for Prometheus."""

from __future__ import annotations

import argparse
import json
import os
import sys

from product.agent.errors import EXIT_DONE, AgentError
from product.agent.figures import read_figures
from product.agent.metrics.families import collected_families
from product.agent.metrics.text_format import encode
from product.agent.metrics.vitals import vital_families
from product.agent.node import Node
from product.agent.system.files import write_atomic

# node_exporter's textfile collector reads files of this name alone.
SUFFIX = ".prom"


def configure(parser: argparse.ArgumentParser) -> None:
    """Where to."""
    parser.add_argument(
        "--textfile",
        metavar="FILE",
        help=f"write FILE in one step, for node_exporter's textfile collector (*{SUFFIX})",
    )


def run(node: Node, options: argparse.Namespace) -> int:
    """In the text format 0.0.4, or with --json as one object."""
    figures = read_figures(node)
    families = [*collected_families(figures), *vital_families(figures.vitals, 0)]
    if options.textfile is not None:
        _write(options.textfile, encode(families))
    elif options.json:
        document = {family.name: family.as_json() for family in families}
        print(json.dumps(document, indent=2))
    else:
        print(encode(families), end="")
    return EXIT_DONE


def _write(path: str, text: str) -> None:
    folder = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(folder):
        raise AgentError(
            f"cannot write {path}: there is no folder {folder}",
            hint="name a file in the folder that node_exporter's textfile collector reads",
            code="textfile-unwritable",
        )
    if not path.endswith(SUFFIX):
        print(f"note: node_exporter reads only files named *{SUFFIX}", file=sys.stderr)
    try:
        write_atomic(os.path.abspath(path), text.encode(), mode=0o644)
    except OSError as error:
        raise AgentError(
            f"cannot write {path}: {error.strerror}",
            hint="the folder must be writable and its disk not full",
            code="textfile-unwritable",
        ) from None
