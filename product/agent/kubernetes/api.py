"""A client of the API server that knows one verb, GET, and keeps one connection.

The imports that TLS needs are made when a connection is: a node that is still starting has better
things to do with its processor.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from product.agent.errors import AgentError
from product.agent.kubernetes.kubeconfig import Access

if TYPE_CHECKING:
    import ssl

    from product.agent.net.connections import Connection
    from product.agent.net.sockets import Patience

# A list of all pods of kube-system is some 10 kB a pod.
MAX_BYTES = 16 * 1024 * 1024
# Connecting, TLS and the answer may each take a wait of its own on a node that is still starting.
WAITS = 3


class ApiError(AgentError):
    """The API server gave no usable answer."""

    code = "api-unreachable"


class ApiRefusedError(ApiError):
    """The API server answered with another status than 200."""

    code = "api-refused"

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class ApiClient:
    """Not for threads. All methods raise ApiError."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._connection: Connection | None = None
        self._patience: Patience | None = None
        self._context: ssl.SSLContext | None = None

    @property
    def address(self) -> str:
        """``host:port``."""
        host = f"[{self._access.host}]" if ":" in self._access.host else self._access.host
        return f"{host}:{self._access.port}"

    def close(self) -> None:
        """Drop the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def get_json(self, path: str, seconds: float) -> dict[str, object]:
        """The object at ``path``; for ``seconds`` see ``get``."""
        body = self.get(path, seconds)
        try:
            document = json.loads(body.decode())
        except (ValueError, RecursionError) as error:
            raise ApiError(f"{path} is not JSON: {error}") from None
        if not isinstance(document, dict):
            raise ApiError(f"{path} is not a JSON object")
        return document

    def get(self, path: str, seconds: float) -> bytes:
        """The body of a 200 answer. Raises ApiRefusedError for another status.

        ``seconds`` limit every single wait for the server, and ``WAITS`` times as many all of it.
        """
        from product.agent.net.sockets import Patience

        if self._patience is None:
            self._patience = Patience(seconds)
        patience = self._patience
        patience.silence = seconds
        patience.allow(WAITS * seconds)
        fresh = self._connection is None
        if fresh:
            self._require_reachable(patience)
        from http.client import HTTPException

        try:
            status, body = self._ask(path, patience)
        except (OSError, HTTPException, ValueError) as error:
            self.close()
            if fresh or isinstance(error, TimeoutError):
                raise self._unreachable(error) from None
            # The server closes connections as it likes, and when it starts anew.
            try:
                status, body = self._ask(path, patience)
            except (OSError, HTTPException, ValueError) as error:
                self.close()
                raise self._unreachable(error) from None
        if status != 200:
            lines = body.decode("utf-8", "replace").splitlines()
            # /readyz lists its parts, [+] or [-].
            text = " ".join([line for line in lines if line.startswith("[-]")] or lines)
            raise ApiRefusedError(f"{path} answered {status}: {text:.300}", status)
        return body

    def _ask(self, path: str, patience: Patience) -> tuple[int, bytes]:
        if self._connection is None:
            from product.agent.net.connections import Connection
            from product.agent.net.urls import Origin

            origin = Origin("https", self._access.host, self._access.port)
            self._connection = Connection(
                origin, patience, connect=patience.silence, context=lambda _: self._tls()
            )
        headers = {"User-Agent": "kubesolo-update", "Accept": "application/json"}
        if self._access.token:
            headers["Authorization"] = f"Bearer {self._access.token}"
        response = self._connection.ask_once(path, headers)
        body = response.read(MAX_BYTES + 1)
        if len(body) > MAX_BYTES:
            raise ValueError(f"{path} is larger than {MAX_BYTES} bytes")
        return response.status, body

    def _require_reachable(self, patience: Patience) -> None:
        """A connection for nothing, before TLS and HTTP are loaded."""
        from product.agent.net.sockets import dial

        host, port = self._access.host, self._access.port
        try:
            dial(host, port, patience, connect=patience.silence).close()
        except (OSError, ValueError) as error:
            raise self._unreachable(error) from None

    def _tls(self) -> ssl.SSLContext:
        if self._context is None:
            import ssl

            # Not the strict default: older Kubernetes makes certificates without key identifiers.
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.load_verify_locations(cadata=self._access.authority)
            if self._access.certificate:
                self._load_certificate(context)
            self._context = context
        return self._context

    def _load_certificate(self, context: ssl.SSLContext) -> None:
        """OpenSSL wants a file; this one has no name, so that the key is never on a disk."""
        descriptor = os.memfd_create("client", os.MFD_CLOEXEC)
        try:
            with open(descriptor, "wb", closefd=False) as file:
                file.write(f"{self._access.certificate}\n{self._access.key}\n".encode())
            context.load_cert_chain(f"/proc/self/fd/{descriptor}")
        finally:
            os.close(descriptor)

    def _unreachable(self, error: Exception) -> ApiError:
        text = "it did not answer in time" if isinstance(error, TimeoutError) else str(error)
        return ApiError(f"the API server at {self.address} cannot be asked: {text or repr(error)}")
