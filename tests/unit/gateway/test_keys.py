"""Keys: hashes only, problems in words that show no key, and a directory whose changes count at once."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localmodel.api.gateway import GatewaySettings, KeyLimits
from localmodel.api.keys import format_hash
from localmodel.gateway import errors
from localmodel.gateway.auth import Caller, Door
from localmodel.gateway.key_directory import KeyDirectory
from localmodel.gateway.keys import MOST_HASHES, Keyring, describe_problems, parse_keys
from localmodel.gateway.record import Record


def ring(**keys: str) -> Keyring:
    return parse_keys({name.replace("_", "-"): format_hash(key).encode() for name, key in keys.items()})


def test_a_key_is_found_by_its_hash() -> None:
    keys = ring(team_a="lm-aaa", team_b="lm-bbb")
    assert keys.find("lm-aaa") == "team-a" and keys.find("lm-bbb") == "team-b"
    for wrong in ("", "lm-aa", "lm-aaaa", "LM-AAA", format_hash("lm-aaa"), "\udcff"):
        assert keys.find(wrong) is None
    assert Keyring().find("lm-aaa") is None


def test_two_hashes_are_a_rotation() -> None:
    keys = parse_keys({"a": f"\n{format_hash('old')}\r\n  {format_hash('new').upper().replace('SHA', 'sha')}  \n".encode()})
    assert keys.find("old") == keys.find("new") == "a" and not keys.problems


@pytest.mark.parametrize(
    "content", [b"lm-plain-secret", b"sha256:abc", b"sha256:" + b"g" * 64, b"\xff\xfe", b"", b" \n", b"x" * 5000]
)
def test_what_is_no_hash_is_told_and_never_shown(content: bytes) -> None:
    keys = parse_keys({"bad": content, "good": format_hash("k").encode()})
    assert keys.find("k") == "good" and keys.find(content.decode(errors="replace")) is None
    (problem,) = keys.problems
    assert "'bad'" in problem and "lm-plain-secret" not in problem
    assert "localmodel key create bad" in problem or "4096 bytes" in problem


def test_a_bad_line_beside_a_good_one() -> None:
    keys = parse_keys({"a": b"lm-plain\n" + format_hash("k").encode()})
    assert keys.find("k") == "a" and keys.find("lm-plain") is None and "line 1 is no hash" in keys.problems[0]


def test_one_key_under_two_names_and_too_many() -> None:
    keys = ring(a="k", b="k")
    assert keys.find("k") == "a" and "'a' and 'b' are the same key" in keys.problems[0]
    many = parse_keys({f"k{n:05}": format_hash(str(n)).encode() for n in range(MOST_HASHES + 1)})
    assert many.find("0") and not many.find(str(MOST_HASHES)) and "only the first 1024" in many.problems[0]
    assert describe_problems(tuple("abcde")) == "a b c 2 more problems of this kind."


@settings(deadline=None)
@given(st.dictionaries(st.text(max_size=5), st.binary(max_size=90), max_size=5))
def test_any_files_are_read(files: dict[str, bytes]) -> None:
    assert len(parse_keys(files).problems) >= len([c for c in files.values() if not c.startswith(b"sha256:")])


def test_the_directory_is_followed(tmp_path: Path) -> None:
    """As the kubelet does it: files are links to ..data/NAME, and ..data is a link that is swapped."""
    mount = tmp_path / "keys"
    keys = KeyDirectory(str(mount))
    assert not keys.ring.digests

    def publish(version: str, **entries: str) -> None:
        (mount / version).mkdir(parents=True)
        for name, key in entries.items():
            (mount / version / name).write_text(format_hash(key))
        (mount / "..new").symlink_to(version)
        (mount / "..new").replace(mount / "..data")
        for name in entries:
            if not (mount / name).is_symlink():
                (mount / name).symlink_to(f"..data/{name}")

    publish("..1", a="one")
    keys.look()
    assert keys.ring.names == {"a"} and keys.ring.find("one") == "a"
    before = keys.ring
    keys.look()
    assert keys.ring is before, "read again without need"
    publish("..2", a="two", b="three")
    keys.look()
    assert keys.ring.find("one") is None and keys.ring.find("two") == "a" and keys.ring.find("three") == "b"
    publish("..3")
    keys.look()
    assert not keys.ring.digests and not keys.ring.problems


def test_a_plain_directory_is_followed_and_lost(tmp_path: Path) -> None:
    mount = tmp_path / "keys"
    mount.mkdir()
    (mount / "a").write_text(format_hash("one"))
    (mount / "..draft").write_text("x")
    keys = KeyDirectory(str(mount))
    assert keys.ring.names == {"a"} and not keys.ring.problems
    (mount / "a").write_text(f"{format_hash('one')}\n{format_hash('two')}")
    keys.look()
    assert keys.ring.find("two") == "a"
    (mount / "a").unlink()
    (mount / "..draft").unlink()
    mount.rmdir()
    keys.look()
    assert not keys.ring.digests


def test_what_is_wrong_is_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "a").write_text("a key as it is")
    keys = KeyDirectory(str(tmp_path))
    (tmp_path / "..data").symlink_to("nowhere")
    for _ in range(3):
        keys.look()
    said = [message for message in caplog.messages if "nowhere" in message or "no hash" in message]
    assert len(said) == 2 and "a key as it is" not in caplog.text


class Keys:
    def __init__(self, ring: Keyring) -> None:
        self.ring = ring


def door(keys: Keyring | None, *limits: KeyLimits) -> Door:
    settings = GatewaySettings(model_name="m", served_names=("m", "n"), context_window=512, max_batch_size=1, limits=limits)
    return Door(settings, Keys(keys) if keys is not None else None)


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer ", "Basic k", "k", "Bearer wrong", "bearer k k", "Bearer\tk"])
def test_who_has_no_key_is_turned_away(header: str) -> None:
    with pytest.raises(errors.ApiError) as refused:
        door(ring(a="k")).admit({"authorization": header} if header else {})
    assert (refused.value.status, refused.value.code, refused.value.outcome) == (401, "invalid_api_key", "unauthorized")
    headers = refused.value.headers()
    assert headers["www-authenticate"].startswith("Bearer") and headers["x-should-retry"] == "false"


def test_who_has_one_is_known_by_its_name() -> None:
    for header in ("Bearer k", "bearer  k ", "BEARER k"):
        assert door(ring(a="k")).admit({"authorization": header}).key == "a"
    assert door(None).admit(bearer("whatever")).key is None


def test_models_of_a_key() -> None:
    entrance = door(ring(a="k", b="l"), KeyLimits(key="a", models=("n",)))
    caller = entrance.admit(bearer("k"))
    assert caller.visible(("m", "n")) == ("n",)
    caller.check_model("n")
    for name in ("m", "unknown"):
        with pytest.raises(errors.ApiError, match="Use one of: n") as refused:
            caller.check_model(name)
        assert (refused.value.status, refused.value.code) == (403, "model_not_allowed")
    not_served = errors.model_not_found(("n",))
    assert caller.judge(not_served).code == "model_not_allowed"
    other = entrance.admit(bearer("l"))
    other.check_model("unknown")
    assert other.visible(("m", "n")) == ("m", "n") and other.judge(not_served) is not_served
    assert caller.judge(errors.unknown_url()).code == "unknown_url"
    assert entrance.problem == ""


def record(outcome: errors.Outcome, prompt: int | None, completion: int) -> Record:
    made = Record(request_id="r", pod="", namespace="", model="", model_version="", outcome=outcome)
    made.prompt_tokens, made.completion_tokens = prompt, completion
    return made


def used_up(entrance: Door, key: str, tokens: int = 10) -> str | None:
    try:
        entrance.admit(bearer(key)).reserve(tokens)
    except errors.ApiError as error:
        assert error.outcome == "rate_limited" and error.status == 429
        return error.code
    return None


def test_limits_of_one_key_of_every_other_and_of_nobody() -> None:
    entrance = door(ring(a="a", b="b", c="c"), KeyLimits(key="a"), KeyLimits(key="*", rpm=1))
    assert [used_up(entrance, "a") for _ in range(5)] == [None] * 5
    assert [used_up(entrance, "b") for _ in range(2)] == [None, "rate_limit_exceeded"]
    assert used_up(entrance, "c") is None, "each key under * has its own"
    shared = door(None, KeyLimits(key="*", rpm=1))
    assert [used_up(shared, k) for k in "ab"] == [None, "rate_limit_exceeded"], "without keys all callers share"
    assert [used_up(door(None), "a") for _ in range(9)] == [None] * 9


def test_tokens_are_reserved_then_settled() -> None:
    entrance = door(ring(a="k"), KeyLimits(key="a", tpm=100, max_concurrent=2))
    caller = entrance.admit(bearer("k"))
    assert caller.reserve(90)["x-ratelimit-remaining-tokens"] == "10"
    assert used_up(entrance, "k", 11) == "rate_limit_exceeded"
    caller.settle(record("ok", 5, 5))
    caller.settle(record("ok", 5, 5))
    assert used_up(entrance, "k", 90) is None
    unserved = entrance.admit(bearer("k"))
    unserved.reserve(0)
    assert used_up(entrance, "k", 0) == "key_concurrency_exceeded"
    unserved.settle(record("shed", 5, 0))
    unknown = entrance.admit(bearer("k"))
    unknown.settle(record("rejected", None, 0))
    unknown.reserve(0)
    with pytest.raises(errors.ApiError, match="may use 101 tokens") as refused:
        Caller.reserve(entrance.admit(bearer("k")), 101)
    assert refused.value.headers()["x-should-retry"] == "false" and "retry-after" not in refused.value.headers()


def test_what_the_engine_never_saw_costs_no_tokens_and_what_is_not_read_costs_all() -> None:
    entrance = door(ring(a="k"), KeyLimits(key="a", tpm=100))
    left = entrance.admit(bearer("k"))
    left.reserve(90)
    left.settle(record("client_closed", None, 0))
    assert used_up(entrance, "k", 100) is None
    entrance = door(ring(a="k"), KeyLimits(key="a", tpm=100))
    unread = entrance.admit(bearer("k"))
    unread.reserve(90)
    of_v2 = record("ok", None, 0)
    of_v2.endpoint = "v2"
    unread.settle(of_v2)
    assert used_up(entrance, "k", 11) == "rate_limit_exceeded"


def test_what_is_wrong_is_told() -> None:
    assert door(None).missing is None
    reason, message = door(Keyring()).missing or ("", "")
    assert reason == "KeysMissing" and "localmodel key create" in message
    reason, message = door(parse_keys({"a": b"plain"})).missing or ("", "")
    assert reason == "KeysInvalid" and "'a'" in message
    good = door(ring(a="k"), KeyLimits(key="a"), KeyLimits(key="*"))
    assert good.missing is None and good.problem == ""
    assert "'b', but there is no such key" in door(ring(a="k"), KeyLimits(key="b")).problem
    assert "'x', which is not served: use m, n" in door(None, KeyLimits(key="*", models=("x",))).problem
    partly = door(parse_keys({"a": b"plain", "b": format_hash("k").encode()}))
    assert partly.missing is None and "'a'" in partly.problem
