"""What goes wrong with an agent, on switches: now, after so many requests or seconds, for a while, or at random."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Final

from consul_access.testing.common.exchange import LOST, Answer, Request
from consul_access.testing.common.faults import TEXT, After, Fault, Switches

if TYPE_CHECKING:
    from consul_access.testing.consul.fake import FakeConsul

__all__ = ["LOST", "TOO_MANY_CONNECTIONS", "After", "Fault", "Faults"]

TOO_MANY_CONNECTIONS: Final = Answer(
    429, TEXT, b"Your IP is issuing too many concurrent connections, please rate limit your calls\n", closes=True
)


class Faults(Switches):
    """The switches of one agent.

    Every switch takes `for_`, the seconds of the fake's clock after which it switches itself off; most also take
    `times`, the number of requests that are concerned, and `only`, the beginning of their paths (`/v1/health/`).
    Without `for_` and `times` it stays until `heal()`.
    """

    kinds: ClassVar[tuple[str, ...]] = (
        "rate_limit", "be_unavailable", "slow", "truncate", "reset_connections", "lose_answers", "answer_empty",
    )  # fmt: skip
    """Those that `at_random` chooses from by default: each concerns one request."""
    lasting: ClassVar[tuple[str, ...]] = ("freeze", "limit_connections", "lose_leader", "restart")
    """Those that it can choose besides and that last for a while."""
    sudden: ClassVar[tuple[str, ...]] = ("turn_index_back", "wipe_servers")
    """Those that it can choose besides and that happen in a moment."""

    def __init__(self, fake: FakeConsul) -> None:
        super().__init__(fake)
        self._fake = fake

    # --- the servers --------------------------------------------------------------------------------------

    def lose_leader(self, *, for_: float | None = None, text: str = "No cluster leader") -> None:
        """The servers have no leader: reads and catalog writes answer 500, stale reads and the agent's own calls work.

        What is registered meanwhile reaches the catalog when there is a leader again.

        Args:
            for_: seconds until there is one.
            text: what the refusals say, such as `rpc error making call: EOF`.
        """
        cluster = self._fake.cluster
        self._begin(Fault("lose_leader", start=lambda: cluster.lose_leader(text), stop=cluster.find_leader), for_)

    def turn_index_back(self, *, to: int = 1) -> None:
        """Every index is lower from now on, as with servers that were restored from a snapshot."""

        def turn() -> None:
            self._fake.cluster.catalog.rewind(to)
            self._fake.cluster.changed()

        self._begin(Fault("turn_index_back", start=turn, left=0), None)

    def wipe_servers(self) -> None:
        """The servers lose the catalog; agents tell them what they hold within two minutes of the fake's clock."""
        self._begin(Fault("wipe_servers", start=self._fake.cluster.wipe, left=0), None)

    def revoke_token(self, secret: str) -> None:
        """Nobody knows this token any more."""
        self._begin(Fault("revoke_token", start=lambda: self._fake.revoke(secret), left=0), None)

    # --- the agent ----------------------------------------------------------------------------------------

    def restart(self, *, keep: bool = True, for_: float = 0.0) -> None:
        """The agent is killed and started again.

        Args:
            keep: with what was registered, or with nothing, as without its data directory.
            for_: seconds that it is away; connections are refused meanwhile.
        """

        def back() -> None:
            self._fake.start(keep=keep)

        self._begin(Fault("restart", start=self._fake.kill, stop=back), for_)

    # --- answers ------------------------------------------------------------------------------------------

    def rate_limit(self, *, for_: float | None = None, times: int | None = None, only: str = "") -> None:
        """429: `rate limit exceeded, try again later or against a different server`."""
        text = b"rate limit exceeded, try again later or against a different server"
        self._begin(Fault("rate_limit", instead=Answer(429, TEXT, text), only=only, left=times), for_)

    def be_unavailable(self, *, for_: float | None = None, times: int | None = None, only: str = "") -> None:
        """503: `rate limit exceeded for operation that can only be performed by the leader, try again later`."""
        text = b"rate limit exceeded for operation that can only be performed by the leader, try again later"
        self._begin(Fault("be_unavailable", instead=Answer(503, TEXT, text), only=only, left=times), for_)

    def answer_empty(
        self, *, for_: float | None = None, times: int | None = None, only: str = "/v1/health/service/"
    ) -> None:
        """Look-ups find nothing, with a 200 and an index that looks right."""

        def emptied(request: Request, answer: Answer) -> Answer:
            return replace(answer, body=b"[]") if request.method == "GET" and answer.status == 200 else answer

        self._begin(Fault("answer_empty", change=emptied, only=only, left=times), for_)
