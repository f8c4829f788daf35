"""KubeSolo's configuration file, ``kubesolo.io/v1alpha1`` as of v1.2: every setting, by type.

KubeSolo warns of a key that it does not know and dies of a value of another type; both are errors
here, when the image is built. What is written holds only what was given, so that a newer KubeSolo's
defaults apply to the rest.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import json
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from product.image.errors import RecipeError
from product.image.recipe import recipe_error

STATE: Literal["/var/lib/kubesolo"] = "/var/lib/kubesolo"
_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_SUBDOMAIN = re.compile(rf"{_LABEL}(\.{_LABEL})*")


def _empty_or(check: Any, words: str) -> AfterValidator:
    def validate(value: str) -> str:
        if value and not check(value):
            raise ValueError(words)
        return value

    return AfterValidator(validate)


def _is_address(value: str) -> bool:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return False
    return True


def _is_edge_key(value: str) -> bool:
    """Base64, its padding optional, of ``url|tunnel|fingerprint|endpoint``."""
    try:
        text = base64.b64decode(value + "=" * (-len(value) % 4), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return False
    parts = text.split("|")
    return len(parts) == 4 and parts[0].startswith(("http://", "https://")) and all(parts)


def _is_listener(value: str) -> bool:
    host, colon, port = value.rpartition(":")
    return bool(colon and host) and port.isascii() and port.isdigit() and 0 < int(port) < 65536


Address = Annotated[str, _empty_or(_is_address, "not an IP address")]
Directory = Annotated[str, _empty_or(lambda v: v.startswith("/"), "not an absolute path")]
NodeName = Annotated[
    str,
    _empty_or(
        lambda v: len(v) <= 253 and bool(_SUBDOMAIN.fullmatch(v)),
        "not a name of RFC 1123: lower case letters, digits, '-' and '.'",
    ),
]
Namespace = Annotated[str, Field(pattern=rf"^{_LABEL}$")]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class ApiServer(_Model):
    extraSANs: list[str] = []
    startupTimeoutSeconds: int = Field(default=600, gt=0)


class CpuManager(_Model):
    policy: Literal["none", "static"] = "none"
    policyOptions: dict[str, str] = {}
    reservedCPUs: str = Field(default="", pattern=r"^([0-9]+(-[0-9]+)?(,[0-9]+(-[0-9]+)?)*)?$")


class Kubelet(_Model):
    cpuManager: CpuManager = CpuManager()
    systemReserved: dict[Literal["cpu", "memory", "ephemeral-storage", "pid"], str] = {}


class Kubernetes(_Model):
    nodeName: NodeName = ""
    apiServer: ApiServer = ApiServer()
    kubelet: Kubelet = Kubelet()


class LoadBalancer(_Model):
    enabled: bool = True
    ip: Address = ""


class Network(_Model):
    nodeIP: Address = ""
    mtu: int = Field(default=0, ge=0, le=65536)
    disableIPv6: bool = False
    loadBalancer: LoadBalancer = LoadBalancer()


class Pki(_Model):
    caCert: Directory = ""
    caKey: Directory = ""

    @model_validator(mode="after")
    def _both(self) -> Self:
        if bool(self.caCert) != bool(self.caKey):
            raise ValueError("caCert and caKey go together")
        return self


class Runtime(_Model):
    endpoint: Annotated[
        str,
        _empty_or(
            lambda v: v.removeprefix("unix://").startswith("/"),
            "neither an absolute path nor a unix:// address",
        ),
    ] = ""
    containerMode: bool | None = None


class LocalPath(_Model):
    enabled: bool = True
    sharedPath: Directory = ""


class Storage(_Model):
    localPath: LocalPath = LocalPath()
    dbWALRepair: bool = False


class Logging(_Model):
    debug: bool = False
    pprof: bool = False


class Metrics(_Model):
    enabled: bool = False
    bindAddress: Annotated[str, _empty_or(_is_listener, "not HOST:PORT")] = "127.0.0.1:9105"


class Api(_Model):
    enabled: bool = False
    socketPath: Annotated[Directory, Field(max_length=106)] = ""


class Portainer(_Model):
    edgeID: str = ""
    edgeKey: Annotated[
        str, _empty_or(_is_edge_key, "not a Portainer edge key: base64 of url|tunnel|print|id")
    ] = ""
    # `async` is a word of Python.
    asynchronous: bool = Field(default=False, alias="async")
    image: str = "docker.io/portainer/agent:lts"

    @model_validator(mode="after")
    def _both(self) -> Self:
        if bool(self.edgeID) != bool(self.edgeKey):
            raise ValueError("edgeID and edgeKey go together")
        return self


class D2k(_Model):
    enabled: bool = False
    namespace: Namespace = "d2k"


class KubesoloConfig(_Model):
    """The document; defaults are KubeSolo's own."""

    path: Literal["/var/lib/kubesolo"] = STATE
    kubernetes: Kubernetes = Kubernetes()
    network: Network = Network()
    pki: Pki = Pki()
    runtime: Runtime = Runtime()
    storage: Storage = Storage()
    logging: Logging = Logging()
    metrics: Metrics = Metrics()
    api: Api = Api()
    portainer: Portainer = Portainer()
    d2k: D2k = D2k()

    @model_validator(mode="after")
    def _together(self) -> Self:
        if self.d2k.enabled and not self.network.loadBalancer.enabled:
            raise ValueError("d2k.enabled needs network.loadBalancer.enabled")
        if self.runtime.containerMode and self.kubernetes.kubelet.cpuManager.policy == "static":
            raise ValueError("the static CPU manager policy does not go with containerMode")
        return self


def check(table: Mapping[str, object], recipe_name: str) -> KubesoloConfig:
    """``[payload.config]``, checked. Raises RecipeError that names the key."""
    try:
        checked = KubesoloConfig.model_validate(dict(table))
    except ValidationError as error:
        raise recipe_error(f"recipe {recipe_name}", error, "payload.config.") from None
    if checked.api.enabled:
        raise RecipeError(
            f"recipe {recipe_name}: payload.config.api.enabled: an image's program is replaced "
            "by a release of the image, not through KubeSolo's API",
            hint="an operator who wants the API enables it in /etc/kubesolo/kubesolo.yaml",
        )
    return checked


def render(checked: KubesoloConfig) -> bytes:
    """The file's content; JSON, which is YAML."""
    document = checked.model_dump(by_alias=True, exclude_unset=True)
    # Said although it is the default: through it KubeSolo would replace its own program.
    document.setdefault("api", {}).setdefault("enabled", False)
    head = {"apiVersion": "kubesolo.io/v1alpha1", "kind": "Config"}
    return (json.dumps({**head, **document}, indent=2) + "\n").encode()
