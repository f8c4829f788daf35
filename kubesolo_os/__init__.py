"""The names under which the project is installed: ``kubesolo_os.product``, ``kubesolo_os.harness``.

In a checkout they are the packages ``product`` and ``harness`` themselves, by another name: the
same modules, not copies. A wheel holds the packages below this one (kubesolo_os/relocation.py).
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

_PREFIX = f"{__name__}."
_ROOT = Path(__file__).resolve().parents[1]


class _Checkout(MetaPathFinder, Loader):
    """Finds ``kubesolo_os.harness.profile`` as the module ``harness.profile``."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        name = fullname.removeprefix(_PREFIX)
        if name == fullname or name.partition(".")[0] not in ("product", "harness"):
            return None
        return ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = importlib.import_module(spec.name.removeprefix(_PREFIX))
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        # The import system has put this finder's specification into the module.
        spec = module.__spec__
        assert spec is not None
        module.__spec__ = spec.loader_state


if not (Path(__file__).parent / "harness").is_dir() and (_ROOT / "harness").is_dir():
    if str(_ROOT) not in sys.path:
        sys.path.append(str(_ROOT))
    sys.meta_path.insert(0, _Checkout())
