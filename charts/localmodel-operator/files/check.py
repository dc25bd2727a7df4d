"""`helm test`: every replica of the operator serves its metrics, and exactly one leads."""

import socket
import sys
import urllib.request

SERVICE, PORT = sys.argv[1], int(sys.argv[2])


def read_leader(address: str) -> float:
    host = f"[{address}]" if ":" in address else address
    with urllib.request.urlopen(f"http://{host}:{PORT}/metrics", timeout=5) as response:
        lines = response.read().decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("localmodel_operator_leader"))


addresses = sorted({each[4][0] for each in socket.getaddrinfo(SERVICE, PORT, type=socket.SOCK_STREAM)})
leaders = {address: read_leader(address) for address in addresses}
print(f"operators, 1 leads: {leaders}")
sys.exit(0 if sum(leaders.values()) == 1 else "not exactly one leads: see docs/runbooks/LocalModelOperatorDown.md")
