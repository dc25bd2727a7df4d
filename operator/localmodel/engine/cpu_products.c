/* Products with weights in bfloat16 on processors that multiply pairs of them (AVX-512 BF16), for any count of rows.
 *
 * Why it exists: a step that decodes reads every weight once and multiplies it with a few rows. A library that reads first and multiplies
 * then takes the sum of both times; here the next weights are asked for while these are multiplied. It knows nothing of Python or torch:
 * `cpu_products` hands it addresses of what it has checked. On another processor `localmodel_products_serve` says no.
 *
 * A sum is made in float32, in order of the inputs, and rounded once: its bits do not depend on other rows, outputs or threads.
 *
 * Shapes: x [M, K], M >= 1, K a multiple of 8; weight in blocks of 16 outputs [N / 16, K / 2, 16, 2], N rounded up; y [M, N].
 */
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 11
#include <immintrin.h>
#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512bf16")))
#define INLINE static inline __attribute__((always_inline)) TARGET

enum { OUTPUTS = 16, LINE = 64, AHEAD = 8192, FEW = 16, MANY = 8, WIDE = 3, WORTH_THREADS = 1 << 17 };

typedef struct {
    const int32_t *x; /* pairs of inputs, of `height` rows [K / 2, height rounded up to 4], or of one row */
    const char *weight, *next; /* one line for each pair and block; what to ask for meanwhile, a line for each pair */
    const uint16_t *bias; /* or 0 */
    uint16_t *y;
    int64_t pairs, stride, outputs; /* stride of y; outputs: that exist, of the last block perhaps fewer than 16 */
} Tile;

INLINE __m512 widen(__m256i halves) { return (__m512)_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16); }

/* `height` rows and `width` blocks, whose sums stay in registers. */
INLINE void multiply(const Tile *t, const int height, const int width) {
    const int across = height == 1 ? 1 : (height + 3) / 4 * 4;
    const int32_t *x = t->x;
    __m512 sums[FEW][WIDE];
#pragma GCC unroll 16
    for (int r = 0; r < height; r++)
#pragma GCC unroll 3
        for (int b = 0; b < width; b++)
            sums[r][b] = _mm512_setzero_ps();
    for (int64_t c = 0; c < t->pairs; c++, x += across) {
        __m512bh weights[WIDE];
        _mm_prefetch(t->next + c * LINE, _MM_HINT_T0);
#pragma GCC unroll 3
        for (int b = 0; b < width; b++)
            weights[b] = (__m512bh)_mm512_loadu_si512(t->weight + (b * t->pairs + c) * LINE);
#pragma GCC unroll 16
        for (int r = 0; r < height; r++) {
            __m512bh pair = (__m512bh)_mm512_set1_epi32(x[r]);
#pragma GCC unroll 3
            for (int b = 0; b < width; b++)
                sums[r][b] = _mm512_dpbf16_ps(sums[r][b], weights[b], pair);
        }
    }
#pragma GCC unroll 3
    for (int b = 0; b < width; b++) {
        int64_t left = t->outputs - b * OUTPUTS;
        __mmask16 mask = left >= OUTPUTS ? 0xffff : (1 << left) - 1;
        __m512 bias = t->bias ? widen(_mm256_maskz_loadu_epi16(mask, t->bias + b * OUTPUTS)) : _mm512_setzero_ps();
#pragma GCC unroll 16
        for (int r = 0; r < height; r++) {
            __m256i rounded = (__m256i)_mm512_cvtneps_pbh(_mm512_add_ps(sums[r][b], bias));
            _mm256_mask_storeu_epi16(t->y + r * t->stride + b * OUTPUTS, mask, rounded);
        }
    }
}

#define MULTIPLY(height, width) \
    static TARGET void multiply_##height##_##width(const Tile *t) { multiply(t, height, width); }
#define ALL_FEW(make, width) \
    make(1, width) make(2, width) make(3, width) make(4, width) make(5, width) make(6, width) make(7, width) make(8, width) \
    make(9, width) make(10, width) make(11, width) make(12, width) make(13, width) make(14, width) make(15, width) make(16, width)
