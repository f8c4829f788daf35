"""``python -m product.image``: build images, renew and check locks."""

from __future__ import annotations

import sys

from product.image.cli import main

if __name__ == "__main__":
    sys.exit(main())
