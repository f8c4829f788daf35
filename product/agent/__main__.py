"""``python3 -m product.agent`` is ``kubesolo-update``."""

from __future__ import annotations

import sys

from product.agent.cli.main import main

sys.exit(main(sys.argv[1:]))
