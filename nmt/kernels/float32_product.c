/* A linear map in float32. A library writes code for every new number of positions and keeps it; this is one piece of
   code for all, and for the few positions of a decoding step faster.

   Shapes: N positions, D input width, E output width. */

#include "product.h"

#if LANES == 16

typedef lanes sum_lanes;

typedef struct {
    const float *input;   /* [N, D] */
    const float *weights; /* [E / BLOCK, D, BLOCK], zeros where E ends */
    const float *bias;    /* [E, rounded up to BLOCK] */
    float *output;        /* [N, E] */
    int64_t positions, input_width, output_width;
    int relu;
} product;

/* 16 sums of a position -> its outputs from `at` on. */
INLINE void write_outputs(product job, lanes sums, int64_t row, int64_t at) {
    int64_t left = job.output_width - at;
    __mmask16 written = left >= 16 ? 0xffff : left > 0 ? (1 << left) - 1 : 0;
    sums += load(job.bias + at);
    if (job.relu) sums = larger(all(0), sums);
    _mm512_mask_storeu_ps(job.output + row * job.output_width + at, written, sums);
}

#define ADD(r)                                                                                                         \
    if (r < rows) {                                                                                                    \
        lanes own = all(input[r * width + d]);                                                                         \
        sum##r##a += own * a;                                                                                          \
        sum##r##b += own * b;                                                                                          \
        sum##r##c += own * c;                                                                                          \
        sum##r##d += own * e;                                                                                          \
    }

INLINE void multiply(product job, int64_t row, int64_t block, int rows) {
    int64_t width = job.input_width, first = block * BLOCK;
    const float *input = job.input + row * width, *weights = job.weights + first * width;
    EACH_ROW(START)
    for (int64_t d = 0; d < width; d++, weights += BLOCK) {
        lanes a = load(weights), b = load(weights + 16), c = load(weights + 32), e = load(weights + 48);
        EACH_ROW(ADD)
    }
    EACH_ROW(WRITE)
}

MULTIPLY_GROUP(multiply_group, multiply)

void multiply_float32(const product *given, int threads) {
    const product job = *given;
    int64_t strips = (job.positions + STRIP - 1) / STRIP;
    int64_t groups = (blocks_of(job.output_width) + GROUP - 1) / GROUP;
    int shared = threads > 1 && job.positions * job.input_width * job.output_width >= WORTH_SHARING;
#pragma omp parallel for collapse(2) num_threads(threads) if (shared)
    for (int64_t strip = 0; strip < strips; strip++)
        for (int64_t group = 0; group < groups; group++) multiply_group(job, strip, group);
}

#endif
