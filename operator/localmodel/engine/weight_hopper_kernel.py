"""Product of many rows with a weight of 8 or 4 bits on cards with warpgroup products (Hopper), in Gluon.

Why it exists: with 20 rows and more the tensor cores decide, and a kernel in Triton-the-language makes numbers of bits and
multiplies by turns. Here a warp only loads, and two groups of four warps take turns: one makes bfloat16 of its part of the
weight, in registers, while the other multiplies. It chooses nothing; forms of a weight: see `weight_rows_kernel`.

A tile is 2 * 64 rows of the weight and PIECES * COLUMNS rows of x, a step 64 bytes of each of its rows: a tensor has a power of
two, and three such pieces multiply less than the next one. Programs stay, and take items of work (`find_item`): whole tiles, or
parts of K of them, which `weight_hopper_sum` adds up. Only a card shows what it computes.
"""

from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import fence_async_shared, mbarrier, tma, warpgroup_mma, warpgroup_mma_wait
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from localmodel.engine.weight_hopper_numbers import HEIGHT, numbers_of, steps_of

load_tile = tma.async_load if hasattr(tma, "async_load") else tma.async_copy_global_to_shared  # before Triton 3.7
store_tile = tma.async_store if hasattr(tma, "async_store") else tma.async_copy_shared_to_global


@gluon.jit
def find_item(item, whole, splits, steps):
    """(tile, first step, end) of an item: `whole` tiles are one each, the others `splits`."""
    tile = item
    start = 0
    end = steps
    if item >= whole:
        tile = whole + (item - whole) // splits
        each = (steps + splits - 1) // splits
        start = (item - whole) % splits * each
        end = min(start + each, steps)
    return tile, start, end


