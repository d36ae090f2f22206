"""`consul-access etcd ...`: plain keys at etcd."""

from __future__ import annotations

import base64
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from consul_access.cli.etcd_connection import CaCert, Cert, Endpoints, Grpc, Key, opened_etcd
from consul_access.cli.output import ExitCode, Json, print_json, print_line, print_table, say
from consul_access.errors import ConsulAccessError

if TYPE_CHECKING:
    from consul_access import KeyEvent, KeyValue, Target
    from consul_access.etcd.cluster import Status

__all__ = ["etcd"]

etcd = typer.Typer(
    name="etcd",
    help="Reads, writes and watches keys at etcd.",
    epilog="Where etcd is, and the user, come from the ETCDCTL_* environment, as for etcd's own command.",
    no_args_is_help=True,
)

COLUMNS = ("MEMBER", "VERSION", "LEADER", "REVISION", "SIZE", "ERRORS")
Name = Annotated[str, typer.Argument(metavar="KEY", help="The key.", show_default=False)]
Prefix = Annotated[bool, typer.Option("--prefix", help="All keys that begin with KEY.")]


@etcd.command()
def get(
    name: Name,
    *,
    prefix: Prefix = False,
    raw: Annotated[bool, typer.Option("--raw", help="Prints the value byte by byte, and no line break.")] = False,
    endpoints: Endpoints = None,
    cacert: CaCert = None,
    cert: Cert = None,
    key: Key = None,
    grpc: Grpc = False,
    json: Json = False,
) -> None:
    """Prints the value of a key.

    With --prefix, keys and their values in turn. The exit code is 1 when there is no such key.
    """
    if raw and (prefix or json):
        raise typer.BadParameter("--raw prints one value: leave out --prefix and --json")
    with opened_etcd(endpoints, cacert, cert, key, grpc=grpc) as client:
        found = client.get_prefix(name) if prefix else _only(client.get(name))
    if json:
        print_json([_record(one) for one in found])
    elif raw:
        sys.stdout.buffer.write(b"".join(one.value for one in found))
    else:
        for one in found:
            if prefix:
                print_line(_text(one.key))
            print_line(_text(one.value))
    if not found and not prefix:
        say(f"there is no key {name!r}")
        raise typer.Exit(ExitCode.NO)


@etcd.command()
def put(
    name: Name,
    value: Annotated[
        str | None, typer.Argument(metavar="[VALUE]", help="The value; read from standard input if left out.")
    ] = None,
    *,
    endpoints: Endpoints = None,
    cacert: CaCert = None,
    cert: Cert = None,
    key: Key = None,
    grpc: Grpc = False,
    json: Json = False,
) -> None:
    """Writes a key, and prints the revision that it now has.

    Keys of Kubernetes are refused.
    """
    data = sys.stdin.buffer.read() if value is None else value
    with opened_etcd(endpoints, cacert, cert, key, grpc=grpc) as client:
        revision = client.put(name, data)
    if json:
        print_json({"revision": revision})
    else:
        print_line(f"revision {revision}")


@etcd.command()
def ls(
    name: Annotated[
        str, typer.Argument(metavar="[PREFIX]", help="What the keys begin with; all keys if left out.")
    ] = "",
    *,
    endpoints: Endpoints = None,
    cacert: CaCert = None,
    cert: Cert = None,
    key: Key = None,
    grpc: Grpc = False,
    json: Json = False,
) -> None:
    """Lists keys."""
    with opened_etcd(endpoints, cacert, cert, key, grpc=grpc) as client:
        found = client.get_prefix(name, keys_only=True)
    if json:
        print_json([_metadata(one) for one in found])
    else:
        for one in found:
            print_line(_text(one.key))


@etcd.command()
def watch(
    name: Name,
    *,
    prefix: Prefix = False,
    endpoints: Endpoints = None,
    cacert: CaCert = None,
    cert: Cert = None,
    key: Key = None,
    grpc: Grpc = False,
    json: Json = False,
) -> None:
    """Prints what happens to a key, until Ctrl-C.

    A line for each change: + was created, ~ was written, - is gone, and * when etcd no longer had what happened
    meanwhile, followed by all that there is. With --json it is a JSON document in each line.
    """
    with opened_etcd(endpoints, cacert, cert, key, grpc=grpc) as client:
        client.get(name, serializable=True)  # says at once what the watch would patiently wait for
        for event in client.watch_prefix(name) if prefix else client.watch_key(name):
            if json:
                print_json(_event(event), lines=True)
            else:
                _print(event)
                sys.stdout.flush()


