"""/etc/kubesolo/kubernetes.json: settings under the names of KubeSolo's flags; it holds secrets."""

from __future__ import annotations

import json
from collections.abc import Mapping

from product.cloudinit.planned import Part, text_file
from product.cloudinit.settings import Setting

PATH = "/etc/kubesolo/kubernetes.json"


def plan(settings: Mapping[str, Setting] | None, known: frozenset[str] | None) -> Part:
    """``known`` are the settings of the image's payload, None meaning all of them."""
    if not settings:
        return Part()
    document = {"schema": 1, "settings": dict(sorted(settings.items()))}
    missing = sorted(settings.keys() - known) if known is not None else []
    notes: tuple[str, ...] = ()
    if missing:
        lacks = f"this image's Kubernetes has no {', '.join(missing)}"
        what = lacks if known else "this image has no Kubernetes"
        notes = (f"kubesolo: {what}; the settings are kept for one that has",)
    return Part((text_file(PATH, json.dumps(document, indent=2), 0o600),), notes)
