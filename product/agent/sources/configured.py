"""The source that the configuration names."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from product.agent.errors import AgentError, ConfigError
from product.agent.net.access import access_for
from product.agent.net.guard import permit_for
from product.agent.sources.protocol import DEFAULT_POLICY, FetchPolicy

if TYPE_CHECKING:
    from product.agent.config import Config
    from product.agent.sources.protocol import Source


def configured_source(
    config: Config,
    policy: FetchPolicy = DEFAULT_POLICY,
    *,
    interrupt: Callable[[], None] | None = None,
) -> Source:
    """Where ``config`` says that releases come from; nobody is asked before a file is.

    ``interrupt`` is called while something is waited for, and raises what ends it. Raises
    AgentError ``no-server``.
    """
    if config.registry and config.server:
        raise ConfigError(
            "server and registry are both configured; releases come from one",
            hint="take one of them out of update.conf",
        )
    if config.registry:
        from product.agent.sources.oci import OciSource
        from product.agent.sources.registry import parse_reference

        return OciSource(
            config.registry,
            config.tag,
            policy,
            permit=permit_for(config),
            interrupt=interrupt,
            access=access_for(config, parse_reference(config.registry).base),
        )
    if not config.server:
        raise AgentError(
            "no source of releases is configured",
            code="no-server",
            hint="set server= or registry= in update.conf, or pass --server or --registry",
        )
    if config.server.startswith("disk:"):
        from product.agent.sources.volume import VolumeSource

        return VolumeSource(config.server, interrupt=interrupt)
    from product.agent.sources.http import HttpSource

    return HttpSource(
        config.server,
        policy,
        permit=permit_for(config),
        interrupt=interrupt,
        access=access_for(config),
    )
