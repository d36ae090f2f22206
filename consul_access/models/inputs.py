"""What may be sent: names, ids, hosts, ports, meta. Agents take almost anything, and later cannot give it back.

Every refusal says what to write instead. The limits are those of Consul (hashicorp/consul agent/structs/structs.go,
`ValidateMetadata`), and beyond them what was observed to do harm on real agents.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from typing import Final

from consul_access.errors import InvalidInput

__all__ = ["check_meta", "check_tags", "fits_dns", "host", "identifier", "port", "service_name", "whole"]

META_PAIRS: Final = 64
META_KEY: Final = 128
META_VALUE: Final = 512
_META_KEY = re.compile(r"[A-Za-z0-9_-]+\Z")
_HOST_NAME = re.compile(r"(?=.{1,253}\Z)(?:[A-Za-z0-9_-]{1,63}\.)*[A-Za-z0-9_-]*[A-Za-z_][A-Za-z0-9_-]*\.?\Z")
_DNS_LABEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\Z")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def text(value: object, what: str) -> str:
    """A text that can be sent: no control characters, no half of a character."""
    if not isinstance(value, str):
        raise InvalidInput(f"{what}={value!r} must be a text")
    if _CONTROL.search(value):
        raise InvalidInput(f"{what}={value!r} holds a control character: leave it out")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidInput(f"{what}={value!r} cannot be written in UTF-8") from None
    return value


def identifier(value: object, what: str) -> str:
    """An id that can be looked up and deregistered again.

    Ids with `..`, `//` or a leading slash are registered gladly and can then be reached over HTTP no more; `%` is
    decoded twice by some versions.
    """
    found = text(value, what)
    if not found:
        raise InvalidInput(f"{what} is empty: write a name")
    if not found.isprintable():
        raise InvalidInput(f"{what}={found!r} holds a character that cannot be printed: agents never give it back")
    if "%" in found or found.startswith("/") or any(part in {"", ".", ".."} for part in found.split("/")):
        raise InvalidInput(
            f"{what}={found!r} could never be deregistered: leave out '%', '..', '//' and a '/' in front"
        )
    return found


def service_name(value: object) -> str:
    """A service's name. `consul` belongs to the servers."""
    found = identifier(value, "name")
    if found == "consul":
        raise InvalidInput("name='consul' is the name of Consul's own servers: take another one")
    return found


def fits_dns(name: str) -> bool:
    """Whether a service of this name can be looked up in DNS: letters, digits and `-`, up to 63 of them."""
    return _DNS_LABEL.match(name) is not None


def host(value: object, what: str) -> str:
    """An IP address without brackets, or a host name."""
    found = text(value, what)
    bare = found[1:-1] if found.startswith("[") and found.endswith("]") else found
    try:
        address = ipaddress.ip_address(bare)
    except ValueError:
        return _host_name(found, what)
    if address.is_unspecified:
        raise InvalidInput(f"{what}={found!r} means every address of a machine: write the one that others can call")
    return bare


def _host_name(found: str, what: str) -> str:
    if _HOST_NAME.match(found):
        return found
    if "://" in found:
        raise InvalidInput(f"{what}={found!r} is a URL: write the host alone, such as '10.0.0.5'")
    if "/" in found:
        raise InvalidInput(f"{what}={found!r} is a network: write the address of one machine")
    if ":" in found:
        raise InvalidInput(f"{what}={found!r} holds a port: write the host alone, and the port into port=")
    raise InvalidInput(f"{what}={found!r} is no IP address and no host name: write one, such as '10.0.0.5'")


def port(value: object, what: str = "port") -> int:
    """A port that something can listen on."""
    return whole(value, what, 1, 65535)


def whole(value: object, what: str, least: int, most: int) -> int:
    """A whole number within bounds."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise InvalidInput(f"{what}={value!r} is out of bounds: write a whole number from {least} to {most}")
    return value


def check_tags(tags: str | Iterable[str]) -> tuple[str, ...]:
    """Tags; a single text is refused, since it would be taken apart into letters."""
    if isinstance(tags, str):
        raise InvalidInput(f"tags={tags!r} is one text: write a list, such as [{tags!r}]")
    return tuple(text(tag, "tags") for tag in tags)


def check_meta(meta: Mapping[str, str]) -> dict[str, str]:
    """Meta within the agent's limits."""
    if len(meta) > META_PAIRS:
        raise InvalidInput(f"meta has {len(meta)} pairs: agents take {META_PAIRS}")
    for key, value in meta.items():
        if not isinstance(key, str) or not _META_KEY.match(key) or len(key) > META_KEY:
            raise InvalidInput(f"the meta key {key!r} is illegal: 1 to {META_KEY} of A-Z a-z 0-9 - _")
        if key.lower().startswith("consul-"):
            raise InvalidInput(f"the meta key {key!r} is reserved: 'consul-' in front belongs to Consul")
        if not isinstance(value, str):
            raise InvalidInput(f"meta={{{key!r}: {value!r}}} is no text: meta holds texts only")
        if len(value.encode("utf-8", "surrogatepass")) > META_VALUE:
            raise InvalidInput(f"the meta value of {key!r} is too long: {META_VALUE} bytes at most")
        text(value, f"meta[{key!r}]")
    return dict(meta)
