"""From a reason to a sentence that says what to do. Only reasons that a person can act on have one."""

from localmodel.api.engine import LoadErrorCode
from localmodel.core.reasons import Reason

_HINTS: dict[str, str] = {
    Reason.INVALID_SPEC: "Correct the fields named here and apply again.",
    Reason.SERVED_NAME_CONFLICT: "Choose other spec.model.servedNames, or delete the other LocalModel.",
    Reason.NAME_CONFLICT: "Delete or rename that object, or give this LocalModel another name.",
    Reason.PREDECESSOR_TERMINATING: "Wait: it is made as soon as the garbage collector has removed what its predecessor left.",
    Reason.CHILD_REFUSED: "Read what the API server says, and change the spec, a quota or a policy accordingly.",
    Reason.VOLUME_CLAIM_NOT_FOUND: "Create that PersistentVolumeClaim here, or correct spec.model.source.pvc.claimName.",
    Reason.VOLUME_CLAIM_UNBOUND: "`kubectl describe pvc` says what it waits for: a StorageClass that makes volumes, or a "
    "PersistentVolume that fits.",
    Reason.UNSCHEDULABLE: "Free or add what the scheduler misses, or ask for less in spec.resources, spec.gpu or spec.placement.",
    Reason.POD_SECURITY: "Use a PersistentVolumeClaim (spec.model.source.pvc) instead of hostPath: this namespace forbids it.",
    Reason.QUOTA_EXCEEDED: "Raise the namespace's ResourceQuota, or ask for less in spec.resources.",
    Reason.PODS_REFUSED: "Read what the API server says about the pods, and change the spec or the policy that refuses them.",
    Reason.NODE_LOST: "See `kubectl describe node`. After five minutes (or its own tolerationSeconds), or as soon as you "
    "`kubectl delete pod --wait=false` this one, another is made elsewhere.",
    Reason.POD_ENDED: "Kubernetes makes another pod. If that ends too, free what the node lacks, or raise spec.resources.",
    Reason.LOAD_FAILED: "Read the message of Triton; `kubectl logs` of the pod's container triton tells more.",
    Reason.CRASH_LOOP: "See the end of its log with `kubectl logs --previous`; the kubelet starts it again with growing pauses.",
    Reason.IMAGE_PULL_FAILED: "Check the image's name and that the nodes reach its registry; a private one needs pull secrets.",
    Reason.CONTAINER_CANNOT_START: "Read the message of the kubelet; `kubectl describe pod` tells more.",
    Reason.BACKEND_HUNG: "Nothing: the kubelet restarts it. If it comes back, lower spec.maxBatchSize and report it.",
    Reason.GATEWAY_UNREACHABLE: "See whether its node is there (`kubectl get nodes`). If so, check that the operator's namespace "
    "may reach port 9090 of the pods (network policies).",
    Reason.SECRET_NOT_FOUND: "Create it with an entry for each key (`localmodel key create NAME` shows how), or correct "
    "spec.gateway.auth.secretRef.name. The pods see it within two minutes.",
    Reason.KEYS_INVALID: "Correct the Secret of spec.gateway.auth, or spec.gateway.limits, as it says. Good keys go on working.",
    Reason.LOG_KEY_UNUSABLE: "Create it with 16 bytes or more in its entry `key` (`kubectl create secret generic NAME "
    '--from-literal=key="$(openssl rand -hex 32)"`), or correct spec.gateway.logging.chainKeyRef.name.',
    Reason.DEADLINE_EXCEEDED: "See what the new pods wait for with `kubectl describe pod`; the old ones serve on.",
    LoadErrorCode.INVALID_ENGINE_CONFIG: "Report it: the operator and the image of Triton do not fit each other.",
    LoadErrorCode.MODEL_FILES_MISSING: "Correct the path in spec.model.source, or put the model's files there.",
    LoadErrorCode.MODEL_FILES_CORRUPT: "Copy the model's files again and compare their checksums.",
    LoadErrorCode.UNSUPPORTED_ARCHITECTURE: "Use a model of a supported architecture; the documentation lists them.",
    LoadErrorCode.CONTEXT_WINDOW_TOO_LARGE: "Lower spec.contextWindow to the model's own limit.",
    LoadErrorCode.OUT_OF_MEMORY: "Lower contextWindow or maxBatchSize, or raise resources.limits.memory (on a GPU: gpu.memory).",
    LoadErrorCode.DEVICE_UNAVAILABLE: "Check the GPU and its driver on the node, or set spec.gpu.count to 0.",
    LoadErrorCode.GPU_COUNT_UNSUITABLE: "Set spec.gpu.count to one of the counts that the message names.",
    LoadErrorCode.SIGNATURE_MISSING: "Write the network's tensors into spec.model.config, as the message shows.",
    LoadErrorCode.SIGNATURE_MISMATCH: "Correct spec.model.config, or leave it out if the file names its tensors.",
    LoadErrorCode.UNSAFE_MODEL_FILE: "Export the network again with torch.export.save or torch.jit.save, without what is named.",
}


def hint(reason: str) -> str:
    return _HINTS.get(reason, "")
