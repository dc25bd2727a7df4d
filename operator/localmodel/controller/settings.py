"""OperatorSettings: one camelCase YAML file given by --settings, each value overridable by the environment.

The chart passes its `config:` block through unchanged, and its JSON schema is made from this class: a typo fails at
`helm install`, with the name it has here. Environment: LOCALMODEL_OPERATOR_RESYNC_SECONDS=60,
LOCALMODEL_OPERATOR_LEASE__DURATION_SECONDS=5. Nothing here may be read anywhere but in __main__.
"""

import socket
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, model_validator
from pydantic.alias_generators import to_camel
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from localmodel.api.constants import OPERATOR_METRICS_PORT, OPERATOR_PROBE_PORT
from localmodel.core.options import (
    EngineDefaults,
    GatewayDefaults,
    Images,
    NetworkPolicyOptions,
    Options,
    ProbeTimes,
    Rollout,
    Section,
)

ENV_PREFIX = "LOCALMODEL_OPERATOR_"
NamespaceName = Annotated[str, Field(max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]
"""No pattern of names: rights are given by name."""


class LeaseSettings(Section):
    """Leader election. A dead leader is replaced after at most duration + retry."""

    name: str = "localmodel-operator"
    duration_seconds: int = Field(3, ge=1, le=60, description="How long a lease holds after its last renewal.")
    renew_deadline_seconds: float = Field(2.0, gt=0, description="A leader that could not renew for so long stops writing.")
    retry_seconds: float = Field(0.5, gt=0, description="Pause between attempts to get or renew the lease.")

    @model_validator(mode="after")
    def _in_order(self) -> "LeaseSettings":
        if not self.retry_seconds < self.renew_deadline_seconds < self.duration_seconds:
            raise ValueError("write retrySeconds < renewDeadlineSeconds < durationSeconds")
        return self


class QueueSettings(Section):
    """The work queue."""

    workers: int = Field(4, ge=1, le=64)
    backoff_base_seconds: float = Field(0.2, gt=0)
    backoff_limit_seconds: float = Field(60.0, gt=0)


class ProberSettings(Section):
    """How often each pod's gateway is asked."""

    unsettled_seconds: float = Field(1.0, gt=0, description="While a model is not Ready.")
    settled_seconds: float = Field(5.0, gt=0, description="While it is.")
    settled_per_second: float = Field(20.0, gt=0, description="Most questions a second to settled gateways, all together.")
    timeout_seconds: float = Field(2.0, gt=0)


class ServerSettings(Section):
    """Where the operator itself listens."""

    metrics_host: str = "0.0.0.0"
    metrics_port: int = Field(OPERATOR_METRICS_PORT, ge=1, le=65535)
    probe_host: str = "0.0.0.0"
    probe_port: int = Field(OPERATOR_PROBE_PORT, ge=1, le=65535)


class OperatorSettings(BaseSettings):
    """Settings of the operator."""

    model_config = SettingsConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        frozen=True,
        env_prefix=ENV_PREFIX,
        env_prefix_target="all",
        env_nested_delimiter="__",
        title="OperatorSettings",
    )

    images: Images
    engine: EngineDefaults = EngineDefaults()
    gateway: GatewayDefaults = GatewayDefaults()
    probes: ProbeTimes = ProbeTimes()
    rollout: Rollout = Rollout()
    network_policy: NetworkPolicyOptions = NetworkPolicyOptions()
    namespace: str = Field("default", min_length=1, description="Namespace of the operator's own pods and of its lease.")
    watch_namespaces: tuple[NamespaceName, ...] = Field(
        (), description="Namespaces to serve, by name. Empty: all of the cluster.", json_schema_extra={"uniqueItems": True}
    )
    identity: str = Field("", description="Name of this replica in the lease. Default: the host's name, which is the pod's.")
    lease: LeaseSettings = LeaseSettings()
    queue: QueueSettings = QueueSettings()
    prober: ProberSettings = ProberSettings()
    server: ServerSettings = ServerSettings()
    resync_seconds: float = Field(600.0, ge=1, description="Every model is reconciled at least so often, with jitter.")
    request_timeout_seconds: float = Field(10.0, gt=0, description="Longest wait for one answer of the API server.")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    @property
    def replica(self) -> str:
        return self.identity or socket.gethostname()

    def options(self) -> Options:
        """What core is told."""
        return Options(
            images=self.images,
            engine=self.engine,
            gateway=self.gateway,
            probes=self.probes,
            rollout=self.rollout,
            network_policy=self.network_policy,
            operator_namespace=self.namespace,
        )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment wins over the file, whose content arrives as arguments."""
        return _Environment(settings_cls), init_settings


class _Environment(EnvSettingsSource):
    """The environment's snake_case keys in the file's spelling, so that one value has one key when both are merged."""

    def __call__(self) -> dict[str, Any]:
        return _camel(super().__call__())


def _camel(document: dict[str, Any]) -> dict[str, Any]:
    return {to_camel(key): _camel(each) if isinstance(each, dict) else each for key, each in document.items()}


def load_settings(path: Path | None) -> OperatorSettings:
    """Raises pydantic.ValidationError, which names each wrong key, or OSError."""
    document: Any = yaml.safe_load(path.read_text()) if path else {}
    return OperatorSettings(**(document or {}))
