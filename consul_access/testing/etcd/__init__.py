"""An etcd made of memory: a store, leases, users and watches as one state without I/O, behind the JSON gateway."""