@etcd.command()
def status(
    *,
    endpoints: Endpoints = None,
    cacert: CaCert = None,
    cert: Cert = None,
    key: Key = None,
    grpc: Grpc = False,
    json: Json = False,
) -> None:
    """Tells how each member is.

    The exit code is 3 when one of them does not answer.
    """
    found: list[tuple[Target, Status | ConsulAccessError]] = []
    with opened_etcd(endpoints, cacert, cert, key, grpc=grpc) as client:
        for member in client.endpoints:
            try:
                found.append((member, client.status(target=member)))
            except ConsulAccessError as error:
                say(str(error))
                found.append((member, error))
    if json:
        print_json([_state(*one) for one in found])
    else:
        print_table(COLUMNS, [_row(*one) for one in found])
    failed = [state for _, state in found if isinstance(state, ConsulAccessError)]
    if failed:
        raise typer.Exit(ExitCode.UNAVAILABLE if any(error.retryable for error in failed) else ExitCode.REFUSED)


# --- how it is printed --------------------------------------------------------------------------------------


def _only(found: tuple[bytes, object] | tuple[None, None]) -> list[KeyValue]:
    from consul_access import KeyMetadata, KeyValue

    value, metadata = found
    if value is None or not isinstance(metadata, KeyMetadata):
        return []
    return [KeyValue(value, metadata)]


def _text(data: bytes) -> str:
    return data.decode("utf-8", "backslashreplace")


def _named(what: str, data: bytes) -> dict[str, str]:
    """Bytes in JSON: as text if they are text, otherwise in base64, under a name that says so."""
    try:
        return {what: data.decode()}
    except UnicodeDecodeError:
        return {f"{what}_base64": base64.b64encode(data).decode()}


def _metadata(one: KeyValue) -> dict[str, object]:
    return {
        **_named("key", one.key),
        "create_revision": one.metadata.create_revision,
        "mod_revision": one.metadata.mod_revision,
        "version": one.metadata.version,
        "lease": one.metadata.lease,
    }


def _record(one: KeyValue) -> dict[str, object]:
    return {**_metadata(one), **_named("value", one.value)}


def _event(event: KeyEvent) -> dict[str, object]:
    found: dict[str, object] = {"kind": event.kind.value, **_named("key", event.key), "revision": event.revision}
    if event.kind == "put":
        found |= _named("value", event.value)
    if event.kind == "resync":
        found["items"] = [_record(one) for one in event.items]
    return found


def _print(event: KeyEvent) -> None:
    if event.kind == "resync":
        print_line(f"* {_text(event.key)}")
        for one in event.items:
            print_line(f"+ {_text(one.key)} {_text(one.value)}")
    elif event.kind == "delete":
        print_line(f"- {_text(event.key)}")
    else:
        created = event.metadata is not None and event.metadata.version == 1
        print_line(f"{'+' if created else '~'} {_text(event.key)} {_text(event.value)}")


def _row(member: Target, found: Status | ConsulAccessError) -> tuple[str, ...]:
    if isinstance(found, ConsulAccessError):
        return str(member), "", "", "", "", type(found).__name__
    leader = "yes" if found.is_leader else "learner" if found.is_learner else "no" if found.leader else "none"
    return str(member), found.version, leader, str(found.revision), str(found.db_size), ", ".join(found.errors)


def _state(member: Target, found: Status | ConsulAccessError) -> dict[str, object]:
    if isinstance(found, ConsulAccessError):
        return {"member": str(member), "error": str(found)}
    return {
        "member": str(member),
        "version": found.version,
        "id": f"{found.member_id:x}",
        "is_leader": found.is_leader,
        "is_learner": found.is_learner,
        "leader": f"{found.leader:x}" if found.leader else None,
        "revision": found.revision,
        "size": found.db_size,
        "errors": list(found.errors),
    }
