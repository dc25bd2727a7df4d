"""`helm test`: every replica of the operator serves its metrics, and exactly one leads, at the latest after some seconds."""

import socket
import sys
import time
import urllib.request

SERVICE, PORT, SECONDS = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])


def read_leader(address: str) -> float:
    host = f"[{address}]" if ":" in address else address
    with urllib.request.urlopen(f"http://{host}:{PORT}/metrics", timeout=5) as response:
        lines = response.read().decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("localmodel_operator_leader"))


def look() -> str:
    """What is wrong; empty if nothing is."""
    try:
        addresses = sorted({each[4][0] for each in socket.getaddrinfo(SERVICE, PORT, type=socket.SOCK_STREAM)})
        leaders = {address: read_leader(address) for address in addresses}
    except OSError as error:
        return f"{SERVICE}:{PORT}: {error}"
    print(f"1 for the replica that leads: {leaders}", flush=True)
    return "" if sum(leaders.values()) == 1 else "not exactly one replica leads"


deadline = time.monotonic() + SECONDS
while problem := look():
    if time.monotonic() > deadline:
        sys.exit(f"{problem}: see docs/runbooks/LocalModelOperatorDown.md")
    time.sleep(1)
