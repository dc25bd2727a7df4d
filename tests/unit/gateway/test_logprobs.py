"""Which bytes a token stands for, in every kind of vocabulary, and how the two endpoints show its log-probability."""

import json

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

import weights
from localmodel.api.events import TokenLogprob
from localmodel.gateway.logprobs import ChatLogprobs, CompletionLogprobs
from localmodel.gateway.openai_choice import Choice, Whole
from localmodel.gateway.openai_request import parse_call
from localmodel.gateway.pieces import Piece
from localmodel.gateway.token_texts import TokenTexts, shown

TEXTS = ["Zoë said: 日本 😀!", "  two  spaces\n\ttab", "\u2028 ¡ÿ \x7f", "Ġ and Ċ are letters too", "<0x41> is text"]


def byte_level() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(["Zoë said two spaces"] * 3, trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet))
    return tokenizer


def byte_fallback() -> Tokenizer:
    vocabulary = {"<unk>": 0, **{f"<0x{byte:02X}>": byte + 1 for byte in range(256)}}
    for character in "▁aesidtwocpZ:":
        vocabulary[character] = len(vocabulary)
    vocabulary["▁two"], vocabulary["▁t"], vocabulary["wo"] = range(len(vocabulary), len(vocabulary) + 3)
    merges = [("▁", "t"), ("w", "o"), ("▁t", "wo")]
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never", split=False)
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    return tokenizer


@pytest.mark.parametrize("tokenizer", [byte_level(), byte_fallback()], ids=["byte level", "byte fallback"])
@pytest.mark.parametrize("text", TEXTS)
def test_bytes_of_tokens_are_the_bytes_of_the_text(tokenizer: Tokenizer, text: str) -> None:
    tokens = TokenTexts(tokenizer)
    assert b"".join(tokens.bytes(token) for token in tokenizer.encode(text).ids) == text.encode()


@pytest.mark.triton
@pytest.mark.parametrize("text", TEXTS)
def test_bytes_of_a_real_vocabulary(text: str) -> None:
    tokenizer = Tokenizer.from_file(str(weights.make(weights.default_destination()) / "tokenizer.json"))
    tokens = TokenTexts(tokenizer)
    assert b"".join(tokens.bytes(token) for token in tokenizer.encode(text).ids) == text.encode()


def test_added_tokens_are_plain_text_and_unknown_ids_are_empty() -> None:
    tokenizer = byte_level()
    tokenizer.add_tokens([AddedToken("<tool_call> é", special=False)])
    tokens = TokenTexts(tokenizer)
    assert tokens.bytes(tokenizer.token_to_id("<tool_call> é")) == "<tool_call> é".encode()
    assert tokens.bytes(10**6) == b""


def test_half_a_character_is_shown_by_its_bytes() -> None:
    assert shown("é".encode()) == "é"
    assert shown("é".encode()[:1]) == "\\xc3"
    assert shown("😀".encode()[1:3], "bytes:") == "bytes:\\x9f\\x98"


def rows(tokenizer: Tokenizer, text: str) -> list[TokenLogprob]:
    return [TokenLogprob(token, -0.5, ((token, -0.5), (65, -2.0))) for token in tokenizer.encode(text).ids]


def test_a_chat_shows_every_token_with_its_bytes() -> None:
    tokenizer = byte_level()
    document = ChatLogprobs(TokenTexts(tokenizer)).document(rows(tokenizer, "Zoë 😀"))
    assert b"".join(bytes(entry["bytes"]) for entry in document["content"]).decode() == "Zoë 😀"
    assert document["refusal"] is None
    for entry in document["content"]:
        assert entry["logprob"] == -0.5 and len(entry["top_logprobs"]) == 2
        assert entry["top_logprobs"][0] == {name: entry[name] for name in ("token", "logprob", "bytes")}
    json.dumps(document)


def test_the_old_form_counts_characters() -> None:
    tokenizer = byte_level()
    writer = CompletionLogprobs(TokenTexts(tokenizer))
    text = "Zoë 😀!"
    whole = rows(tokenizer, text)
    first, second = writer.document(whole[:3]), writer.document(whole[3:])
    offsets = first["text_offset"] + second["text_offset"]
    for offset, row in zip(offsets, whole, strict=True):
        token = TokenTexts(tokenizer).bytes(row.token)
        if token.isascii():
            assert text[offset:].encode().startswith(token)
    assert offsets[0] == 0 and offsets == sorted(offsets) and offsets[-1] == len(text) - 1
    assert all(len(top) == 2 for top in second["top_logprobs"][1:]) and second["token_logprobs"][-1] == -0.5


def test_the_sampled_token_is_always_among_the_likeliest() -> None:
    tokenizer = byte_level()
    document = CompletionLogprobs(TokenTexts(tokenizer)).document([TokenLogprob(40, -3.0, ())])
    assert document["top_logprobs"] == [{document["tokens"][0]: -3.0}]


def test_pieces_are_put_together() -> None:
    tokenizer = byte_level()
    body = {"messages": [{"role": "user", "content": "a"}], "logprobs": True}
    call = parse_call("chat", body, ("m",), 300)
    whole = Whole(Choice(call, None, TokenTexts(tokenizer)))
    for number, row in enumerate(rows(tokenizer, "Zoë 😀")):
        whole.add(Piece(0, str(number), (row,)))
    whole.add(Piece(0, "", (), "stop"))
    assert whole.logprobs is not None and len(whole.logprobs["content"]) == len(tokenizer.encode("Zoë 😀").ids)


def test_an_answer_without_a_token_has_an_empty_list() -> None:
    """Such as one that begins with a stop text. Whoever asked for log-probabilities reads them unasked."""
    tokens = TokenTexts(byte_level())
    chat = parse_call("chat", {"messages": [{"role": "user", "content": "a"}], "logprobs": True}, ("m",), 300)
    text = parse_call("completions", {"prompt": "a", "logprobs": 1}, ("m",), 300)
    old = {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}
    for call, empty in ((chat, {"content": [], "refusal": None}), (text, old)):
        whole = Whole(Choice(call, None, tokens))
        whole.add(Piece(0, "", (), "stop"))
        assert whole.logprobs == empty
    assert Whole(Choice(parse_call("completions", {"prompt": "a"}, ("m",), 300), None, tokens)).logprobs is None
