"""``python -m product.cloudinit``: kubesolo-config."""

from __future__ import annotations

import sys

from product.cloudinit.cli import main

sys.exit(main(sys.argv[1:]))
