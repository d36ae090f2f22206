"""What a schema cannot tell of Kubernetes' objects: whether they fit together."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

Object = Mapping[str, Any]
_SUFFIXES = {"": 1, "m": Decimal("0.001"), "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12} | {
    f"{letter}i": 1024**power for power, letter in enumerate("KMGT", start=1)
}
_REFERENCE = re.compile(r"(?<!\$)\$\(([A-Za-z_][A-Za-z0-9_]*)\)")
LEAST_END = 10
"""Seconds that a program has for its own end after preStop."""


@dataclass(frozen=True)
class Pods:
    """The pods that one object makes."""

    name: str
    namespace: str
    labels: Mapping[str, str]
    spec: Object
    selector: Mapping[str, str] | None
    claims: Sequence[Object]

    @property
    def containers(self) -> list[Object]:
        return [*self.spec.get("initContainers", []), *self.spec["containers"]]

    @property
    def port_names(self) -> set[str]:
        return {port["name"] for one in self.containers for port in one.get("ports", []) if "name" in port}


def quantity(text: object) -> Decimal:
    """`100m`, `2Gi`, 1 as a number."""
    number, suffix = re.fullmatch(r"([0-9.]+)([A-Za-z]*)", str(text)).groups()  # type: ignore[union-attr]
    return Decimal(number) * _SUFFIXES[suffix]


def pods(objects: Sequence[Object]) -> list[Pods]:
    """All that make pods."""
    return [_pods(one) for one in objects if one["kind"] in {"Deployment", "StatefulSet", "DaemonSet", "Job", "Pod"}]


def _pods(one: Object) -> Pods:
    template = one if one["kind"] == "Pod" else one["spec"]["template"]
    return Pods(
        name=f"{one['kind']} {one['metadata']['name']}",
        namespace=_namespace(one),
        labels=template.get("metadata", {}).get("labels", {}),
        spec=template["spec"],
        selector=one["spec"].get("selector", {}).get("matchLabels"),
        claims=one["spec"].get("volumeClaimTemplates", []),
    )


def _namespace(one: Object) -> str:
    return str(one["metadata"].get("namespace", "default"))


def _chosen(objects: Sequence[Object], namespace: str, labels: Mapping[str, str]) -> list[Pods]:
    return [one for one in pods(objects) if one.namespace == namespace and labels.items() <= one.labels.items()]


def own_labels(objects: Sequence[Object]) -> Iterator[str]:
    """A workload selects its own pods."""
    for one in pods(objects):
        if one.selector is not None and not one.selector.items() <= one.labels.items():
            yield f"{one.name}: its selector does not select its pods"


def chosen_pods(objects: Sequence[Object]) -> Iterator[str]:
    """Services, budgets and policies select somebody."""
    for one in objects:
        labels = _labels_chosen(one)
        if labels and not _chosen(objects, _namespace(one), labels):
            yield f"{one['kind']} {one['metadata']['name']}: it selects no pod"


def _labels_chosen(one: Object) -> Mapping[str, str]:
    spec = one.get("spec", {})
    found = {
        "Service": lambda: spec.get("selector"),
        "PodDisruptionBudget": lambda: spec["selector"]["matchLabels"],
        "NetworkPolicy": lambda: spec["podSelector"].get("matchLabels"),
    }.get(one["kind"], dict)()
    return found or {}


def named_ports(objects: Sequence[Object]) -> Iterator[str]:
    """Ports that go by name are there, in services, policies and probes."""
    for one in objects:
        there = {
            name for chosen in _chosen(objects, _namespace(one), _labels_chosen(one)) for name in chosen.port_names
        }
        for port in _ports_named(one):
            if port not in there:
                yield f"{one['kind']} {one['metadata']['name']}: no pod of it has a port {port!r}"
    for group in pods(objects):
        for container in group.containers:
            yield from _probes(group, container)


def _ports_named(one: Object) -> list[str]:
    found: list[Any] = []
    if one["kind"] == "Service":
        found = [port.get("targetPort") for port in one["spec"].get("ports", [])]
    if one["kind"] == "NetworkPolicy":
        found = [port.get("port") for rule in one["spec"].get("ingress", []) for port in rule.get("ports", [])]
    return [port for port in found if isinstance(port, str)]


def _probes(group: Pods, container: Object) -> Iterator[str]:
    names = {port.get("name") for port in container.get("ports") or []}
    for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
        probe = container.get(kind, {})
        port = probe.get("httpGet", probe.get("tcpSocket", {})).get("port")
        if isinstance(port, str) and port not in names:
            yield f"{group.name}: {kind} asks port {port!r}, which {container['name']} does not have"


def requests_fit(objects: Sequence[Object]) -> Iterator[str]:
    """Nobody requests more than its limit: the API server accepts that in a workload, and refuses each of its pods."""
    for group in pods(objects):
        for container in group.containers:
            for problem in oversized(container.get("resources", {})):
                yield f"{group.name}: {container['name']} {problem}"


def oversized(resources: Object) -> Iterator[str]:
    """What is requested beyond its limit."""
    limits = resources.get("limits") or {}
    for name, requested in (resources.get("requests") or {}).items():
        if limits.get(name) is not None and quantity(requested) > quantity(limits[name]):
            yield f"requests {name} {requested}, and its limit is {limits[name]}"


def mounts_there(objects: Sequence[Object]) -> Iterator[str]:
    """What is mounted is there."""
    for group in pods(objects):
        there = {one["name"] for one in group.spec.get("volumes") or []} | {
            one["metadata"]["name"] for one in group.claims
        }
        for container in group.containers:
            for mount in container.get("volumeMounts") or []:
                if mount["name"] not in there:
                    yield f"{group.name}: there is no volume {mount['name']!r}"


def accounts_there(objects: Sequence[Object]) -> Iterator[str]:
    """Service accounts and configuration that pods name are there; secrets may be made by hand."""
    there = {(one["kind"], _namespace(one), one["metadata"]["name"]) for one in objects}
    for group in pods(objects):
        wanted = [("ServiceAccount", group.spec.get("serviceAccountName", "default"))]
        wanted += [
            ("ConfigMap", one["configMap"]["name"]) for one in group.spec.get("volumes") or [] if "configMap" in one
        ]
        for kind, name in wanted:
            if name != "default" and (kind, group.namespace, name) not in there:
                yield f"{group.name}: there is no {kind} {name!r} in {group.namespace}"


def variables_in_order(objects: Sequence[Object]) -> Iterator[str]:
    """A variable that another one uses stands above it; otherwise its name stays as it is written."""
    for group in pods(objects):
        for container in group.containers:
            seen: set[str] = set()
            for variable in container.get("env") or []:
                for name in _REFERENCE.findall(variable.get("value") or ""):
                    if name not in seen:
                        yield f"{group.name}: {variable['name']} uses $({name}), which is not above it"
                seen.add(variable["name"])


def images_pinned(objects: Sequence[Object]) -> Iterator[str]:
    """Each image says which one it is, and is one that exists: v4.0.18 never was an image."""
    for group in pods(objects):
        for container in group.containers:
            tag = container["image"].rpartition("/")[2].partition(":")[2]
            if tag in {"", "latest", "v4.0.18"}:
                yield f"{group.name}: image {container['image']} is not pinned, or was never there"


def time_to_end(objects: Sequence[Object]) -> Iterator[str]:
    """After preStop there is time for the program's own end."""
    for group in pods(objects):
        grace = group.spec.get("terminationGracePeriodSeconds", 30)
        for container in group.containers:
            command = container.get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command", [])
            pause = float(command[1]) if command[:1] == ["sleep"] else 0.0
            if grace - pause < LEAST_END:
                yield f"{group.name}: {grace} s of grace less {pause:g} s of preStop are not enough"


