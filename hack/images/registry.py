"""Asks a registry whether it has an image, so that a push of what is there costs one request.

Must not push: buildah does.
"""

import http.client
from typing import NamedTuple

MANIFEST_TYPES = "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json"


class Registry(NamedTuple):
    """`address` is HOST[:PORT][/PATH], as in an image's name."""

    address: str
    plain: bool
    """Plain HTTP instead of HTTPS."""


def parse_registry(text: str) -> Registry:
    """Plain HTTP on this machine or where the text says http://, HTTPS elsewhere."""
    scheme, _, address = text.rpartition("://")
    address = address.rstrip("/")
    host = address.partition("/")[0].partition(":")[0]
    if scheme not in ("", "http", "https") or not host:
        raise SystemExit(f"{text!r} is no registry; write HOST:PORT, HOST/PATH, or http://HOST:PORT for plain HTTP")
    return Registry(address, scheme == "http" or (not scheme and (host == "localhost" or host.startswith("127."))))


def has_image(registry: Registry, name: str) -> bool:
    """Whether `registry` has `name` (REPOSITORY:TAG). One that wants a sign-in first counts as no: the push will tell."""
    repository, _, tag = name.rpartition(":")
    host, _, path = registry.address.partition("/")
    connect = http.client.HTTPConnection if registry.plain else http.client.HTTPSConnection
    connection = connect(host, timeout=10)
    try:
        where = "/".join(filter(None, ("/v2", path, repository, "manifests", tag)))
        connection.request("HEAD", where, headers={"Accept": MANIFEST_TYPES})
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException) as error:
        raise SystemExit(
            f"no registry answers at {registry.address} ({'HTTP' if registry.plain else 'HTTPS'}): {error}"
        ) from error
    finally:
        connection.close()
