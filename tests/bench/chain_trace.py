"""Where the time to a first token goes: moments inside the engine's process, beside the client's, on the same clock."""

import asyncio
import statistics
from collections.abc import Iterator
from pathlib import Path

from bench.chain_streams import Channel

_SHIM = """

import time
from localmodel.engine import triton as _triton
from localmodel.engine.engine import Engine as _Engine
from localmodel.engine.publisher import Publisher as _Publisher
from localmodel.engine.running import Running as _Running
from localmodel.engine.service import EngineService as _Service

_marks = open({file!r}, "w", buffering=1)


def _mark(owner, verb, before="", after="", when=lambda *arguments: True):
    original = getattr(owner, verb)

    def marked(self, *arguments, **options):
        wanted = when(*arguments)
        if before and wanted:
            _marks.write(f"{{time.monotonic():.6f}} {{before}}\\n")
        result = original(self, *arguments, **options)
        if after and wanted:
            _marks.write(f"{{time.monotonic():.6f}} {{after}}\\n")
        return result

    setattr(owner, verb, marked)


_mark(_Service, "handle", "Triton hands over the submit", "submit answered", lambda document, _: '"submit"' in str(document))
_mark(_Engine, "add_request", after="queued")
_mark(_Engine, "step", "step planned", "step returned")
_mark(_Publisher, "put", "outputs given to the publisher", when=bool)
_mark(_Running, "take", "publisher makes text", when=lambda outputs, _: bool(outputs))
_mark(_triton.TritonStream, "send", "event sent", "Triton has the event", lambda text, **_: '"s' in text[:40])
"""

BEFORE = ("Triton hands over the submit", "queued")
"""Marks that are of the request itself; the others come with every step."""


async def trace(channel: Channel, prompts: list[list[int]], marks: Path, beside: int) -> None:
    """One request after another while `beside` others decode; prints the median moments of each mark's first time within a
    request, since the client asked, and of its last time, before the client had the first token."""
    first: dict[str, list[float]] = {}
    last: dict[str, list[float]] = {}
    added: list[float] = []
    for prompt in prompts:
        (stream,) = await channel.ask([prompt], 8, first_only=True)
        await asyncio.sleep(0.1)
        end = stream.events[0][0]
        seen = list(between(marks, stream.asked, end))
        asked = next((at for name, at in seen if name == "queued"), stream.asked)
        own = [(name, at) for name, at in seen if at >= asked or name in BEFORE]
        for name, at in dict(reversed(own)).items():
            first.setdefault(name, []).append(at - stream.asked)
        for name, at in dict(seen).items():
            last.setdefault(name, []).append(at - end)
        first.setdefault("the client has the event", []).append(end - stream.asked)
        added.append(asked - stream.asked + end - dict(seen).get("step returned", end))
    print(
        f"first token of 512 tokens, {beside} streams beside, median moments in ms since the client asked, and before it had it:"
    )
    median, mean = (average(added) * 1000 for average in (statistics.median, statistics.mean))
    print(f"  {median:6.2f}  before it is queued and after its step has returned, together; mean {mean:.2f}")
    for moments in (first, last):
        for name, values in sorted(moments.items(), key=lambda item: statistics.median(item[1])):
            if len(values) > len(prompts) // 2:
                print(f"  {statistics.median(values) * 1000:6.2f}  {name}")


def between(marks: Path, began: float, ended: float) -> Iterator[tuple[str, float]]:
    """(mark, its moment) from one moment to another (monotonic)."""
    for line in marks.read_text().splitlines():
        at, _, name = line.partition(" ")
        if began <= float(at) <= ended:
            yield name, float(at)


def shim(marks: Path) -> str:
    """Code behind model.py that writes the moments into `marks`."""
    return _SHIM.format(file=str(marks))
