"""The Consul HTTP API: one file a section, functions that return a `Call`."""
