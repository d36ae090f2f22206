"""Which etcd is asked: options that all its commands have, and the client they describe.

A password never is an option: the command line of a process is there for everybody on the machine to read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from consul_access.errors import InvalidSettings

if TYPE_CHECKING:
    from consul_access import EtcdRegistry, RetryPolicy

__all__ = ["CaCert", "Cert", "Endpoints", "Grpc", "Key", "KubernetesPrefix", "opened_etcd"]

Endpoints: TypeAlias = Annotated[
    str | None,
    typer.Option(metavar="ADDR,...", help="The members of etcd. [ETCDCTL_ENDPOINTS, 127.0.0.1:2379]"),
]
CaCert: TypeAlias = Annotated[
    str | None, typer.Option("--cacert", metavar="FILE", help="Certificates to trust. [ETCDCTL_CACERT]")
]
Cert: TypeAlias = Annotated[
    str | None, typer.Option("--cert", metavar="FILE", help="This client's certificate. [ETCDCTL_CERT]")
]
Key: TypeAlias = Annotated[str | None, typer.Option("--key", metavar="FILE", help="And its key. [ETCDCTL_KEY]")]
Grpc: TypeAlias = Annotated[
    bool, typer.Option("--grpc", help="Speaks gRPC, where etcd's JSON gateway is off or refuses the certificate.")
]
KubernetesPrefix: TypeAlias = Annotated[
    str, typer.Option(metavar="KEY", help="What the keys of Kubernetes begin with.")
]

_OPTIONS = {"endpoints=": "--endpoints", "kubernetes_prefix=": "--kubernetes-prefix ", "protocol='grpc'": "--grpc"}
"""How arguments are called here that a text may speak of."""


def opened_etcd(
    endpoints: str | None,
    cacert: str | None,
    cert: str | None,
    key: str | None,
    *,
    grpc: bool = False,
    kubernetes_prefix: str = "/registry",
    timeout: float | None = None,
    retry: RetryPolicy | None = None,
) -> EtcdRegistry:
    """A client, as the options and otherwise the environment say.

    Args:
        endpoints: the members.
        cacert: certificates to trust.
        cert: this client's certificate.
        key: and its key.
        grpc: whether to speak gRPC.
        kubernetes_prefix: what the keys of Kubernetes begin with.
        timeout: seconds for each call, if not the usual ones.
        retry: how often a call is tried, if not as usual.

    Raises:
        InvalidSettings: they cannot be used.
    """
    from consul_access import EtcdRegistry, EtcdSettings
    from consul_access.etcd.settings import GATEWAY, GRPC

    try:
        settings = EtcdSettings.load(
            endpoints=endpoints,
            ca_cert=cacert,
            cert_cert=cert,
            cert_key=key,
            protocol=GRPC if grpc else GATEWAY,
            kubernetes_prefix=kubernetes_prefix,
            timeout=timeout,
            retry=retry,
        )
    except InvalidSettings as error:
        message = error.message
        for name, option in _OPTIONS.items():
            message = message.replace(name, option)
        raise InvalidSettings(message) from error
    return EtcdRegistry(settings=settings)
