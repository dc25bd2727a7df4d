"""schemathesis over OpenAI's published specification, restricted to the paths served here, against the live gateway."""

import re
import subprocess
from pathlib import Path

import pytest

from suites.environment import suites_python
from suites.live import LiveGateway

pytestmark = pytest.mark.timeout(1500)

HERE = Path(__file__).parent
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
    "allow_header_conformance",
    "negative_data_rejection",
)
LEFT_OUT = {
    "positive_data_acceptance": "images, audio and the like are allowed by the specification and refused here by name",
    "missing_required_header": "the specification requires no header",
    "ignored_auth": "keys are off here; tests/gateway/test_keys.py tests them",
}
SECONDS = 90


def test_no_generated_request_breaks_the_specification(short_answers: LiveGateway, tmp_path: Path) -> None:
    specification = tmp_path / "openai.json"
    python = suites_python()
    reduce = [str(python), str(HERE / "reduce_spec.py"), str(specification), "gpt-6-astra"]
    made = subprocess.run(reduce, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    command = [
        str(python.parent / "schemathesis"), "run", str(specification), "--url", f"{short_answers.url}/v1", "--checks",
        ",".join(CHECKS), "--phases", "examples,coverage,fuzzing", "--max-examples", "100", "--max-time", str(SECONDS),
        "--continue-on-failure", "--request-timeout", "300", "--suppress-health-check", "all", "--no-color", "--seed", "1",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-12000:] + done.stderr[-2000:]
    tested = re.search(r"(\d+) generated", done.stdout)
    assert tested is not None and int(tested[1]) >= 200, done.stdout[-3000:]
