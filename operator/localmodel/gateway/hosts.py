"""Under which names this server answers: a page whose site's name was led to 127.0.0.1 (DNS rebinding) is refused.

To a browser that page and this server are one site, so nothing but the Host header tells them apart. It matters only where
whoever reaches the port may use it and only this machine does; any other server is asked under names not known here. Pure.
"""

import ipaddress
import re

from localmodel.gateway import errors

_HOST = re.compile(r"(?:\[([0-9a-f:.]+)\]|([^\[\]:@,]+))(?::[0-9]*)?", re.IGNORECASE)
"""An address in brackets or a name, and a port."""


class Hosts:
    def __init__(self, listens_on: str, *, keyed: bool) -> None:
        self._only_own = not keyed and _is_loopback(listens_on)

    def check(self, host: str | None) -> None:
        """The header; None: there is none, which no browser does. Raises 421."""
        if self._only_own and host is not None and not _leads_here(host):
            raise errors.misdirected()


def _leads_here(host: str) -> bool:
    parts = _HOST.fullmatch(host)
    return parts is not None and _is_loopback(parts[1] or parts[2])


def _is_loopback(name: str) -> bool:
    name = name.lower().removesuffix(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback
