"""Where a token comes from: a text, a file that is read again when it changes, or a function that is asked again.

No token is ever part of a repr, a log line or an error.
"""

from __future__ import annotations

import contextlib
import inspect
import os
import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Protocol, TypeAlias, TypeGuard, cast

from consul_access.errors import InvalidSettings

if TYPE_CHECKING:
    from pydantic import SecretStr
    from typing_extensions import TypeIs  # of Python 3.13

__all__ = [
    "FileToken",
    "FunctionToken",
    "LoginToken",
    "NoToken",
    "StaticToken",
    "TokenArgument",
    "TokenSource",
    "is_at_hand",
    "is_secret",
    "secret",
    "token_source",
]

TokenValue: TypeAlias = "str | SecretStr | None"
TokenArgument: TypeAlias = (
    "str | SecretStr | LoginToken | os.PathLike[str] | Callable[[], TokenValue] | Callable[[], Awaitable[TokenValue]]"
)


def secret(text: str) -> SecretStr:
    """The text, which no repr shows."""
    from pydantic import SecretStr  # whoever has no secrets starts sooner without

    return SecretStr(text)


def is_secret(value: object) -> TypeIs[SecretStr]:
    """Whether it is a `SecretStr`; as long as nobody has loaded those, nothing is."""
    loaded = sys.modules.get("pydantic.types")
    return loaded is not None and isinstance(value, loaded.SecretStr)


class TokenSource(Protocol):
    """Tells the token, and looks for another one when the servers no longer know it."""

    def read(self) -> str | None | Awaitable[str | None]:
        """The token to send with the next request."""

    def refresh(self) -> str | None | Awaitable[str | None]:
        """The token from its origin, after the servers said that they do not know the one last read."""


def is_at_hand(token: object) -> TypeGuard[str | None]:
    """Whether it is the token itself, as most sources have it, and nothing that would have to be awaited."""
    return token is None or isinstance(token, str)


class NoToken:
    """No token."""

    __slots__ = ()

    def read(self) -> str | None:
        """None."""
        return None

    def refresh(self) -> str | None:
        """None."""
        return None

    def __repr__(self) -> str:
        return "no token"


class StaticToken:
    """A token given as text; there is no other one to look for."""

    __slots__ = ("_value",)

    def __init__(self, value: str | SecretStr) -> None:
        self._value = secret(_checked(value, "token="))

    def read(self) -> str | None:
        """The token."""
        return self._value.get_secret_value() or None

    def refresh(self) -> str | None:
        """The same token."""
        return self.read()

    def __repr__(self) -> str:
        return "token '**********'"


class FileToken:
    """A token in a file, as secret stores mount it. The file is read again whenever it has changed.

    Args:
        path: the file; blanks and line ends around the token are cut off.

    Raises:
        InvalidSettings: the file cannot be read. Later on, while it is being replaced, the last token stays.
    """

    __slots__ = ("_path", "_state", "_value")

    def __init__(self, path: os.PathLike[str] | str) -> None:
        from pathlib import Path

        self._path = Path(path)
        try:
            self._state = self._look()
            self._value = self._load()
        except OSError as error:
            raise InvalidSettings(
                f"the token file {str(path)!r} cannot be read ({error.strerror}): correct the path"
            ) from error

    def read(self) -> str | None:
        """The token in the file."""
        # While it is being replaced the last token is the best there is; the next call looks again.
        with contextlib.suppress(OSError):
            state = self._look()
            if state != self._state:
                self._value = self._load()
                self._state = state
        return self._value.get_secret_value() or None

    def refresh(self) -> str | None:
        """The token in the file, read again even if the file looks unchanged."""
        # While it is being replaced the old token stays; the call that asked fails with TokenUnknown, which says so.
        with contextlib.suppress(OSError):
            self._value = self._load()
        return self._value.get_secret_value() or None

    def _look(self) -> tuple[int, int, int]:
        found = self._path.stat()
        return found.st_mtime_ns, found.st_size, found.st_ino

    def _load(self) -> SecretStr:
        return secret(_checked(self._path.read_text("utf-8", "replace").strip(), f"the token file {str(self._path)!r}"))

    def __repr__(self) -> str:
        return f"token from {str(self._path)!r}"


