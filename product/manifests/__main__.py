"""``python -m product.manifests``: write the manifests to standard output."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from product.manifests import NAMES, ManifestError, render


def main(argv: Sequence[str]) -> int:
    """Print what was asked for; the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m product.manifests",
        description="Write the manifests for updates through the cluster; give them to kubectl.",
    )
    parser.add_argument("--kubernetes", default="1.35", metavar="VERSION", help="as in 1.20")
    parser.add_argument("--server", default="", metavar="URL", help="release repository")
    parser.add_argument("--registry", default="", metavar="NAME", help="or an OCI registry's")
    parser.add_argument("--tag", default="", metavar="TAG", help="tag or digest there")
    parser.add_argument("name", nargs="?", choices=NAMES, default="updates")
    options = parser.parse_args(argv)
    try:
        print(
            render(
                options.name,
                kubernetes=options.kubernetes,
                server=options.server,
                registry=options.registry,
                tag=options.tag,
            ),
            end="",
        )
    except ManifestError as error:
        print(f"error: {error.message}", file=sys.stderr)
        if error.hint:
            print(f"hint: {error.hint}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
