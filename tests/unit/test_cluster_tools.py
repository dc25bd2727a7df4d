"""The local cluster's programs: pinned in one place, cached under keys that change exactly when they must."""

from __future__ import annotations

import json
import re
import tarfile
from io import BytesIO
from pathlib import Path

import pytest

from cluster import control_plane, layout, node
from cluster.dns import dns_objects
from cluster.images import single_binary_archive
from cluster.layout import NODES, SOURCE, Layout
from cluster.tools import TOOLS, cache_key, linker_flags, parse_versions, read_versions

BY_NAME = {tool.name: tool for tool in TOOLS}
MODULES = {
    "kubernetes": "k8s.io/kubernetes",
    "etcd": "go.etcd.io/etcd/server/v3",
    "coredns": "github.com/coredns/coredns",
    "registry": "github.com/distribution/distribution/v3",
}


def test_every_tool_has_a_pinned_version() -> None:
    versions = read_versions()
    assert [tool.name for tool in TOOLS if not re.fullmatch(r"\d+\.\d+\.\d+", versions.get(tool.version_key, ""))] == []


@pytest.mark.parametrize(("name", "module"), MODULES.items())
def test_the_module_files_agree_with_the_pinned_versions(name: str, module: str) -> None:
    text = (SOURCE / "go" / name / "go.mod").read_text()
    required = re.search(rf"^(?:require )?\s*{re.escape(module)} v(\S+)", text, re.MULTILINE)
    assert required is not None
    assert required[1] == read_versions()[BY_NAME[name].version_key]


def test_the_staging_modules_follow_kubernetes() -> None:
    replaced = re.findall(r"^\t(\S+) => (\S+) v0\.(\S+)$", (SOURCE / "go/kubernetes/go.mod").read_text(), re.MULTILINE)
    minor_and_patch = read_versions()["KUBERNETES_VERSION"].split(".", 1)[1]
    assert len(replaced) == 33
    assert {(old == new, version) for old, new, version in replaced} == {(True, minor_and_patch)}


def test_a_new_version_rebuilds_only_its_tool() -> None:
    versions = read_versions()
    changed = versions | {"ETCD_VERSION": "9.9.9"}
    moved = [tool.name for tool in TOOLS if cache_key(tool, versions) != cache_key(tool, changed)]
    assert moved == ["etcd"]


def test_the_key_starts_with_name_and_version() -> None:
    versions = read_versions()
    assert cache_key(BY_NAME["helm"], versions).startswith(f"helm-{versions['HELM_VERSION']}-")


def test_binaries_are_named_after_their_packages_without_the_major_version() -> None:
    assert BY_NAME["containerd"].binaries == ("containerd", "containerd-shim-runc-v2", "ctr")
    assert BY_NAME["helm"].binaries == ("helm",)
    assert BY_NAME["runc"].binaries == ("runc",)
    assert BY_NAME["etcd"].binaries == ("etcd",)


def test_kubernetes_tells_its_own_version() -> None:
    flags = linker_flags(BY_NAME["kubernetes"], "1.37.2")
    assert "-X k8s.io/component-base/version.gitVersion=v1.37.2" in flags
    assert "-X k8s.io/component-base/version.gitMinor=37" in flags


@pytest.mark.parametrize("text", ["NO_SEPARATOR", "EMPTY="])
def test_a_broken_line_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="KEY=value"):
        parse_versions(text)


def test_comments_and_blank_lines_say_nothing() -> None:
    assert parse_versions("# A=1\n\nB=2\n") == {"B": "2"}


def test_the_pause_archive_is_a_whole_image(tmp_path: Path) -> None:
    binary = tmp_path / "pause"
    binary.write_bytes(b"not really")
    with tarfile.open(fileobj=BytesIO(single_binary_archive(binary, "localmodel.dev/pause:1", "amd64"))) as archive:
        files = {member.name: archive.extractfile(member).read() for member in archive}  # type: ignore[union-attr]
    listed = json.loads(files["index.json"])["manifests"][0]
    assert listed["annotations"] == {"io.containerd.image.name": "localmodel.dev/pause:1"}
    manifest = json.loads(files[f"blobs/sha256/{listed['digest'][7:]}"])
    with tarfile.open(fileobj=BytesIO(files[f"blobs/sha256/{manifest['layers'][0]['digest'][7:]}"])) as layer:
        assert [(member.name, oct(member.mode)) for member in layer] == [("pause", "0o755")]


def test_nodes_share_no_address_path_or_group() -> None:
    first, second = NODES
    assert not {first.ip, first.pod_range, first.netns, first.cgroup} & {second.ip, second.pod_range, second.netns, second.cgroup}
    paths = Layout(Path("/c"), Path("/c/cluster"))
    commands = [str(node.node_commands(paths, each)) for each in NODES]
    assert "node-2" not in commands[0]
    assert "node-1" not in commands[1]


def test_dns_answers_where_pods_ask() -> None:
    service = next(body for body in dns_objects().values() if body["kind"] == "Service")
    endpoints = next(body for body in dns_objects().values() if body["kind"] == "EndpointSlice")
    assert service["spec"]["clusterIP"] == layout.DNS_SERVICE_IP
    assert {port["port"] for port in endpoints["ports"]} == {layout.DNS_PORT}
    assert f".:{layout.DNS_PORT} " in control_plane.COREFILE


def test_the_audit_log_holds_every_write() -> None:
    """Only reads and non-resource requests may be left out."""
    silent = [rule for rule in control_plane.AUDIT_POLICY["rules"] if rule["level"] == "None"]
    assert all("nonResourceURLs" in rule or set(rule["verbs"]) <= {"get", "list", "watch"} for rule in silent)
    assert control_plane.AUDIT_POLICY["rules"][-1] == {"level": "Metadata"}
