"""A Consul made of memory."""
