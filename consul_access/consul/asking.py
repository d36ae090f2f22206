"""How `/v1/health/service` is asked, whoever reads the answer. https://developer.hashicorp.com/consul/api-docs/health"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from consul_access.call import Call, Reply, path
from consul_access.models.query import Query, render
from consul_access.models.status import HealthPolicy
from consul_access.rules.filtering import asked_of_agent

__all__ = ["service_call"]

T = TypeVar("T")


def service_call(name: str, query: Query, policy: HealthPolicy, read: Callable[[Reply], T]) -> Call[T]:
    """The question for a service's instances.

    Args:
        name: the service.
        query: narrows the search.
        policy: the policy in force, of which the agent applies what it can.
        read: reads the answer.
    """
    written = render(query, scope="health", policy=asked_of_agent(policy))
    return Call(
        name="health.service",
        method="GET",
        path=path("v1", "health", "service", name),
        read=read,
        query=written.pairs,
        subject=name,
        patience=written.patience,
    )
