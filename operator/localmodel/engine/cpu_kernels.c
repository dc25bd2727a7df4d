/* The steps between two products with weights on a processor: what `fused_kernels` and `paged_attention_kernel` are on a card.
 *
 * Why it exists: torch takes a call for each sequence and layer to attend, and ten to norm; at 16 sequences calls cost as much as
 * products. It knows nothing of Python or torch: `cpu_kernels` hands it addresses, of tensors that it has checked.
 *
 * `half`: 1 for bfloat16, 0 for float32. All is computed in float32 and rounded once. A row is computed by itself, so its bits do not
 * depend on the others. Shapes: N rows of one step; A heads, K kv_heads, D size of a head, G = A / K; H hidden, I intermediate.
 */
#include <math.h>
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define FOR_EACH_PROCESSOR __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define FOR_EACH_PROCESSOR
#endif
#define INLINE static inline __attribute__((always_inline))
#define NUMBER(data, at, half) ((half) ? (const void *)((const uint16_t *)(data) + (at)) : (const void *)((const float *)(data) + (at)))

enum { POSITIONS = 32, MOST_SIZE = 256, MOST_GROUP = 8, WORTH_THREADS = 1 << 15, LINE = 64 };

INLINE float get(const void *restrict data, int64_t at, int half) {
    if (!half)
        return ((const float *)data)[at];
    uint32_t bits = (uint32_t)((const uint16_t *)data)[at] << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* To the nearest, ties to even, as torch does. */
INLINE void put(void *restrict data, int64_t at, float value, int half) {
    if (!half) {
        ((float *)data)[at] = value;
        return;
    }
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    ((uint16_t *)data)[at] = value != value ? 0x7fc0 : (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}

/* exp without a call, so that the compiler can make it for many numbers at once; Cephes' polynomial, 2e-7 of the value. */
INLINE float exponential(float x) {
    float bounded = x < -87.0f ? -87.0f : x > 88.0f ? 88.0f : x;
    float power = __builtin_floorf(bounded * 1.44269504f + 0.5f);
    float r = bounded - power * 0.693359375f + power * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    int32_t bits = ((int32_t)power + 127) << 23;
    float scale;
    memcpy(&scale, &bits, sizeof scale);
    return p * scale;
}

/* `next`: where the row after this has its tokens, which are asked for meanwhile, and how many. */
INLINE void attend(const void *restrict queries, const void *restrict keys, const void *restrict values, void *restrict mixed,
                   const int32_t *restrict places, int64_t first, int64_t end, int64_t stride, int64_t group, int64_t size,
                   float scale, const int32_t *next, int64_t next_end, int half) {
    float k[POSITIONS * MOST_SIZE], v[POSITIONS * MOST_SIZE], q[MOST_GROUP * MOST_SIZE], sums[MOST_GROUP * MOST_SIZE];
    float highest[MOST_GROUP], totals[MOST_GROUP];
    for (int64_t at = 0; at < group * size; at++) {
        q[at] = get(queries, at, half) * scale;
        sums[at] = 0;
    }
    for (int64_t g = 0; g < group; g++) {
        highest[g] = -INFINITY;
        totals[g] = 0;
    }
    for (int64_t from = first; from < end; from += POSITIONS) {
        int64_t count = end - from < POSITIONS ? end - from : POSITIONS;
        for (int64_t j = 0; j < count; j++) {
            int64_t row = places[from + j] * stride;
            for (int64_t d = 0; d < size && from + j < next_end; d += half ? LINE / 2 : LINE / 4) {
                __builtin_prefetch(NUMBER(keys, next[from + j] * stride + d, half));
                __builtin_prefetch(NUMBER(values, next[from + j] * stride + d, half));
            }
            for (int64_t d = 0; d < size; d++)
                k[j * size + d] = get(keys, row + d, half);
            for (int64_t d = 0; d < size; d++)
                v[j * size + d] = get(values, row + d, half);
        }
        for (int64_t g = 0; g < group; g++) {
            const float *qg = q + g * size;
            float *sum = sums + g * size, weights[POSITIONS], top = highest[g], part = 0;
            for (int64_t j = 0; j < count; j++) {
                const float *kj = k + j * size;
                float score = 0;
                for (int64_t d = 0; d < size; d++)
                    score += qg[d] * kj[d];
                weights[j] = score;
                top = score > top ? score : top;
            }
            for (int64_t j = count; j < POSITIONS; j++)
                weights[j] = top;
            for (int64_t j = 0; j < POSITIONS; j++) {
                weights[j] = j < count ? exponential(weights[j] - top) : 0;
                part += weights[j];
            }
            float kept = from == first ? 0 : exponential(highest[g] - top);
            highest[g] = top;
            totals[g] = totals[g] * kept + part;
            for (int64_t d = 0; d < size; d++)
                sum[d] *= kept;
            int64_t j = 0;
            for (; j + 4 <= count; j += 4) {
                const float *vj = v + j * size;
                float w0 = weights[j], w1 = weights[j + 1], w2 = weights[j + 2], w3 = weights[j + 3];
                for (int64_t d = 0; d < size; d++)
                    sum[d] += w0 * vj[d] + w1 * vj[size + d] + w2 * vj[2 * size + d] + w3 * vj[3 * size + d];
            }
            for (; j < count; j++)
                for (int64_t d = 0; d < size; d++)
                    sum[d] += weights[j] * v[j * size + d];
        }
    }
    for (int64_t g = 0; g < group; g++)
        for (int64_t d = 0; d < size; d++)
            put(mixed, g * size + d, sums[g * size + d] / totals[g], half);
}

#define ATTEND(name, half)                                                                                                     \
    FOR_EACH_PROCESSOR void name(const void *queries, const void *keys, const void *values, void *mixed, const int32_t *places,\
                                 int64_t first, int64_t end, int64_t stride, int64_t group, int64_t size, float scale,         \
                                 const int32_t *next, int64_t next_end) {                                                      \
        if (size == 64) /* with a known size, sums stay in registers */                                                        \
            attend(queries, keys, values, mixed, places, first, end, stride, group, 64, scale, next, next_end, half);          \
        else if (size == 128)                                                                                                  \
            attend(queries, keys, values, mixed, places, first, end, stride, group, 128, scale, next, next_end, half);         \
        else                                                                                                                   \
            attend(queries, keys, values, mixed, places, first, end, stride, group, size, scale, next, next_end, half);        \
    }
ATTEND(localmodel_attend_half, 1)
ATTEND(localmodel_attend_single, 0)

/* queries, mixed [., A, D]; keys, values [tokens, K, D]; table [rows, 3]: row of queries and mixed, positions that it sees, and where in
 * `places` the tokens of these positions begin. `window`: of the positions the last so many, 0: all. */
void localmodel_attend_rows(const void *queries, const void *keys, const void *values, void *mixed, const int32_t *table,
                            const int32_t *places, int64_t rows, int64_t kv_heads, int64_t group, int64_t size, int64_t window,
                            float scale, int64_t half, int64_t threads) {
#pragma omp parallel for schedule(dynamic, 8) num_threads(threads) if (threads > 1)
    for (int64_t item = 0; item < rows * kv_heads; item++) {
        const int32_t *row = table + item / kv_heads * 3;
        int64_t head = item % kv_heads, end = row[1], first = window && end > window ? end - window : 0;
        const int32_t *after = item + kv_heads < rows * kv_heads ? row + 3 : row;
        for (int64_t done = 0; done < group; done += MOST_GROUP) {
            int64_t at = ((row[0] * kv_heads + head) * group + done) * size;
            (half ? localmodel_attend_half : localmodel_attend_single)(
                NUMBER(queries, at, half), NUMBER(keys, head * size, half), NUMBER(values, head * size, half),
                (void *)NUMBER(mixed, at, half), places + row[2], first, end, kv_heads * size,
                group - done < MOST_GROUP ? group - done : MOST_GROUP, size, scale,
                places + after[2], after[2] != row[2] ? after[1] : 0);
        }
    }
}

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
