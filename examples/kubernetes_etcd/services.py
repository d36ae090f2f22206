"""Tells the services of a Kubernetes cluster and who is ready behind them, read out of the cluster's own etcd.

    python services.py NAMESPACE [NAME] [--watch] [--etcd=HOST:PORT ...] [--ca=FILE --cert=FILE --key=FILE]

With a NAME it tells that service's instances, with `--watch` whenever they change, too. It only reads. On a node of
the control plane, kubeadm keeps what is needed in /etc/kubernetes/pki/etcd: ca.crt, healthcheck-client.crt and .key.
Where the API server can be reached, ask that instead: it knows who may see what.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable

from consul_access import ConsulAccessError, EtcdRegistry, KubernetesInstance, KubernetesService


def told(service: KubernetesService) -> str:
    """One service in one line."""
    ports = ", ".join(f"{port.name or '-'}:{port.port}" for port in service.spec.ports)
    return f"{service.name}  {service.spec.type}  {', '.join(service.addresses) or '-'}  {ports}"


def show(instances: Iterable[KubernetesInstance]) -> None:
    """The instances of one service, one in each line."""
    for instance in instances:
        print(f"{instance.address}  {instance.pod or '-'}  {instance.node or '-'}  {instance.zone or '-'}", flush=True)


def main() -> int:
    """Gives the exit code."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("namespace")
    options.add_argument("name", nargs="?")
    options.add_argument("--watch", action="store_true", help="goes on, and tells every change")
    options.add_argument("--etcd", action="append", metavar="HOST:PORT", help="a member; ETCDCTL_ENDPOINTS by default")
    options.add_argument("--ca", help="the cluster's authority for etcd")
    options.add_argument("--cert", help="a client certificate")
    options.add_argument("--key", help="its key")
    given = options.parse_args()

    try:
        with EtcdRegistry(endpoints=given.etcd, ca_cert=given.ca, cert_cert=given.cert, cert_key=given.key) as etcd:
            if given.name is None:
                for service in etcd.kubernetes.services(given.namespace):
                    print(told(service))
            elif given.watch:
                for snapshot in etcd.kubernetes.watch(given.namespace, given.name):
                    print(f"-- revision {snapshot.revision}: {len(snapshot.instances)} ready", flush=True)
                    show(snapshot.instances)
            else:
                show(etcd.kubernetes.instances(given.namespace, given.name))
    except ConsulAccessError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
