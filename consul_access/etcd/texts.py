"""What an answer of etcd's gateway means when it is none of the call's: by its text, then its code, then its status.

The texts (etcd's `api/v3rpc/rpctypes/error.go`) have stayed the same for years. The HTTP status depends on the
gateway's generation (FailedPrecondition is 412 in one and 400 in the next), and so does the shape of the body:
`{"error", "message", "code"}`, `{"code", "message"}`, or within a stream `{"error": {"grpc_code" or "code",
"message"}}`. A body that is no JSON does not come from etcd itself but from the HTTP server around it.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from pydantic_core import from_json

from consul_access.errors import (
    AuthenticationFailed,
    Compacted,
    ConnectFailed,
    ConnectionLost,
    ConsulAccessError,
    FeatureDisabled,
    GatewayUnusable,
    InvalidRequest,
    NoLeader,
    NotFound,
    PermissionDenied,
    RateLimited,
    RequestRefused,
    ResourceExhausted,
    ServerError,
    TlsError,
    TokenUnknown,
    Unavailable,
    UnknownLease,
)
from consul_access.rules.retrying import Meaning

__all__ = ["ADVICE", "fault", "fault_of", "meaning", "meaning_of"]

ADVICE: Final[dict[type[ConsulAccessError], str]] = {
    ConnectFailed: "Is etcd running and reachable from here? Check host and port, or endpoints= (ETCDCTL_ENDPOINTS).",
    ConnectionLost: "Is etcd running? The same call may succeed later.",
    Unavailable: "Is etcd running and are its members in touch? The same call may succeed later.",
    NoLeader: "Elections take seconds; if this lasts, too few members are up (etcdctl endpoint status --cluster).",
    TokenUnknown: "Give user= and password= (ETCDCTL_USER, ETCDCTL_PASSWORD).",
    PermissionDenied: "The user needs a role for exactly this key or range (etcdctl role grant-permission).",
    TlsError: "Check ca_cert, cert_cert and cert_key, and whether this port speaks https.",
}
"""What to do next, where the error's own advice speaks of Consul."""

_COMMON_NAME = (
    "The gateway cannot log in by a certificate's CommonName: use a client certificate without one, and user= and "
    "password=; or connect over gRPC, with protocol='grpc'."
)
_BACKEND_TLS = (
    "The gateway calls its own server with the server's certificate, which is refused there: issue it for "
    "clientAuth as well as serverAuth, or (from 3.5 on) give etcd --client-cert-file and --client-key-file."
)
_GATEWAY_OFF = (
    "Start etcd with --enable-grpc-gateway=true, ask another port (this one serves no /v3), or connect over gRPC, with "
    "protocol='grpc'."
)
_HOST_REFUSED = "Start etcd with --host-whitelist naming this host, or connect by a name that it names."


class _Text(NamedTuple):
    fragment: str
    error: type[ConsulAccessError]
    message: str
    applied: bool = False
    advice: str = ""


_TEXTS: tuple[_Text, ...] = (
    _Text(
        "commonname of client sending",
        GatewayUnusable,
        "etcd refuses client certificates with a CommonName here",
        advice=_COMMON_NAME,
    ),
    _Text("tls: bad certificate", GatewayUnusable, "the gateway cannot reach its own server", advice=_BACKEND_TLS),
    _Text("remote error: tls", GatewayUnusable, "the gateway cannot reach its own server", advice=_BACKEND_TLS),
    _Text(
        "authentication handshake failed",
        GatewayUnusable,
        "the gateway cannot reach its own server",
        advice=_BACKEND_TLS,
    ),
    _Text("http request to an https server", TlsError, "this port speaks https"),
    _Text("requested lease not found", UnknownLease, "etcd has no such lease"),
    _Text("revision has been compacted", Compacted, "the revision is compacted away"),
    _Text("database space exceeded", ResourceExhausted, "the store is full"),
    _Text("request is too large", ResourceExhausted, "the request is larger than etcd takes"),
    _Text("larger than max", ResourceExhausted, "the request is larger than etcd takes"),
    _Text("user name is empty", TokenUnknown, "etcd has users, and no token was sent"),
    _Text("invalid auth token", TokenUnknown, "etcd does not know the token, or no longer"),
    _Text("revision of auth store is old", TokenUnknown, "users have changed since the token was made"),
    _Text("authentication failed", AuthenticationFailed, "etcd does not accept the user and password"),
    _Text("user name not found", AuthenticationFailed, "etcd knows no such user"),
    _Text("permission denied", PermissionDenied, "the user may not do this"),
    _Text("authentication is not enabled", FeatureDisabled, "this etcd has no users"),
    _Text("leader changed", NoLeader, "the leader changed in the middle of this", applied=True),
    _Text("no leader", NoLeader, "the cluster has no leader"),
    _Text("not leader", NoLeader, "the asked member does not lead"),
    _Text("request timed out", NoLeader, "the members could not agree in time", applied=True),
    _Text("context deadline exceeded", NoLeader, "the members could not agree in time", applied=True),
    _Text("too many requests", RateLimited, "etcd asks to slow down"),
    _Text(
        "connection closed",
        Unavailable,
        "the gateway lost the way to its own server",
        applied=True,
        advice=f"The same call may succeed later. If every call is answered so: {_BACKEND_TLS}",
    ),
    _Text(
        "client preface",
        Unavailable,
        "the gateway lost the way to its own server",
        applied=True,
        advice=f"The same call may succeed later. If every call is answered so: {_BACKEND_TLS}",
    ),
    _Text(
        "server preface",
        Unavailable,
        "the gateway lost the way to its own server",
        applied=True,
        advice=f"The same call may succeed later. If every call is answered so: {_BACKEND_TLS}",
    ),
    _Text("404 page not found", GatewayUnusable, "this port serves no JSON gateway", advice=_GATEWAY_OFF),
)

