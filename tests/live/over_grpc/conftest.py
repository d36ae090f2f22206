"""Whatever is told here of etcd is told over gRPC."""

from __future__ import annotations

from typing import Any

import pytest

from consul_access.etcd.settings import EtcdSettings


@pytest.fixture(autouse=True)
def over_grpc(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients speak it unless they are told to speak something else."""
    load = EtcdSettings.load

    def loaded(*args: Any, **kwargs: Any) -> EtcdSettings:
        return load(*args, **({"protocol": "grpc"} | kwargs))

    monkeypatch.setattr(EtcdSettings, "load", loaded)
