"""``python -m product.release`` is ``kubesolo-release``."""

from __future__ import annotations

import sys

from product.release.cli import main

if __name__ == "__main__":
    sys.exit(main())