@gluon.jit
def _load(
    weight, x, buffers, work, BITS: gl.constexpr, COLUMNS: gl.constexpr, PIECES: gl.constexpr, OVERLAP: gl.constexpr,
):  # fmt: skip
    parts, rows, _results, filled, emptied, _ended = buffers
    items, whole, splits, steps, blocks = work
    stages: gl.constexpr = filled.shape[0]
    halves: gl.constexpr = 8 // BITS
    count = 0
    for item in range(gl.program_id(0), items, gl.num_programs(0)):
        tile, start, end = find_item(item, whole, splits, steps)
        n = tile // blocks * (2 * HEIGHT)
        m = tile % blocks * (COLUMNS * PIECES)
        for step in range(start, end):
            stage = count % stages
            mbarrier.wait(emptied.index(stage), (count // stages & 1) ^ 1)
            full = filled.index(stage)
            mbarrier.expect(full, 2 * HEIGHT * 64 + halves * PIECES * COLUMNS * 128)
            for group in gl.static_range(2):
                load_tile(weight, [n + group * HEIGHT, step * 32], full, parts.index(stage * 2 + group))
            if OVERLAP != "":  # noqa: SIM102 - one is decided when it is compiled
                if count == 0:  # only here, where x is read: the others wait for what is loaded here
                    gdc_wait()
            for half in gl.static_range(halves):
                for piece in gl.static_range(PIECES):
                    room = rows.index((stage * halves + half) * PIECES + piece)
                    load_tile(x, [m + piece * COLUMNS, (step * halves + half) * 64], full, room)
            count += 1


@gluon.jit
def _multiply(first, second, rows, stage, totals, BITS: gl.constexpr):
    halves: gl.constexpr = 8 // BITS
    pieces: gl.constexpr = len(totals)
    sums = ()
    for piece in gl.static_range(pieces):
        total = warpgroup_mma(first, rows.index(stage * halves * pieces + piece).permute((1, 0)), totals[piece], is_async=True)
        if BITS == 4:
            total = warpgroup_mma(second, rows.index((stage * 2 + 1) * pieces + piece).permute((1, 0)), total, is_async=True)
        sums += (total,)
    return sums


@gluon.jit
def _wait(totals):
    sums = warpgroup_mma_wait(0, deps=totals)
    if len(totals) == 1:
        sums = (sums,)
    return sums


@gluon.jit
def _store_part(place, totals, wanted, COLUMNS: gl.constexpr):
    """As it lies in registers, each of which is written by all threads at once. `weight_hopper_sum` has the order."""
    layout: gl.constexpr = gl.BlockedLayout([COLUMNS // 2, 1], [1, 32], [1, 4], [0, 1])
    register = gl.expand_dims(gl.arange(0, COLUMNS // 2, gl.SliceLayout(1, layout)), 1)
    thread = gl.expand_dims(gl.arange(0, 128, gl.SliceLayout(0, layout)), 0)
    for piece in gl.static_range(len(totals)):
        each = totals[piece].reshape([4, 2, 8, COLUMNS // 8, 4, 2]).permute((3, 5, 1, 0, 2, 4)).reshape([COLUMNS // 2, 128])
        each = gl.convert_layout(each, layout, assert_trivial=True)
        at = place + piece * (HEIGHT * COLUMNS) + register * 128 + thread
        gl.store(at, each, mask=piece * COLUMNS + register // 4 * 8 < wanted)


@gluon.jit
def _compute(
    output, scales, minima, bias, partials, M, N, biased, buffers, work,
    GROUP: gl.constexpr, BITS: gl.constexpr, COLUMNS: gl.constexpr, PIECES: gl.constexpr,
):  # fmt: skip
    parts, rows, results, filled, emptied, ended = buffers
    items, whole, splits, steps, blocks = work
    stages: gl.constexpr = filled.shape[0]
    shape: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, COLUMNS, 16])
    operand: gl.constexpr = gl.DotOperandLayout(0, shape, 2)
    pairs: gl.constexpr = gl.DotOperandLayout(0, shape, 1)
    count = 0
    written = 0
    for item in range(gl.program_id(0), items, gl.num_programs(0)):
        tile, start, end = find_item(item, whole, splits, steps)
        n0 = tile // blocks * (2 * HEIGHT) + GROUP * HEIGHT
        m0 = tile % blocks * (COLUMNS * PIECES)
        totals = ()
        for _ in gl.static_range(PIECES):
            totals += (gl.zeros([HEIGHT, COLUMNS], gl.float32, shape),)
        n = n0 + gl.arange(0, HEIGHT, gl.SliceLayout(1, shape))
        added = gl.load(bias + n, mask=(n < biased) & (item < whole), other=0.0)
        if BITS == 8:
            line_scales = gl.load(scales + n, mask=(n < N) & (item < whole), other=0.0)
        own = gl.minimum(n0 + gl.arange(0, HEIGHT, gl.SliceLayout(1, pairs)), N - 1) * steps
        scale, minimum = steps_of(scales, minima, own + start, BITS)
        mbarrier.wait(filled.index(count % stages), count // stages & 1)
        first, second = numbers_of(parts.index(count % stages * 2 + GROUP).load(pairs), scale, minimum, BITS, operand)
        scale, minimum = steps_of(scales, minima, own + min(start + 1, end - 1), BITS)
        for step in range(start, end - 1):  # the next step's numbers are made while this one's are multiplied
            stage = count % stages
            totals = _multiply(first, second, rows, stage, totals, BITS)
            count += 1
            mbarrier.wait(filled.index(count % stages), count // stages & 1)
            first, second = numbers_of(parts.index(count % stages * 2 + GROUP).load(pairs), scale, minimum, BITS, operand)
            scale, minimum = steps_of(scales, minima, own + min(step + 2, end - 1), BITS)
            totals = _wait(totals)
            mbarrier.arrive(emptied.index(stage))
        stage = count % stages
        totals = _wait(_multiply(first, second, rows, stage, totals, BITS))
        count += 1
        if item < whole:
            if BITS == 8:
                mbarrier.arrive(emptied.index(stage))
            else:  # there is no room for results but that of the rows of x, once both groups have read them
                mbarrier.arrive(ended)
                mbarrier.wait(ended, written & 1)
            written += 1
            tma.store_wait(0)
            for piece in gl.static_range(PIECES):
                total = totals[piece]
                if BITS == 8:
                    total *= gl.expand_dims(line_scales.to(gl.float32), 1)
                    room = results.index(GROUP * PIECES + piece)
                else:
                    room = rows.index((stage * 2 + GROUP) * PIECES + piece)
                total += gl.expand_dims(added.to(gl.float32), 1)
                room.permute((1, 0)).store(total.to(gl.bfloat16))
                fence_async_shared()
                store_tile(output, [m0 + piece * COLUMNS, n0], room)
            if BITS == 4:
                tma.store_wait(0)
                mbarrier.arrive(emptied.index(stage))
        else:
            mbarrier.arrive(emptied.index(stage))
            part = (item - whole) * 2 + GROUP
            _store_part(partials + part * (HEIGHT * COLUMNS * PIECES), totals, M - m0, COLUMNS)
    tma.store_wait(0)


@gluon.jit(do_not_specialize=["M", "N", "biased", "items", "whole", "splits", "steps", "blocks"])
def product_kernel(
    scales, minima, bias, partials, weight, x, output, M, N, biased, items, whole, splits, steps, blocks,
    BITS: gl.constexpr, COLUMNS: gl.constexpr, PIECES: gl.constexpr, STAGES: gl.constexpr, REGISTERS: gl.constexpr,
    OVERLAP: gl.constexpr = "",
):  # fmt: skip
    if OVERLAP == "early":
        gdc_launch_dependents()
    parts = gl.allocate_shared_memory(gl.int16, [STAGES * 2, HEIGHT, 32], weight.layout)
    rows = gl.allocate_shared_memory(gl.bfloat16, [STAGES * (8 // BITS) * PIECES, COLUMNS, 64], x.layout)
    room: gl.constexpr = [2 * PIECES, COLUMNS, HEIGHT] if BITS == 8 else [1, 8, HEIGHT]
    results = gl.allocate_shared_memory(gl.bfloat16, room, output.layout)
    filled = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    emptied = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    ended = gl.allocate_shared_memory(gl.int64, [1], mbarrier.MBarrierLayout())
    for stage in gl.static_range(STAGES):
        mbarrier.init(filled.index(stage), count=1)
        mbarrier.init(emptied.index(stage), count=2)
    mbarrier.init(ended, count=2)
    buffers = (parts, rows, results, filled, emptied, ended)
    work = (items, whole, splits, steps, blocks)
    gl.warp_specialize(
        [
            (_compute, (output, scales, minima, bias, partials, M, N, biased, buffers, work, 0, BITS, COLUMNS, PIECES)),
            (_compute, (output, scales, minima, bias, partials, M, N, biased, buffers, work, 1, BITS, COLUMNS, PIECES)),
            (_load, (weight, x, buffers, work, BITS, COLUMNS, PIECES, OVERLAP)),
        ],
        [4, 1], [REGISTERS, 24],
    )  # fmt: skip
