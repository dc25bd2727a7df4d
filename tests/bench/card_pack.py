"""A folder of the packages, in this project's locked versions, that a machine with torch, Triton and transformers but no network
lacks for `on_card`.

    PYTHONPATH=operator:tests:hack python -m bench.card_pack [--python 3.12] [--into build/card-packages]

Not numpy, nor what transformers uses by itself: an older numpy in front of the machine's hides it from packages that were built
for the newer, and transformers then offers no networks. The chain has a pack of its own (`chain_pack`), with numpy in it.
"""

import argparse
import shutil
from pathlib import Path

from bench.chain_pack import ROOT, install

PACKAGES = [
    "annotated-types", "iniconfig", "llguidance", "msgspec", "packaging", "pluggy", "pydantic", "pydantic-core", "pygments",
    "pytest", "pytest-asyncio", "pytest-timeout", "safetensors", "tokenizers", "typing-extensions", "typing-inspection",
]  # fmt: skip
THERE = ["numpy", "torch", "transformers", "triton"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", default="3.12", help="version of the Python that has torch there")
    parser.add_argument("--into", type=Path, default=ROOT / "build" / "card-packages")
    options = parser.parse_args()
    shutil.rmtree(options.into, ignore_errors=True)
    options.into.parent.mkdir(parents=True, exist_ok=True)
    install("all.txt", PACKAGES, options.python, options.into)
    print(f"{options.into}: {sum(file.stat().st_size for file in options.into.rglob('*')) / 2**20:.0f} MiB")


if __name__ == "__main__":
    main()
