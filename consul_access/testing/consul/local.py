"""What one agent holds itself: its services and checks, and what of that the servers do not know yet.

An agent answers for its own state at once; what it says to the servers (anti-entropy) follows, and is said again when
they were away. Nothing here waits or looks at the clock: the time is passed in, and `next_due` tells when to come back.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from typing import Any, Final

from consul_access.testing.consul.catalog import Check, Service
from consul_access.testing.consul.definitions import CheckDefinition, ServiceDefinition
from consul_access.testing.consul.dialect import Dialect
from consul_access.testing.consul.golang import shown

__all__ = ["LocalCheck", "LocalService", "LocalState", "Probe", "content_hash", "pace"]

NODE_MAINTENANCE: Final = "_node_maintenance"
SERVICE_MAINTENANCE: Final = "_service_maintenance:"
_REASON: Final = "Maintenance mode is enabled for this {}, but no reason was provided. This is a default message."
_PACE: Final = ("Interval", "Timeout")
OUTPUT_LIMIT: Final = 4096
SHORTEST_REAP: Final = 60.0
SHORTEST_INTERVAL: Final = 1.0


@dataclass(slots=True)
class LocalService:
    """A service, as its agent holds it.

    Args:
        service: what is told to the servers.
        token: the token that it was registered with.
        in_sync: whether the servers know it.
    """

    service: Service
    token: str = ""
    in_sync: bool = False


@dataclass(frozen=True, slots=True)
class Ttl:
    """The time in which a check must be reported, and how much of a report is kept."""

    lasts: float
    limit: int


@dataclass(slots=True)
class Probe:
    """An address that is asked again and again.

    Args:
        definition: of the check that wanted it.
        at: when it is asked next.
    """

    definition: CheckDefinition
    at: float


@dataclass(slots=True)
class LocalCheck:
    """A check, as its agent holds it.

    Args:
        check: what is told to the servers.
        definition: what was asked for; nothing for maintenance.
        token: the token that it was registered with.
        in_sync: whether the servers know it.
        expires: when a TTL ends; None if there is none.
        critical_since: when it turned critical; None if it is not, or never was anything else.
        told_later: when a changed output is told to the servers; None if there is nothing to tell.
        ttl: the time in which it must be reported; a check of another kind that replaces it inherits that.
        probes: its HTTP and TCP addresses, by kind; they too outlive being replaced by a check of another kind.
        successes: in a row.
        failures: in a row.
        kept_until: until when the last report survives a restart of the agent; None if nothing does.
        is_new: nobody has seen it yet: it did not take over the status of one before it.
    """

    check: Check
    definition: CheckDefinition = field(default_factory=lambda: CheckDefinition({}))
    token: str = ""
    in_sync: bool = False
    expires: float | None = None
    critical_since: float | None = None
    told_later: float | None = None
    ttl: Ttl | None = None
    probes: dict[str, Probe] = field(default_factory=dict)
    successes: int = 0
    failures: int = 0
    kept_until: float | None = None
    is_new: bool = True

    @property
    def reap_after(self) -> float:
        """Seconds after which its service is removed while it is critical; 0 means never."""
        given = self.definition.lasts("DeregisterCriticalServiceAfter")
        return max(given, SHORTEST_REAP) if given > 0 else 0.0


class LocalState:
    """An agent's services and checks.

    Args:
        dialect: the version that the agent speaks.
    """

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self.services: dict[str, LocalService] = {}
        self.checks: dict[str, LocalCheck] = {}
        self.gone_services: dict[str, str] = {}
        """What the servers have not been told to forget yet, with the tokens to say it with."""
        self.gone_checks: dict[str, str] = {}
        self.left_aliases: set[str] = set()
        """Checks that stood for a node and are gone: agents stumble when they come back."""

    # --- services -----------------------------------------------------------------------------------------

    def add_service(
        self, wanted: ServiceDefinition, *, token: str, replace_checks: bool, now: float
    ) -> list[LocalCheck]:
        """Registers a service; its new checks are returned, to be started."""
        former = {check_id for check_id, held in self.checks.items() if held.check.service_id == wanted.id}
        known = {check_id: replace(held.check) for check_id, held in self.checks.items()}
        service = Service(
            wanted.id, wanted.name, wanted.address, wanted.port, wanted.tags, wanted.meta,
            dict(wanted.weights), wanted.tagged, wanted.override, wanted.kind, wanted.native, wanted.socket,
        )  # fmt: skip
        before = self.services.get(wanted.id)
        need_not = before is not None and before.in_sync and before.service.same_as(service)
        self.services[wanted.id] = LocalService(service, token, need_not and not self._dialect.tells_the_same)
        self.gone_services.pop(wanted.id, None)
        added = []
        for number, definition in enumerate(wanted.checks, 1):
            held = self._service_check(wanted, definition, number)
            was = known.get(held.check.id)
            if was is not None:
                held.check.status, held.check.output = was.status, was.output
                held.is_new = False
            held.token = token
            self.add_check(held, now=now)
            added.append(held)
        if replace_checks:
            for check_id in former - {held.check.id for held in added}:
                self.remove_check(check_id)
        return added

    def _service_check(self, wanted: ServiceDefinition, definition: CheckDefinition, number: int) -> LocalCheck:
        made = f"service:{wanted.id}" + (f":{number}" if len(wanted.checks) > 1 else "")
        interval, timeout = self._dialect.pace_of_services(*(_shown(definition, name) for name in _PACE))
        check = Check(
            id=definition.text("CheckID") or made,
            name=definition.text("Name") or f"Service '{wanted.name}' check",
            status=definition.text("Status") or "critical",
            notes=definition.text("Notes"),
            service_id=wanted.id,
            service_name=wanted.name,
            service_tags=wanted.tags,
            type=definition.kind,
            interval=interval,
            timeout=timeout,
        )
        return LocalCheck(check, definition)

    def remove_service(self, service_id: str) -> bool:
        """Forgets a service and its checks; whether it was there."""
        held = self.services.pop(service_id, None)
        if held is None:
            return False
        self.gone_services[service_id] = held.token
        for check_id in [key for key, check in self.checks.items() if check.check.service_id == service_id]:
            self.remove_check(check_id)
        return True

    # --- checks -------------------------------------------------------------------------------------------

    def lone_check(self, definition: CheckDefinition, check_id: str, token: str) -> LocalCheck:
        """A check that was registered by itself."""
        owner = self.services.get(definition.text("ServiceID"))
        check = Check(
            id=check_id,
            name=definition.text("Name"),
            status=definition.text("Status") or "critical",
            notes=definition.text("Notes"),
            service_id=definition.text("ServiceID"),
            service_name=owner.service.name if owner else "",
            service_tags=owner.service.tags if owner else None,
            type=definition.kind,
            interval=shown(definition.number("Interval")),  # here nothing is told as 0s
            timeout=shown(definition.number("Timeout")),
        )
        return LocalCheck(check, definition, token)

    def add_check(self, held: LocalCheck, *, now: float) -> None:
        """Adds a check, or replaces the one of its id, also another service's."""
        held.successes = held.definition.number("SuccessBeforePassing")
        held.failures = held.definition.number("FailuresBeforeCritical")
        former = self.checks.get(held.check.id)
        if former is not None:
            held.ttl, held.expires, held.probes = former.ttl, former.expires, former.probes
            if not self._dialect.tells_the_same and former.in_sync and held.check.same_as(former.check):
                held.in_sync, held.told_later = True, former.told_later
        if held.check.type == "ttl":
            held.ttl = Ttl(held.definition.lasts("TTL"), held.definition.number("OutputMaxSize") or OUTPUT_LIMIT)
            held.expires = now + held.ttl.lasts
        self.checks[held.check.id] = held
        self.gone_checks.pop(held.check.id, None)

    def remove_check(self, check_id: str) -> bool:
        """Forgets a check; whether it was there."""
        held = self.checks.pop(check_id, None)
        if held is None:
            return False
        self.gone_checks[check_id] = held.token
        if held.definition.text("AliasNode"):
            self.left_aliases.add(check_id)
        return True

    def report(self, held: LocalCheck, status: str, output: str, *, now: float, defer: float) -> None:
        """Takes a check's outcome.

        Args:
            held: the check.
            status: what it is now.
            output: for people.
            now: the time.
            defer: seconds until an output is told to the servers that came without another status.
        """
        if status != "critical":
            held.critical_since = None
        elif held.critical_since is None:
            held.critical_since = now
        if (held.check.status, held.check.output) == (status, output):
            return
        held.check.output = output
        if held.check.status != status:
            held.check.status = status
            held.in_sync = False
        elif held.told_later is None:
            held.told_later = now + defer

    def beat(self, held: LocalCheck, status: str, output: str, *, now: float, defer: float) -> None:
        """Takes a report of a TTL check, whose time begins anew."""
        assert held.ttl is not None  # noqa: S101 - only such checks are reported
        held.expires = held.kept_until = now + held.ttl.lasts
        self.report(held, status, _cut(output, held.ttl.limit), now=now, defer=defer)

    def reload(self, *, now: float) -> None:
        """Begins anew with what is on disk: of all checks only a TTL's report that is not too old still counts."""
        for held in self.checks.values():
            held.successes = held.definition.number("SuccessBeforePassing")
            held.failures = held.definition.number("FailuresBeforeCritical")
            held.critical_since = held.told_later = None
            held.expires = None if held.ttl is None else now + held.ttl.lasts
            if held.kept_until is None or held.kept_until <= now:
                held.check.status, held.check.output = "critical", ""

    def expire(self, held: LocalCheck, *, now: float, defer: float) -> None:
        """Ends a TTL in which nobody reported."""
        held.expires = None
        before = held.check.output
        output = f"TTL expired (last output before timeout follows): {before}" if before else "TTL expired"
        self.report(held, "critical", output, now=now, defer=defer)

    def observe(self, held: LocalCheck, status: str, output: str, *, now: float, defer: float) -> None:
        """Takes what one run of a check found: it counts when it was found often enough in a row."""
        if status == "critical":
            held.failures, held.successes = held.failures + 1, 0
            counts = held.failures >= held.definition.number("FailuresBeforeCritical")
        else:
            held.successes, held.failures = held.successes + 1, 0
            counts = held.successes >= held.definition.number("SuccessBeforePassing")
        if counts:
            self.report(held, status, output, now=now, defer=defer)

    # --- maintenance --------------------------------------------------------------------------------------

    def maintain_service(self, service_id: str, enabled: bool, reason: str, token: str) -> None:
        """Begins or ends the maintenance of a service."""
        check_id = f"{SERVICE_MAINTENANCE}{service_id}"
        if not enabled:
            self.remove_check(check_id)
        elif check_id not in self.checks:
            service = self.services[service_id].service
            notes = reason or _REASON.format("service")
            check = Check(
                check_id, "Service Maintenance Mode", notes=notes, service_id=service_id, service_name=service.name
            )
            check.service_tags, check.type = service.tags, "maintenance"
            self.add_check(LocalCheck(check, token=token), now=0.0)

    def maintain_node(self, enabled: bool, reason: str, token: str) -> None:
        """Begins or ends the maintenance of the agent's node."""
        if not enabled:
            self.remove_check(NODE_MAINTENANCE)
        elif NODE_MAINTENANCE not in self.checks:
            notes = reason or _REASON.format("node")
            check = Check(NODE_MAINTENANCE, "Node Maintenance Mode", notes=notes, type="maintenance")
            self.add_check(LocalCheck(check, token=token), now=0.0)

    # --- reading ------------------------------------------------------------------------------------------

    def health_of(self, service_id: str) -> list[Check]:
        """The checks that decide how a service stands: its own, and those of the node."""
        return [held.check for held in self.checks.values() if held.check.service_id in {"", service_id}]

    def dues(self) -> list[float]:
        """When something of its own accord happens to a check."""
        times = [(held.expires, held.told_later) for held in self.checks.values()]
        return [at for pair in times for at in pair if at is not None]


def content_hash(service: dict[str, Any]) -> str:
    """A text that differs when the service does."""
    return hashlib.blake2b(json.dumps(service, sort_keys=True).encode(), digest_size=8).hexdigest()


def pace(definition: CheckDefinition) -> float:
    """Seconds between two runs of a check."""
    return max(definition.lasts("Interval"), SHORTEST_INTERVAL)


def _cut(output: str, limit: int) -> str:
    raw = output.encode()
    if len(raw) <= limit:
        return output
    return f"{raw[:limit].decode('utf-8', 'replace')} ... (captured {limit} of {len(raw)} bytes)"


def _shown(definition: CheckDefinition, name: str) -> str:
    return shown(definition.number(name)) if definition.number(name) else ""
