/* A linear map of whole numbers of 8 bits (Jacob et al., 2018, section 2), with a scale for each position and each
   output: what comes out at a position does not depend on its neighbours.

   Shapes: N positions, D input width, E output width. */

#include <stdlib.h>

#include "product.h"

#if defined(__AVX512VNNI__)

/* Inputs that one instruction multiplies and adds. */
#define TOGETHER 4

typedef int_lanes sum_lanes;

typedef struct {
    const float *input;     /* [N, D] */
    const int8_t *weights;  /* [E / BLOCK, D / TOGETHER, BLOCK, TOGETHER], zeros where E or D ends */
    const int32_t *shifts;  /* 128 * sum of an output's weights [E, rounded up to BLOCK] */
    const float *scales;    /* of the weights, as many */
    const float *bias;      /* as many */
    float *output;          /* [N, E] */
    int64_t positions, input_width, output_width;
    int relu;
    /* Made on the way: the inputs as bytes, and what a step of them stands for. */
    uint8_t *bytes; /* [N, D, rounded up to TOGETHER] */
    float *steps;   /* [N] */
} product;

INLINE int64_t padded(int64_t width) { return (width + TOGETHER - 1) / TOGETHER * TOGETHER; }

/* A position's numbers as bytes around 128, with zeros behind, and what a step of them stands for. */
INLINE float round_row(const float *values, uint8_t *bytes, int64_t width) {
    /* The order of the bits is that of the absolute numbers, with those above infinity that are none. */
    int32_t most_bits = 0;
    for (int64_t d = 0; d < width; d++) {
        int32_t bits;
        memcpy(&bits, values + d, sizeof bits);
        bits &= 0x7fffffff;
        most_bits = bits > most_bits ? bits : most_bits;
    }
    float most;
    memcpy(&most, &most_bits, sizeof most);
    float per_step = most > 0 ? 127 / most : 0;
    for (int64_t d = 0; d < width; d++) bytes[d] = (uint8_t)(int)(values[d] * per_step + 128.5f);
    for (int64_t d = width; d < padded(width); d++) bytes[d] = 0;
    return most / 127;
}

INLINE int_lanes load_bytes(const int8_t *from) {
    int_lanes values;
    memcpy(&values, from, sizeof values);
    return values;
}

/* sums + the products of four neighbouring bytes. As assembly, because GCC 12 saves every result to memory. */
INLINE int_lanes dot_bytes(int_lanes sums, int_lanes unsigned_bytes, int_lanes signed_bytes) {
    __asm__("vpdpbusd %2, %1, %0" : "+v"(sums) : "v"(unsigned_bytes), "v"(signed_bytes));
    return sums;
}

/* 16 sums of a position -> its outputs from `at` on. */
INLINE void write_outputs(product job, int_lanes sums, int64_t row, int64_t at) {
    int64_t left = job.output_width - at;
    __mmask16 written = left >= 16 ? 0xffff : left > 0 ? (1 << left) - 1 : 0;
    __m512 exact = _mm512_cvtepi32_ps(_mm512_sub_epi32((__m512i)sums, _mm512_loadu_si512(job.shifts + at)));
    __m512 scale = _mm512_mul_ps(_mm512_loadu_ps(job.scales + at), _mm512_set1_ps(job.steps[row]));
    __m512 found = _mm512_fmadd_ps(exact, scale, _mm512_loadu_ps(job.bias + at));
    if (job.relu) found = _mm512_max_ps(found, _mm512_setzero_ps());
    _mm512_mask_storeu_ps(job.output + row * job.output_width + at, written, found);
}

#define ADD(r)                                                                                                         \
    if (r < rows) {                                                                                                    \
        int32_t four;                                                                                                  \
        memcpy(&four, bytes + r * width + d, sizeof four);                                                             \
        int_lanes own = four + (int_lanes){0};                                                                         \
        sum##r##a = dot_bytes(sum##r##a, own, a);                                                                      \
        sum##r##b = dot_bytes(sum##r##b, own, b);                                                                      \
        sum##r##c = dot_bytes(sum##r##c, own, c);                                                                      \
        sum##r##d = dot_bytes(sum##r##d, own, e);                                                                      \
    }

INLINE void multiply(product job, int64_t row, int64_t block, int rows) {
    int64_t width = padded(job.input_width), first = block * BLOCK;
    const uint8_t *bytes = job.bytes + row * width;
    const int8_t *weights = job.weights + first * width;
    EACH_ROW(START)
    for (int64_t d = 0; d < width; d += TOGETHER, weights += TOGETHER * BLOCK) {
        int_lanes a = load_bytes(weights), b = load_bytes(weights + 64);
        int_lanes c = load_bytes(weights + 128), e = load_bytes(weights + 192);
        EACH_ROW(ADD)
    }
    EACH_ROW(WRITE)
}

MULTIPLY_GROUP(multiply_group, multiply)

/* Returns 0, or 1 if there is no memory. */
int multiply_int8(const product *given, int threads) {
    product job = *given;
    int64_t width = padded(job.input_width), rows = (job.positions + 15) / 16 * 16;
    job.steps = aligned_alloc(64, (rows * (sizeof(float) + width) + 63) / 64 * 64 + 64);
    if (!job.steps) return 1;
    job.bytes = (uint8_t *)(job.steps + rows);
    int64_t strips = (job.positions + STRIP - 1) / STRIP;
    int64_t groups = (blocks_of(job.output_width) + GROUP - 1) / GROUP;
    int shared = threads > 1 && job.positions * width * job.output_width >= WORTH_SHARING;
#pragma omp parallel num_threads(threads) if (shared)
    {
#pragma omp for
        for (int64_t n = 0; n < job.positions; n++)
            job.steps[n] = round_row(job.input + n * job.input_width, job.bytes + n * width, job.input_width);
#pragma omp for collapse(2)
        for (int64_t strip = 0; strip < strips; strip++)
            for (int64_t group = 0; group < groups; group++) multiply_group(job, strip, group);
    }
    free(job.steps);
    return 0;
}

#endif
