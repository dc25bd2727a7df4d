"""Coverage-guided fuzzing of the HTTP entry for FUZZ_SECONDS (300): `make fuzz`.

What it learns stays in the cache for the next time. An input that finds something is written beside it and named; put it into
tests/fuzz/corpus, where the tests replay it, and mend the fault.
"""

import contextlib
import hashlib
import os
import sys
import traceback
import warnings
from pathlib import Path

import atheris

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    with atheris.instrument_imports(include=["localmodel.gateway"]):
        from fuzz.target import Target
from fuzz.seeds import seeds

CACHE = Path(os.environ.get("LOCALMODEL_CACHE") or Path.home() / ".cache" / "localmodel") / "fuzz"
WORDS = Path(__file__).parent / "http.dict"


def main() -> None:
    learned, found = CACHE / "corpus", CACHE / "found"
    for directory in (learned, found):
        directory.mkdir(parents=True, exist_ok=True)
    for name, data in seeds():
        (learned / f"seed {name}".replace("/", "-")).write_bytes(data)
    target = Target()

    def run_one(data: bytes) -> None:
        try:
            target.run(data)
        except BaseException:
            traceback.print_exc()
            file = found / f"{hashlib.sha256(data).hexdigest()[:12]}.bin"
            file.write_bytes(data)
            print(f"{len(data)} bytes that find this: {file}", file=sys.stderr, flush=True)
            os._exit(1)

    seconds = os.environ.get("FUZZ_SECONDS") or "300"
    options = [f"-max_total_time={seconds}", "-max_len=4096", "-timeout=30", "-rss_limit_mb=2048", f"-dict={WORDS}"]
    atheris.Setup(
        [sys.argv[0], *options, f"-artifact_prefix={found}/", "-print_final_stats=1", *sys.argv[1:], str(learned)], run_one
    )
    with contextlib.redirect_stdout(None):
        atheris.Fuzz()


if __name__ == "__main__":
    main()
