"""What a cluster applies to have its node updated: updates.yaml, and healthcheck.yaml.

Both may be applied as they are; ``render`` fits them to a Kubernetes version and a server.
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
_CRONJOB = "apiVersion: batch/{}\nkind: CronJob\n"


class ManifestError(KubesoloError):
    """A version or server that no manifest can be written for."""


def render(name: str, *, kubernetes: str = "1.35", server: str = "") -> str:
    """The manifest ``name`` as YAML. Raises ManifestError for a bad version or server."""
    match = re.fullmatch(r"v?1\.(\d{1,3})(\..*)?", kubernetes)
    if match is None:
        raise ManifestError(
            f"{kubernetes!r} is no version of Kubernetes", hint="give it as in 1.20 or v1.35.2"
        )
    if server and not _SERVER.fullmatch(server):
        raise ManifestError(f"{server!r} is no http or https address")
    text = (_FOLDER / f"{name}.yaml").read_text()
    if int(match[1]) < CRONJOB_STABLE:
        text = text.replace(_CRONJOB.format("v1"), _CRONJOB.format("v1beta1"))
    return text.replace('  server: ""\n', f'  server: "{server}"\n')
