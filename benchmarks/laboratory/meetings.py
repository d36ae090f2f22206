"""What happens to each client in each scenario of the fault laboratory.

A meeting makes a fault, has clients go through it, and says what became of them. Where chance has a say (which server
an agent asks, who is elected), both clients go through the same fault at the same time.
"""

from __future__ import annotations

from benchmarks.laboratory import clusters, etcd, following, one_call, rare, ways_out
from benchmarks.laboratory.judging import Meetings

ALL = (one_call, following, clusters, etcd, ways_out, rare)
MEETINGS: Meetings = dict(sorted(pair for room in ALL for pair in room.MEETINGS.items()))
