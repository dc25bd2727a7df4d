"""The whole chain on a card: client, gateway, real Triton, engine; random weights in Qwen2.5-7B's shape; beside the raw engine.

    tar -C /tmp/pack -xf build/chain/chain.tar.xz       (made by `chain_pack`)
    PYTHONPATH=operator:tests:/tmp/pack/packages python -m bench.chain_cuda --pack /tmp/pack [--rounds 3] [--parts starts ...]
        [--cards 2]

The raw engine is loaded in a process of its own beside Triton's, and idle while the other is measured; each measurement is made
in turn through the gateway, through Triton's channel and raw. The limit is weights and cached keys and values over the bandwidth
of a copy measured in the same run. `--tiny --device cpu` tries the script itself. Nothing is asserted.

`--cards` of more than one adds the part `ranks`, without the raw engine: the chain on one card and on so many, and a killed rank.
On a CPU that many processes share the network; the tiny one has shares for 2 and 4.
"""

import argparse
import shutil
import tempfile
from pathlib import Path

import aiohttp
import uvloop

from bench.chain_faults import SHIM, cancel_storm, device_fault
from bench.chain_measure import Chain
from bench.chain_ranks import several_cards
from bench.chain_trace import shim, trace
from bench.chain_world import RawEngine, World

PARTS = ["starts", "rates", "first", "document", "storm", "trace", "fault"]
RANKS = "ranks"


async def run(options: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory(prefix="chain-") as name:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            world = World(options.pack, Path(name), session)
            raw = RawEngine(world)
            try:
                await measure(Chain(options, world, raw, session))
            finally:
                await world.stop()
                await raw.end()
                for log in world.directory.glob("*.log") if options.logs else ():
                    shutil.copy(log, options.logs)


async def measure(chain: Chain) -> None:
    await chain.prepare()
    if chain.options.parts != [RANKS]:
        await measure_one_card(chain)
    if chain.options.cards > 1:
        await chain.raw.end()
        await several_cards(chain, chain.options.cards)


async def measure_one_card(chain: Chain) -> None:
    wanted, world = chain.options.parts, chain.world
    if "starts" in wanted:
        await chain.start("16 bits, kernels new, libraries from this machine's disk", kernels="first")
        await world.stop()
        for bits in ("INT8", "None"):
            for name in ("kernels new", "again"):
                await chain.start(f"{bits}, {name}", quantization=bits)
                if bits == "INT8" and name == "again":
                    await chain.int8()
                await world.stop()
    await chain.start("16 bits, for all that follows")
    chain.sizes = await chain.raw.ask("load", **chain.engine, channel_token_file="unused")
    if "rates" in wanted:
        for batch in chain.options.batches or [1, 64]:
            await chain.rates(batch, chain.options.rounds)
    if "first" in wanted:
        for beside in (0, 63):
            await chain.first_tokens(beside)
    if "document" in wanted:
        await chain.document()
    if "storm" in wanted:
        async with chain.channel() as channel:
            await cancel_storm(world, channel, chain.prompts(100, 300))
    if "trace" in wanted:
        await world.stop()
        marks = world.directory / "marks.log"
        await chain.start("traced", shim(marks))
        for beside in (0, 63):
            async with chain.channel() as channel, chain.beside(beside):
                await trace(channel, chain.prompts(24, 512), marks, beside)
    if "fault" in wanted:
        await world.stop()
        await chain.start("with a kernel that will fail", SHIM)
        await device_fault(world, chain.prompts(3, 300))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pack", type=Path, required=True, help="folder that the pack was unpacked into")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--logs", type=Path, help="folder to copy the logs of all processes to")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batches", nargs="+", type=int, help="default: 1 64; of `ranks` 1 16 64")
    parser.add_argument("--parts", nargs="+", choices=[*PARTS, RANKS], default=PARTS)
    parser.add_argument("--cards", type=int, default=1)
    options = parser.parse_args()
    if RANKS in options.parts and options.cards < 2:
        parser.error("the part `ranks` compares one card with several: say with how many by --cards")
    uvloop.run(run(options))
