"""Instructions of a card that whole numbers of one row are made with, carried out one by one, without a card."""

import os
import re
import struct

import numpy as np
import pytest
import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # as test_card_kernels

from localmodel.engine.whole_numbers import BYTES_PRODUCT, MOST, NIBBLES_PRODUCT, PLANES

WORD = 0xFFFFFFFF


def bits_of(number):
    return struct.unpack("<I", struct.pack("<f", number))[0]


def number_of(bits):
    return np.float32(struct.unpack("<f", struct.pack("<I", bits & WORD))[0])


def dp4a(kind, a, b, c):
    """PTX: four products of bytes, each side's signed (s32) or not, added to c."""
    left, right = (np.dtype("<i1" if side == "s32" else "<u1") for side in kind.split(".")[1:])
    sides = (np.frombuffer(struct.pack("<I", word), kind).astype(int) for word, kind in ((a, left), (b, right)))
    return c + int(np.dot(*sides))


def prmt(a, b, selector):
    held = struct.pack("<II", a, b)
    return int.from_bytes(bytes(held[selector >> 4 * place & 7] for place in range(4)), "little")


CARRIED_OUT = {
    "mov": lambda kind, a: a,
    "and": lambda kind, a, b: a & b,
    "shl": lambda kind, a, b: a << b,
    "add": lambda kind, a, b: a + b,
    "prmt": lambda kind, a, b, c: prmt(a, b, c),
    "fma": lambda kind, a, b, c: bits_of(np.float32(float(number_of(a)) * float(number_of(b)) + float(number_of(c)))),
    "dp4a": dp4a,
}


def carry_out(body, operands):
    """Words by name after `body`, with `operands` as $n before."""
    words = {f"${place}": word for place, word in operands.items()}

    def value(name):
        name = name.strip()
        if name.startswith("0f"):
            return int(name[2:], 16)
        return words[name] if name in words else int(name, 0)

    for line in re.sub(r"[{}]", "", body).split(";"):
        if line.strip() and not line.strip().startswith(".reg"):
            kind, _, rest = line.strip().partition(" ")
            target, *sources = rest.split(",")
            words[target.strip()] = CARRIED_OUT[kind.split(".")[0]](kind, *map(value, sources)) & WORD
    return words


def words_of(array):
    return struct.unpack("<" + "I" * (array.nbytes // 4), array.tobytes())


@pytest.fixture
def random():
    return np.random.default_rng(0)


def planes(numbers, step=1.0):
    """(high, low) of numbers, four at a time, as the kernel makes them."""
    made = []
    for four in np.asarray(numbers, np.float32).reshape(-1, 4):
        inputs = [*map(bits_of, four), bits_of(1 / step)]
        words = carry_out(PLANES.value, dict(enumerate(inputs, 2)))
        made.append((words["$0"], words["$1"]))
    high, low = np.array(made, "<u4").T
    return np.ascontiguousarray(high).view("<i1"), np.ascontiguousarray(low).view("<u1")


def test_numbers_become_planes(random):
    numbers = [*random.uniform(-MOST.value, MOST.value, 200), 0, 1, -1, 255, 256, -256, MOST.value, -MOST.value]
    high, low = planes(numbers)
    assert (high.astype(int) * 256 + low == np.rint(np.float32(numbers))).all()
    high, low = planes([0.5] * 4, step=0.5 / MOST.value)
    assert (high.astype(int) * 256 + low == MOST.value).all()


@pytest.mark.parametrize("extreme", [False, True])
def test_sums_are_those_of_whole_numbers(random, extreme):
    for _ in range(50):
        x = random.integers(-32512, 32513, 16)
        w = random.integers(-127, 128, 8).astype("<i1")
        nibbles = random.integers(0, 16, 16)
        if extreme:
            x[:], w[:], nibbles[:] = (random.choice((-32512, 32512)), random.choice((-127, 127)), 15)
        high, low = planes(x)
        operands = [*words_of(w), *words_of(high[:8]), *words_of(low[:8])]
        words = carry_out(BYTES_PRODUCT.value, dict(enumerate(operands, 2)))
        assert words["$0"] == int(w.astype(int) @ x[:8]) & WORD
        assert words["$1"] == 0
        packed = (nibbles[:8] | nibbles[8:] << 4).astype("<u1")
        operands = [*words_of(packed), *(word for part in (high[:8], low[:8], high[8:], low[8:]) for word in words_of(part))]
        words = carry_out(NIBBLES_PRODUCT.value, dict(enumerate(operands, 2)))
        assert words["$0"] == int(nibbles @ x) * 16 & WORD
        assert words["$1"] == 0
