"""What differs between threads and tasks, in pairs: `threads` and `tasks` have the same names with the same meaning.

Everything else that waits is written once, in `consul_access/_async`, in terms of these. Every deadline is an absolute
`time.monotonic()` value; reaching one raises `TimeoutError`.
"""
