"""A long Chinese text through the real Triton and the real model: Laozi whole and most of Sunzi, in tests/data/classics.txt."""

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientTimeout

import weights
from gateway.conftest import GatewayProcess, Start, eventually
from gateway.invariants import check_stream
from gateway.test_real_triton import RealTriton, engine, engine_is_idle, is_ready

pytestmark = [pytest.mark.triton, pytest.mark.timeout(2000)]

WINDOW = 2048
PATIENCE = 1800
TEXT = (Path(__file__).parents[1] / "data" / "classics.txt").read_text(encoding="utf-8")


@pytest.fixture
async def real(tmp_path: Path) -> AsyncIterator[RealTriton]:
    triton = RealTriton(tmp_path, weights.make(weights.default_destination()), WINDOW, threads=2)
    triton.start()
    yield triton
    triton.kill()


async def begin(start: Start, real: RealTriton, **changes: Any) -> GatewayProcess:
    times = dict.fromkeys(("queue_seconds", "first_token_seconds", "idle_seconds", "total_seconds"), PATIENCE)
    gateway = await start(wait=False, **{**real.settings(), "context_window": WINDOW, "timeouts": times, **changes})
    await eventually(lambda: is_ready(gateway), PATIENCE)
    return gateway


async def test_ten_thousand_characters_are_read_in_parts(start: Start, real: RealTriton) -> None:
    assert len(re.findall(r"[\u4e00-\u9fff]", TEXT)) > 10_000
    gateway = await begin(start, real, long_input="Segment")
    messages = [{"role": "user", "content": f"请用一句话总结下文：\n\n{TEXT}"}]
    fields = {"messages": messages, "max_tokens": 16, "temperature": 0, "stream": True}
    fields["stream_options"] = {"include_usage": True}
    async with await gateway.post("/v1/chat/completions", fields, timeout=ClientTimeout(total=PATIENCE)) as reply:
        assert reply.status == 200, await reply.text()
        stream = check_stream(await reply.read(), usage=True)
    assert stream.done and stream.text.strip() and stream.usage is not None
    segments = stream.usage["segments"]
    assert 10 <= segments <= 20
    assert stream.usage["prompt_tokens"] > 23_000, "every token of the text was read"
    assert stream.usage["completion_tokens"] <= 16 * (segments + 3)
    record = await gateway.record()
    assert (record["outcome"], record["segments"]) == ("ok", segments)
    assert record["prompt_tokens"] == stream.usage["prompt_tokens"]
    await eventually(lambda: engine_is_idle(gateway), PATIENCE)
    assert (await engine(gateway))["tokens_total"] >= stream.usage["completion_tokens"]
    await gateway.balanced()


async def test_the_same_text_shortened(start: Start, real: RealTriton) -> None:
    gateway = await begin(start, real, long_input="Truncate")
    fields = {"messages": [{"role": "user", "content": TEXT}], "max_tokens": 8, "temperature": 0}
    async with await gateway.post("/v1/chat/completions", fields, timeout=ClientTimeout(total=PATIENCE)) as reply:
        body = await reply.read()
        assert reply.status == 200, body
    (left_out,) = re.findall(rb'"truncated_tokens": ?(\d+)', body)
    (prompt,) = re.findall(rb'"prompt_tokens": ?(\d+)', body)
    assert WINDOW - 100 < int(prompt) + 8 <= WINDOW and int(left_out) > 20_000
    await gateway.balanced()
