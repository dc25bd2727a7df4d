"""Names that users, the cluster and every component share. Constants only: nothing here computes."""

GROUP = "localmodel.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
KIND = "LocalModel"
PLURAL = "localmodels"
SINGULAR = "localmodel"
SHORT_NAME = "lm"
CATEGORY = "ai"

LABEL_MODEL = f"{GROUP}/name"
"""On every child: the LocalModel it belongs to. Also the selector of pods and of the scale subresource."""
LABEL_MANAGED_BY = "app.kubernetes.io/managed-by"
LABEL_APP = "app.kubernetes.io/name"
LABEL_COMPONENT = "app.kubernetes.io/component"
LABEL_INSTANCE = "app.kubernetes.io/instance"
MANAGED_BY = "localmodel-operator"
APP_NAME = "localmodel"

ANNOTATION_CONFIG_HASH = f"{GROUP}/config-hash"
"""On the pod template: a hash of config.pbtxt, model.json and gateway.json, so that a changed setting is a roll-out."""
ANNOTATION_MODEL_VERSION = f"{GROUP}/model-version"
ANNOTATION_SPEC_HASH = f"{GROUP}/spec-hash"
"""On the ConfigMap of a revision: a hash of the part of the spec that it was made from."""
ANNOTATION_APPLIED_HASH = f"{GROUP}/applied-hash"
"""On every child: a hash of what the operator applied, so that it knows without a write that nothing is to be written."""

FIELD_MANAGER = "localmodel-operator"
FIELD_MANAGER_STATUS = "localmodel-operator-status"

CONTAINER_TRITON = "triton"
CONTAINER_GATEWAY = "gateway"

SERVING_PORT = 8080
"""The gateway's OpenAI and /v2 port, the only serving port of a pod. The Service maps port 80 to it."""
ADMIN_PORT = 9090
"""The gateway's /livez /readyz /metrics /status; for the kubelet, the operator and Prometheus, not for users."""
SERVICE_PORT = 80
TRITON_HTTP_PORT = 8000
"""Triton's HTTP port, on 127.0.0.1 only."""
OPERATOR_METRICS_PORT = 9090
OPERATOR_PROBE_PORT = 8081

TRITON_MODEL_NAME = "llm"
"""The one model in Triton's repository. What users ask for are served names; the gateway maps them."""

TRITON_PREDICT_NAME = "predict"
"""Of a Predict model, the second one: it has the tensors, while `llm` keeps the channel to the gateway."""

MODEL_MOUNT = "/models/current"
"""Where the model's directory is mounted, read-only, in both containers."""
REPOSITORY_MOUNT = "/repository"
"""Triton's model repository: llm/config.pbtxt, llm/1/model.json (from the ConfigMap) and llm/1/model.py (from the image)."""
SETTINGS_MOUNT = "/etc/localmodel"
"""The gateway's settings: gateway.json."""
KEYS_MOUNT = "/etc/localmodel-keys"
"""The Secret of the API keys, in the gateway only, as a directory of its own: a single mounted file would never change."""
RUN_MOUNT = "/run/localmodel"
"""An emptyDir in memory, shared by both containers: the channel token."""
CHANNEL_TOKEN_FILE = f"{RUN_MOUNT}/channel-token"

LOG_MOUNT = "/var/log/localmodel"
"""An emptyDir for the files of the request log, if there are to be any."""
LOG_KEY_MOUNT = "/etc/localmodel-log-key"
LOG_KEY_FILE = f"{LOG_KEY_MOUNT}/key"
"""The key of the log's hash chain, if it has one."""
EXIT_BAD_LOG_KEY = 3
"""The gateway's exit code when that key is missing or too short; 2 for other settings that can't be used."""

FILE_MODEL_JSON = "model.json"
FILE_CONFIG_PBTXT = "config.pbtxt"
FILE_GATEWAY_JSON = "gateway.json"
FILE_TEMPLATE_JSON = "template.json"
"""In the ConfigMap of a revision: the pod template, so that a later operator can keep what runs."""
