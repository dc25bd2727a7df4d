"""state.json: what this cluster made on the machine, written down before it is made.

After a crash it is the only thing `down` trusts. Tests read it to find nodes, processes and addresses.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from cluster.processes import Recorded


@dataclass
class Record:
    path: Path
    tools: dict[str, str] = field(default_factory=dict)
    netns: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    sysctls: dict[str, str] = field(default_factory=dict)
    cgroup: str = ""
    processes: dict[str, Recorded] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    complete: bool = False

    @classmethod
    def load(cls, path: Path) -> Record | None:
        """None without a record; what another version of this code wrote and we don't know is passed over."""
        try:
            content = json.loads(path.read_text())
        except FileNotFoundError:
            return None
        content["processes"] = {name: Recorded(**each) for name, each in content["processes"].items()}
        known = {each.name for each in fields(cls)}
        return cls(path=path, **{name: value for name, value in content.items() if name in known})

    def save(self) -> None:
        content = {name: value for name, value in vars(self).items() if name not in ("path", "processes")}
        content["processes"] = {name: process.to_json() for name, process in self.processes.items()}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_name(f".{self.path.name}")
        temporary.write_text(json.dumps(content, indent=1))
        temporary.rename(self.path)
