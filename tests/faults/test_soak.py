"""Random faults, one after the other, with a seed that can be given again: N08.

CONSUL_ACCESS_SOAK_SECONDS says for how long in all, CONSUL_ACCESS_SOAK_SEED with which dice; `make soak` gives both.
"""

from __future__ import annotations

import contextlib
import os
import random

import pytest

from tests.faults.judging import judge
from tests.faults.soaking import BOUNDS, GROUNDS, Soak

SECONDS = float(os.environ.get("CONSUL_ACCESS_SOAK_SECONDS") or 0)
SEED = int(os.environ.get("CONSUL_ACCESS_SOAK_SEED") or random.SystemRandom().randrange(10**6))


def soaked(where: str, seed: int, seconds: float, longest: float, record_property) -> None:
    with contextlib.ExitStack() as stack:
        soak = Soak(GROUNDS[where](stack), seed, longest)
        history = soak.run(seconds)
    record_property("seed", seed)
    record_property("faults", len(history.troubles))
    record_property("writes", len(history.writes))
    record_property("lists looked at", len(history.told))
    assert len(history.told) > 10
    assert history.troubles
    findings = judge(history, BOUNDS)
    assert findings == [], f"seed {seed}; faults: {history.troubles}"


@pytest.mark.parametrize("where", ["consul", "etcd"])
def test_n08_a_few_faults(where, record_property):
    soaked(where, 7, 10.0, 1.5, record_property)


@pytest.mark.skipif(not SECONDS, reason="`make soak` runs it: an hour, unless SECONDS says something else")
@pytest.mark.parametrize("where", GROUNDS)
def test_n08_faults_for_an_hour(where, record_property):
    soaked(where, SEED, SECONDS / len(GROUNDS), 30.0, record_property)
