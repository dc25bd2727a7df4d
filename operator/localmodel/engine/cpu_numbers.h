/* Numbers of float32 or bfloat16 in C, computed in float32: what the steps on a processor (`cpu_attention.c`, `cpu_kernels.c`) share.
 *
 * `half`: 1 for bfloat16, 0 for float32; where it is known when compiled, nothing is left of the choice.
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
