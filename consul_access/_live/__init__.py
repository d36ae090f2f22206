"""The engine under `watch` and `resolver`: drives all blocking queries of a client.

It is written once, for tasks, and serves both faces: on the one for threads it runs in a single background thread with
an event loop of its own (`Host` in `consul_access/_pairs`). A thread for each of a thousand queries would cost four
times the memory, and could not be woken in the middle of one.
"""
