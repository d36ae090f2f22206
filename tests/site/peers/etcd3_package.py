"""What the page about etcd3 begins its calls with."""

from consul_access.compat.etcd3 import install

install()

import etcd3  # noqa: E402
from etcd3.client import Transactions  # noqa: E402
from etcd3.events import PutEvent  # noqa: E402, F401

client = object.__new__(etcd3.Etcd3Client)  # its channel needs no thread to be looked at
client.transactions = Transactions()
lease = etcd3.Lease(1, 15)
