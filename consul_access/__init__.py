"""Services announce themselves and find each other: Consul, for threads and for tasks.

Everything public is a name of this package. It is loaded when it is first used, so that importing the package costs
next to nothing.
"""

from __future__ import annotations

from consul_access._version import __version__ as __version__

TYPE_CHECKING = False  # as type checkers understand it; importing `typing` would be most of this module's cost

if TYPE_CHECKING:
    from consul_access._async.catalog_sync import AsyncCatalogSync as AsyncCatalogSync
    from consul_access._async.consul import AsyncConsulAccess as AsyncConsulAccess
    from consul_access._async.discovery import AsyncDiscoveryTransport as AsyncDiscoveryTransport
    from consul_access._async.etcd import AsyncEtcdRegistry as AsyncEtcdRegistry
    from consul_access._async.health import AsyncHealthChecks as AsyncHealthChecks
    from consul_access._async.keeper import AsyncKeeper as AsyncKeeper
    from consul_access._async.key_watching import AsyncKeyWatch as AsyncKeyWatch
    from consul_access._async.kubernetes import AsyncKubernetes as AsyncKubernetes
    from consul_access._async.kubernetes import AsyncKubernetesWatch as AsyncKubernetesWatch
    from consul_access._async.lease import AsyncLease as AsyncLease
    from consul_access._async.registration import AsyncRegistration as AsyncRegistration
    from consul_access._async.resolver import AsyncResolver as AsyncResolver
    from consul_access._async.watching import AsyncWatch as AsyncWatch
    from consul_access._sync.catalog_sync import CatalogSync as CatalogSync
    from consul_access._sync.consul import ConsulAccess as ConsulAccess
    from consul_access._sync.discovery import DiscoveryTransport as DiscoveryTransport
    from consul_access._sync.etcd import EtcdRegistry as EtcdRegistry
    from consul_access._sync.health import HealthChecks as HealthChecks
    from consul_access._sync.keeper import Keeper as Keeper
    from consul_access._sync.key_watching import KeyWatch as KeyWatch
    from consul_access._sync.kubernetes import Kubernetes as Kubernetes
    from consul_access._sync.kubernetes import KubernetesWatch as KubernetesWatch
    from consul_access._sync.lease import Lease as Lease
    from consul_access._sync.registration import Registration as Registration
    from consul_access._sync.resolver import Resolver as Resolver
    from consul_access._sync.watching import Watch as Watch
    from consul_access.call import Call as Call
    from consul_access.call import Headers as Headers
    from consul_access.call import Repeat as Repeat
    from consul_access.call import Reply as Reply
    from consul_access.errors import AnswerTooLarge as AnswerTooLarge
    from consul_access.errors import AuthenticationFailed as AuthenticationFailed
    from consul_access.errors import BadAnswer as BadAnswer
    from consul_access.errors import BadValue as BadValue
    from consul_access.errors import ClientClosed as ClientClosed
    from consul_access.errors import Compacted as Compacted
    from consul_access.errors import ConnectFailed as ConnectFailed
    from consul_access.errors import ConnectionLimit as ConnectionLimit
    from consul_access.errors import ConnectionLost as ConnectionLost
    from consul_access.errors import ConsulAccessError as ConsulAccessError
    from consul_access.errors import DeadlineExceeded as DeadlineExceeded
    from consul_access.errors import EncryptedValue as EncryptedValue
    from consul_access.errors import FeatureDisabled as FeatureDisabled
    from consul_access.errors import FilterError as FilterError
    from consul_access.errors import GatewayUnusable as GatewayUnusable
    from consul_access.errors import InvalidInput as InvalidInput
    from consul_access.errors import InvalidRequest as InvalidRequest
    from consul_access.errors import InvalidSettings as InvalidSettings
    from consul_access.errors import NoInstances as NoInstances
    from consul_access.errors import NoLeader as NoLeader
    from consul_access.errors import NotFound as NotFound
    from consul_access.errors import NotReady as NotReady
    from consul_access.errors import OutcomeUnknown as OutcomeUnknown
    from consul_access.errors import PermissionDenied as PermissionDenied
    from consul_access.errors import PoolExhausted as PoolExhausted
    from consul_access.errors import RateLimited as RateLimited
    from consul_access.errors import RequestRefused as RequestRefused
    from consul_access.errors import ResourceExhausted as ResourceExhausted
    from consul_access.errors import ServerError as ServerError
    from consul_access.errors import StaleList as StaleList
    from consul_access.errors import TlsError as TlsError
    from consul_access.errors import TokenUnknown as TokenUnknown
    from consul_access.errors import Unavailable as Unavailable
    from consul_access.errors import UnexpectedRedirect as UnexpectedRedirect
    from consul_access.errors import UnknownCheck as UnknownCheck
    from consul_access.errors import UnknownDatacenter as UnknownDatacenter
    from consul_access.errors import UnknownLease as UnknownLease
    from consul_access.errors import UnknownService as UnknownService
    from consul_access.errors import UnsupportedByAgent as UnsupportedByAgent
    from consul_access.etcd.kv import Compare as Compare
    from consul_access.etcd.kv import Delete as Delete
    from consul_access.etcd.kv import Get as Get
    from consul_access.etcd.kv import Put as Put
    from consul_access.etcd.settings import EtcdSettings as EtcdSettings
    from consul_access.failures import InstancesFailed as InstancesFailed
    from consul_access.failures import InstancesTimedOut as InstancesTimedOut
    from consul_access.failures import InstancesUnreachable as InstancesUnreachable
    from consul_access.hooks import Exchange as Exchange
    from consul_access.models.address import Address as Address
    from consul_access.models.address import Target as Target
    from consul_access.models.catalog import AgentService as AgentService
    from consul_access.models.catalog import CatalogEntry as CatalogEntry
    from consul_access.models.catalog import Check as Check
    from consul_access.models.catalog import HealthEntry as HealthEntry
    from consul_access.models.catalog import Node as Node
    from consul_access.models.catalog import Weights as Weights
    from consul_access.models.checks import AliasCheck as AliasCheck
    from consul_access.models.checks import DockerCheck as DockerCheck
    from consul_access.models.checks import GrpcCheck as GrpcCheck
    from consul_access.models.checks import H2PingCheck as H2PingCheck
    from consul_access.models.checks import HttpCheck as HttpCheck
    from consul_access.models.checks import OsServiceCheck as OsServiceCheck
    from consul_access.models.checks import ScriptCheck as ScriptCheck
    from consul_access.models.checks import TcpCheck as TcpCheck
    from consul_access.models.checks import TtlCheck as TtlCheck
    from consul_access.models.checks import UdpCheck as UdpCheck
    from consul_access.models.definition import ServiceDefinition as ServiceDefinition
    from consul_access.models.explanation import Explanation as Explanation
    from consul_access.models.explanation import Finding as Finding
    from consul_access.models.explanation import FindingCode as FindingCode
    from consul_access.models.explanation import InstanceVerdict as InstanceVerdict
    from consul_access.models.explanation import Severity as Severity
    from consul_access.models.filters import F as F
    from consul_access.models.instance import ServiceInstance as ServiceInstance
    from consul_access.models.keys import EventKind as EventKind
    from consul_access.models.keys import KeyEvent as KeyEvent
    from consul_access.models.keys import KeyMetadata as KeyMetadata
    from consul_access.models.keys import KeyValue as KeyValue
    from consul_access.models.kubernetes import KubernetesInstance as KubernetesInstance
    from consul_access.models.kubernetes import KubernetesService as KubernetesService
    from consul_access.models.kubernetes import KubernetesSnapshot as KubernetesSnapshot
    from consul_access.models.kubernetes import Readiness as Readiness
    from consul_access.models.meta import Entries as Entries
    from consul_access.models.meta import QueryMeta as QueryMeta
    from consul_access.models.progress import Progress as Progress
    from consul_access.models.progress import ProgressKind as ProgressKind
    from consul_access.models.query import Query as Query
    from consul_access.models.query import RegistryQuery as RegistryQuery
    from consul_access.models.snapshot import Changed as Changed
    from consul_access.models.snapshot import Diff as Diff
    from consul_access.models.snapshot import ServiceSnapshot as ServiceSnapshot
    from consul_access.models.snapshot import ServicesSnapshot as ServicesSnapshot
    from consul_access.models.status import CheckStatus as CheckStatus
    from consul_access.models.status import HealthPolicy as HealthPolicy
    from consul_access.models.sync import LeftOut as LeftOut
    from consul_access.models.sync import SyncEvent as SyncEvent
    from consul_access.models.sync import SyncInstance as SyncInstance
    from consul_access.models.sync import SyncList as SyncList
    from consul_access.models.sync import SyncPlan as SyncPlan
    from consul_access.models.sync import SyncRules as SyncRules
    from consul_access.models.sync import SyncState as SyncState
    from consul_access.registry import AsyncRegistry as AsyncRegistry
    from consul_access.registry import AsyncSyncListing as AsyncSyncListing
    from consul_access.registry import AsyncSyncSource as AsyncSyncSource
    from consul_access.registry import Registry as Registry
    from consul_access.registry import SyncListing as SyncListing
    from consul_access.registry import SyncSource as SyncSource
    from consul_access.rules.balancing import Balancer as Balancer
    from consul_access.rules.balancing import Dice as Dice
    from consul_access.rules.balancing import FeedbackBalancer as FeedbackBalancer
    from consul_access.rules.balancing import LeastOutstandingBalancer as LeastOutstandingBalancer
    from consul_access.rules.balancing import NearestBalancer as NearestBalancer
    from consul_access.rules.balancing import Pick as Pick
    from consul_access.rules.balancing import PowerOfTwoBalancer as PowerOfTwoBalancer
    from consul_access.rules.balancing import PreferringBalancer as PreferringBalancer
    from consul_access.rules.balancing import RandomBalancer as RandomBalancer
    from consul_access.rules.balancing import RoundRobinBalancer as RoundRobinBalancer
    from consul_access.rules.balancing import StickyBalancer as StickyBalancer
    from consul_access.rules.balancing import WeightedBalancer as WeightedBalancer
    from consul_access.rules.ejecting import EjectingBalancer as EjectingBalancer
    from consul_access.rules.ejecting import EjectionPolicy as EjectionPolicy
    from consul_access.rules.health import CheckResult as CheckResult
    from consul_access.rules.health import HealthReport as HealthReport
    from consul_access.rules.heartbeats import Reaped as Reaped
    from consul_access.rules.keeping import KeeperEvent as KeeperEvent
    from consul_access.rules.keeping import KeeperState as KeeperState
    from consul_access.rules.key_watching import KeyWatchState as KeyWatchState
    from consul_access.rules.staleness import StalePolicy as StalePolicy
    from consul_access.settings import ConsulSettings as ConsulSettings
    from consul_access.settings import RetryPolicy as RetryPolicy
    from consul_access.settings import Timeouts as Timeouts
    from consul_access.tokens import LoginToken as LoginToken

