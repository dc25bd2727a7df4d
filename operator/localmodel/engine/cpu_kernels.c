/* The steps between two products with weights on a processor, but attention: what `fused_kernels` is on a card.
 *
 * Why it exists: torch takes ten calls to norm; at 16 sequences calls cost as much as products. It knows nothing of Python or torch:
 * `cpu_kernels.py` hands it addresses, of tensors that it has checked.
 *
 * All is computed in float32 and rounded once. A row is computed by itself, so its bits do not depend on the others.
 * Shapes: N rows of one step; A heads, K kv_heads, D size of a head; H hidden, I intermediate.
 */
#include "cpu_numbers.h"

enum { WORTH_THREADS = 1 << 15 };

INLINE void add(const void *restrict x, const void *restrict delta, void *restrict total, int64_t size, int half) {
    for (int64_t at = 0; at < size; at++)
        put(total, at, get(x, at, half) + get(delta, at, half), half);
}

INLINE void norm(const void *x, const void *delta, const void *restrict weight, void *total, void *restrict normed, int64_t size,
                 float epsilon, int half) {
    float squares = 0;
    if (delta) {
        add(x, delta, total, size, half);
        x = total;
    }
    for (int64_t at = 0; at < size; at++)
        squares += get(x, at, half) * get(x, at, half);
    float scale = 1 / sqrtf(squares / size + epsilon);
    for (int64_t at = 0; at < size; at++)
        put(normed, at, get(x, at, half) * scale * get(weight, at, half), half);
}

FOR_EACH_PROCESSOR void localmodel_norm(const void *x, const void *delta, const void *weight, void *total, void *normed,
                                        int64_t size, float epsilon, int64_t half) {
    if (half)
        norm(x, delta, weight, total, normed, size, epsilon, 1);
    else
        norm(x, delta, weight, total, normed, size, epsilon, 0);
}

/* x, delta [N, H] -> total = x + delta, normed = its norm times weight [H]; delta 0: of x, and total is not written. */
void localmodel_add_rms_norm(const void *x, const void *delta, const void *weight, void *total, void *normed, int64_t rows,
                             int64_t size, float epsilon, int64_t half, int64_t threads) {
#pragma omp parallel for num_threads(threads) if (threads > 1 && rows * size > WORTH_THREADS)
    for (int64_t row = 0; row < rows; row++) {
        int64_t at = row * size;
        localmodel_norm(NUMBER(x, at, half), delta ? NUMBER(delta, at, half) : 0, weight,
                        delta ? (void *)NUMBER(total, at, half) : 0, (void *)NUMBER(normed, at, half), size, epsilon, half);
    }
}

INLINE void turn(const void *restrict from, void *restrict to, const void *restrict cosines, const void *restrict sines, int64_t size,
                 int half) {
    for (int64_t d = 0; d < size / 2; d++) {
        float low = get(from, d, half), high = get(from, d + size / 2, half), cosine = get(cosines, d, half);
        float sine = get(sines, d + size / 2, half);
        put(to, d, low * cosine - high * sine, half);
        put(to, d + size / 2, high * cosine + low * sine, half);
    }
}

FOR_EACH_PROCESSOR void localmodel_turn(const void *from, void *to, const void *cosines, const void *sines, int64_t size,
                                        int64_t half) {
    if (half)
        turn(from, to, cosines, sines, size, 1);
    else
        turn(from, to, cosines, sines, size, 0);
}

/* qkv [N, A + 2 K, D], cosines and signed sines [N, D] -> turned queries [N, A, D]; of the first `stored` rows turned keys, and values,
 * go to cache_rows [stored] of keys, values [tokens, K, D]. */
void localmodel_turn_and_store(const void *qkv, const void *cosines, const void *sines, const int64_t *cache_rows, void *queries,
                               void *keys, void *values, int64_t rows, int64_t stored, int64_t heads, int64_t kv_heads,
                               int64_t size, int64_t half, int64_t threads) {
#pragma omp parallel for num_threads(threads) if (threads > 1 && rows * heads * size > WORTH_THREADS)
    for (int64_t row = 0; row < rows; row++) {
        int64_t from = row * (heads + 2 * kv_heads) * size;
        const void *cosine = NUMBER(cosines, row * size, half), *sine = NUMBER(sines, row * size, half);
        for (int64_t head = 0; head < heads; head++)
            localmodel_turn(NUMBER(qkv, from + head * size, half), (void *)NUMBER(queries, (row * heads + head) * size, half), cosine,
                            sine, size, half);
        if (row >= stored)
            continue;
        for (int64_t head = 0; head < kv_heads; head++)
            localmodel_turn(NUMBER(qkv, from + (heads + head) * size, half),
                            (void *)NUMBER(keys, (cache_rows[row] * kv_heads + head) * size, half), cosine, sine, size, half);
        memcpy((void *)NUMBER(values, cache_rows[row] * kv_heads * size, half), NUMBER(qkv, from + (heads + kv_heads) * size, half),
               kv_heads * size * (half ? 2 : 4));
    }
}

INLINE void silu(const void *restrict gate, const void *restrict up, void *restrict output, int64_t size, int half) {
    for (int64_t at = 0; at < size; at++) {
        float x = get(gate, at, half);
        put(output, at, x / (1 + exponential(-x)) * get(up, at, half), half);
    }
}

FOR_EACH_PROCESSOR void localmodel_silu(const void *gate, const void *up, void *output, int64_t size, int64_t half) {
    if (half)
        silu(gate, up, output, size, 1);
    else
        silu(gate, up, output, size, 0);
}

/* gate_up [N, 2 I] -> silu(first half) * second half [N, I]. */
void localmodel_gated_silu(const void *gate_up, void *output, int64_t rows, int64_t size, int64_t half, int64_t threads) {
#pragma omp parallel for num_threads(threads) if (threads > 1 && rows * size > WORTH_THREADS)
    for (int64_t row = 0; row < rows; row++)
        localmodel_silu(NUMBER(gate_up, 2 * row * size, half), NUMBER(gate_up, (2 * row + 1) * size, half),
                        (void *)NUMBER(output, row * size, half), size, half);
}
