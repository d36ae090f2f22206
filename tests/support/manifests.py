"""YAML for Kubernetes and its kin: read strictly, and held against the schemas of several versions."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parent.parent.parent
DEPLOY = ROOT / "deploy"
HELM = DEPLOY / "helm"
KUBECTL = str(Path(sys.executable).with_name("kubectl"))
VERSIONS = ("1.28", "1.30", "1.34")

Object = dict[str, Any]


class StrictLoader(yaml.SafeLoader):
    """Refuses a key that is there twice; of the two, YAML readers take whichever they like."""


def _mapping(loader: StrictLoader, node: yaml.MappingNode) -> Object:
    keys = [loader.construct_object(key) for key, _ in node.value]
    twice = {key for key in keys if keys.count(key) > 1}
    if twice:
        raise yaml.constructor.ConstructorError(None, None, f"{twice} twice", node.start_mark)
    loader.flatten_mapping(node)
    return {loader.construct_object(key): loader.construct_object(value, deep=True) for key, value in node.value}


StrictLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def documents(text: str) -> list[Any]:
    """The documents of a YAML text that are not empty."""
    found = yaml.load_all(text, StrictLoader)
    return [document for document in found if document is not None]


def is_object(document: object) -> bool:
    """Whether it is meant for Kubernetes' API."""
    return isinstance(document, dict) and {"apiVersion", "kind"} <= document.keys() and not is_kustomization(document)


def is_kustomization(document: object) -> bool:
    """Whether it is meant for kustomize."""
    return isinstance(document, dict) and str(document.get("apiVersion")).startswith("kustomize.config.k8s.io/")


def schema_problems(objects: Iterable[Object], versions: Iterable[str] = VERSIONS) -> list[str]:
    """What Kubernetes would refuse, and what there is no schema for."""
    objects = list(objects)
    return [problem for version in versions for one in objects for problem in _against(one, version)]


def _against(one: Object, version: str) -> Iterator[str]:
    import kubernetes_validate  # see values_problems

    name = f"{version}: {one['kind']} {one.get('metadata', {}).get('name')}"
    try:
        kubernetes_validate.validate(one, version, strict=True)
    except kubernetes_validate.SchemaNotFoundError:
        yield f"{name}: there is no schema for {one['apiVersion']} {one['kind']}"
    except kubernetes_validate.ValidationError as error:
        yield f"{name}: {'.'.join(map(str, error.path))}: {error.message}"


def built(folder: Path) -> list[Object]:
    """What `kubectl kustomize` makes of a folder; it asks no cluster."""
    done = subprocess.run([KUBECTL, "kustomize", str(folder)], capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        raise ValueError(done.stderr)
    return documents(done.stdout)


def schema_of(chart: str) -> Mapping[str, Any]:
    """Our schema for the values of a chart."""
    loaded: Mapping[str, Any] = json.loads((HELM / f"{chart}.schema.json").read_text())
    return loaded


def values_problems(chart: str, values: object) -> list[str]:
    """What our schema finds wrong with values."""
    import jsonschema  # takes two seconds, which every process of the suite would spend to look for tests

    found = jsonschema.Draft202012Validator(schema_of(chart)).iter_errors(values)
    return [f"{'.'.join(map(str, error.path))}: {error.message}" for error in found]


def merged(defaults: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Values over a chart's defaults, as Helm does it: maps by their keys, null removes, all else replaces."""
    result = dict(defaults)
    for key, value in values.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, Mapping) and isinstance(result.get(key), Mapping):
            result[key] = merged(result[key], value)
        else:
            result[key] = merged({}, value) if isinstance(value, Mapping) else value
    return result


def compose_problems(path: Path) -> list[str]:
    """What Compose's own schema finds wrong with a file."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return [] if done.returncode == 0 else [done.stdout + done.stderr]


def pod_of(part: Mapping[str, Any]) -> Object:
    """A pod around a part of its specification."""
    spec = {"containers": [{"name": "main", "image": "registry.example/main:1"}], **part}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "part"}, "spec": spec}


KINDS: dict[str, Callable[[Any], list[str]]] = {
    "values of consul": lambda one: values_problems("consul", one),
    "values of csi-driver-nfs": lambda one: values_problems("csi-driver-nfs", one),
    "values of nfs-subdir-external-provisioner": lambda one: values_problems("nfs-subdir-external-provisioner", one),
    "part of a PodSpec": lambda one: schema_problems([pod_of(one)]),
}
"""What a line above a block of YAML may say that it is, and who checks that."""


def block_problems(text: str, kind: str | None) -> list[str]:
    """What is wrong with a block of YAML in the documentation."""
    found = documents(text)
    if not found:
        return ["it is empty"]
    if kind is not None:
        check = KINDS.get(kind)
        return [problem for one in found for problem in check(one)] if check else [f"nobody can check {kind!r}"]
    strangers = [one for one in found if not is_object(one)]
    if strangers:
        return ["it is no Kubernetes object, and no line above says what it is"]
    return schema_problems(found)
