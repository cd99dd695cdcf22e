/* A linear map of whole numbers of 8 bits (Jacob et al., 2018, section 2), with a scale for each position and each
   output: what comes out at a position does not depend on its neighbours.

   Shapes: N positions, D input width, E output width. */

#include <stdlib.h>

#include "lanes.h"

#if defined(__AVX512VNNI__)

/* Outputs in a block of the packed weights, positions multiplied at a time, inputs multiplied by one instruction. */
#define BLOCK 64
#define ROWS 6
#define TOGETHER 4
/* Positions that meet one block of weights before the next one does: their bytes stay in the second cache. */
#define STRIP 96
/* Blocks that a thread takes at a time. */
#define GROUP 8

typedef struct {
    const float *input;     /* [N, D] */
    const int8_t *weights;  /* [E / BLOCK, D / TOGETHER, BLOCK, TOGETHER], zeros where E or D ends */
    const int32_t *shifts;  /* 128 * sum of an output's weights [E, rounded up to BLOCK] */
    const float *scales;    /* of the weights, as many */
    const float *bias;      /* as many */
    float *output;          /* [N, E] */
    int64_t positions, input_width, output_width;
    int relu;
} product;

INLINE int64_t blocks_of(int64_t outputs) { return (outputs + BLOCK - 1) / BLOCK; }

/* A position's numbers as bytes around 128, with zeros behind, and what a step of them stands for. */
INLINE float round_row(const float *values, uint8_t *bytes, int64_t width, int64_t padded) {
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
    for (int64_t d = width; d < padded; d++) bytes[d] = 0;
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
INLINE void write_outputs(product job, int_lanes sums, float step, int64_t at, float *output) {
    int64_t left = job.output_width - at;
    __mmask16 written = left >= 16 ? 0xffff : left > 0 ? (1 << left) - 1 : 0;
    __m512 exact = _mm512_cvtepi32_ps(_mm512_sub_epi32((__m512i)sums, _mm512_loadu_si512(job.shifts + at)));
    __m512 scale = _mm512_mul_ps(_mm512_loadu_ps(job.scales + at), _mm512_set1_ps(step));
    __m512 found = _mm512_fmadd_ps(exact, scale, _mm512_loadu_ps(job.bias + at));
    if (job.relu) found = _mm512_max_ps(found, _mm512_setzero_ps());
    _mm512_mask_storeu_ps(output + at, written, found);
}

/* The sums of a block are variables of their own: a compiler leaves an array of them in memory. */
#define EACH_ROW(what) what(0) what(1) what(2) what(3) what(4) what(5)
#define START(r) int_lanes sum##r##a = zero, sum##r##b = zero, sum##r##c = zero, sum##r##d = zero;
#define ADD(r)                                                                                                         \
    if (r < rows) {                                                                                                    \
        int32_t four;                                                                                                  \
        memcpy(&four, bytes + r * padded + d, sizeof four);                                                            \
        int_lanes row = four + zero;                                                                                   \
        sum##r##a = dot_bytes(sum##r##a, row, a);                                                            \
        sum##r##b = dot_bytes(sum##r##b, row, b);                                                            \
        sum##r##c = dot_bytes(sum##r##c, row, c);                                                            \
        sum##r##d = dot_bytes(sum##r##d, row, e);                                                            \
    }
#define WRITE(r)                                                                                                       \
    if (r < rows) {                                                                                                    \
        write_outputs(job, sum##r##a, steps[r], first, output + r * job.output_width);                                 \
        write_outputs(job, sum##r##b, steps[r], first + 16, output + r * job.output_width);                            \
        write_outputs(job, sum##r##c, steps[r], first + 32, output + r * job.output_width);                            \
        write_outputs(job, sum##r##d, steps[r], first + 48, output + r * job.output_width);                            \
    }

/* `rows` positions by one block of outputs; `rows` is a constant to the compiler. */
INLINE void multiply(
    product job, const uint8_t *bytes, const float *steps, int64_t padded, int64_t block, float *output, int rows) {
    const int8_t *weights = job.weights + block * BLOCK * padded;
    const int_lanes zero = {0};
    EACH_ROW(START)
    for (int64_t d = 0; d < padded; d += TOGETHER, weights += TOGETHER * BLOCK) {
        int_lanes a = load_bytes(weights), b = load_bytes(weights + 64);
        int_lanes c = load_bytes(weights + 128), e = load_bytes(weights + 192);
        EACH_ROW(ADD)
    }
    int64_t first = block * BLOCK;
    EACH_ROW(WRITE)
}

/* A strip of positions by a group of blocks. */
static void multiply_group(
    product job, const uint8_t *bytes, const float *steps, int64_t padded, int64_t strip, int64_t group) {
    int64_t first = strip * STRIP, count = job.positions - first < STRIP ? job.positions - first : STRIP;
    int64_t stop = (group + 1) * GROUP * BLOCK < job.output_width ? (group + 1) * GROUP : blocks_of(job.output_width);
    for (int64_t block = group * GROUP; block < stop; block++)
        for (int64_t row = 0; row < count; row += ROWS) {
            const uint8_t *own = bytes + (first + row) * padded;
            const float *step = steps + first + row;
            float *output = job.output + (first + row) * job.output_width;
            switch (count - row < ROWS ? count - row : ROWS) {
            case 1: multiply(job, own, step, padded, block, output, 1); break;
            case 2: multiply(job, own, step, padded, block, output, 2); break;
            case 3: multiply(job, own, step, padded, block, output, 3); break;
            case 4: multiply(job, own, step, padded, block, output, 4); break;
            case 5: multiply(job, own, step, padded, block, output, 5); break;
            default: multiply(job, own, step, padded, block, output, ROWS); break;
            }
        }
}

/* Returns 0, or 1 if there is no memory. */
int multiply_int8(const product *job, int threads) {
    int64_t padded = (job->input_width + TOGETHER - 1) / TOGETHER * TOGETHER;
    int64_t rows = (job->positions + 15) / 16 * 16;
    float *steps = aligned_alloc(64, (rows * (sizeof(float) + padded) + 63) / 64 * 64 + 64);
    if (!steps) return 1;
    uint8_t *bytes = (uint8_t *)(steps + rows);
    int64_t strips = (job->positions + STRIP - 1) / STRIP;
    int64_t groups = (blocks_of(job->output_width) + GROUP - 1) / GROUP;
    int shared = threads > 1 && job->positions * padded * job->output_width >= WORTH_SHARING;
#pragma omp parallel num_threads(threads) if (shared)
    {
#pragma omp for
        for (int64_t n = 0; n < job->positions; n++)
            steps[n] = round_row(job->input + n * job->input_width, bytes + n * padded, job->input_width, padded);
#pragma omp for collapse(2)
        for (int64_t strip = 0; strip < strips; strip++)
            for (int64_t group = 0; group < groups; group++)
                multiply_group(*job, bytes, steps, padded, strip, group);
    }
    free(steps);
    return 0;
}

#endif
