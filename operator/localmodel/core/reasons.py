"""Every reason that a condition or lastFailure may carry, besides the engine's LoadErrorCode and the gateway's own words."""

from enum import StrEnum


class Reason(StrEnum):
    # Accepted
    ACCEPTED = "Accepted"
    INVALID_SPEC = "InvalidSpec"
    SERVED_NAME_CONFLICT = "ServedNameConflict"
    NAME_CONFLICT = "NameConflict"
    PREDECESSOR_TERMINATING = "PredecessorTerminating"
    CHILD_REFUSED = "ChildRefused"
    # Scheduled
    SCHEDULED = "Scheduled"
    PENDING = "Pending"
    VOLUME_CLAIM_NOT_FOUND = "VolumeClaimNotFound"
    UNSCHEDULABLE = "Unschedulable"
    POD_SECURITY = "PodSecurity"
    QUOTA_EXCEEDED = "QuotaExceeded"
    PODS_REFUSED = "PodsRefused"
    # ModelLoaded and GatewayReady
    LOADED = "Loaded"
    LOADING = "Loading"
    LOAD_FAILED = "LoadFailed"
    OUT_OF_MEMORY = "OutOfMemory"
    CRASH_LOOP = "CrashLoop"
    IMAGE_PULL_FAILED = "ImagePullFailed"
    CONTAINER_CANNOT_START = "ContainerCannotStart"
    STARTING = "Starting"
    ANSWERING = "Answering"
    BACKEND_HUNG = "BackendHung"
    GATEWAY_UNREACHABLE = "GatewayUnreachable"
    SECRET_NOT_FOUND = "SecretNotFound"
    KEYS_INVALID = "KeysInvalid"
    LOG_KEY_UNUSABLE = "LogKeyUnusable"
    POD_NOT_READY = "PodNotReady"
    # Ready, Progressing, Paused
    READY = "Ready"
    STOPPED = "Stopped"
    STOPPING = "Stopping"
    PAUSED = "Paused"
    NOT_PAUSED = "NotPaused"
    COMPLETE = "Complete"
    ROLLING_OUT = "RollingOut"
    BLOCKED = "Blocked"
    DEADLINE_EXCEEDED = "DeadlineExceeded"
    UPGRADE_PENDING = "UpgradePending"
