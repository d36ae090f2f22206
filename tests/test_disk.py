"""Lists on disk: whole or not there, honest about their age, and read only when nobody else could have written them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consul_access import CheckStatus, ServiceInstance, ServiceSnapshot
from consul_access.disk import Clocks, Shelf
from consul_access.models.instance import PortEntry, Standing


class Time:
    def __init__(self, wall=1_000_000.0, monotonic=50.0):
        self.wall, self.monotonic = wall, monotonic

    @property
    def clocks(self):
        return Clocks(lambda: self.wall, lambda: self.monotonic)


def shelf(folder, service="orders", key="k", time=None):
    return Shelf(folder, service, key, (time or Time()).clocks)


texts = st.text(max_size=12)
instances = st.builds(
    ServiceInstance,
    id=texts,
    service=st.just("orders"),
    node=texts,
    service_address=st.sampled_from(["", "10.0.0.1", "::1"]),
    service_port=st.integers(0, 65535),
    port_entries=st.lists(
        st.builds(lambda port, name: PortEntry(Port=port, Name=name), st.integers(1, 65535), texts),
        max_size=2,
    ).map(tuple),
    tags=st.lists(texts, max_size=3).map(tuple),
    meta=st.dictionaries(texts, texts, max_size=3),
    standing=st.builds(Standing, st.sampled_from(CheckStatus), st.sampled_from(CheckStatus)),
    modify_index=st.integers(0, 2**60),
)


@given(st.lists(instances, max_size=5).map(tuple), st.integers(1, 2**60) | st.none())
def test_what_is_kept_comes_back(tmp_path_factory, found, index):
    kept = shelf(tmp_path_factory.mktemp("lists"))
    assert kept.save(ServiceSnapshot(service="orders", instances=found, index=index, source="live", answered_at=50.0))
    loaded = kept.load()
    assert loaded.instances == found
    assert [instance.standing for instance in loaded.instances] == [instance.standing for instance in found]
    assert (loaded.index, loaded.source, loaded.is_stale) == (index, "disk", True)


def test_it_is_as_old_as_its_answer_whatever_the_clocks_say(tmp_path):
    time = Time()
    kept = shelf(tmp_path, time=time)
    kept.save(ServiceSnapshot(service="orders", answered_at=45.0))
    time.wall += 3600
    time.monotonic = 7.0
    loaded = kept.load()
    assert loaded.age == pytest.approx(3605)
    assert loaded.at(8.0).age == pytest.approx(3606)
    assert loaded.stale_since.timestamp() == pytest.approx(1_000_000 - 5)
    time.wall = 0.0
    assert kept.load().age == 0.0


def test_questions_have_files_of_their_own_whatever_their_names(tmp_path):
    names = ["orders", "a/b", "../up", ".", "ü", "x" * 300]
    shelves = [shelf(tmp_path, name, key) for name in names for key in ("k", "l")]
    for kept in shelves:
        assert kept.save(ServiceSnapshot(service=kept._service, answered_at=50.0))
    assert len(list(tmp_path.iterdir())) == len(shelves)
    assert all(path.parent == tmp_path for path in tmp_path.rglob("*"))


def test_nothing_was_kept(tmp_path, caplog):
    assert shelf(tmp_path / "none").load() is None
    assert not caplog.records


def answered(when: str) -> str:
    return f'{{"format": 1, "service": "orders", "answered": {when}, "index": 1, "instances": []}}'


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", "null", "{}", '{"format": 2}', '{"format": 1, "service": "payments", "answered": 1}'),
        *(answered("1e999"), answered("-1e999"), answered("NaN"), answered("1e15")),
    ],
)
def test_what_cannot_be_understood_is_left_alone(tmp_path, caplog, text):
    kept = shelf(tmp_path)
    kept.path.write_text(text)
    kept.path.chmod(0o600)
    assert kept.load() is None
    assert "cannot be used" in caplog.text


def test_an_instance_that_is_none_spoils_the_file(tmp_path):
    kept = shelf(tmp_path)
    kept.save(
        ServiceSnapshot(service="orders", instances=(ServiceInstance(id="a", service="orders"),), answered_at=1.0)
    )
    content = json.loads(kept.path.read_text())
    content["instances"][0]["service_port"] = 99999
    kept.path.write_text(json.dumps(content))
    assert kept.load() is None


def test_it_belongs_to_its_user_alone_and_what_others_could_have_written_is_not_read(tmp_path, caplog):
    kept = shelf(tmp_path / "lists")
    kept.save(ServiceSnapshot(service="orders", answered_at=50.0))
    assert kept.path.stat().st_mode & 0o777 == 0o600
    assert kept.path.parent.stat().st_mode & 0o777 == 0o700
    kept.path.chmod(0o622)
    assert kept.load() is None
    assert "others could have written it" in caplog.text


def test_a_link_is_not_followed(tmp_path):
    kept, elsewhere = shelf(tmp_path), tmp_path / "elsewhere"
    elsewhere.write_text("precious")
    kept.path.symlink_to(elsewhere)
    assert kept.load() is None
    assert kept.save(ServiceSnapshot(service="orders", answered_at=50.0))
    assert elsewhere.read_text() == "precious"
    assert not kept.path.is_symlink()


def test_a_place_that_cannot_be_written_is_said_and_nothing_is_left_there(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda handle: (_ for _ in ()).throw(OSError(28, "no space left")))
    kept = shelf(tmp_path)
    assert not kept.save(ServiceSnapshot(service="orders", answered_at=50.0))
    assert "no space left" in caplog.text
    assert list(Path(tmp_path).iterdir()) == []