class FunctionToken:
    """A token from a function, asked for when it is first needed and again when the servers no longer know it.

    Args:
        function: returns the token, or an awaitable of it (for task clients only).
    """

    __slots__ = ("_asked", "_function", "_value")

    def __init__(self, function: Callable[[], TokenValue] | Callable[[], Awaitable[TokenValue]]) -> None:
        self._function = function
        self._asked = False
        self._value = secret("")

    def read(self) -> str | None | Awaitable[str | None]:
        """The token that the function returned last."""
        return (self._value.get_secret_value() or None) if self._asked else self.refresh()

    def refresh(self) -> str | None | Awaitable[str | None]:
        """What the function returns now."""
        if inspect.iscoroutinefunction(self._function):
            return self._asked_async()
        answer = self._function()
        if answer is None or isinstance(answer, str) or is_secret(answer):
            return self._keep(answer)
        if inspect.isawaitable(answer):
            return self._awaited(answer)
        raise InvalidSettings(f"the token function answered with a {type(answer).__name__}: it must return a text")

    async def _asked_async(self) -> str | None:
        return self._keep(await cast("Awaitable[TokenValue]", self._function()))

    async def _awaited(self, answer: Awaitable[TokenValue]) -> str | None:
        return self._keep(await answer)

    def _keep(self, value: TokenValue) -> str | None:
        self._value = secret(_checked(value or "", "the token function's answer"))
        self._asked = True
        return self._value.get_secret_value() or None

    def __repr__(self) -> str:
        return "token from a function"


class LoginToken:
    """A token that Consul makes for whoever the platform vouches for, such as a Kubernetes service account.

    The client logs in when it first needs a token and again when the servers no longer know the one it has, and logs
    out when it is closed. A process that ends otherwise leaves its token to the auth method's `MaxTokenTTL`.

    Args:
        method: the name of Consul's auth method.
        bearer_file: the file with the token to show there; read again at each login, since Kubernetes replaces it.
        meta: noted at the Consul token.

    https://developer.hashicorp.com/consul/docs/security/acl/auth-methods/kubernetes
    """

    __slots__ = ("_bearer_file", "meta", "method")

    def __init__(
        self,
        method: str = "kubernetes",
        *,
        bearer_file: str | os.PathLike[str] = "/var/run/secrets/kubernetes.io/serviceaccount/token",
        meta: Mapping[str, str] | None = None,
    ) -> None:
        from pathlib import Path

        self.method = method
        self.meta = dict(meta or {})
        self._bearer_file = Path(bearer_file)

    def bearer(self) -> SecretStr:
        """What is in the file now.

        Raises:
            InvalidSettings: it cannot be read.
        """
        name = str(self._bearer_file)
        try:
            text = self._bearer_file.read_text("utf-8", "replace").strip()
        except OSError as error:
            raise InvalidSettings(
                f"bearer_file={name!r} cannot be read ({error.strerror}): in Kubernetes the pod needs "
                "automountServiceAccountToken, elsewhere give another file"
            ) from None
        return secret(_checked(text, f"the bearer token file {name!r}"))

    def read(self) -> str | None:
        """None: a client asks Consul for the token."""
        return None

    def refresh(self) -> str | None:
        """None: a client asks Consul for the token."""
        return None

    def __repr__(self) -> str:
        return f"token by logging in with {self.method!r}"


def token_source(token: TokenArgument) -> TokenSource:
    """What the `token=` argument stands for.

    Raises:
        InvalidSettings: it is nothing that a token can come from.
    """
    if isinstance(token, str) or is_secret(token):
        return StaticToken(token)
    if isinstance(token, os.PathLike):
        return FileToken(token)
    if isinstance(token, LoginToken):
        return token
    if callable(token):
        return FunctionToken(token)
    raise InvalidSettings(f"token= takes a text, a path or a function, not {type(token).__name__}")


def _checked(token: str | SecretStr, what: str) -> str:
    """The token, if it can be sent in a header. The error does not repeat it."""
    text = token.get_secret_value() if is_secret(token) else token
    if not isinstance(text, str):
        raise InvalidSettings(f"{what} must be a text, not {type(text).__name__}")
    if not text.isascii() or not text.isprintable():
        raise InvalidSettings(f"{what} holds characters that no token has, such as a line end: pass the bare token")
    return text
