"""What `model` compiles where Triton's language is installed; it has to be read from a file."""

import triton.language as tl

import triton


@triton.jit
def double(numbers):
    places = numbers + tl.arange(0, 32)
    tl.store(places, tl.load(places) * 2)
