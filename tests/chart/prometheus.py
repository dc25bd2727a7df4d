"""A real Prometheus for tests: scrapes what it is told to, answers queries, holds nothing after it ends.

It must not know what a query means. `hack/prometheus_package.py` brings `prometheus` and `promtool` into the cache.
"""

import json
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import prometheus_package
from ports import free_ports


def find(name: str) -> str:
    """The path of `prometheus` or `promtool`; AssertionError that says what to do."""
    found = prometheus_package.find(name)
    assert found, f"{name} is missing: `python3 hack/prometheus_package.py` brings it"
    return found


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([find("promtool"), *arguments], capture_output=True, text=True)


@dataclass(frozen=True)
class Target:
    """What is scraped at http://`address`/metrics, and the labels that a scrape in Kubernetes would add."""

    address: str
    labels: dict[str, str] = field(default_factory=dict)


def scrape(targets: list[Target]) -> dict[str, Any]:
    """A scrape configuration of known addresses, every second."""
    static = [{"targets": [each.address], "labels": each.labels} for each in targets]
    return {"job_name": "static", "honor_labels": True, "scrape_interval": "1s", "static_configs": static}


class Prometheus:
    """`with Prometheus(folder, [scrape(targets)]) as prometheus: prometheus.wait_until_scraped(len(targets))`, then `query`."""

    def __init__(self, folder: Path, scrape_configs: list[dict[str, Any]], rule_files: tuple[Path, ...] = ()) -> None:
        self.address = f"127.0.0.1:{free_ports(1)[0]}"
        self._log = folder / "prometheus.log"
        configuration = {
            "global": {"evaluation_interval": "1s"},
            "rule_files": [str(path.absolute()) for path in rule_files],
            "scrape_configs": scrape_configs,
        }
        (folder / "prometheus.yml").write_text(json.dumps(configuration))
        self._command = [
            find("prometheus"),
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address={self.address}",
        ]

    def __enter__(self) -> Self:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            self._wait(self._answers, "prometheus answers")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(timeout=60)

    def wait_until_scraped(self, targets: int, seconds: float = 90) -> None:
        """Until so many targets were scraped twice, so that rates have a value."""
        self._wait(lambda: len(self.query("sum_over_time(up[1m]) >= 2")) == targets, f"{targets} targets scraped", seconds)

    def wait_for_targets(self, count: int, seconds: float = 90) -> list[dict[str, Any]]:
        """So many discovered targets, scraped or not: `labels`, `scrapeUrl`, `lastError` of each."""
        self._wait(lambda: len(self._list_targets()) == count, f"{count} targets discovered", seconds)
        return self._list_targets()

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

    def _list_targets(self) -> list[dict[str, Any]]:
        return self._get("targets", state="active")["activeTargets"]

    def _answers(self) -> bool:
        try:
            return bool(self.query("1"))
        except (OSError, AssertionError):
            return False

    def _wait(self, is_so: Callable[[], bool], what: str, seconds: float = 90) -> None:
        deadline = time.monotonic() + seconds
        while not is_so():
            assert self._process.poll() is None, f"prometheus ended: {self._log.read_text()[-2000:]}"
            if time.monotonic() > deadline:
                states = [(each["scrapeUrl"], each["lastError"]) for each in self._list_targets()] if self._answers() else []
                raise AssertionError(f"after {seconds:.0f} s still not: {what}; targets: {states}")
            time.sleep(0.2)
