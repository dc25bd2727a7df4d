"""A chat that is put together from known stretches has the ids that the tokenizer gives for the whole text."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, trainers

import weights
from gateway.tiny_model import write_tiny_model
from localmodel.gateway.chat_encoder import ChatEncoder
from localmodel.gateway.prompts import load_prompts

CORPUS = [
    "What is the capital of France? Paris, said the user. 12 34 don't",
    "日本 é e\u0301 <b> 1,000 \n\n  \t the theory of them",
] * 4
START, END = "<|im_start|>", "<|im_end|>"
PARTS = [
    START, END, "<|other|>", "<|im_", "|>", "<", "the", " the", "What", " ", "  ", "\n", "\t", "12", "é", "e\u0301", "日", "x",
]  # fmt: skip
TEXTS = st.lists(st.sampled_from(PARTS), max_size=30).map("".join)


def trained(*, prefix: bool = False, metaspace: bool = False, others: tuple[AddedToken, ...] = ()) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = (
        pre_tokenizers.Metaspace(prepend_scheme="first") if metaspace else pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    )
    tokenizer.normalizer = normalizers.NFC()
    alphabet = [] if metaspace else pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, special_tokens=["<unk>"], show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.add_special_tokens([AddedToken(text, normalized=False, special=True) for text in (START, END)])
    tokenizer.add_tokens(list(others))
    return tokenizer


TOKENIZERS = {
    "bytes": trained(),
    "a blank before each piece": trained(prefix=True),
    "a blank before the text": trained(metaspace=True),
    "another token": trained(others=(AddedToken("<|other|>", rstrip=True), AddedToken("the", single_word=True))),
}
EXAMPLE = f"{START}user\nx{END}\n{START}assistant\n"


@pytest.mark.parametrize("name", TOKENIZERS)
def test_the_parts_are_the_whole(name: str) -> None:
    tokenizer = TOKENIZERS[name]
    encoder = ChatEncoder(tokenizer, EXAMPLE)
    assert encoder.cuts

    @given(TEXTS)
    def check(text: str) -> None:
        for _ in range(2):
            assert encoder.encode(text) == tuple(tokenizer.encode(text, add_special_tokens=False).ids)

    check()


@pytest.mark.triton
def test_the_parts_are_the_whole_of_a_real_model() -> None:
    directory = weights.make(weights.default_destination())
    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    encoder = ChatEncoder(tokenizer, EXAMPLE)
    assert encoder.cuts

    @given(TEXTS | st.text())
    def check(text: str) -> None:
        for _ in range(2):
            assert encoder.encode(text) == tuple(tokenizer.encode(text, add_special_tokens=False).ids)

    check()


@pytest.mark.parametrize(
    "token",
    [
        AddedToken("<|im_start|><|im_end|>", normalized=False),
        AddedToken("x<|im_", normalized=False),
    ],
    ids=str,
)
def test_no_cut_where_another_token_may_take_part_of_a_border(token: AddedToken) -> None:
    tokenizer = trained(others=(token,))
    encoder = ChatEncoder(tokenizer, f"{START}x{END}")
    for text in (f"a{START}{END}b", f"x{START}b{END}", f"a{END}{START}"):
        assert encoder.encode(text) == tuple(tokenizer.encode(text, add_special_tokens=False).ids)


@pytest.mark.parametrize("options", [{"lstrip": True}, {"rstrip": True}, {"single_word": True}, {"normalized": True}], ids=str)
def test_no_cut_at_a_token_that_looks_around_itself(options: dict[str, bool]) -> None:
    tokenizer = trained()
    tokenizer.add_special_tokens([AddedToken("<|turn|>", **{"normalized": False, **options})])
    assert not ChatEncoder(tokenizer, "<|turn|>x").cuts


def test_what_was_read_before_is_not_read_again_and_memory_has_a_limit() -> None:
    class Counting:
        def __init__(self, tokenizer: Tokenizer) -> None:
            self.read: list[str] = []
            self._tokenizer = tokenizer

        def get_added_tokens_decoder(self) -> object:
            return self._tokenizer.get_added_tokens_decoder()

        def encode_batch_fast(self, texts: list[str], add_special_tokens: bool) -> object:
            self.read += texts
            return self._tokenizer.encode_batch_fast(texts, add_special_tokens=add_special_tokens)

    tokenizer = Counting(TOKENIZERS["bytes"])
    encoder = ChatEncoder(tokenizer, EXAMPLE)  # type: ignore[arg-type]
    first = f"{START}user\nWhat?{END}\n{START}assistant\n"
    encoder.encode(first)
    tokenizer.read.clear()
    encoder.encode(f"{START}user\nWhat?{END}\n{START}assistant\nParis{END}\n{START}user\nthe{END}\n{START}assistant\n")
    assert tokenizer.read == [f"{START}assistant\nParis", f"{START}user\nthe"]
    for number in range(200):
        encoder.encode(f"{START}{number} " + "x" * 10_000)
    assert encoder._size == sum(map(len, encoder._known)) <= 500_000
    encoder.encode(START + "y" * 100_000)
    assert encoder._size == sum(map(len, encoder._known)) and not any("y" in text for text in encoder._known)


def test_a_model_whose_chats_have_no_border_is_not_cut(tmp_path: Path) -> None:
    prompts = load_prompts(str(write_tiny_model(tmp_path)))
    assert prompts._chats is not None and prompts._chats.encode("<s>user What") == (1, 3, 5)


def test_a_tokenizer_that_fails_is_not_cut() -> None:
    tokenizer = Tokenizer(models.WordLevel({"a": 0}, unk_token="<unk>"))
    tokenizer.add_special_tokens([START])
    assert not ChatEncoder(tokenizer, START).cuts
