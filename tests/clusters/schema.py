"""What KubeRay 1.7's resources may hold, as far as the manifests use it; an unknown field is refused by name.

Field names follow the API reference of ray.io/v1 and of Kubernetes' core/v1.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class Closed(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class SecretKey(Closed):
    name: str
    key: str
    optional: bool = False


class ValueFrom(Closed):
    secretKeyRef: SecretKey


class Variable(Closed):
    name: str
    value: str | None = None
    valueFrom: ValueFrom | None = None


class Port(Closed):
    name: str
    containerPort: int = Field(ge=1, le=65535)


class Resources(Closed):
    requests: dict[str, str]
    limits: dict[str, str]


class Capabilities(Closed):
    drop: list[str]


class SecurityContext(Closed):
    allowPrivilegeEscalation: bool
    runAsNonRoot: bool
    runAsUser: int
    capabilities: Capabilities


class Mount(Closed):
    name: str
    mountPath: str


class Exec(Closed):
    command: list[str] = Field(min_length=1)


class Hook(Closed):
    exec: Exec


class Lifecycle(Closed):
    preStop: Hook


class Container(Closed):
    name: str
    image: str
    lifecycle: Lifecycle | None = None
    env: list[Variable] = []
    ports: list[Port] = []
    resources: Resources
    securityContext: SecurityContext
    volumeMounts: list[Mount] = []


class Claim(Closed):
    claimName: str


class EmptyDir(Closed):
    medium: Literal["Memory"]
    sizeLimit: str


class Volume(Closed):
    name: str
    persistentVolumeClaim: Claim | None = None
    emptyDir: EmptyDir | None = None


class Toleration(Closed):
    key: str
    operator: Literal["Exists", "Equal"]
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"]


class PodSpec(Closed):
    containers: list[Container] = Field(min_length=1)
    volumes: list[Volume] = []
    nodeSelector: dict[str, str] = {}
    tolerations: list[Toleration] = []
    terminationGracePeriodSeconds: int | None = None


class PodTemplate(Closed):
    spec: PodSpec


class HeadGroup(Closed):
    serviceType: Literal["ClusterIP", "NodePort", "LoadBalancer"]
    rayStartParams: dict[str, str]
    template: PodTemplate


class WorkerGroup(Closed):
    groupName: str
    idleTimeoutSeconds: int = Field(ge=1)
    replicas: int = Field(ge=0)
    minReplicas: int = Field(ge=0)
    maxReplicas: int = Field(ge=1)
    rayStartParams: dict[str, str]
    template: PodTemplate


class AutoscalerOptions(Closed):
    version: Literal["v1", "v2"]
    idleTimeoutSeconds: int
    upscalingMode: Literal["Default", "Aggressive", "Conservative"]


class AuthOptions(Closed):
    mode: Literal["token", "disabled"]


class ClusterSpec(Closed):
    rayVersion: str
    enableInTreeAutoscaling: bool
    autoscalerOptions: AutoscalerOptions
    authOptions: AuthOptions
    headGroupSpec: HeadGroup
    workerGroupSpecs: list[WorkerGroup]


class JobSpec(Closed):
    entrypoint: str
    shutdownAfterJobFinishes: bool
    ttlSecondsAfterFinished: int
    backoffLimit: int
    rayClusterSpec: ClusterSpec


class ServiceSpec(Closed):
    serveConfigV2: str
    rayClusterConfig: ClusterSpec


class Metadata(Closed):
    name: str
    labels: dict[str, str] = {}


class Resource(Closed):
    apiVersion: Literal["ray.io/v1"]
    kind: Literal["RayCluster", "RayJob", "RayService"]
    metadata: Metadata
    spec: dict[str, Any]


class Expression(Closed):
    key: str
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    values: list[str] = []


class Selector(Closed):
    matchExpressions: list[Expression] = Field(min_length=1)


class Endpoint(Closed):
    port: str
    interval: str


class MonitorSpec(Closed):
    """What the Prometheus operator's PodMonitor (monitoring.coreos.com/v1) may hold, as far as ours uses it."""

    jobLabel: str
    selector: Selector
    podTargetLabels: list[str]
    podMetricsEndpoints: list[Endpoint] = Field(min_length=1)


class Monitor(Closed):
    apiVersion: Literal["monitoring.coreos.com/v1"]
    kind: Literal["PodMonitor"]
    metadata: Metadata
    spec: MonitorSpec


SPECS: dict[str, type[Closed]] = {"RayCluster": ClusterSpec, "RayJob": JobSpec, "RayService": ServiceSpec}


def cluster_of(values: dict[str, Any]) -> ClusterSpec:
    """The checked cluster of a manifest; raises pydantic's error for what does not fit."""
    resource = Resource.model_validate(values)
    spec: Any = SPECS[resource.kind].model_validate(resource.spec)
    found: ClusterSpec = getattr(spec, "rayClusterSpec", None) or getattr(spec, "rayClusterConfig", None) or spec
    return found
