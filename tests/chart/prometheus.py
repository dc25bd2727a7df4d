"""A real Prometheus for tests: scrapes given targets every second, answers queries, holds nothing after it ends.

It must not know what a query means. `prometheus` and `promtool` come from the system's packages (Debian: `prometheus`).
"""

import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

INSTALL = "is missing: `apt-get install prometheus` (or its release archive) brings prometheus and promtool"


def find(name: str) -> str:
    """The path of `prometheus` or `promtool`; AssertionError that says what to install."""
    found = shutil.which(name)
    assert found, f"{name} {INSTALL}"
    return found


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([find("promtool"), *arguments], capture_output=True, text=True)


@dataclass(frozen=True)
class Target:
    """What is scraped at http://`address`/metrics, and the labels that a scrape in Kubernetes would add."""

    address: str
    labels: dict[str, str] = field(default_factory=dict)


class Prometheus:
    """`with Prometheus(folder, targets) as prometheus: prometheus.query("up")`."""

    def __init__(self, folder: Path, targets: list[Target], rule_files: tuple[Path, ...] = ()) -> None:
        with socket.create_server(("127.0.0.1", 0)) as chosen:
            self.address = f"127.0.0.1:{chosen.getsockname()[1]}"
        self._log = folder / "prometheus.log"
        configuration = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(path.absolute()) for path in rule_files],
            "scrape_configs": [
                {
                    "job_name": "test",
                    "honor_labels": True,
                    "static_configs": [{"targets": [each.address], "labels": each.labels} for each in targets],
                }
            ],
        }
        (folder / "prometheus.yml").write_text(json.dumps(configuration))
        self._command = [
            find("prometheus"),
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address={self.address}",
        ]
        self._targets = len(targets)

    def __enter__(self) -> Self:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            self._wait_until_scraped()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(timeout=20)

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The samples of an instant query; AssertionError with Prometheus' own words if it refuses the query."""
        return self._get("query", query=expression)["result"]

    def _get(self, path: str, **parameters: str) -> dict[str, Any]:
        url = f"http://{self.address}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(url, timeout=10) as response:
                return json.load(response)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{parameters}: {error.read().decode()}") from None

    def _wait_until_scraped(self, seconds: float = 30) -> None:
        """Until every target was scraped twice, so that rates have a value."""
        deadline = time.monotonic() + seconds
        scraped: list[Any] = []
        while time.monotonic() < deadline:
            assert self._process.poll() is None, f"prometheus ended: {self._log.read_text()[-2000:]}"
            try:
                scraped = self.query("sum_over_time(up[1m]) >= 2")
            except OSError:
                scraped = []
            if len(scraped) == self._targets:
                return
            time.sleep(0.2)
        states = [(each["scrapeUrl"], each["lastError"]) for each in self._get("targets", state="active")["activeTargets"]]
        raise AssertionError(f"only {len(scraped)} of {self._targets} targets were scraped in {seconds:.0f} s: {states}")
