"""Copies a model's directory into a claim of a cluster that can't see this machine's disk, through a pod, as a user would.

It must leave alone what it did not make: an existing claim is used, and a model that is in it already is not copied again.
"""

import subprocess
from pathlib import Path
from typing import Any

from deploy import DeployError, Target, build_claim

POD = "model-loader"
USER = 65532
DONE = "demo.localmodel.dev/copied"
"""An annotation of the claim: names the last model whose copy was finished, so that a second demo starts no pod."""
WAIT_SECONDS = 300
LOOK = """
import os, shutil, sys
os.chdir("/models")
if os.path.exists(os.path.join(sys.argv[1], "config.json")):
    sys.exit(print("there"))
shutil.rmtree(sys.argv[1] + ".part", ignore_errors=True)
os.mkdir(sys.argv[1] + ".part")
"""
"""Runs in the pod before anything is sent: kubectl would go on sending for a minute to a program that has failed."""
UNPACK = """
import os, sys, tarfile
os.chdir("/models")
with tarfile.open(fileobj=sys.stdin.buffer, mode="r|") as archive:
    archive.extractall(sys.argv[1] + ".part")
os.rename(sys.argv[1] + ".part", sys.argv[1])
"""
"""Runs in the pod. The rename comes last: a copy that broke off is not taken for a model."""


def copy_model(target: Target, namespace: str, claim: str, directory: Path) -> None:
    """Makes the claim if there is none (default StorageClass), and puts `directory` into it. Raises DeployError."""
    there = target.get("pvc", claim, "-n", namespace)
    if there.get("metadata", {}).get("annotations", {}).get(DONE) == directory.name:
        return
    if not there:
        target.apply(build_claim(namespace, claim, "ReadWriteOnce"))
    _delete_pod(target, namespace)
    target.apply(build_loader(namespace, claim, target.images["operator"]))
    try:
        flags = ("-n", namespace, "--for=condition=Ready", f"pod/{POD}", f"--timeout={WAIT_SECONDS}s")
        if target.run("kubectl", "wait", *flags, check=False).returncode:
            raise DeployError(f"the pod that copies the model did not start: {_explain(target, namespace, claim)}")
        _copy(target, namespace, claim, directory)
        target.kubectl("annotate", "pvc", claim, "-n", namespace, "--overwrite", f"{DONE}={directory.name}")
    finally:
        _delete_pod(target, namespace)


def build_loader(namespace: str, claim: str, image: str) -> dict[str, Any]:
    """Runs under Pod Security restricted and under a quota; ends at once, so that its node lets go of a ReadWriteOnce volume."""
    resources = {"cpu": "500m", "memory": "256Mi"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": POD, "namespace": namespace},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "automountServiceAccountToken": False,
            "securityContext": {
                "runAsNonRoot": True, "runAsUser": USER, "runAsGroup": USER, "fsGroup": USER,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [{
                "name": "loader",
                "image": image,
                "command": ["python3", "-c", "import time; time.sleep(3600)"],
                "resources": {"requests": resources, "limits": resources},
                "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
                "volumeMounts": [{"name": "models", "mountPath": "/models"}],
            }],
            "volumes": [{"name": "models", "persistentVolumeClaim": {"claimName": claim}}],
        },
    }  # fmt: skip


def _copy(target: Target, namespace: str, claim: str, directory: Path) -> None:
    inside = ("exec", "-i", "-n", namespace, POD, "--", "python3", "-c")
    look = target.run("kubectl", *inside, LOOK, directory.name, check=False)
    status, said = look.returncode, look.stderr
    if not status and look.stdout.strip() != "there":
        with subprocess.Popen(["tar", "-C", str(directory), "-cf", "-", "."], stdout=subprocess.PIPE) as archive:
            copy = target.popen("kubectl", *inside, UNPACK, directory.name, stdin=archive.stdout, stderr=subprocess.PIPE)
            if archive.stdout:
                archive.stdout.close()
            said = copy.communicate()[1] or ""
        status = copy.returncode or archive.returncode
    if status:
        raise DeployError(f"copying {directory.name} into the claim {namespace}/{claim} failed: {explain_copy(said)}")


def explain_copy(said: str) -> str:
    """The last line that the copy wrote, and what to do about the usual causes."""
    lines = said.strip().splitlines() or ["nothing was said"]
    last = next((line for line in reversed(lines) if "Error" in line), lines[-1])
    if "PermissionError" in last or "Permission denied" in last:
        return f"{last}. The volume does not let user {USER} write: its driver ignores fsGroup; change the owner of its root."
    if "Read-only file system" in last:
        return f"{last}. The claim is read-only: put the model into it by other means, or name another claim in the YAML."
    if "No space left" in last:
        return f"{last}. The volume is too small."
    return last


def _explain(target: Target, namespace: str, claim: str) -> str:
    """Why the pod waits, in the cluster's own words: the claim's events while it is not bound, else the pod's."""
    phase = target.get("pvc", claim, "-n", namespace).get("status", {}).get("phase", "gone")
    name = POD if phase == "Bound" else claim
    events = target.get("events", "-n", namespace, f"--field-selector=involvedObject.name={name}").get("items", [])
    said = events[-1].get("message", "") if events else "no event says why"
    if phase == "Bound":
        return f"{said}. More: kubectl get events -n {namespace}"
    return (
        f"the claim {namespace}/{claim} is {phase}: {said}. Give the cluster a default StorageClass, "
        f"or make a claim {claim} in {namespace} yourself, then run this again"
    )


def _delete_pod(target: Target, namespace: str) -> None:
    target.kubectl("delete", "pod", POD, "-n", namespace, "--ignore-not-found", "--wait")
