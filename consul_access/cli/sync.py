"""`consul-access sync`: keeps the services of etcd, Kubernetes' or a registry's, in Consul's catalog."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Annotated

import typer

from consul_access.cli.connection import Datacenter, HttpAddr, TokenFile, opened
from consul_access.cli.etcd_connection import CaCert, Cert, Endpoints, Grpc, Key, KubernetesPrefix, opened_etcd
from consul_access.cli.output import Json, print_json, print_line, say, say_what_is_logged

if TYPE_CHECKING:
    from consul_access import SyncEvent, SyncInstance, SyncPlan

__all__ = ["sync"]

_NODE_PORTS = "Which address of a node stands for NodePort services: external_first, external_only, internal_only."


def sync(
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Prints what would be written, and writes nothing.")
    ] = False,
    registry: Annotated[
        bool, typer.Option("--registry", help="Not Kubernetes' services, but those registered at etcd.")
    ] = False,
    once: Annotated[bool, typer.Option("--once", help="Ends after one pass.")] = False,
    node: Annotated[
        str, typer.Option(metavar="NAME", help="The node to register on; of this sync alone.")
    ] = "etcd-sync",
    tag: Annotated[str, typer.Option(metavar="TAG", help="In front of every instance's tags.")] = "etcd",
    prefix: Annotated[str, typer.Option(metavar="TEXT", help="In front of every service's name.")] = "",
    namespace_suffix: Annotated[
        bool, typer.Option(help="Whether the namespace goes behind every service's name.")
    ] = True,
    namespaces: Annotated[
        list[str] | None, typer.Option("--namespace", metavar="NAME", help="Only these; all if left out.")
    ] = None,
    without: Annotated[
        list[str] | None,
        typer.Option("--without-namespace", metavar="NAME", help="Not these. [kube-system, kube-public]"),
    ] = None,
    annotated_only: Annotated[
        bool, typer.Option("--annotated-only", help="Only services whose annotation service-sync is true.")
    ] = False,
    node_port_addresses: Annotated[str, typer.Option(metavar="NAME", help=_NODE_PORTS)] = "external_first",
    may_vanish: Annotated[
        float, typer.Option(metavar="SHARE", help="The share of all instances that may vanish at once, 0 to 1.")
    ] = 0.5,
    interval: Annotated[float, typer.Option(metavar="SECONDS", help="Between two passes without a change.")] = 30.0,
    endpoints: Endpoints = None,
    cacert: CaCert = None,
    cert: Cert = None,
    key: Key = None,
    grpc: Grpc = False,
    kubernetes_prefix: KubernetesPrefix = "/registry",
    http_addr: HttpAddr = None,
    token_file: TokenFile = None,
    datacenter: Datacenter = None,
    json: Json = False,
) -> None:
    """Keeps etcd's services in Consul's catalog.

    Those of Kubernetes, read from the cluster's etcd, or with --registry those that EtcdRegistry has written. It runs
    until Ctrl-C, with a line for each event; what was synced stays. With --dry-run and --once a line for each instance:
    + is registered, - is removed, = stays although etcd does not have it, ! cannot be registered.
    """
    from consul_access import CatalogSync

    with (
        opened_etcd(endpoints, cacert, cert, key, grpc=grpc, kubernetes_prefix=kubernetes_prefix) as source,
        opened(http_addr, token_file, datacenter) as target,
    ):
        syncing = CatalogSync(
            source if registry else source.kubernetes,
            target,
            node=node,
            tag=tag,
            prefix=prefix,
            add_namespace=namespace_suffix,
            namespaces=namespaces or ("*",),
            except_namespaces=("kube-system", "kube-public") if without is None else without,
            by_default=not annotated_only,
            node_port_addresses=node_port_addresses,  # type: ignore[arg-type] # it is looked at there
            may_vanish=may_vanish,
            interval=interval,
            on_event=_print_record if json else None,
        )
        if dry_run or once:
            _print_plan(syncing.plan() if dry_run else syncing.once(), json=json, done=not dry_run)
        else:
            say_what_is_logged(logging.WARNING if json else logging.INFO)
            with syncing:
                threading.Event().wait()


def _print_plan(plan: SyncPlan, *, json: bool, done: bool) -> None:
    if json:
        print_json(_record(plan))
        return
    for sign, instances in (("+", plan.register), ("-", plan.deregister), ("=", plan.held)):
        for one in instances:
            print_line(f"{sign} {one.name} {one.id} {_address(one)} {one.status or '-'}")
    for left_out in plan.left_out:
        print_line(f"! {left_out.what} {left_out.reason}")
    if plan.reason:
        say(plan.reason)
    written, removed, rest = ("registered", "removed", "were") if done else ("to register", "to remove", "are")
    numbers = f"{len(plan.register)} {written}, {len(plan.deregister)} {removed}"
    say(f"{numbers}, {plan.unchanged} {rest} as they should be")


def _address(one: SyncInstance) -> str:
    from consul_access import Address

    return str(Address(one.address, one.port or one.ports[0].port))


def _record(plan: SyncPlan) -> dict[str, object]:
    return {
        "register": [_instance(one) for one in plan.register],
        "deregister": [_instance(one) for one in plan.deregister],
        "held": [_instance(one) for one in plan.held],
        "reason": plan.reason,
        "left_out": [{"what": one.what, "reason": one.reason} for one in plan.left_out],
        "unchanged": plan.unchanged,
        "foreign": list(plan.foreign),
    }


def _instance(one: SyncInstance) -> dict[str, object]:
    return {
        "id": one.id,
        "service": one.name,
        "address": _address(one),
        "status": one.status.value if one.status is not None else None,
        "tags": list(one.tags),
        "meta": dict(one.meta),
        "origin": one.origin,
    }


def _print_record(event: SyncEvent) -> None:
    print_json(
        {
            "kind": event.kind,
            "state": event.state.value,
            "cause": event.cause,
            "registered": event.registered,
            "deregistered": event.deregistered,
        },
        lines=True,
    )