_CODES: dict[int, tuple[type[ConsulAccessError], str, bool]] = {
    3: (InvalidRequest, "etcd calls the request malformed", False),
    5: (NotFound, "etcd does not know what was asked for", False),
    6: (RequestRefused, "it is there already", False),
    7: (PermissionDenied, "the user may not do this", False),
    8: (ResourceExhausted, "etcd has no room for this", False),
    9: (RequestRefused, "etcd cannot do this in its present state", False),
    11: (InvalidRequest, "a number is out of range", False),
    12: (FeatureDisabled, "this version of etcd has no such call", False),
    14: (Unavailable, "the asked member cannot do this now", True),
    16: (TokenUnknown, "etcd does not know the token", False),
}
"""gRPC's codes: https://grpc.github.io/grpc/core/md_doc_statuscodes.html."""

_STATUSES: dict[int, tuple[type[ConsulAccessError], str, str]] = {
    401: (PermissionDenied, "etcd, or a proxy before it, wants other credentials", ""),
    403: (PermissionDenied, "etcd, or a proxy before it, does not allow this", ""),
    404: (FeatureDisabled, "there is no such call at this address", _GATEWAY_OFF),
    421: (GatewayUnusable, "etcd does not answer to this host name", _HOST_REFUSED),
    429: (RateLimited, "a proxy asks to slow down", ""),
}


def fault(text: str) -> tuple[str, int | None]:
    """The message and the gRPC code in an error's body, whatever its shape; the text itself when it is no JSON."""
    try:
        found = from_json(text)
    except ValueError:
        return text[:2000], None
    return fault_of(found)


def fault_of(found: Any) -> tuple[str, int | None]:
    """The message and the gRPC code in an error, already parsed."""
    if isinstance(found, dict) and isinstance(found.get("error"), dict):
        found = found["error"]
    if not isinstance(found, dict):
        return str(found)[:2000], None
    message = found.get("message") or found.get("error") or ""
    code = found.get("code", found.get("grpc_code"))
    return str(message)[:2000], code if isinstance(code, int) else None


def meaning(status: int, text: str) -> Meaning:
    """What a status of 400 or more, with this text, says about the request.

    Args:
        status: the HTTP status.
        text: the body.
    """
    return meaning_of(*fault(text), status=status)


def meaning_of(message: str, code: int | None, *, status: int = 200) -> Meaning:
    """What an error says about the request.

    Args:
        message: etcd's text.
        code: the gRPC code, if it came with one.
        status: the HTTP status.
    """
    folded = message.lower()
    if folded.strip() == "not found":  # the whole text: nothing serves this path
        return Meaning(FeatureDisabled, "this version of etcd has no such call", applied=False)
    for known in _TEXTS:
        if known.fragment in folded:
            return Meaning(known.error, known.message, known.applied, known.advice or ADVICE.get(known.error, ""))
    if code in _CODES:
        error, said, applied = _CODES[code]
        return Meaning(error, said, applied, ADVICE.get(error, ""))
    if status in _STATUSES:
        error, said, advice = _STATUSES[status]
        return Meaning(error, said, applied=False, advice=advice or ADVICE.get(error, ""))
    if status >= 500 or code is not None:
        return Meaning(ServerError, "etcd failed while answering", applied=True)
    return Meaning(RequestRefused, "etcd refuses the request", applied=False)
