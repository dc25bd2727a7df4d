"""Runs a suite that others wrote, as it is, against a live gateway; what is left out is named with its reason and must exist."""

import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

from suites.environment import suites_python


def run_pytest(
    directory: Path,
    arguments: list[str],
    environment: Mapping[str, str],
    excluded: Mapping[str, str],
    *,
    at_least: int,
) -> None:
    """`excluded`: regular expressions over whole test ids, each with the reason. Fails if one of them matches no test, or if
    fewer than `at_least` tests passed."""
    command = [str(suites_python()), "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    env = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "PYTEST"))} | dict(environment)
    listed = _run([*command, "--collect-only"], directory, env)
    ids = [line for line in listed.splitlines() if "::" in line]
    left_out: list[str] = []
    for pattern in excluded:
        matching = [each for each in ids if re.fullmatch(pattern, each)]
        assert matching, f"no test matches {pattern!r} any more: take its exclusion out\n{listed[-2000:]}"
        left_out += matching
    chosen = [f"--deselect={each}" for each in dict.fromkeys(left_out)]
    text = _run([*command, "-ra", *chosen], directory, env)
    passed = re.search(r"(\d+) passed", text)
    assert passed is not None and int(passed[1]) >= at_least, text[-3000:]


def _run(command: list[str], directory: Path, env: dict[str, str]) -> str:
    done = subprocess.run(command, cwd=directory, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, f"exit status {done.returncode}\n{done.stdout[-12000:]}"
    return done.stdout
