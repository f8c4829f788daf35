"""What a cluster applies to have its node updated: updates.yaml, and healthcheck.yaml.

Both may be applied as they are; ``render`` fits them to a Kubernetes version and to where releases
come from.
"""

from __future__ import annotations

import re
from pathlib import Path

from product.errors import KubesoloError

NAMES = ("updates", "healthcheck")
# CronJob became batch/v1 in this minor version of Kubernetes 1.
CRONJOB_STABLE = 21
_FOLDER = Path(__file__).resolve().parent
_SERVER = re.compile(r"https?://[A-Za-z0-9.\[\]:-]+(/[A-Za-z0-9._~%!$&'()*+,;=:@/-]*)?")
_REGISTRY = re.compile(
    r"(?:(?:https?|oci)://)?(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?"
    r"(?:/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)+"
)
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}|sha256:[0-9a-f]{64}")
_CRONJOB = "apiVersion: batch/{}\nkind: CronJob\n"


class ManifestError(KubesoloError):
    """A version or source that no manifest can be written for."""


def render(
    name: str, *, kubernetes: str = "1.35", server: str = "", registry: str = "", tag: str = ""
) -> str:
    """The manifest ``name`` as YAML. Raises ManifestError for a bad version or source."""
    match = re.fullmatch(r"v?1\.(\d{1,3})(\..*)?", kubernetes)
    if match is None:
        raise ManifestError(
            f"{kubernetes!r} is no version of Kubernetes", hint="give it as in 1.20 or v1.35.2"
        )
    if server and not _SERVER.fullmatch(server):
        raise ManifestError(f"{server!r} is no http or https address")
    if registry and not _REGISTRY.fullmatch(registry):
        raise ManifestError(f"{registry!r} is no repository like registry.example.com/kubesolo-os")
    if tag and not (registry and _TAG.fullmatch(tag)):
        raise ManifestError(f"{tag!r} is no tag of a registry", hint="give --registry, too")
    if server and registry:
        raise ManifestError("server and registry are both there; releases come from one")
    text = (_FOLDER / f"{name}.yaml").read_text()
    if int(match[1]) < CRONJOB_STABLE:
        text = text.replace(_CRONJOB.format("v1"), _CRONJOB.format("v1beta1"))
    for key, value in (("server", server), ("registry", registry), ("tag", tag)):
        text = text.replace(f'  {key}: ""\n', f'  {key}: "{value}"\n')
    return text
