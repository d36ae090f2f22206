"""What is synced into Consul's catalog: how it is named there, what should be there, and what to write for that."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Literal

from consul_access.errors import InvalidInput
from consul_access.models import inputs
from consul_access.models.effective import NamedPort
from consul_access.models.status import CheckStatus

__all__ = [
    "LeftOut",
    "NodePortAddresses",
    "SyncEvent",
    "SyncInstance",
    "SyncList",
    "SyncPlan",
    "SyncRules",
    "SyncState",
]

NodePortAddresses = Literal["external_first", "external_only", "internal_only"]
"""Which address of a node stands for a NodePort service."""

OWNER: Final = "sync-owner"
"""The meta key by which a sync knows what it has written."""
ORIGIN: Final = "sync-origin"
"""The meta key that tells what an instance was made of, such as `shop/web`."""
_OTHERS: Final = {"node": "k8s-sync", "tag": "k8s"}
"""What belongs to consul-k8s, whose reaper removes what carries its tag and is not its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncRules:
    """How a source's services are named in Consul, and which of them are meant.

    Args:
        node: the node they are registered on; it belongs to this sync alone.
        tag: in front of every instance's tags.
        prefix: in front of every service's name.
        add_namespace: puts `-NAMESPACE` behind every service's name.
        namespaces: the namespaces that are meant; `*` for all.
        except_namespaces: those of them that are not.
        by_default: whether services are meant that do not say so themselves (`consul.hashicorp.com/service-sync`).
        node_port_addresses: of a node with several addresses, which one stands for NodePort services.

    Raises:
        InvalidInput: something cannot be right.
    """

    node: str = "etcd-sync"
    tag: str = "etcd"
    prefix: str = ""
    add_namespace: bool = True
    namespaces: tuple[str, ...] = ("*",)
    except_namespaces: tuple[str, ...] = ("kube-system", "kube-public")
    by_default: bool = True
    node_port_addresses: NodePortAddresses = "external_first"

    def __post_init__(self) -> None:
        inputs.identifier(self.node, "node")
        inputs.identifier(self.tag, "tag")
        inputs.text(self.prefix, "prefix")
        for name, value in _OTHERS.items():
            if getattr(self, name) == value:
                raise InvalidInput(f"{name}={value!r} belongs to consul-k8s, which would remove what is synced here")
        for name in ("namespaces", "except_namespaces"):
            if isinstance(getattr(self, name), str):
                raise InvalidInput(f"{name}={getattr(self, name)!r} is one text: write a list")
        if self.node_port_addresses not in NodePortAddresses.__args__:  # type: ignore[attr-defined]
            known = ", ".join(NodePortAddresses.__args__)  # type: ignore[attr-defined]
            raise InvalidInput(f"node_port_addresses={self.node_port_addresses!r} is none: write one of {known}")

    def means(self, namespace: str) -> bool:
        """Whether services of this namespace are meant."""
        if namespace in self.except_namespaces:
            return False
        return "*" in self.namespaces or namespace in self.namespaces


def tags_of(rules: SyncRules, others: Iterable[str]) -> tuple[str, ...]:
    """An instance's tags: the sync's own one in front, and never the one by which consul-k8s knows what it may remove.

    Raises:
        InvalidInput: one of them cannot be a tag.
    """
    told = (tag for tag in others if tag not in (rules.tag, _OTHERS["tag"]))
    return inputs.check_tags([rules.tag, *told])


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncInstance:
    """An instance, as it should be in the catalog or as it is there.

    Args:
        id: unique on its node.
        name: of the service.
        address: where it is called.
        port: and at which port; 0 when `ports` are written instead.
        ports: by name, the default one in front.
        tags: the sync's own one in front.
        meta: where it comes from, and what its source says.
        weight: its share of the calls.
        origin: what it was made of, such as `shop/web`.
        status: as its source sees it; None for one in the catalog whose check is not there.
        check_id: of the check that tells the status.
        check_name: for people.
        check_type: what kind of check it is; not compared, since Consul 1.8 forgets it when it comes in a transaction.
        output: for people.
    """

    id: str
    name: str
    address: str
    port: int
    ports: tuple[NamedPort, ...] = ()
    tags: tuple[str, ...] = ()
    meta: Mapping[str, str] = field(default_factory=dict)
    weight: int = 1
    origin: str = ""
    status: CheckStatus | None = CheckStatus.PASSING
    check_id: str = ""
    check_name: str = ""
    check_type: str = field(default="", compare=False)
    output: str = ""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Something that is not synced.

    Args:
        what: an instance's id, or what it would have been made of, such as `shop/web`.
        reason: why not.
    """

    what: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncList:
    """Everything a source has.

    Args:
        instances: all that should be in the catalog.
        left_out: what cannot be, and why.
        doubtful: origins that could not be read in full (`shop/web`, or `shop` for all of a namespace): what is in the
            catalog of them stays there.
        source: the kind of the source, such as `kubernetes`; the meta `external-source`.
        revision: as of which revision of the source it is; 0 if it has none.
    """

    instances: tuple[SyncInstance, ...]
    left_out: tuple[LeftOut, ...] = ()
    doubtful: frozenset[str] = frozenset()
    source: str = ""
    revision: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncPlan:
    """What a sync writes into the catalog, or would write.

    Args:
        register: instances that are missing or differ.
        deregister: instances that the source no longer has.
        held: instances that the source does not have and that stay all the same.
        reason: why they stay; empty when there are none.
        left_out: what cannot be registered, and why.
        unchanged: how many are as they should be.
        foreign: the ids of what others have put on the node, which is left alone.
    """

    register: tuple[SyncInstance, ...] = ()
    deregister: tuple[SyncInstance, ...] = ()
    held: tuple[SyncInstance, ...] = ()
    reason: str = ""
    left_out: tuple[LeftOut, ...] = ()
    unchanged: int = 0
    foreign: tuple[str, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to write."""
        return not self.register and not self.deregister


class SyncState(StrEnum):
    """How a sync stands."""

    PENDING = "pending"
    """The source was not read completely yet, or the catalog not written; nothing was removed."""
    SYNCED = "synced"
    """The catalog has what the source has."""
    HELD = "held"
    """The same, but for what should be removed and is not; `plan` says why."""
    STALE = "stale"
    """The source cannot be followed; the catalog keeps what it had, and nothing is removed."""
    FAILING = "failing"
    """The catalog cannot be read or written; it is tried again."""
    STOPPED = "stopped"
    """Ended; what was synced stays in the catalog."""


@dataclass(frozen=True, slots=True)
class SyncEvent:
    """One change in a sync's life.

    Args:
        kind: `listed` (the source was read completely for the first time), `written` (the catalog was changed), `held`
            (removals are held back), `released` (they no longer are), `left_out` (something cannot be registered),
            `source_lost`, `source_back`, `target_lost`, `target_back` or `stopped`.
        state: the state it led to.
        cause: what happened; empty when there is nothing to say.
        registered: how many instances were written.
        deregistered: how many were removed.
    """

    kind: str
    state: SyncState
    cause: str = ""
    registered: int = 0
    deregistered: int = 0
