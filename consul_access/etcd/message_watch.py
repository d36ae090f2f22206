"""A watch over gRPC: its messages, and how it has ended, as the lines that the gateway would have sent."""

from __future__ import annotations

from consul_access.errors import BadAnswer, BadValue
from consul_access.etcd.coding import MALFORMED
from consul_access.etcd.messages import METHODS, TOLD, decode, messages_of
from consul_access.etcd.watch import PATH, line_of, result_of
from consul_access.rules.key_watching import WatchLine

__all__ = ["MessageDecoder"]


class MessageDecoder:
    """Makes lines out of gRPC's messages, however they were cut on their way; see `LineDecoder`.

    Args:
        limit: how many bytes a message may have.
    """

    __slots__ = ("_limit", "_rest")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._rest = b""

    def feed(self, data: bytes) -> list[WatchLine]:
        """What the messages tell that are complete with these bytes.

        Raises:
            AnswerTooLarge: a message exceeds its limit.
            BadAnswer: a message is not what a watch is answered with.
        """
        found, self._rest = messages_of(self._rest + data, self._limit)
        return [line_of(bytes(message)) if kind == TOLD else _message(message) for kind, message in found]


def _message(data: memoryview) -> WatchLine:
    try:
        return result_of(decode(METHODS[PATH].answer, data))
    except (BadValue, *MALFORMED) as error:
        raise BadAnswer(f"a message of the watch cannot be read ({error})") from error
