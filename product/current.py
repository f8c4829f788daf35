"""Which release this checkout becomes: the one place that says its version and its channel.

What has no other version given to it, as an image that a developer builds, carries this one.
"""

from __future__ import annotations

VERSION = "0.1.0"
# Where a release goes unless it is said otherwise, and what nodes follow that are told nothing.
CHANNEL = "stable"
