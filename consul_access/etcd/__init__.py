"""etcd's v3 API by way of its JSON gateway: one module for each section, functions that return a `Call`.

Everything here was observed on etcd 3.4.23 and 3.5.16 and read in etcd's source (`api/etcdserverpb/rpc.proto`,
`server/embed/serve.go`). Gateways of two generations are in use: 3.4 and 3.5 answer errors as
`{"error", "message", "code"}`, 3.6 (and Debian's 3.5) as `{"code", "message"}`. Both write 64-bit numbers as texts,
bytes in base64, and leave out what is zero.
"""

from __future__ import annotations

from consul_access.etcd import auth, cluster, kv, leases, texts, watch

__all__ = ["auth", "cluster", "kv", "leases", "texts", "watch"]