_ROOMS = {
    "_async.catalog_sync": ("AsyncCatalogSync",),
    "_async.consul": ("AsyncConsulAccess",),
    "_async.discovery": ("AsyncDiscoveryTransport",),
    "_async.etcd": ("AsyncEtcdRegistry",),
    "_async.health": ("AsyncHealthChecks",),
    "_async.keeper": ("AsyncKeeper",),
    "_async.key_watching": ("AsyncKeyWatch",),
    "_async.kubernetes": ("AsyncKubernetes", "AsyncKubernetesWatch"),
    "_async.lease": ("AsyncLease",),
    "_async.registration": ("AsyncRegistration",),
    "_async.resolver": ("AsyncResolver",),
    "_async.watching": ("AsyncWatch",),
    "_sync.catalog_sync": ("CatalogSync",),
    "_sync.consul": ("ConsulAccess",),
    "_sync.discovery": ("DiscoveryTransport",),
    "_sync.etcd": ("EtcdRegistry",),
    "_sync.health": ("HealthChecks",),
    "_sync.keeper": ("Keeper",),
    "_sync.key_watching": ("KeyWatch",),
    "_sync.kubernetes": ("Kubernetes", "KubernetesWatch"),
    "_sync.lease": ("Lease",),
    "_sync.registration": ("Registration",),
    "_sync.resolver": ("Resolver",),
    "_sync.watching": ("Watch",),
    "call": ("Call", "Headers", "Repeat", "Reply"),
    "errors": (
        "AnswerTooLarge",
        "AuthenticationFailed",
        "BadAnswer",
        "BadValue",
        "ClientClosed",
        "Compacted",
        "ConnectFailed",
        "ConnectionLimit",
        "ConnectionLost",
        "ConsulAccessError",
        "DeadlineExceeded",
        "EncryptedValue",
        "FeatureDisabled",
        "FilterError",
        "GatewayUnusable",
        "InvalidInput",
        "InvalidRequest",
        "InvalidSettings",
        "NoInstances",
        "NoLeader",
        "NotFound",
        "NotReady",
        "OutcomeUnknown",
        "PermissionDenied",
        "PoolExhausted",
        "RateLimited",
        "RequestRefused",
        "ResourceExhausted",
        "ServerError",
        "StaleList",
        "TlsError",
        "TokenUnknown",
        "Unavailable",
        "UnexpectedRedirect",
        "UnknownCheck",
        "UnknownDatacenter",
        "UnknownLease",
        "UnknownService",
        "UnsupportedByAgent",
    ),
    "etcd.kv": ("Compare", "Delete", "Get", "Put"),
    "etcd.settings": ("EtcdSettings",),
    "failures": ("InstancesFailed", "InstancesTimedOut", "InstancesUnreachable"),
    "hooks": ("Exchange",),
    "models.address": ("Address", "Target"),
    "models.catalog": ("AgentService", "CatalogEntry", "Check", "HealthEntry", "Node", "Weights"),
    "models.checks": (
        "AliasCheck",
        "DockerCheck",
        "GrpcCheck",
        "H2PingCheck",
        "HttpCheck",
        "OsServiceCheck",
        "ScriptCheck",
        "TcpCheck",
        "TtlCheck",
        "UdpCheck",
    ),
    "models.definition": ("ServiceDefinition",),
    "models.explanation": ("Explanation", "Finding", "FindingCode", "InstanceVerdict", "Severity"),
    "models.filters": ("F",),
    "models.instance": ("ServiceInstance",),
    "models.keys": ("EventKind", "KeyEvent", "KeyMetadata", "KeyValue"),
    "models.kubernetes": ("KubernetesInstance", "KubernetesService", "KubernetesSnapshot", "Readiness"),
    "models.meta": ("Entries", "QueryMeta"),
    "models.progress": ("Progress", "ProgressKind"),
    "models.query": ("Query", "RegistryQuery"),
    "models.snapshot": ("Changed", "Diff", "ServiceSnapshot", "ServicesSnapshot"),
    "models.status": ("CheckStatus", "HealthPolicy"),
    "models.sync": ("LeftOut", "SyncEvent", "SyncInstance", "SyncList", "SyncPlan", "SyncRules", "SyncState"),
    "registry": ("AsyncRegistry", "AsyncSyncListing", "AsyncSyncSource", "Registry", "SyncListing", "SyncSource"),
    "rules.health": ("CheckResult", "HealthReport"),
    "rules.balancing": (
        "Balancer",
        "Dice",
        "FeedbackBalancer",
        "LeastOutstandingBalancer",
        "NearestBalancer",
        "Pick",
        "PowerOfTwoBalancer",
        "PreferringBalancer",
        "RandomBalancer",
        "RoundRobinBalancer",
        "StickyBalancer",
        "WeightedBalancer",
    ),
    "rules.ejecting": ("EjectingBalancer", "EjectionPolicy"),
    "rules.heartbeats": ("Reaped",),
    "rules.keeping": ("KeeperEvent", "KeeperState"),
    "rules.key_watching": ("KeyWatchState",),
    "rules.staleness": ("StalePolicy",),
    "settings": ("ConsulSettings", "RetryPolicy", "Timeouts"),
    "tokens": ("LoginToken",),
}
_ROOM_OF = {name: room for room, names in _ROOMS.items() for name in names}

# Type checkers read the imports above instead.
__all__ = ["__version__", *_ROOM_OF]  # noqa: PLE0604  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> object:
    room = _ROOM_OF.get(name)
    if room is None:
        raise AttributeError(f"module 'consul_access' has no attribute {name!r}")
    from importlib import import_module

    value: object = getattr(import_module(f"consul_access.{room}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
