"""Asking an agent with nothing of ours in between, for setting up and looking behind: a real one or a fake."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from email.message import Message
from typing import Any
from urllib.parse import quote


class Asking:
    """What can be asked of an agent that listens at `host` and `port`, with `token` by default."""

    host: str = "127.0.0.1"
    port: int
    token: str | None
    source: str | None = None
    """The address that we ask from; an agent counts the connections of each."""

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    def request(self, method: str, target: str, body: Any = None, *, token: str | None = None) -> tuple[int, str]:
        """Status and text of a request that has nothing of ours in it, for setting up and looking behind."""
        status, _, data = self.exchange(method, target, body, token=token)
        return status, data.decode("utf-8", "replace")

    def exchange(
        self,
        method: str,
        target: str,
        body: Any = None,
        *,
        token: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, Message, bytes]:
        """All of an answer: status, headers, and body as it came."""
        own = (self.source, 0) if self.source is not None else None
        connection = http.client.HTTPConnection(self.host, self.port, timeout=20, source_address=own)
        sent = {"X-Consul-Token": token or self.token or ""} | dict(headers or {})
        try:
            data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
            connection.request(method, target, data, sent)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def read(self, target: str) -> Any:
        """A JSON answer."""
        status, text = self.request("GET", target)
        assert status == 200, text
        return json.loads(text)

    def register(self, name: str, *, id: str | None = None, **fields: Any) -> None:  # noqa: A002
        """Registers a service behind our back. Fields are those of the agent, in lower case or as they are."""
        body = {"Name": name, "ID": id or name} | {_camel(key): value for key, value in fields.items()}
        status, text = self.request("PUT", "/v1/agent/service/register?replace-existing-checks=true", body)
        assert status == 200, text

    def clear(self) -> None:
        """Forgets all services and ends the node's maintenance."""
        for service_id in self.read("/v1/agent/services"):
            self.request("PUT", f"/v1/agent/service/deregister/{quote(service_id, safe='')}")
        self.request("PUT", "/v1/agent/maintenance?enable=false")


def _camel(name: str) -> str:
    return name if name[:1].isupper() else "".join(part.capitalize() for part in name.split("_"))
