"""Up, down, status, and stopping and starting single processes.

The one rule that keeps this simple: a recorded cluster is either wholly healthy and kept, or it is removed
and made anew.
"""

from __future__ import annotations

import signal

from cluster import processes
from cluster.api import Api
from cluster.assembly import create_cluster
from cluster.build import build_tools, exclusive
from cluster.control_plane import API_SERVER
from cluster.daemons import start_daemon
from cluster.layout import CGROUP, HOST_LINK, NODES, REGISTRY, Layout
from cluster.network import all_netns, names_in_use
from cluster.record import Record
from cluster.report import say
from cluster.requirements import check_machine, install_packages
from cluster.teardown import remove_cluster
from cluster.tools import TOOLS, cache_key, read_versions

_BUSY = "another cluster command runs"


def up(layout: Layout) -> None:
    check_machine()
    install_packages()
    with exclusive(layout.lock, _BUSY):
        needed = [tool for tool in TOOLS if tool.needed_by_up]
        build_tools(layout, needed)
        versions = read_versions()
        tools = {tool.name: cache_key(tool, versions) for tool in needed}
        record = Record.load(layout.record)
        if record is not None and record.tools == tools and not problems(layout, record):
            say("the cluster is up already")
            return
        if record is not None:
            say("removing what is left of an earlier cluster")
            remove_cluster(layout, record)
        if names := names_in_use():
            raise SystemExit(
                f"in the way, but not recorded in {layout.state}: {', '.join(names)}. Another cluster runs, or a record was "
                "deleted: take the first one down, or remove what bears our names with `hack/cluster/main.py down --unrecorded`."
            )
        record = Record(layout.record, tools=tools)
        create_cluster(layout, record, versions)
        if found := problems(layout, record):
            raise SystemExit(f"the cluster does not hold: {'; '.join(found)}; see {layout.logs}")
    say(f"the cluster is up: KUBECONFIG={layout.kubeconfig}, images at {REGISTRY}")


def down(layout: Layout, *, unrecorded: bool = False) -> None:
    """`unrecorded` goes by our fixed names when the record was lost; only for who knows that no other cluster runs."""
    with exclusive(layout.lock, _BUSY):
        record = Record.load(layout.record)
        if record is None and unrecorded:
            record = Record(layout.record, netns=all_netns(), links=[HOST_LINK], cgroup=CGROUP)
            record.save()
        if record is None:
            say("there is no cluster to remove")
            return
        remove_cluster(layout, record)
    say("the cluster is gone; built programs and pushed images stay in the cache")


def problems(layout: Layout, record: Record) -> list[str]:
    """Why the recorded cluster is not wholly healthy; empty when it is."""
    found = [] if record.complete else ["its start did not finish"]
    found += [f"{name} has ended" for name, process in record.processes.items() if not processes.is_running(process)]
    if found:
        return found
    api = Api(API_SERVER, layout.pki, "admin")
    if not api.is_ready():
        return ["the API server is not ready"]
    return [f"{node.name} is not ready" for node in NODES if not api.node_is_ready(node.name)]


def stop_process(layout: Layout, name: str, how: signal.Signals) -> None:
    """For fault injection: the cluster counts as unhealthy until `start_process`."""
    processes.end(_recorded(layout, name).processes[name], first=how)


def start_process(layout: Layout, name: str) -> None:
    with exclusive(layout.lock, _BUSY):
        record = _recorded(layout, name)
        old = record.processes[name]
        if not processes.is_running(old):
            start_daemon(layout, record, name, old.command, [])


def _recorded(layout: Layout, name: str) -> Record:
    record = Record.load(layout.record)
    if record is None or name not in record.processes:
        known = ", ".join(record.processes) if record else "none, as there is no cluster"
        raise SystemExit(f"no such process: {name}; recorded are: {known}")
    return record
