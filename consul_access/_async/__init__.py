"""The code that waits, written once for tasks; `consul_access/_sync` is its twin for threads (tools/faces.py)."""
