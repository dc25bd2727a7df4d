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
import model_copy
from wish import EXAMPLE_NAMESPACE, Wish, read_wish

PYTHON = sys.executable
NAME, CLAIM = "smollm2", "models"
EXAMPLE = deploy.ROOT / "examples" / "smollm2.yaml"
MODEL = deploy.CACHE / "models" / "smollm2-135m-instruct"
QUESTION = "Name the capital of France."
READY_SECONDS = 600
NO_RIGHTS = 3
START = time.monotonic()


def step(text: str) -> None:
    print(f"\n[{time.monotonic() - START:5.0f} s] {text}", flush=True)


def run(*command: str) -> None:
    """A step of the project's own tools, which say themselves what went wrong."""
    status = subprocess.run(command, cwd=deploy.ROOT).returncode
    if status:
        raise deploy.DeployError(f"{Path(command[1]).name} failed", status)


def prepare(wish: Wish) -> deploy.Target:
    """Cluster, images and weights; what is there already takes seconds."""
    if wish.context:
        step(f"Kubernetes: the cluster of the context {wish.context}")
        check_cluster(deploy.Target(wish.context), wish.namespace)
    else:
        step("Kubernetes: two nodes on this machine (the first time builds it from source)")
        run(PYTHON, "hack/cluster/main.py", "up")
        run(PYTHON, "hack/cluster/main.py", "build", "--only", "helm")
    step(f"Images: operator, gateway, Triton with the engine, to {wish.registry}")
    images = deploy.push_images(wish.registry)
    step("Weights: SmolLM2-135M-Instruct")
    run(PYTHON, "hack/weights.py", str(MODEL))
    return deploy.Target(wish.context, wish.registry, images)


def check_cluster(target: deploy.Target, namespace: str) -> None:
    """What would fail after minutes of building is said at once. Raises DeployError."""
    target.kubectl("get", "--raw", "/readyz", "--request-timeout=15s")
    target.run("helm", "version")
    classes = target.get("storageclasses").get("items", [])
    defaults = [
        c for c in classes if c["metadata"].get("annotations", {}).get("storageclass.kubernetes.io/is-default-class") == "true"
    ]
    if not defaults and not target.get("pvc", CLAIM, "-n", namespace):
        print(f"          No default StorageClass: the claim {namespace}/{CLAIM} waits until somebody makes a volume for it.")


def apply_model(target: deploy.Target, namespace: str) -> None:
    text = EXAMPLE.read_text().replace(f"namespace: {EXAMPLE_NAMESPACE}", f"namespace: {namespace}")
    print(text, end="")
    target.kubectl("apply", "-f", "-", stdin=text)
    for ready, sentence in deploy.watch_model(target, namespace, NAME, seconds=READY_SECONDS):
        print(f"          {sentence}", flush=True)
        if ready:
            return
    raise deploy.DeployError(f"not ready after {READY_SECONDS // 60} minutes; see: kubectl describe lm -n {namespace} {NAME}")


def ask(target: deploy.Target, namespace: str) -> None:
    """Streams one answer through the openai SDK, over a port-forward to the model's Service."""
    forward = target.popen(
        "kubectl", "port-forward", "-n", namespace, f"service/{NAME}", ":80", stdout=subprocess.PIPE, stderr=subprocess.STDOUT
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


def describe_next(wish: Wish) -> str:
    """Commands to copy. A second replica needs the volume on a second node, which a ReadWriteOnce one does not give."""
    alias = f"{deploy.CACHE / 'bin' / 'current' / 'kubectl'} --kubeconfig {deploy.STATE / 'kubeconfig'}"
    n, model = wish.namespace, f"-n {wish.namespace} {NAME}"
    commands = [
        (f"lk describe lm {model}", "what the operator knows, in words"),
        (f"lk logs -n {n} deploy/{NAME} -c gateway", "one JSON line per request"),
        (f"lk port-forward -n {n} service/{NAME} 8080:80", "then any OpenAI client at http://127.0.0.1:8080/v1"),
        ("lk explain localmodel.spec", "every field"),
    ]
    if wish.context:
        alias = f"kubectl --context {wish.context}"
        commands.append((f"lk delete lm {model}", f"ends the model; the claim {CLAIM} and its files stay"))
        commands.append(("docs/install.md, Uninstall", "removes the operator"))
    else:
        commands.append((f"lk scale lm {model} --replicas=2", "a second pod, on the other node"))
        commands.append(("make cluster-down", "ends it and leaves the machine as it was"))
    width = max(len(command) for command, _ in commands)
    lines = [f"  {command:{width}}  {what}" for command, what in commands]
    return "\n".join(["", "What to try next", f"  alias lk='{alias}'", *lines])


def main() -> None:
    wish = read_wish(os.environ)
    target = prepare(wish)
    step("Operator: helm upgrade --install localmodel charts/localmodel-operator")
    deploy.install_operator(target)
    step(f"Model: kubectl apply -f {EXAMPLE.relative_to(deploy.ROOT)} (its files are in the claim {wish.namespace}/{CLAIM})")
    deploy.create_namespace(target, wish.namespace)
    if wish.context:
        model_copy.copy_model(target, wish.namespace, CLAIM, MODEL)
    elif not target.get("pvc", CLAIM, "-n", wish.namespace):
        deploy.create_claim(target, wish.namespace, MODEL.parent, claim=CLAIM)
    apply_model(target, wish.namespace)
    step(f"openai SDK: {QUESTION}")
    ask(target, wish.namespace)
    step("kubectl get lm -A")
    print(target.kubectl("get", "localmodels", "-A"), end="")
    print(describe_next(wish))


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("\ndemo: interrupted; the same command goes on where it ended", file=sys.stderr)
        sys.exit(130)
    except deploy.DeployError as error:
        print(f"demo: {error}", file=sys.stderr)
        if error.status == NO_RIGHTS:
            print("This machine lacks the rights for it. The same model without a cluster: make try", file=sys.stderr)
        sys.exit(error.status)
