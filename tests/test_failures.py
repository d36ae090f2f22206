"""The errors of `DiscoveryTransport`: in httpx's family and in ours."""

from __future__ import annotations

import pickle

import httpx
import pytest

from consul_access import ConsulAccessError, InstancesFailed, InstancesTimedOut, InstancesUnreachable
from consul_access.failures import how_it_failed, instances_failed
from consul_access.rules.calling import FailedAttempt, How
from tests.support.instances import several

REQUEST = httpx.Request("GET", "http://me:secret@orders/v1/items?token=secret")


def failed(how, number=0):
    one = several(number + 1)[number]
    return FailedAttempt(one.address, one.id, how, how.name, 0.5)


@pytest.mark.parametrize(
    ("error", "how"),
    [
        (httpx.ConnectError("refused"), How.NOT_SENT),
        (httpx.ConnectTimeout("no"), How.NOT_SENT),
        (httpx.ProxyError("no"), How.NOT_SENT),
        (httpx.PoolTimeout("no"), How.BUSY),
        (httpx.ReadTimeout("no"), How.TIMED_OUT),
        (httpx.WriteTimeout("no"), How.TIMED_OUT),
        (httpx.ReadError("no"), How.BROKEN),
        (httpx.WriteError("no"), How.BROKEN),
        (httpx.CloseError("no"), How.BROKEN),
        (httpx.RemoteProtocolError("no"), How.BROKEN),
        (httpx.LocalProtocolError("no"), How.OUR_FAULT),
        (httpx.UnsupportedProtocol("no"), How.OUR_FAULT),
        (ValueError("no"), How.OUR_FAULT),
    ],
)
def test_every_error_of_a_transport_has_a_meaning(error, how):
    assert how_it_failed(error) is how


def test_no_error_of_httpx_is_forgotten():
    def family(kind):
        return {kind} | {one for child in kind.__subclasses__() for one in family(child)}

    for kind in family(httpx.TransportError):
        if not issubclass(kind, InstancesFailed):
            assert (how_it_failed(kind("no")) is How.OUR_FAULT) == (
                kind in {httpx.LocalProtocolError, httpx.UnsupportedProtocol}
            )


@pytest.mark.parametrize(
    ("hows", "kind", "known_as"),
    [
        ([], InstancesUnreachable, httpx.ConnectError),
        ([How.NOT_SENT, How.BUSY], InstancesUnreachable, httpx.ConnectError),
        ([How.BROKEN, How.TIMED_OUT], InstancesTimedOut, httpx.TimeoutException),
        ([How.TIMED_OUT, How.BROKEN], InstancesFailed, httpx.TransportError),
        ([How.UNFIT, How.NOT_SENT], InstancesFailed, httpx.TransportError),
    ],
)
def test_what_is_raised_says_what_was_seen(hows, kind, known_as):
    error = instances_failed("orders", REQUEST, [failed(how, number) for number, how in enumerate(hows)], "the reason")

    assert type(error) is kind
    assert isinstance(error, known_as)
    assert isinstance(error, ConsulAccessError)
    assert error.request is REQUEST
    assert [one.how for one in error.failures] == hows


def test_the_text_lists_every_attempt_and_no_secret():
    error = instances_failed("orders", REQUEST, [failed(How.BROKEN), failed(How.TIMED_OUT, 1)])

    assert str(error).startswith(
        "GET http://orders/v1/items: no instance of 'orders' answered: "
        "i0.test:80 (i0): BROKEN after 0.50 s; i1.test:80 (i1): TIMED_OUT after 0.50 s"
    )
    assert "secret" not in str(error)
    assert error.address == "i1.test:80"


def test_it_crosses_processes():
    error = pickle.loads(pickle.dumps(instances_failed("orders", REQUEST, [failed(How.BROKEN)])))

    assert type(error) is InstancesFailed
    assert error.failures == (failed(How.BROKEN),)
    assert error.request.url == REQUEST.url
