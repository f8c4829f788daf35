"""First-boot configuration: NoCloud's files, checked, and turned into files of the node.

Importing this package costs nothing: the names below are loaded when they are used, because a boot
in which nothing changed must not import pydantic or PyYAML.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from product.cloudinit.load import load_meta_data, load_network, load_user_data
    from product.cloudinit.plan import plan_network, plan_user_data

_HOMES = {
    "load_meta_data": "load",
    "load_network": "load",
    "load_user_data": "load",
    "plan_network": "plan",
    "plan_user_data": "plan",
}
__all__ = ["load_meta_data", "load_network", "load_user_data", "plan_network", "plan_user_data"]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
