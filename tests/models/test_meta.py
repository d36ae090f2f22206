"""How an answer came about."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consul_access.call import Headers
from consul_access.models.meta import Entries, QueryMeta, ServiceTags

FACTS = [
    "index", "content_hash", "last_contact", "known_leader", "cache_hit", "age", "filtered_by_acls", "backend",
    "consistency", "default_acl_policy",
]  # fmt: skip


def meta(**headers: str) -> QueryMeta:
    return QueryMeta(Headers((name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()))


@pytest.mark.parametrize("fact", FACTS)
def test_what_the_agent_did_not_tell_is_none(fact: str) -> None:
    assert getattr(QueryMeta(), fact) is None
    assert getattr(meta(Content_Type="application/json"), fact) is None


def test_every_fact_is_read_from_its_header() -> None:
    found = meta(
        X_Consul_Index="44663", X_Consul_ContentHash="d0", X_Consul_LastContact="1500", X_Consul_KnownLeader="true",
        X_Cache="HIT", Age="7", X_Consul_Results_Filtered_By_ACLs="true", X_Consul_Query_Backend="streaming",
        X_Consul_Effective_Consistency="leader", X_Consul_Default_ACL_Policy="deny",
    )  # fmt: skip

    assert [getattr(found, fact) for fact in FACTS] == [
        44663, "d0", 1.5, True, True, 7, True, "streaming", "leader", "deny"
    ]  # fmt: skip


def test_a_miss_of_the_cache_is_no_hit() -> None:
    assert meta(X_Cache="MISS").cache_hit is False


@pytest.mark.parametrize("text", ["", "-1", "1.5", "five", "５", "9" * 20, "9" * 5000, "0x10", " 5 5"])
def test_a_number_that_is_none_counts_as_not_told(text: str) -> None:
    found = QueryMeta({"x-consul-index": text, "age": text, "x-consul-lastcontact": text})

    assert (found.index, found.age, found.last_contact) == (None, None, None)


@pytest.mark.parametrize(("text", "value"), [("true", True), ("False", False), ("TRUE", True), ("1", None), ("", None)])
def test_a_flag_is_true_false_or_not_told(text: str, value: bool | None) -> None:
    assert meta(X_Consul_KnownLeader=text).known_leader is value


@given(st.dictionaries(st.sampled_from(["x-consul-index", "age", "x-cache", "x-consul-knownleader"]), st.text()))
def test_no_header_can_make_reading_the_facts_fail(headers: dict[str, str]) -> None:
    repr(QueryMeta(headers))


def test_only_what_was_told_is_written() -> None:
    assert repr(meta(X_Consul_Index="5", X_Cache="HIT")) == "QueryMeta(index=5, cache_hit=True)"


def test_entries_are_a_list_with_a_story() -> None:
    entries = Entries([1, 2], meta=meta(X_Consul_Index="5"), rejected=3)

    assert entries == [1, 2]
    assert (entries.meta.index, entries.rejected) == (5, 3)
    assert (Entries[int]().meta.index, Entries[int]().rejected) == (None, 0)


def test_service_tags_are_a_dict_with_a_story() -> None:
    tags = ServiceTags({"web": ["a"]}, meta=meta(X_Consul_Index="5"))

    assert tags == {"web": ["a"]}
    assert tags.meta.index == 5
    assert ServiceTags() == {}
