"""What is used of KEDA's objects (2.13 and newer), strictly: no package of KEDA's schemas can be used here.

The one on PyPI (cloudcoil-models-keda) brings a pytest plugin that fails without packages that it does not ask for.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", alias_generator=to_camel)


class Named(Strict):
    name: str


class MetricsApi(Strict):
    """Of the trigger `metrics-api`. Numbers are text."""

    url: str = Field(pattern="^https://")
    value_location: str
    target_value: str
    auth_mode: Literal["bearer"]


class Trigger(Strict):
    type: Literal["metrics-api"]
    metadata: MetricsApi
    authentication_ref: Named


class Fallback(Strict):
    failure_threshold: int
    replicas: int


class AutoscalerConfig(Strict):
    behavior: dict[str, Any]
    """That of Kubernetes' HorizontalPodAutoscaler."""


class Advanced(Strict):
    horizontal_pod_autoscaler_config: AutoscalerConfig


class ScaledObject(Strict):
    """The spec of one."""

    scale_target_ref: Named
    min_replica_count: int
    max_replica_count: int
    polling_interval: int
    fallback: Fallback
    advanced: Advanced
    triggers: list[Trigger]


class SecretRef(Strict):
    parameter: str
    name: str
    key: str


class TriggerAuthentication(Strict):
    """The spec of one."""

    secret_target_ref: list[SecretRef]
