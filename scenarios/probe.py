"""Ask how slowly this host emulates: ``./noxw -s probe``, before anything runs beside it.

Deadlines are scaled by the answer, and so is how long a node waits for a release that fails.
Whoever asks first in a boot of the host decides it; beside the unit tests it comes out half as
high again.
"""

from __future__ import annotations

import sys

from product.image.build import Builder
from product.image.cache import Cache
from product.image.recipe import Arch
from product.image.tools import HostTools
from scenarios.command_line import guarded
from scenarios.local import Bench


def main() -> None:
    """Build the image of each architecture, boot its kernel alone, and print what it took."""
    cache = Cache()
    tools = HostTools.prepare(cache)
    for arch in Arch:
        bench = Bench.prepare(Builder(arch, cache=cache, tools=tools))
        print(f"{arch}: {bench.host.accelerator}, deadlines are scaled by {bench.host.scale:.2f}")


if __name__ == "__main__":
    sys.exit(guarded(main))
