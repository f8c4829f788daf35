"""``python -m product.publish``: make a release."""

from __future__ import annotations

import sys

from product.publish.command import main

if __name__ == "__main__":
    sys.exit(main())
