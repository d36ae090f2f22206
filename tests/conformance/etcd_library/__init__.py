"""The library's own tests of etcd, once more, against the fake."""
