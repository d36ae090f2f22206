"""Whether calls that a page shows could be made: their names exist, and their arguments fit the signatures.

Only the standard library, since it also runs beside packages that are foreign to this one:

    python signatures.py SETUP.py < snippets.json

runs a file that makes the names, and prints what is wrong, as JSON.
"""

from __future__ import annotations

import ast
import builtins
import inspect
import json
import runpy
import sys
from collections.abc import Iterator, Mapping
from typing import Any

_NOTHING = object()


def complaints(snippet: str, names: Mapping[str, Any]) -> list[str]:
    """What cannot be right about a piece of code.

    Args:
        snippet: an expression; a dotted name alone has to exist, a call has to fit as well.
        names: what it may begin with.
    """
    try:
        tree = ast.parse(snippet + " pass" * snippet.endswith(":"))
    except SyntaxError as error:
        return [f"{snippet}: {error.msg}"]
    (statement,) = tree.body
    alone = [statement.value] if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Name) else []
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.Call | ast.Attribute)]
    return [f"{snippet}: {trouble}" for node in [*alone, *nodes] for trouble in _troubles(node, names)]


def _troubles(node: ast.expr, names: Mapping[str, Any]) -> Iterator[str]:
    if not isinstance(node, ast.Call):
        if _found(node, names) is _NOTHING:
            yield f"there is no {ast.unparse(node)}"
        return
    function = _found(node.func, names)
    if isinstance(node.func, ast.Name) and function is _NOTHING:
        yield f"there is no {node.func.id}"
    elif callable(function):
        yield from _misfits(node, function)


def _found(node: ast.expr, names: Mapping[str, Any]) -> Any:
    """What a dotted name stands for; what a call or an item gives is anything."""
    if isinstance(node, ast.Name):
        return names.get(node.id, getattr(builtins, node.id, _NOTHING))
    if isinstance(node, ast.Attribute):
        owner = _found(node.value, names)
        if owner is None or owner is _NOTHING:
            return owner
        is_asked_for = isinstance(inspect.getattr_static(owner, node.attr, None), property)
        return None if is_asked_for else getattr(owner, node.attr, _NOTHING)
    return None


def _misfits(call: ast.Call, function: Any) -> Iterator[str]:
    fields = getattr(function, "model_fields", None)
    if fields is not None:  # pydantic's: its signature has the names on the wire, once the model is built
        yield from (f"there is no field {one.arg!r}" for one in call.keywords if one.arg and one.arg not in fields)
        return
    signature = inspect.signature(function)
    try:
        bound = signature.bind(*call.args, **{one.arg: one.value for one in call.keywords if one.arg})
    except TypeError as error:
        yield str(error)
        return
    for name, parameter in signature.parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD and name in bound.arguments:
            options = _options(function, name)
            if options is not None:
                yield from (f"there is no option {key!r}" for key in bound.arguments[name] if key not in options)


def _options(function: Any, name: str) -> Mapping[str, Any] | None:
    """The keys of `**name: Unpack[T]`; None when nothing is said about them."""
    plain = inspect.unwrap(function)
    text = str(getattr(plain, "__annotations__", {}).get(name, ""))
    if not text.startswith("Unpack["):
        return None
    known = vars(sys.modules[plain.__module__]).get(text[len("Unpack[") : -1])
    return None if known is None else inspect.get_annotations(known)


if __name__ == "__main__":
    made = runpy.run_path(sys.argv[1])
    json.dump([complaint for snippet in json.load(sys.stdin) for complaint in complaints(snippet, made)], sys.stdout)
