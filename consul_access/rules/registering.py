"""From what a caller of `register_service` writes to a complete definition."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from consul_access.errors import InvalidInput
from consul_access.models import inputs
from consul_access.models.address import Address
from consul_access.models.catalog import Weights
from consul_access.models.checks import AnyCheck, HttpCheck
from consul_access.models.default import DEFAULT, Default
from consul_access.models.definition import ServiceDefinition
from consul_access.rules.addressing import instance_id

__all__ = ["definition"]


def definition(
    name: str,
    address: str | None = None,
    port: int | None = None,
    *,
    id: str | None = None,  # noqa: A002 - the registry's own word
    tags: Iterable[str] = (),
    meta: Mapping[str, str] | None = None,
    check: AnyCheck | Default | None = DEFAULT,
    checks: Iterable[AnyCheck] | None = None,
    ports: Mapping[str, int] | None = None,
    weights: Weights | None = None,
    tagged_addresses: Mapping[str, Address] | None = None,
    enable_tag_override: bool = False,
    namespace: str | None = None,
    partition: str | None = None,
    host: str = "",
) -> ServiceDefinition:
    """A complete definition.

    Args:
        host: the pod's or machine's name, for an id that a restart keeps.

    The others are those of `register_service`.

    Raises:
        InvalidInput: something cannot be right; the text says what to write instead.
    """
    inputs.service_name(name)
    for what, value in (("meta", meta), ("ports", ports), ("tagged_addresses", tagged_addresses)):
        if value is not None and not isinstance(value, Mapping):
            raise InvalidInput(f"{what}={value!r} must be a mapping, such as a dict")
    first_port = port if port is not None else next(iter((ports or {}).values()), None)
    return ServiceDefinition(
        id=id if id is not None else instance_id(name, host, first_port),
        name=name,
        address=address,
        port=port,
        tags=inputs.check_tags(tags),
        meta=dict(meta or {}),
        checks=_chosen(check, checks, first_port),
        ports=dict(ports or {}),
        weights=weights,
        tagged_addresses=dict(tagged_addresses or {}),
        enable_tag_override=enable_tag_override,
        namespace=namespace,
        partition=partition,
    )


def _chosen(
    check: AnyCheck | Default | None, checks: Iterable[AnyCheck] | None, port: int | None
) -> tuple[AnyCheck, ...]:
    if checks is not None:
        if check is not DEFAULT and check is not None:
            raise InvalidInput("check= and checks= are both given: put all of them into checks=")
        if not isinstance(checks, Iterable):
            raise InvalidInput(f"checks={checks!r} is no list: write [{type(checks).__name__}(...)], or check=")
        return tuple(checks)
    if check is None:
        return ()
    if not isinstance(check, Default):
        return (check,)
    if port is None:
        raise InvalidInput(
            "the default check asks http://ADDRESS:PORT/health: give port=, another check=, or check=None"
        )
    return (HttpCheck(interval="10s", timeout="5s"),)
