"""`/v3/cluster` and `/v3/maintenance`: who the members are, and how one of them is."""

from __future__ import annotations

from typing import Any, NamedTuple

from consul_access.call import Call
from consul_access.etcd.coding import gateway_call, revision_of

__all__ = ["Member", "Status", "members", "status"]


class Member(NamedTuple):
    """A member of the cluster.

    Args:
        id: its id, up to 2^64.
        name: empty until it has started.
        client_urls: where it says that clients reach it, which need not be true from here.
        peer_urls: where other members reach it.
        is_learner: it does not vote yet.
    """

    id: int
    name: str
    client_urls: tuple[str, ...]
    peer_urls: tuple[str, ...]
    is_learner: bool


class Status(NamedTuple):
    """How one member is.

    Args:
        version: of the server, such as `3.5.16`.
        member_id: of the member that answered.
        cluster_id: of its cluster.
        leader: the leader's id; None while there is none.
        revision: the store's revision at this member.
        raft_term: how many elections there were.
        db_size: bytes of the store's file.
        is_learner: it does not vote yet.
        errors: what it complains about, such as a full store.
    """

    version: str
    member_id: int
    cluster_id: int
    leader: int | None
    revision: int
    raft_term: int
    db_size: int
    is_learner: bool
    errors: tuple[str, ...]

    @property
    def is_leader(self) -> bool:
        """Whether the member that answered leads."""
        return self.leader == self.member_id


def members() -> Call[tuple[Member, ...]]:
    """The members, as the cluster has agreed on them."""
    return gateway_call("cluster.members", "cluster/member/list", {}, _members)


def status() -> Call[Status]:
    """How the member is that is asked; it answers even without a leader, and without a token."""
    return gateway_call("maintenance.status", "maintenance/status", {}, _status)


def _members(answer: dict[str, Any]) -> tuple[Member, ...]:
    return tuple(
        Member(
            int(member["ID"]),
            str(member.get("name", "")),
            tuple(member.get("clientURLs", ())),
            tuple(member.get("peerURLs", ())),
            bool(member.get("isLearner", False)),
        )
        for member in answer["members"]
    )


def _status(answer: dict[str, Any]) -> Status:
    header = answer["header"]
    return Status(
        version=str(answer["version"]),
        member_id=int(header["member_id"]),
        cluster_id=int(header["cluster_id"]),
        leader=int(answer.get("leader", 0)) or None,
        revision=revision_of(answer),
        raft_term=int(answer.get("raftTerm", 0)),
        db_size=int(answer.get("dbSize", 0)),
        is_learner=bool(answer.get("isLearner", False)),
        errors=tuple(answer.get("errors", ())),
    )
