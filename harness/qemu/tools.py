"""The host programs that machines are run with; see ``harness.tools``."""

from __future__ import annotations

from harness.tools import HostTools

__all__ = ["HostTools"]