#define ALL_MANY(make, width) make(5, width) make(6, width) make(7, width) make(8, width)
ALL_FEW(MULTIPLY, 1)
ALL_MANY(MULTIPLY, 3)
#define NAME(height, width) multiply_##height##_##width,
static void (*const one_block[])(const Tile *) = {ALL_FEW(NAME, 1)};
static void (*const three_blocks[])(const Tile *) = {ALL_MANY(NAME, 3)};

/* `height` rows of x -> pairs of inputs [K / 2, height rounded up to 4]; rows that do not exist are the last one again. */
static TARGET void turn(const uint16_t *x, int32_t *to, int64_t height, int64_t pairs) {
    int64_t across = (height + 3) / 4 * 4;
    for (int64_t r = 0; r < across; r += 4) {
        const float *from[4];
        for (int64_t i = 0; i < 4; i++)
            from[i] = (const float *)x + (r + i < height ? r + i : height - 1) * pairs;
        for (int64_t c = 0; c < pairs; c += 4) {
            __m128 a = _mm_loadu_ps(from[0] + c), b = _mm_loadu_ps(from[1] + c), d = _mm_loadu_ps(from[2] + c),
                   e = _mm_loadu_ps(from[3] + c);
            _MM_TRANSPOSE4_PS(a, b, d, e);
            float *here = (float *)to + c * across + r;
            _mm_storeu_ps(here, a);
            _mm_storeu_ps(here + across, b);
            _mm_storeu_ps(here + 2 * across, d);
            _mm_storeu_ps(here + 3 * across, e);
        }
    }
}

int localmodel_products_serve(void) {
    return __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
}

/* y = x @ weight.T + bias, which may be 0. `turned`: room for (M + 7) * K numbers of 16 bits, unused for one row.
 *
 * Up to FEW rows are multiplied with one block after the other. More are cut into parts of 5 to MANY, and each three blocks, which then
 * stay in the cache, are multiplied with all of them; meanwhile the first three parts ask for the next three blocks. */
void localmodel_multiply(const uint16_t *x, const char *weight, const uint16_t *bias, uint16_t *y, int32_t *turned, int64_t rows,
                         int64_t outputs, int64_t inputs, int64_t threads) {
    int64_t pairs = inputs / 2, blocks = (outputs + OUTPUTS - 1) / OUTPUTS, block = pairs * LINE;
    int64_t parts = rows <= FEW ? 1 : (rows + MANY - 1) / MANY, wide = parts == 1 ? 1 : WIDE;
    int64_t across = parts == 1 ? (rows + 3) / 4 * 4 : MANY;
    if (parts == 1 && rows > 1)
        turn(x, turned, rows, pairs);
#pragma omp parallel num_threads(threads) if (threads > 1 && rows * outputs * inputs > WORTH_THREADS)
    {
        if (parts > 1) {
#pragma omp for schedule(static)
            for (int64_t part = 0; part < parts; part++) {
                int64_t first = part * rows / parts, end = (part + 1) * rows / parts;
                turn(x + first * inputs, turned + part * across * pairs, end - first, pairs);
            }
        }
#pragma omp for schedule(static) nowait
        for (int64_t from = 0; from < blocks; from += wide) {
            int64_t width = blocks - from < wide ? blocks - from : wide, step = width == WIDE ? WIDE : 1;
            for (int64_t part = 0; part < parts; part++) {
                int64_t first = part * rows / parts, height = (part + 1) * rows / parts - first;
                for (int64_t b = from; b < from + width; b += step) {
                    Tile tile = {
                        .x = rows == 1 ? (const int32_t *)x : turned + part * across * pairs,
                        .weight = weight + b * block,
                        .next = parts == 1 ? weight + b * block + AHEAD : weight + (from + (part < WIDE ? WIDE + part : 0)) * block,
                        .bias = bias ? bias + b * OUTPUTS : 0,
                        .y = y + first * outputs + b * OUTPUTS,
                        .pairs = pairs,
                        .stride = outputs,
                        .outputs = outputs - b * OUTPUTS,
                    };
                    (step == WIDE ? three_blocks[height - 5] : one_block[height - 1])(&tile);
                }
            }
        }
    }
}
#else
int localmodel_products_serve(void) { return 0; }
void localmodel_multiply(const uint16_t *x, const char *weight, const uint16_t *bias, uint16_t *y, int32_t *turned, int64_t rows,
                         int64_t outputs, int64_t inputs, int64_t threads) {}
#endif
