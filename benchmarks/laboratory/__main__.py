"""The fault laboratory: every scenario against this library and, where they can meet it, other clients: `make faults`.

Ours are tests (tests/faults/scenarios.py names them); their results and what they measured are read from pytest's own
report. Others are short programs (peer.py) that meet the same faults (meetings.py); what happened to them is written
down, and ours meets them beside, in the same way. `--rounds 2` runs each test again after all of them have run.
`--write` puts the tables into docs/reliability.md, everything as JSON beside it; the scenarios that were not run this
time keep what was found the last time. `--beside` does so for our tests with another Consul (CONSUL_BIN), of which the
page tells beside the usual one.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from typing import Any

from benchmarks.laboratory.meetings import MEETINGS
from benchmarks.laboratory.page import MARK, PAGE, RESULTS, beside, tables
from benchmarks.laboratory.testing import tested
from tests.faults.scenarios import SCENARIOS
from tests.support.hearing import hear_signals
from tools import servers


def met(names: list[str]) -> dict[str, dict[str, Any]]:
    """What happened to each client in each scenario."""
    found: dict[str, dict[str, Any]] = {}
    for name in names:
        clients, meeting = MEETINGS[name]
        print(name, file=sys.stderr)
        for client, one in meeting(clients).items():
            found.setdefault(name, {})[client.removesuffix("-etcd")] = one.stored()
            print(f"  {client}: {one}", file=sys.stderr)
    return found


def releases() -> list[str]:
    """The servers that all this ran with."""
    binaries = {"Consul": servers.consul(), "etcd": servers.etcd(), "etcd, newer": servers.etcd_newer()}
    said = {name: subprocess.check_output([binary, "--version"], text=True) for name, binary in binaries.items()}
    return [f"{name.partition(',')[0]} {re.search(r'[0-9]+[.][0-9.]+', text)[0]}" for name, text in said.items()]


def chosen(given: list[str]) -> list[str]:
    """The scenarios whose names begin with one of these; all of them when there are none."""
    return [name for name in SCENARIOS if not given or name.startswith(tuple(given))]


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("scenarios", nargs="*", help="by name or by its beginning (C, F1); all of them by default")
    options.add_argument("--rounds", type=int, default=1, help="how often our tests are run; 1 by default")
    options.add_argument("--write", action="store_true", help="put the results into docs/reliability.md")
    options.add_argument("--beside", action="store_true", help="as --write, for our tests with another Consul")
    options.add_argument("--only", choices=["ours", "peers"], help="run the tests, or the meetings with others")
    given = options.parse_args()
    hear_signals()
    names = chosen(given.scenarios)
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"ours": {}, "peers": {}, "beside": {}}
    if given.beside:
        return beside_the_usual(known, [name for name in names if not at_etcd(name)], given.rounds)
    peers = {} if given.only == "ours" else met([name for name in MEETINGS if name in names])
    ours = {} if given.only == "peers" else tested(names, given.rounds)
    found = {
        **known,
        "ours": {**known["ours"], **ours},
        "peers": {**known["peers"], **peers},
        "servers": releases(),
    }
    if given.write:
        write(found)
    else:
        print(tables(found))
    failed = failing(ours)
    behind = [name for name, one in peers.items() if "**ahead**" in "".join(beside(name, {name: one}))]
    print(f"failed: {failed or 'none'}; another client is ahead: {behind or 'nowhere'}", file=sys.stderr)
    return int(bool(failed or behind))


def beside_the_usual(known: dict[str, Any], names: list[str], rounds: int) -> int:
    """Our tests with another Consul: those of etcd would be the same once more."""
    release = releases()[0]
    ours = tested(names, rounds)
    write({**known, "beside": {**known["beside"], release: {**known["beside"].get(release, {}), **ours}}})
    print(f"with {release} failed: {failing(ours) or 'none'}", file=sys.stderr)
    return int(bool(failing(ours)))


def write(found: dict[str, Any]) -> None:
    """Puts it into the documentation; the page in the order of what is stored, from which it can be made again."""
    stored = json.dumps(found, indent=1, sort_keys=True)
    RESULTS.write_text(stored + "\n")
    PAGE.write_text(f"{PAGE.read_text().partition(MARK)[0]}{MARK}\n\n{tables(json.loads(stored))}")


def at_etcd(name: str) -> bool:
    """Whether no Consul takes part in it."""
    return name.startswith("E") or name == "N07"


def failing(ours: dict[str, dict[str, Any]]) -> list[str]:
    """The scenarios of which some test failed in some round."""
    return [name for name, result in ours.items() if any(one["failed"] for one in result["rounds"])]


if __name__ == "__main__":
    sys.exit(main())
