"""Measures in turn, so that what a busy machine does to one it does to all; and what machine that was.

It starts nothing.
"""

import os
import re
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any


def alternate(rounds: int, *measures: Callable[[], dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Each in turn, so many times; the first turn only warms up."""
    seen: list[list[dict[str, Any]]] = [[] for _ in measures]
    for number in range(rounds + 1):
        for into, measure in zip(seen, measures, strict=True):
            result = measure()
            if number:
                into.append(result)
    return seen


def median(results: list[dict[str, Any]], value: Callable[[dict[str, Any]], float]) -> float:
    return statistics.median(value(result) for result in results)


def machine() -> str:
    model = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    return f"{os.cpu_count()} x {model[1] if model else 'unknown'}, load average {os.getloadavg()[0]:.0f}"
