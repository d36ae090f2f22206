"""What `doctor` says: one remark for one thing that was found, with what to do about it."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from consul_access.models.explanation import Severity

__all__ = ["ModeVerdict", "Remark", "RemarkCode"]


class RemarkCode(StrEnum):
    """What was found; scripts compare these, the texts are for people."""

    # --- the environment
    SETTINGS_UNUSABLE = "settings_unusable"
    FLAG_IGNORED = "flag_ignored"
    TOKEN_SHADOWED = "token_shadowed"  # noqa: S105 - what was found
    VARIABLE_NOT_READ = "variable_not_read"
    PROXY_NOT_USED = "proxy_not_used"
    CERTIFICATE_NOT_CHECKED = "certificate_not_checked"
    TOKEN_IN_CLEAR = "token_in_clear"  # noqa: S105 - what was found

    # --- the way there
    NOT_REACHED = "not_reached"
    SOMETHING_ELSE = "something_else"
    SEVERAL_ADDRESSES = "several_addresses"
    NO_LEADER = "no_leader"
    CLOCKS_DIFFER = "clocks_differ"
    VERSION_NOT_TOLD = "version_not_told"
    VERSION_UNTESTED = "version_untested"

    # --- the token
    TOKEN_REFUSED = "token_refused"  # noqa: S105 - what was found
    NO_TOKEN = "no_token"  # noqa: S105 - what was found
    RIGHTS_NOT_TOLD = "rights_not_told"

    # --- etcd
    MEMBER_COMPLAINS = "member_complains"
    DIFFERENT_CLUSTERS = "different_clusters"
    KEYS_REFUSED = "keys_refused"


class Remark(NamedTuple):
    """One thing that was found.

    Args:
        code: what it is.
        severity: an error stands in the way; a warning may surprise somebody.
        text: what it is, in words.
        remedy: what to do about it; empty when there is nothing to do.
    """

    code: RemarkCode
    severity: Severity
    text: str
    remedy: str = ""


class ModeVerdict(NamedTuple):
    """Whether one way to be found, or to find, works from here.

    Args:
        mode: `agent`, `catalog`, `etcd`, or `resolve` for look-ups alone.
        works: whether it does.
        because: why, or why not, or what to expect.
        remedy: what to do when it does not work; empty when there is nothing to do.
    """

    mode: str
    works: bool
    because: str
    remedy: str = ""
