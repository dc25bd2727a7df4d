"""Tiny models and tokenizers made on the spot, and a channel whose device is scripted."""

import gc
import json
from functools import partial
from pathlib import Path

import pytest
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from localmodel.api.engine import EngineConfig
from localmodel.api.events import TokenLogprob
from localmodel.engine.blocks import BlockPool
from localmodel.engine.channel import Channel
from localmodel.engine.engine import Engine, at_once
from localmodel.engine.pump import Pump
from localmodel.engine.scheduler import Scheduler
from localmodel.gateway.wire import read_batch

VOCABULARY = 259
CONTEXT = 128
CHANNEL_TOKEN = "t" * 64


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def byte_tokenizer() -> Tokenizer:
    """Every byte is a token, as at the bottom of every byte-level BPE; ids 256 ... 258 are special."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={char: number for number, char in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in ("<s>", "</s>", "<pad>")])
    return tokenizer


@pytest.fixture(scope="session")
def fallback_tokenizer() -> Tokenizer:
    """As SentencePiece models do it: spaces are U+2581, unknown characters are bytes, the first space is dropped."""
    pieces = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *"abcdefghijklmnopqrstuvwxyz.,!\n"]
    model = models.BPE(vocab={p: i for i, p in enumerate(pieces)}, merges=[], byte_fallback=True, unk_token="<unk>")
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return tokenizer


SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": CONTEXT,
    "initializer_range": 0.3,
    "eos_token_id": 257,
    "bos_token_id": 256,
}
FOUR = "-4"
ROPES = {
    "llama3": {
        "rope_type": "llama3", "rope_theta": 10_000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32,
    },
    "linear": {"rope_type": "linear", "rope_theta": 10_000.0, "factor": 4.0},
    "yarn": {"rope_type": "yarn", "rope_theta": 10_000.0, "factor": 4.0, "original_max_position_embeddings": 32},
}  # fmt: skip


@pytest.fixture(scope="session")
def make_model(tmp_path_factory, byte_tokenizer):
    """make_model(kind) -> directory of a random network: llama, llama3 (rope scaling), biased, mistral, qwen2; with FOUR heads
    for keys where the kind ends so."""
    made: dict[str, Path] = {}

    def make(kind: str) -> Path:
        if kind not in made:
            directory = tmp_path_factory.mktemp(kind)
            torch.manual_seed(7)
            four = kind.endswith(FOUR)
            more = {"num_attention_heads": 8, "num_key_value_heads": 4, "intermediate_size": 256}
            sizes = {**SIZES, **more} if four else SIZES
            _network(kind.removesuffix(FOUR), sizes).save_pretrained(directory)
            byte_tokenizer.save(str(directory / "tokenizer.json"))
            made[kind] = directory
        return made[kind]

    return make


def _network(kind: str, sizes: dict):
    from transformers import (
        Gemma3ForCausalLM,
        Gemma3TextConfig,
        LlamaConfig,
        LlamaForCausalLM,
        MistralConfig,
        MistralForCausalLM,
        Qwen2Config,
        Qwen2ForCausalLM,
        Qwen3Config,
        Qwen3ForCausalLM,
    )

    if kind in ROPES:
        return LlamaForCausalLM(LlamaConfig(**sizes, rope_parameters=ROPES[kind]))
    if kind == "mistral-window":
        return MistralForCausalLM(MistralConfig(**sizes, sliding_window=24))
    if kind == "qwen2-window":
        return Qwen2ForCausalLM(Qwen2Config(**sizes, use_sliding_window=True, sliding_window=24, max_window_layers=1))
    if kind == "qwen3":
        return _with_random_norms(Qwen3ForCausalLM(Qwen3Config(**sizes, head_dim=24)))
    if kind == "gemma3":
        own = {"head_dim": 24, "sliding_window": 24, "sliding_window_pattern": 2, "query_pre_attn_scalar": 6}
        sizes = {**sizes, "tie_word_embeddings": False, "initializer_range": 0.1}  # tied, it repeats its last token
        return _with_random_norms(Gemma3ForCausalLM(Gemma3TextConfig(**sizes, **own)))
    if kind == "llama":
        return LlamaForCausalLM(LlamaConfig(**sizes, tie_word_embeddings=True))
    if kind == "biased":
        network = LlamaForCausalLM(LlamaConfig(**sizes, attention_bias=True, mlp_bias=True, head_dim=24))
    elif kind == "mistral":
        return MistralForCausalLM(MistralConfig(**sizes, sliding_window=None))
    else:
        network = Qwen2ForCausalLM(Qwen2Config(**sizes))
    for name, parameter in network.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.3)
    return network


def _with_random_norms(network):
    """Fresh norms are all ones or zeros, which would hide that they are left out."""
    for name, parameter in network.named_parameters():
        if "norm" in name:
            torch.nn.init.normal_(parameter, mean=float(parameter.detach().mean()), std=0.3)
    return network


@pytest.fixture
def engine_config(make_model, tmp_path):
    """engine_config(kind or path, **changes) -> EngineConfig in float32."""

    def make(model: str | Path = "llama", **changes) -> EngineConfig:
        path = make_model(model) if isinstance(model, str) else model
        values = {
            "model_path": str(path), "dtype": "float32", "context_window": CONTEXT, "max_batch_size": 4, "cpu_threads": 1,
            "channel_token_file": str(tmp_path / "token"),
        }  # fmt: skip
        return EngineConfig(**{**values, **changes})

    return make


@pytest.fixture
def cuda_config(engine_config):
    """The same on a CUDA card, which is empty and without a wall again after the test."""
    yield lambda model="llama", **changes: engine_config(model, device="cuda", **changes)
    gc.unfreeze()  # a service freezes what it has, which with cycles would never be freed
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(1.0)


@pytest.fixture
def nearest_values(monkeypatch, tmp_path):
    """Weights of 4 bits keep the values that are nearest: there are no samples."""
    (tmp_path / "samples.txt").write_text("")
    monkeypatch.setattr("localmodel.engine.calibration.SAMPLES", tmp_path / "samples.txt")


@pytest.fixture
def edit_config(make_model, tmp_path):
    """edit_config(kind, **changes) -> a copy of the model directory whose config.json is changed; None removes a key."""

    def edit(kind: str, **changes) -> Path:
        directory = tmp_path / "model"
        directory.mkdir(exist_ok=True)
        for file in make_model(kind).iterdir():
            (directory / file.name).write_bytes(file.read_bytes())
        config = json.loads((directory / "config.json").read_text())
        config = {key: value for key, value in {**config, **changes}.items() if value is not None}
        (directory / "config.json").write_text(json.dumps(config))
        return directory

    return edit


class FakeStream:
    def __init__(self):
        self.texts, self.closed, self.cancelled, self.broken = [], False, False, False

    def send(self, text, *, final=False):
        assert not self.closed
        if self.broken:
            raise RuntimeError("the client has left")
        self.texts.append(text)
        self.closed = final

    def close(self):
        self.closed = True

    def is_cancelled(self):
        return self.cancelled

    @property
    def answer(self):
        assert self.closed and len(self.texts) == 1
        return json.loads(self.texts[0])

    @property
    def batches(self):
        return [read_batch(text) for text in self.texts]

    def text_of(self, id_):
        return "".join(event.text for batch in self.batches for event in batch.events if event.id == id_)

    def finish_of(self, id_):
        return next((e.finish_reason for batch in self.batches for e in batch.events if e.id == id_ and e.finish_reason), None)


def submit(id_, prompt=(1, 2), instance="a", epoch=1, **sampling):
    """The document that submits one sequence."""
    sequences = [{"id": id_, "prompt": prompt, "sampling": sampling}]
    return {"op": "submit", "instance": instance, "epoch": epoch, "sequences": sequences}


class World:
    """One engine whose device answers every prompt with the letters a, b, c ..., and the channel before it."""

    grace = 2.0
    token = CHANNEL_TOKEN
    stream = FakeStream
    document = staticmethod(submit)

    def __init__(self, tokenizer, slots=2):
        letters = tokenizer.encode("abcdefghijklmnopqrstuvwxyz").ids

        def run(works):
            for work in works:
                if work.samples and work.sequence.sampling.logprobs is not None:
                    token = letters[len(work.sequence.answer)]
                    work.sequence.logprobs.append(TokenLogprob(token, -1.0, ((token, -1.0),)))
            return [letters[len(work.sequence.answer)] for work in works if work.samples]

        self.engine = Engine(
            at_once(run),
            Scheduler(slots, 64, BlockPool(slots * 5, 8)),
            slots=slots,
            context=40,
            vocabulary=259,
            stop_tokens=frozenset(),
        )
        self.outputs = []
        self.channel = Channel(self.engine, tokenizer, CHANNEL_TOKEN, self.grace, self.outputs.extend, lambda: None, str)
        self.pump = Pump(self.channel)
        self.now = 100.0

    def ask(self, **document):
        stream = FakeStream()
        self.channel.handle(json.dumps({"token": CHANNEL_TOKEN, **document}), stream)
        return stream

    def generate(self, **document):
        stream = FakeStream()
        self.channel.handle(json.dumps({"op": "generate", **document}), stream)
        return stream

    def connect(self, instance="a", epoch=1, **more):
        stream = self.ask(op="events", instance=instance, epoch=epoch, **more)
        self.run(0)
        return stream

    def submit(self, id_="s", instance="a", epoch=1, prompt=(1, 2), **sampling):
        """The refusal of this sequence, or the whole answer."""
        sampling = {"temperature": 0, "max_tokens": 5, **sampling}
        answer = self.ask(**submit(id_, prompt, instance, epoch, **sampling)).answer
        return answer.get("refused", {}).get(id_, answer)

    def run(self, steps=1, seconds=0.01):
        for _ in range(steps):
            self.outputs += self.engine.step()
            self.pass_time(seconds)
        self.pass_time(seconds)

    def pass_time(self, seconds):
        outputs, self.outputs[:] = list(self.outputs), []
        self.channel.deliver(self.pump.run_ahead(outputs, self.now, 0.0))
        self.now += seconds
        self.pump.run(self.now, 0.0)


@pytest.fixture
def make_world(byte_tokenizer):
    """make_world(slots) -> World."""
    return partial(World, byte_tokenizer)


@pytest.fixture
def world(make_world):
    return make_world()
