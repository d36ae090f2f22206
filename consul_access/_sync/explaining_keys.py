# Written by tools/faces.py from consul_access/_async/explaining_keys.py; edit that one.
"""`explain(...)` at etcd: reads what is below the registry's prefix, and has it judged. It only reads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from consul_access._sync.gateway import Gateway
from consul_access._sync.keys import KeyReader
from consul_access.errors import BadValue, ClientClosed, ConsulAccessError
from consul_access.etcd import cluster, kv
from consul_access.etcd.codecs import codec_named, instance_of
from consul_access.etcd.settings import EtcdSettings
from consul_access.models.explanation import Explanation
from consul_access.models.keys import KeyValue
from consul_access.models.query import RegistryQuery
from consul_access.rules.explaining_keys import HeldKey, KeyFacts, explain_keys
from consul_access.rules.selecting import Selection

__all__ = ["KeyInquiry"]


class KeyInquiry:
    """One question about one service or instance.

    Args:
        gateway: what it travels through.
        settings: how and where services are written.
        asked: a name or an id.
        query: the options of the look-up that is to be explained.
    """

    def __init__(self, gateway: Gateway, settings: EtcdSettings, asked: str, query: RegistryQuery) -> None:
        self._stale = Selection.of(query).stale  # whatever is wrong with the options is said before anything is sent
        self._gateway = gateway
        self._settings = settings
        self._asked = asked
        self._query = query

    def run(self) -> Explanation:
        """Gathers and judges."""
        held = self._held()  # first, since the member that answered it is then asked how it is
        address, status = self._status()
        facts = KeyFacts(
            asked=self._asked,
            query=self._query,
            address=address,
            prefix=self._settings.prefix,
            version="" if isinstance(status, ConsulAccessError) else status.version,
            has_leader=isinstance(status, ConsulAccessError) or status.leader is not None,
            held=held,
        )
        return explain_keys(facts)

    def _status(self) -> tuple[str, cluster.Status | ConsulAccessError]:
        """The member that answers and how it is, or the one that does not and why not."""
        call = cluster.status()
        try:
            reply = self._gateway.reply(call, once=True)
            return reply.address, call.read(reply)
        except ClientClosed:
            raise
        except ConsulAccessError as error:
            return error.address or str(self._gateway.targets[0]), error

    def _held(self) -> Sequence[HeldKey] | ConsulAccessError:
        first, end = kv.prefix_range(self._settings.prefix)
        try:
            items, _ = KeyReader(self._gateway).read_all(kv.Get(first, end, serializable=self._stale))
        except ClientClosed:
            raise
        except ConsulAccessError as error:
            return error
        return tuple(_sorted(self._settings, items))


def _sorted(settings: EtcdSettings, items: Sequence[KeyValue]) -> Iterator[HeldKey]:
    codec = codec_named(settings.codec)
    for item in items:
        names = codec.names(settings.prefix, item.key)
        if names is None:
            continue
        held = HeldKey(item.key.decode("utf-8", "backslashreplace"), *names, item.metadata.lease)
        try:
            instance = instance_of(codec, settings.prefix, item)
        except BadValue as error:
            yield held._replace(trouble=error.message)
        else:
            if instance is not None:  # otherwise its writer says that it is not there
                yield held._replace(instance=instance)
