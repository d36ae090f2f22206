"""The agents that other tests lean on."""

from __future__ import annotations

import socket

import pytest

from tests.support.agents import MASTER_TOKEN, ConsulAgent, listens
from tests.support.waiting import eventually


def test_an_agent_is_ready_when_its_block_begins_and_gone_without_a_trace_when_it_ends():
    with ConsulAgent() as agent:
        assert agent.read("/v1/status/leader")
        assert agent.read("/v1/agent/self")["Config"]["NodeName"] == agent.node
        process, home, port = agent.process, agent.home, agent.port
    assert process is not None
    assert process.poll() is not None
    assert not listens(port)
    assert not home.exists()


def test_two_agents_share_nothing(agents):
    one, other = agents(), agents()
    one.register("web", port=80)
    assert (one.port, one.node) != (other.port, other.node)
    assert other.read("/v1/agent/services") == {}


def test_a_restarted_server_has_its_ports_and_its_data_still(agents):
    agent = agents(server=True)
    port = agent.port
    agent.register("web", port=80)
    agent.request("PUT", "/v1/kv/kept", b"yes")
    agent.restart()
    assert agent.port == port
    assert agent.request("GET", "/v1/kv/kept?raw") == (200, "yes")
    assert list(agent.read("/v1/agent/services")) == ["web"]


def test_a_restarted_agent_in_dev_mode_has_forgotten_everything(agents):
    agent = agents()
    agent.register("web", port=80)
    agent.restart()
    assert agent.read("/v1/agent/services") == {}


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_an_ended_agent_takes_no_connections(agents, end):
    agent = agents()
    getattr(agent, end)()
    assert not listens(agent.port)


def test_a_paused_agent_takes_connections_and_says_nothing_until_it_resumes(agents):
    agent = agents()
    agent.pause()
    with socket.create_connection(("127.0.0.1", agent.port), timeout=0.2) as sock:
        sock.sendall(b"GET /v1/status/leader HTTP/1.1\r\nHost: x\r\n\r\n")
        with pytest.raises(TimeoutError):
            sock.recv(1)
        agent.resume()
        sock.settimeout(10)
        assert sock.recv(12) == b"HTTP/1.1 200"


def test_a_paused_agent_can_be_ended(agents):
    agent = agents()
    agent.pause()
    agent.stop()
    assert not listens(agent.port)


def test_without_its_token_an_agent_with_rules_hides_what_it_has(acl_consul):
    assert acl_consul.token == MASTER_TOKEN
    assert acl_consul.request("GET", "/v1/agent/self")[0] == 200
    assert acl_consul.request("GET", "/v1/agent/self", token="wrong")[0] == 403


def test_services_are_cleared(consul):
    consul.register("web", id="web/1", port=80)
    consul.clear()
    assert consul.read("/v1/agent/services") == {}


def test_an_agent_listens_at_a_unix_socket_besides(agents, tmp_path):
    path = tmp_path / "consul.sock"
    agent = agents(unix=path)
    with socket.socket(socket.AF_UNIX) as sock:
        eventually(lambda: sock.connect_ex(str(path)) == 0)
    assert listens(agent.port)


def test_an_agent_that_cannot_start_shows_its_log_and_leaves_nothing_behind():
    agent = ConsulAgent(config={"no_such_setting": True})
    with pytest.raises(RuntimeError, match="invalid config key no_such_setting"):
        agent.__enter__()
    assert agent.process is None
    assert not agent.home.exists()
