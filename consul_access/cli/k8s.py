"""`consul-access k8s ...`: Kubernetes' services, out of its etcd."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from consul_access.cli.etcd_connection import CaCert, Cert, Endpoints, Grpc, Key, KubernetesPrefix, opened_etcd
from consul_access.cli.output import Json, print_json, print_table, say

if TYPE_CHECKING:
    from consul_access import KubernetesInstance, KubernetesService

__all__ = ["k8s"]

k8s = typer.Typer(
    name="k8s",
    help="Reads a Kubernetes cluster's services out of its etcd.",
    epilog="Where etcd is comes from the ETCDCTL_* environment, as for etcd's own command. Nothing is ever written.",
    no_args_is_help=True,
)

Namespace = Annotated[str, typer.Option("--namespace", "-n", metavar="NAME", help="The namespace.")]


@k8s.command()
def services(
    *,
    namespace: Namespace = "default",
    everywhere: Annotated[bool, typer.Option("--all-namespaces", "-A", help="All namespaces.")] = False,
    endpoints: Endpoints = None,
    cacert: CaCert = None,
    cert: Cert = None,
    key: Key = None,
    grpc: Grpc = False,
    kubernetes_prefix: KubernetesPrefix = "/registry",
    json: Json = False,
) -> None:
    """Lists the Services of a namespace."""
    with opened_etcd(endpoints, cacert, cert, key, grpc=grpc, kubernetes_prefix=kubernetes_prefix) as client:
        found = client.kubernetes.services(None if everywhere else namespace)
    if found.rejected:
        say(f"{found.rejected} objects cannot be read and are left out")
    if json:
        print_json([_service(one) for one in found])
    else:
        columns = ("NAMESPACE", "NAME", "TYPE", "ADDRESSES", "OUTSIDE", "PORTS")
        print_table(columns, [_service_row(one) for one in found])


@k8s.command()
def instances(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The Service.", show_default=False)],
    *,
    namespace: Namespace = "default",
    readiness: Annotated[
        str, typer.Option(metavar="NAME", help="Which are good enough: ready, serving, any.")
    ] = "ready",
    endpoints: Endpoints = None,
    cacert: CaCert = None,
    cert: Cert = None,
    key: Key = None,
    grpc: Grpc = False,
    kubernetes_prefix: KubernetesPrefix = "/registry",
    json: Json = False,
) -> None:
    """Lists the instances of a Service: the pods behind it.

    Those that Kubernetes sends calls to, unless --readiness says otherwise.
    """
    with opened_etcd(endpoints, cacert, cert, key, grpc=grpc, kubernetes_prefix=kubernetes_prefix) as client:
        found = client.kubernetes.instances(namespace, name, readiness=readiness)
    if not found:
        say(f"no {readiness} instance of {namespace}/{name}")
    if json:
        print_json([_instance(one) for one in found])
    else:
        columns = ("ADDRESS", "PORTS", "STATE", "POD", "NODE", "ZONE")
        print_table(columns, [_instance_row(one) for one in found])


def _service(one: KubernetesService) -> dict[str, object]:
    return {
        "namespace": one.namespace,
        "name": one.name,
        "type": one.spec.type,
        "addresses": list(one.addresses),
        "outside_addresses": list(one.outside_addresses),
        "ports": [
            {"name": port.name, "port": port.port, "node_port": port.node_port or None, "protocol": port.protocol}
            for port in one.spec.ports
        ],
        "labels": one.metadata.labels,
    }


def _service_row(one: KubernetesService) -> tuple[str, ...]:
    ports = ", ".join(f"{port.name}:{port.port}" if port.name else str(port.port) for port in one.spec.ports)
    addresses = "headless" if one.is_headless else ", ".join(one.addresses)
    return one.namespace, one.name, one.spec.type, addresses, ", ".join(one.outside_addresses), ports


def _instance(one: KubernetesInstance) -> dict[str, object]:
    return {
        "id": one.id,
        "address": str(one.address) if one.port else None,
        "host": one.host,
        "ports": {port.name: port.port for port in one.ports},
        "ready": one.ready,
        "serving": one.serving,
        "terminating": one.terminating,
        "pod": one.pod or None,
        "node": one.node or None,
        "zone": one.zone or None,
    }


def _instance_row(one: KubernetesInstance) -> tuple[str, ...]:
    state = "ready" if one.ready else "serving" if one.serving else "not ready"
    ports = ", ".join(f"{port.name}:{port.port}" if port.name else str(port.port) for port in one.ports)
    return str(one.address) if one.port else one.host, ports, state, one.pod, one.node, one.zone