def claims_bind(objects: Sequence[Object]) -> Iterator[str]:
    """Volumes are of a class that is there, and each claim finds one that is large enough."""
    classes = {one["metadata"]["name"] for one in objects if one["kind"] == "StorageClass"}
    volumes = [one for one in objects if one["kind"] == "PersistentVolume"]
    for volume in volumes:
        wanted = volume["spec"].get("storageClassName")
        if wanted not in classes:
            yield f"PersistentVolume {volume['metadata']['name']}: there is no class {wanted!r}"
    if not volumes:
        return
    for group in pods(objects):
        for claim in group.claims:
            if not any(_fits(claim["spec"], volume["spec"]) for volume in volumes):
                yield f"{group.name}: no volume fits its claim {claim['metadata']['name']!r}"


def _fits(claim: Object, volume: Object) -> bool:
    return (
        claim.get("storageClassName") == volume.get("storageClassName")
        and quantity(claim["resources"]["requests"]["storage"]) <= quantity(volume["capacity"]["storage"])
        and set(claim["accessModes"]) <= set(volume["accessModes"])
    )


RULES: tuple[Callable[[Sequence[Object]], Iterator[str]], ...] = (
    own_labels,
    chosen_pods,
    named_ports,
    requests_fit,
    mounts_there,
    accounts_there,
    variables_in_order,
    images_pinned,
    time_to_end,
    claims_bind,
)


def problems(
    objects: Sequence[Object], *, without: Sequence[Callable[[Sequence[Object]], Iterator[str]]] = ()
) -> list[str]:
    """Where they do not fit together; some rules may be left out."""
    return [problem for rule in RULES if rule not in without for problem in rule(objects)]
