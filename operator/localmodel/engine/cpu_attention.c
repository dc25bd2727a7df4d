/* Attention of rows that decode, over tokens anywhere in the cache: what `paged_attention_kernel` is on a card.
 *
 * Why it exists: torch takes a call for each sequence and layer. It knows nothing of Python or torch: `cpu_kernels.py` hands it
 * addresses, of tensors that it has checked. Rounded once, each row by itself, as in `cpu_kernels.c`.
 *
 * Shapes: A heads, K kv_heads, D size of a head, G = A / K.
 */
#include "cpu_numbers.h"

enum { POSITIONS = 32, MOST_SIZE = 256, MOST_GROUP = 8, LINE = 64 };

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
