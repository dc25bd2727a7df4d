"""Starts each image once, as the user it names, to see that what its entrypoint needs is there.

Must not test behaviour: tests/ do.
"""

import sys
from pathlib import Path

from images.store import Store

PROBE = Path(__file__).with_name("probe")
COMMANDS = {
    "operator": ["python3", "-c", "import localmodel.controller.__main__"],
    "gateway": ["python3", "-c", "import localmodel.gateway.serve"],
    "triton": ["python3", "/probe/serve.py"],
}


def check(store: Store, image: str, name: str) -> None:
    store.run(name, COMMANDS[image], [f"{PROBE}:/probe:ro"])
    print(f"{name} starts", file=sys.stderr)
