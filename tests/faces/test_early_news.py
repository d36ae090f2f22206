"""An answer that is good news is taken over the moment it has arrived; whatever is doubtful waits for its judgement."""

import json
import time

import pytest

from consul_access._live.question import Listener, Question
from consul_access._live.reading import InstancesReading
from consul_access.call import Headers, Reply
from consul_access.rules.blocking import BlockingQuery
from consul_access.wire import WireAnswer


def entry(port, name):
    service = {"ID": name, "Service": "orders", "Address": "10.0.0.5", "Port": port, "Tags": ["v2"], "Meta": {"a": "b"}}
    node = {"ID": f"n-{name}", "Node": "n1", "Address": "10.0.0.1", "Datacenter": "dc1"}
    return {"Node": node, "Service": service, "Checks": []}


def answer(*ports, index=7, status=200, body=None, name=b"X-Consul-Index"):
    found = [entry(port, f"orders-{place}") for place, port in enumerate(ports)]
    text = json.dumps(found, separators=(",", ":")).encode() if body is None else body
    return WireAnswer(status, Headers([(name, str(index).encode())]), text, reusable=True, packing=b"")


class Asked:
    """A question that has had one answer, and waits for the next."""

    def __init__(self, *ports, calm=True):
        self.told = []
        self.question = Question(InstancesReading("orders"), BlockingQuery(spread=max, now=0.0), 5.0)
        self.question.listen(Listener(lambda snapshot, error: self.told.append(snapshot), lambda: None))
        first = answer(*ports, index=5)
        reply = Reply(200, first.headers, first.body)
        value = self.question.reading.read_at_once(first)
        self.question.believe(value, reply, shared=False, reason="")
        self.question.rule.ask(time.monotonic())
        self.question.expect(calm=calm)

    def takes(self, given):
        self.question.take(given)
        assert bool(self.told) is self.question.taken
        return self.question.taken


def test_news_is_told_at_once():
    asked = Asked(8080)
    assert asked.takes(answer(8081))
    (snapshot,) = asked.told
    assert [instance.port for instance in snapshot] == [8081]
    assert (snapshot.index, snapshot.source, snapshot.is_stale) == (7, "live", False)
    assert asked.question.rule.index == 7


def test_what_has_not_changed_stays_the_same_object():
    asked = Asked(8080, 8081, 8082)
    before = asked.question.latest.instances
    assert asked.takes(answer(8080, 9000, 8082))
    after = asked.question.latest.instances
    assert [new is old for new, old in zip(after, before, strict=True)] == [True, False, True]


@pytest.mark.parametrize(
    "given",
    [
        pytest.param(answer(8080), id="nothing new"),
        pytest.param(answer(), id="suddenly empty"),
        pytest.param(answer(8081, index=4), id="the index went back"),
        pytest.param(answer(8081, index=0), id="no index"),
        pytest.param(answer(8081, name=b"X-Other"), id="no header for the index"),
        pytest.param(answer(8081, status=500), id="an error"),
        pytest.param(answer(body=b"<html>"), id="no JSON"),
        pytest.param(answer(body=b'{"a": 1}'), id="no list"),
        pytest.param(answer(body=b"\x1f\x8b\x08\x00packed"), id="packed"),
        pytest.param(answer(body=b"[" + b" " * 70_000 + b"]"), id="long"),
    ],
)
def test_all_else_waits_for_its_judgement(given):
    assert not Asked(8080).takes(given)


def test_nothing_is_taken_while_something_is_in_doubt():
    assert not Asked(8080, calm=False).takes(answer(8081))
    asked = Asked(8080)
    asked.question.doubt("the servers have no leader")
    assert not asked.takes(answer(8081))
    asked = Asked(8080)
    asked.question.rule.failed(time.monotonic())
    asked.question.expect(calm=True)
    assert not asked.takes(answer(8081))


def test_an_unusable_entry_is_left_out_as_ever():
    asked = Asked(8080)
    found = [entry(8081, "orders-0"), entry(99_999, "orders-1")]
    assert asked.takes(answer(body=json.dumps(found, separators=(",", ":")).encode()))
    assert [instance.port for instance in asked.question.latest] == [8081]
