"""Inside the Triton image: starts the server on the probe model with the pod's flags, asks it once, stops it."""

import json
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request

TEXT = "naïve 🦜"
START_SECONDS = 90


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def ask(port: int) -> str:
    body = json.dumps({"text": TEXT}).encode()
    url = f"http://127.0.0.1:{port}/v2/models/probe/generate"
    with urllib.request.urlopen(urllib.request.Request(url, body), timeout=30) as answer:
        return json.load(answer)["text"]


def main() -> None:
    port = free_port()
    flags = ["--model-repository=/probe/repository", "--backend-directory=/opt/tritonserver/backends"]
    flags += ["--model-control-mode=explicit", "--load-model=probe", "--exit-timeout-secs=3"]
    flags += ["--http-address=127.0.0.1", f"--http-port={port}", "--allow-grpc=false", "--allow-metrics=false"]
    flags += ["--disable-auto-complete-config", "--log-info=false"]
    server = subprocess.Popen(["/opt/tritonserver/bin/tritonserver", *flags])
    deadline = time.monotonic() + START_SECONDS
    try:
        while server.poll() is None and time.monotonic() < deadline:
            try:
                assert ask(port) == TEXT
                return
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.5)
        raise SystemExit(f"Triton didn't answer within {START_SECONDS} s (exit code {server.poll()})")
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(30)


if __name__ == "__main__":
    main()
