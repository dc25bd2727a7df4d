"""One real API server with etcd for all tests of this folder, with our CRD in it. No node, no controller: nothing runs here."""

from collections.abc import Iterator

import pytest

from apiserver import ROOT, ApiServer, start_apiserver


@pytest.fixture(scope="session")
def bare_apiserver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """An API server without anything of ours. Most tests want `apiserver`."""
    with start_apiserver(tmp_path_factory.mktemp("apiserver")) as server:
        yield server


@pytest.fixture(scope="session")
def apiserver(bare_apiserver: ApiServer) -> ApiServer:
    """With the CRD established and a namespace `llm`."""
    bare_apiserver.kubectl("apply", "--server-side", "-f", str(ROOT / "crds"))
    bare_apiserver.kubectl("wait", "--for=condition=Established", "--timeout=90s", "crd/localmodels.localmodel.dev")
    bare_apiserver.kubectl("create", "namespace", "llm")
    return bare_apiserver
