"""The raw engine of `chain_cuda.py`, a process of its own: it alone needs torch. One JSON object a line: asked, answered.

Verbs: `write` (a model directory with random weights), `bandwidth`, `load`, `decode`, `first`. No thread and no channel: `step`
is called as `EngineService` calls it, and what it returns is noted with the time.
"""

import json
import random
import shutil
import sys
import threading
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import torch
from safetensors.torch import save_file

from bench.chain_rates import Stream, decode_rate
from localmodel.api.channel import Sampling
from localmodel.api.engine import EngineConfig
from localmodel.engine.families import choose_decoder
from localmodel.engine.loader import load_model
from localmodel.engine.service import build_engine

ARCHITECTURE = "Qwen2ForCausalLM"
QWEN = {
    "vocab_size": 152064, "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28, "num_attention_heads": 28,
    "num_key_value_heads": 4, "max_position_embeddings": 32768, "rope_theta": 1e6, "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False, "hidden_act": "silu",
}  # fmt: skip
TINY = {
    **QWEN,
    "vocab_size": 50000,
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
SHARD_BYTES = 4 * 10**9


class Raw:
    def __init__(self) -> None:
        self._engine: Any = None
        self._model: Any = None
        self._keys = 0

    def write(self, directory: str, tokenizer: str, tiny: bool, device: str) -> dict[str, Any]:
        """A tokenizer that knows fewer tokens than the network gets words for the rest, so that each makes text."""
        began, config = monotonic(), TINY if tiny else QWEN
        into = Path(directory)
        into.mkdir(parents=True)
        (into / "config.json").write_text(json.dumps({"architectures": [ARCHITECTURE], "torch_dtype": "bfloat16", **config}))
        (into / "tokenizer.json").write_text(json.dumps(extend(json.loads(Path(tokenizer).read_text()), config["vocab_size"])))
        (into / "tokenizer_config.json").write_text("{}")
        family, parse = choose_decoder(ARCHITECTURE)
        torch.manual_seed(1)
        shard: dict[str, torch.Tensor] = {}
        number = 0
        for name, place in family(parse(config), 16, torch.bfloat16, torch.device("meta")).tensors():
            values = torch.randn(place.shape, device=device, dtype=torch.bfloat16) * 0.02
            shard[name] = (values + 1 if name.endswith("norm.weight") else values).cpu()
            if sum(tensor.nbytes for tensor in shard.values()) > SHARD_BYTES:
                save_file(shard, into / f"model-{number}.safetensors")
                shard, number = {}, number + 1
        save_file(shard, into / f"model-{number}.safetensors")
        if device == "cuda":
            torch.cuda.empty_cache()
        return {"seconds": monotonic() - began, "free_bytes": shutil.disk_usage(into).free}

    def bandwidth(self, device: str) -> dict[str, Any]:
        """Bytes per second, read and written, of a large copy on the device; the median of ten."""
        source = torch.randn(2**29 if device == "cuda" else 2**24, device=device)
        target = torch.empty_like(source)
        times = []
        for _ in range(10):
            _wait(device)
            began = monotonic()
            target.copy_(source)
            _wait(device)
            times.append(monotonic() - began)
        moved = 2 * source.nbytes
        del source, target
        if device == "cuda":
            torch.cuda.empty_cache()
        return {
            "bytes_per_second": moved / sorted(times)[5], "torch": torch.__version__,
            "device": torch.cuda.get_device_name() if device == "cuda" else device,
        }  # fmt: skip

    def load(self, **config: Any) -> dict[str, Any]:
        self._model = load_model(EngineConfig(**config))
        self._engine = build_engine(self._model)
        sizes, cache = self._model.network_config, self._model.cache
        return {
            "load_seconds": self._model.load_seconds, "weights_bytes": self._model.weights_bytes,
            "embedding_elements": sizes.vocabulary * sizes.hidden,
            "token_bytes": sizes.kv_elements_per_token * cache.keys.dtype.itemsize,
        }  # fmt: skip

    def decode(self, prompts: list[list[int]], answer: int) -> dict[str, Any]:
        streams = {self._begin(ids, answer): Stream(len(ids), asked=monotonic()) for ids in prompts}
        while any(self._engine.load()[:2]):
            self._step(streams)
        return {**decode_rate(list(streams.values()))._asdict()}

    def first(self, prompts: list[list[int]], beside: list[list[int]], answer: int) -> dict[str, Any]:
        """Seconds to the first token of each prompt, one after another, while `beside` decode. A thread asks, at any moment."""
        streams = {self._begin(ids, answer): Stream(len(ids), asked=monotonic()) for ids in beside}
        running = list(streams)
        while not all(stream.events for stream in streams.values()):
            self._step(streams)
        asked: list[int] = []
        asking = threading.Thread(target=self._ask, args=(prompts, streams, asked))
        asking.start()
        while asking.is_alive():
            if self._engine.wait_for_work(0.01):
                self._step(streams)
        for key in running:
            self._engine.cancel(key)
        while any(self._engine.load()[:2]):
            self._engine.step()
        self._engine.step()
        return {"seconds": [streams[key].first_seconds for key in asked]}

    def _ask(self, prompts: list[list[int]], streams: dict[int, Stream], asked: list[int]) -> None:
        for ids in prompts:
            sleep(0.05 + 0.02 * random.random())
            asked.append(self._keys + 1)
            streams[self._keys + 1] = stream = Stream(len(ids), asked=monotonic())
            key = self._begin(ids, 4000)
            while not stream.events:
                sleep(0.0005)
            self._engine.cancel(key)
        sleep(0.05)
        self._engine.add_request(0, [1], Sampling(temperature=0, max_tokens=1))  # wakes the loop

    def _begin(self, ids: list[int], answer: int) -> int:
        self._keys += 1
        self._engine.add_request(self._keys, ids, Sampling(temperature=0, max_tokens=answer))
        return self._keys

    def _step(self, streams: dict[int, Stream]) -> None:
        outputs = self._engine.step()
        now = monotonic()
        for output in outputs:
            if output.token is not None and output.key in streams:
                streams[output.key].events.append((now, 1))


def extend(tokenizer: dict[str, Any], vocabulary: int) -> dict[str, Any]:
    chance = random.Random(1)
    words = tokenizer["model"]["vocab"]
    used = {*words.values(), *(token["id"] for token in tokenizer["added_tokens"])}
    for number in sorted(set(range(vocabulary)) - used):
        while (word := "Ġ" + "".join(chance.choices("abcdefghijklmnopqrstuvwxyz", k=6))) in words:
            pass
        words[word] = number
    return tokenizer


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def main() -> None:
    raw = Raw()
    answers, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        asked = json.loads(line)
        print(json.dumps(getattr(raw, asked.pop("do"))(**asked)), file=answers, flush=True)


if __name__ == "__main__":
    main()
