"""The commands that ``pip install`` puts on PATH; pyproject.toml names them."""

from __future__ import annotations

import sys


def update() -> int:
    """``kubesolo-update``: on a node it comes with the image; elsewhere it reads repositories."""
    from product.agent.cli.main import main

    return main(sys.argv[1:])


def release() -> int:
    """``kubesolo-release``: keys, repositories, publishing."""
    from product.release.cli import main

    return main()


def image() -> int:
    """``kubesolo-image``: images, slots, locks."""
    from product.image.cli import main

    return main()


def config() -> int:
    """``kubesolo-config``: first-boot configuration, checked and tried out."""
    from product.cloudinit.cli import main

    return main(sys.argv[1:])
