"""One client of Consul that takes orders on standard input: `python -m benchmarks.clients NAME HOST PORT`."""

from __future__ import annotations

import importlib
import sys

from benchmarks.clients.measuring import serve

MODULES = {
    "raw": "raw",
    "raw, working 35 µs": "raw",
    "raw-async": "raw",
    "ours": "ours",
    "ours-async": "ours",
    "py-consul": "py_consul",
    "py-consul-async": "py_consul",
    "python-consul2": "py_consul",
    "discovery-client": "discovery_client",
    "httpx": "with_httpx",
    "httpx-async": "with_httpx",
}

if __name__ == "__main__":
    name, host, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
    serve(importlib.import_module(f"benchmarks.clients.{MODULES[name]}").CLIENTS[name](host, port))
