/* Vectors of floats as wide as the processor's registers, in the vector extensions of GCC and Clang. */
#pragma once

#include <stdint.h>
#include <string.h>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#define INLINE static inline __attribute__((always_inline))

/* Multiplications, or the like, for which several threads are woken. */
#define WORTH_SHARING (1 << 24)

#if defined(__AVX512F__)
#define LANES 16
#elif defined(__AVX2__)
#define LANES 8
#else
#define LANES 4
#endif

typedef float lanes __attribute__((vector_size(4 * LANES)));
typedef int32_t int_lanes __attribute__((vector_size(4 * LANES)));
typedef uint32_t uint_lanes __attribute__((vector_size(4 * LANES)));
typedef uint16_t short_lanes __attribute__((vector_size(2 * LANES)));

/* SHUFFLE(a, b, ...) takes lanes by number from a and, above LANES, b. */
#if defined(__clang__)
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (int_lanes){__VA_ARGS__})
#endif

#if LANES == 16
#define NUMBERS 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
#define EVEN 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30
#define ODD 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31
#elif LANES == 8
#define NUMBERS 0, 1, 2, 3, 4, 5, 6, 7
#define EVEN 0, 2, 4, 6, 8, 10, 12, 14
#define ODD 1, 3, 5, 7, 9, 11, 13, 15
#else
#define NUMBERS 0, 1, 2, 3
#define EVEN 0, 2, 4, 6
#define ODD 1, 3, 5, 7
#endif

/* A difference, because a sum with zero is no value's own: -0 would be lost. */
INLINE lanes all(float value) { return value - (lanes){}; }

INLINE lanes load(const float *from) {
    lanes values;
    memcpy(&values, from, sizeof values);
    return values;
}

INLINE void store(float *to, lanes values) { memcpy(to, &values, sizeof values); }

INLINE lanes choose(int_lanes where, lanes this, lanes other) {
    return (lanes)(((int_lanes)this & where) | ((int_lanes)other & ~where));
}

/* GCC converts vectors of one size to another lane by lane, and does not find the instruction for a maximum, which is
   a > b ? a : b: where one is no number, b. */
#if LANES == 16
INLINE uint_lanes widened(short_lanes x) { return (uint_lanes)_mm512_cvtepu16_epi32((__m256i)x); }
INLINE short_lanes narrowed(uint_lanes x) { return (short_lanes)_mm512_cvtepi32_epi16((__m512i)x); }
INLINE lanes larger(lanes a, lanes b) { return _mm512_max_ps(a, b); }
#elif LANES == 8
INLINE uint_lanes widened(short_lanes x) { return (uint_lanes)_mm256_cvtepu16_epi32((__m128i)x); }
INLINE short_lanes narrowed(uint_lanes x) {
    __m256i twice = _mm256_packus_epi32((__m256i)x, (__m256i)x);
    return (short_lanes)_mm256_castsi256_si128(_mm256_permute4x64_epi64(twice, 0xd8));
}
INLINE lanes larger(lanes a, lanes b) { return _mm256_max_ps(a, b); }
#else
INLINE uint_lanes widened(short_lanes x) { return __builtin_convertvector(x, uint_lanes); }
INLINE short_lanes narrowed(uint_lanes x) { return __builtin_convertvector(x, short_lanes); }
INLINE lanes larger(lanes a, lanes b) { return choose(a > b, a, b); }
#endif

/* Whether any lane is greater. */
#if LANES == 16
INLINE int any_greater(lanes values, float bound) {
    return _mm512_cmp_ps_mask(values, all(bound), _CMP_GT_OQ) != 0;
}
#elif LANES == 8
INLINE int any_greater(lanes values, float bound) {
    return _mm256_movemask_ps(_mm256_cmp_ps(values, all(bound), _CMP_GT_OQ)) != 0;
}
#else
INLINE int any_greater(lanes values, float bound) {
    for (int lane = 0; lane < LANES; lane++)
        if (values[lane] > bound) return 1;
    return 0;
}
#endif

/* A bfloat16 is the upper half of a float. */
INLINE lanes load_bfloat16(const uint16_t *from) {
    short_lanes halves;
    memcpy(&halves, from, sizeof halves);
    return (lanes)(widened(halves) << 16);
}

/* Rounds to the nearest, ties to even; what is no number stays so. */
INLINE void store_bfloat16(uint16_t *to, lanes values) {
    uint_lanes bits = (uint_lanes)values;
    uint_lanes rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    uint_lanes no_number = (uint_lanes)(values != values);
    short_lanes halves = narrowed((rounded & ~no_number) | (0x7fc0 & no_number));
    memcpy(to, &halves, sizeof halves);
}

/* Sums of neighbours: those of a in the lower half, of b in the upper. */
INLINE lanes pair_sums(lanes a, lanes b) { return SHUFFLE(a, b, EVEN) + SHUFFLE(a, b, ODD); }

/* In every lane what the function makes of all lanes. */
#define REDUCED(name, function)                                                                                        \
    INLINE lanes name(lanes values) {                                                                                  \
        for (int width = 1; width < LANES; width *= 2)                                                                 \
            values = function(SHUFFLE(values, values, EVEN), SHUFFLE(values, values, ODD));                            \
        return values;                                                                                                 \
    }
INLINE lanes sum(lanes a, lanes b) { return a + b; }
REDUCED(total, sum)
REDUCED(greatest, larger)

/* exp(x) for x up to 88 within 2 units in the last place; below -87 it stays at exp(-87). The polynomial is that of
   expf in the Cephes library (Moshier). */
INLINE lanes exponential(lanes x) {
    x = larger(all(-87.0f), x);
    /* Adding 1.5 * 2^23 rounds to a whole number, which is left in the lowest bits. */
    lanes shifted = x * 1.44269504f + 12582912.0f;
    lanes power = shifted - 12582912.0f;
    lanes rest = x - power * 0.693359375f - power * -2.12194440e-4f;
    lanes value = rest * 1.9875691500e-4f + 1.3981999507e-3f;
    value = value * rest + 8.3334519073e-3f;
    value = value * rest + 4.1665795894e-2f;
    value = value * rest + 1.6666665459e-1f;
    value = value * rest + 5.0000001201e-1f;
    value = value * (rest * rest) + rest + 1.0f;
    return (lanes)((int_lanes)value + ((int_lanes)shifted << 23));
}
