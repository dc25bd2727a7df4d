"""`make demo`: from nothing to a streamed answer of a real model on a real cluster, in the steps a user would take.

With CONTEXT=name it uses that kubectl context and the registry in REGISTRY, and makes no cluster. It must not hide a
step: everything it does is a command that a person could type.
"""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import deploy

PYTHON = sys.executable
NAMESPACE, NAME = "llm", "smollm2"
MODEL = deploy.CACHE / "models" / "smollm2-135m-instruct"
QUESTION = "What is the capital of France?"
NO_RIGHTS = 3
START = time.monotonic()


def step(text: str) -> None:
    print(f"\n[{time.monotonic() - START:5.0f} s] {text}", flush=True)


def run(*command: str) -> None:
    """A step of the project's own tools, which say themselves what went wrong."""
    status = subprocess.run(command, cwd=deploy.ROOT).returncode
    if status:
        raise deploy.DeployError(f"{Path(command[1]).name} failed", status)


def prepare(context: str, registry: str) -> deploy.Target:
    """Cluster, images and weights; what is there already takes seconds."""
    if not context:
        step("Kubernetes: two nodes on this machine (the first time builds it from source)")
        run(PYTHON, "hack/cluster/main.py", "up")
        run(PYTHON, "hack/cluster/main.py", "build", "--only", "helm")
    step(f"Images: operator, gateway, Triton with the engine, to {registry}")
    images = deploy.push_images(registry)
    step("Weights: SmolLM2-135M-Instruct")
    run(PYTHON, "hack/weights.py", str(MODEL))
    return deploy.Target(context, registry, images)


def ask(target: deploy.Target) -> None:
    """Streams one answer through the openai SDK, over a port-forward to the model's Service."""
    forward = target.popen(
        "kubectl", "port-forward", "-n", NAMESPACE, f"service/{NAME}", ":80", stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )  # fmt: skip
    try:
        line = forward.stdout.readline() if forward.stdout else ""
        port = line.split("->")[0].rsplit(":", 1)[-1].strip()
        if not port.isdigit():
            raise deploy.DeployError(f"kubectl port-forward said: {line.strip() or 'nothing'}")
        threading.Thread(target=lambda: [None for _ in forward.stdout or ()], daemon=True).start()
        run(PYTHON, "hack/ask.py", "--url", f"http://127.0.0.1:{port}/v1", "--model", NAME, "--prompt", QUESTION)
    finally:
        forward.terminate()
        forward.wait()


def main() -> None:
    context = os.environ.get("CONTEXT", "")
    registry = os.environ.get("REGISTRY", "") or ("" if context else deploy.LOCAL_REGISTRY)
    if not registry:
        raise deploy.DeployError("CONTEXT needs REGISTRY=host:port, a registry that the cluster's nodes can pull from")
    target = prepare(context, registry)
    step("Operator: helm upgrade --install localmodel charts/localmodel-operator")
    deploy.install_operator(target)
    step(f"Model: kubectl apply -f examples/smollm2.yaml (its files are in the claim {NAMESPACE}/models)")
    deploy.create_namespace(target, NAMESPACE)
    if not target.get("pvc", "models", "-n", NAMESPACE):
        deploy.create_claim(target, NAMESPACE, MODEL.parent)
    print(Path(deploy.ROOT / "examples" / "smollm2.yaml").read_text(), end="")
    target.kubectl("apply", "-f", "examples/smollm2.yaml")
    for ready, sentence in deploy.watch_model(target, NAMESPACE, NAME, seconds=600):
        print(f"          {sentence}", flush=True)
        if ready:
            break
    else:
        raise deploy.DeployError(f"not ready after 10 minutes; see: kubectl describe lm -n {NAMESPACE} {NAME}")
    step(f"openai SDK: {QUESTION}")
    ask(target)
    step("kubectl get lm -A")
    print(target.kubectl("get", "localmodels", "-A"), end="")
    flag = f"--context {context}" if context else f"--kubeconfig {deploy.STATE / 'kubeconfig'}"
    kubectl = "kubectl" if context else str(deploy.CACHE / "bin" / "current" / "kubectl")
    print(f"""
What to try next
  alias lk='{kubectl} {flag}'
  lk describe lm -n {NAMESPACE} {NAME}                     what the operator knows, in words
  lk logs -n {NAMESPACE} deploy/{NAME} -c gateway          one JSON line per request
  lk port-forward -n {NAMESPACE} service/{NAME} 8080:80    then any OpenAI client at http://127.0.0.1:8080/v1
  lk scale lm -n {NAMESPACE} {NAME} --replicas=2           a second pod, on the other node
  lk explain localmodel.spec                               every field
  make cluster-down                                        ends it and leaves the machine as it was""")


if __name__ == "__main__":
    try:
        main()
    except deploy.DeployError as error:
        print(f"demo: {error}", file=sys.stderr)
        if error.status == NO_RIGHTS:
            print("This machine can't run a cluster. The same model without one: make try", file=sys.stderr)
        sys.exit(error.status)
