"""Asks a registry whether it has an image, so that a push of what is there costs one request.

Must not push: buildah does.
"""

import http.client

MANIFEST_TYPES = "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json"


def has_image(registry: str, name: str) -> bool:
    """Whether `registry` (HOST:PORT, plain HTTP) has `name` (REPOSITORY:TAG)."""
    repository, _, tag = name.rpartition(":")
    connection = http.client.HTTPConnection(registry, timeout=10)
    try:
        connection.request("HEAD", f"/v2/{repository}/manifests/{tag}", headers={"Accept": MANIFEST_TYPES})
        return connection.getresponse().status == 200
    except OSError as error:
        raise SystemExit(f"no registry answers at {registry}: {error}") from error
    finally:
        connection.close()
