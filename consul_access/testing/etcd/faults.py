"""What goes wrong with an etcd, on switches: now, after so many requests or seconds, for a while, or at random."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

from consul_access.errors import InvalidInput
from consul_access.testing.common.exchange import Answer
from consul_access.testing.common.faults import Fault, Switches

if TYPE_CHECKING:
    from consul_access.testing.etcd.fake import FakeEtcd

__all__ = ["EtcdFaults"]

CLOSING: Final = "transport is closing"
_JSON: Final = (("Content-Type", "application/json"),)


class EtcdFaults(Switches):
    """The switches of one `FakeEtcd`.

    Every switch takes `for_`, the seconds of the fake's clock after which it switches itself off; most also take
    `times`, the number of requests that are concerned, and `only`, the beginning of their paths (`/v3/kv/`).
    Without `for_` and `times` it stays until `heal()`.
    """

    kinds: ClassVar[tuple[str, ...]] = (
        "rate_limit", "be_unavailable", "slow", "truncate", "reset_connections", "lose_answers",
    )  # fmt: skip
    """Those that `at_random` chooses from by default: each concerns one request."""
    lasting: ClassVar[tuple[str, ...]] = ("freeze", "limit_connections", "lose_leader", "restart", "run_out_of_space")
    """Those that it can choose besides and that last for a while."""
    sudden: ClassVar[tuple[str, ...]] = ("compact", "end_streams", "lose_leases", "revoke_tokens")
    """Those that it can choose besides and that happen in a moment."""

    def __init__(self, fake: FakeEtcd) -> None:
        super().__init__(fake)
        self._fake = fake

    # --- the members --------------------------------------------------------------------------------------

    def lose_leader(self, *, for_: float | None = None) -> None:
        """Nobody leads: writes and linearizable reads time out after 7 s, no lease ends, watches of ours are told."""
        state = self._fake.state
        self._begin(Fault("lose_leader", start=state.lose_leader, stop=state.find_leader), for_)

    def run_out_of_space(self, *, for_: float | None = None) -> None:
        """The alarm NOSPACE: writing and granting leases is refused with 429."""
        state = self._fake.state

        def fill(full: bool) -> None:
            state.is_full = full

        self._begin(Fault("run_out_of_space", start=lambda: fill(True), stop=lambda: fill(False)), for_)

    def lose_leases(self, *ids: int) -> None:
        """These leases end now, and their keys with them; all of them when none is named.

        Raises:
            InvalidInput: there is no such lease.
        """
        self._begin(Fault("lose_leases", start=lambda: self._lose(ids), left=0), None)

    def _lose(self, ids: tuple[int, ...]) -> None:
        keys = self._fake.state.keys
        for number in ids or [lease.id for lease in keys.leases.all()]:
            if keys.leases.get(number) is None:
                raise InvalidInput(f"there is no lease {number}")
            keys.end_lease(number)

    def compact(self) -> None:
        """Everything before the present revision is forgotten: who wants to go on from an earlier one has to read."""

        def forget() -> None:
            self._fake.compact()

        self._begin(Fault("compact", start=forget, left=0), None)

    def revoke_tokens(self) -> None:
        """Nobody's token is known any more, as after a restart: clients have to log in again."""
        self._begin(Fault("revoke_tokens", start=self._fake.state.access.forget_tokens, left=0), None)

    def end_streams(self, *, broken: bool = False) -> None:
        """Every watch ends: with `transport is closing`, as by SIGTERM, or in the middle, as by SIGKILL."""
        state = self._fake.state
        line = b"" if broken else state.dialect.stream_refusal(14, CLOSING)
        self._begin(Fault("end_streams", start=lambda: state.end_streams(line, broken=broken), left=0), None)

    def restart(self, *, keep: bool = True, for_: float = 0.0) -> None:
        """It is killed and started again; tokens are gone.

        Args:
            keep: with its keys and leases, or without.
            for_: seconds that it is away; connections are refused meanwhile.
        """
        self._begin(Fault("restart", start=self._fake.kill, stop=lambda: self._fake.start(keep=keep)), for_)

    # --- answers ------------------------------------------------------------------------------------------

    def refuse(
        self, code: int, text: str, *, for_: float | None = None, times: int | None = None, only: str = ""
    ) -> None:
        """Any refusal of etcd's: gRPC's code and a text, in the shape of the gateway."""
        self._begin(self._refusal("refuse", code, text, times, only), for_)

    def rate_limit(self, *, for_: float | None = None, times: int | None = None, only: str = "") -> None:
        """429: `etcdserver: too many requests`."""
        self._begin(self._refusal("rate_limit", 8, "etcdserver: too many requests", times, only), for_)

    def be_unavailable(self, *, for_: float | None = None, times: int | None = None, only: str = "") -> None:
        """503: `etcdserver: leader changed`."""
        self._begin(self._refusal("be_unavailable", 14, "etcdserver: leader changed", times, only), for_)

    def _refusal(self, name: str, code: int, text: str, times: int | None, only: str) -> Fault:
        dialect = self._fake.state.dialect
        instead = Answer(dialect.status(code), _JSON, dialect.refusal(code, text))
        return Fault(name, instead=instead, only=only, left=times)
