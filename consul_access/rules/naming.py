"""Which host names in URLs mean a service, and which service they mean."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from consul_access.errors import InvalidInput

__all__ = ["ServiceNames", "Wanted"]


class Wanted(NamedTuple):
    """A service, as a host name asks for it.

    Args:
        service: its name.
        tag: only instances with this tag; empty for any.
        datacenter: another datacenter; empty for the client's own.
    """

    service: str
    tag: str = ""
    datacenter: str = ""


class ServiceNames:
    """Tells services from ordinary hosts.

    Args:
        services: the names of services, when not every name without a dot is one.
        domains: what Consul's DNS names end with; `consul` by default.

    A service is meant by a name without a dot (`orders`, never `localhost`), and by a name as Consul's DNS has it:
    `[TAG.]SERVICE.service[.DATACENTER].consul`
    (https://developer.hashicorp.com/consul/docs/services/discovery/dns-static-lookups). A host with a port of its own
    is an ordinary host: which port to call is what the registry knows.

    Raises:
        InvalidInput: `services` is a single text, or holds an empty name.
    """

    __slots__ = ("_domains", "_services")

    def __init__(self, services: Iterable[str] | None = None, domains: Iterable[str] = ("consul",)) -> None:
        if isinstance(services, str) or isinstance(domains, str):
            raise InvalidInput("services= and domains= are lists of names, not a single one")
        self._services = None if services is None else {name.lower(): name for name in services}
        if self._services is not None and "" in self._services:
            raise InvalidInput("services= holds an empty name")
        self._domains = tuple("." + domain.strip(".").lower() for domain in domains)

    def wanted(self, host: str, port: int | None = None) -> Wanted | None:
        """The service that is meant; None for an ordinary host.

        Args:
            host: the host of a URL, in lower case, IPv6 without brackets.
            port: the port that the URL names, if it names one.
        """
        if port is not None or not host:
            return None
        if self._services is not None and host in self._services:
            return Wanted(self._services[host])
        for domain in self._domains:
            if host.endswith(domain):
                return self._of_dns(host.removesuffix(domain).split("."))
        if "." in host or ":" in host or host == "localhost" or self._services is not None:
            return None
        return Wanted(host)

    def _of_dns(self, labels: list[str]) -> Wanted | None:
        if labels[-1] == "service":
            labels, datacenter = labels[:-1], ""
        elif labels[-2:-1] == ["service"]:
            labels, datacenter = labels[:-2], labels[-1]
        else:
            return None
        if not all(labels) or not labels or labels[0].startswith("_"):  # _name._tcp asks for SRV records
            return None
        service = labels[-1]
        if self._services is not None:
            service = self._services.get(service, service)
        return Wanted(service, ".".join(labels[:-1]), datacenter)
