/* Of each row of logits the greatest of every block, and the logarithm of the sum of all exponentials: what a search
   asks of a whole vocabulary, without writing anything of its size.

   Shapes: N rows, V vocabulary, M whole blocks. */

#include <math.h>

#include "lanes.h"

INLINE lanes load_logits(const void *from, int64_t at, int is_bfloat16) {
    return is_bfloat16 ? load_bfloat16((const uint16_t *)from + at) : load((const float *)from + at);
}

/* The last logits of a row, -inf behind them, which adds next to nothing to a sum. */
INLINE lanes load_rest(const void *from, int64_t at, int64_t count, int is_bfloat16) {
    float values[LANES];
    store(values, all(-INFINITY));
    for (int64_t lane = 0; lane < count; lane++) {
        if (is_bfloat16) {
            uint32_t bits = (uint32_t)((const uint16_t *)from)[at + lane] << 16;
            memcpy(values + lane, &bits, sizeof bits);
        } else {
            values[lane] = ((const float *)from)[at + lane];
        }
    }
    return load(values);
}

INLINE void summarise_row(
    const void *logits, int64_t row, float *maxima, float *log_sum, int64_t vocabulary, int64_t block,
    int is_bfloat16) {
    int64_t blocks = vocabulary / block, vectors = vocabulary / LANES, rest = vocabulary % LANES;
    lanes last = load_rest(logits, row + vectors * LANES, rest, is_bfloat16), most = last;
    for (int64_t m = 0; m < blocks; m++) {
        lanes found = load_logits(logits, row + m * block, is_bfloat16);
        for (int64_t v = LANES; v < block; v += LANES)
            found = larger(found, load_logits(logits, row + m * block + v, is_bfloat16));
        maxima[m] = greatest(found)[0];
        most = larger(most, found);
    }
    for (int64_t v = blocks * block; v + LANES <= vocabulary; v += LANES)
        most = larger(most, load_logits(logits, row + v, is_bfloat16));
    most = greatest(most);
    /* Four sums, because an addition takes as long as several multiplications. */
    lanes sums[4] = {exponential(last - most)};
    int64_t v = 0;
    for (; v + 4 <= vectors; v += 4)
        for (int part = 0; part < 4; part++)
            sums[part] += exponential(load_logits(logits, row + (v + part) * LANES, is_bfloat16) - most);
    for (; v < vectors; v++) sums[0] += exponential(load_logits(logits, row + v * LANES, is_bfloat16) - most);
    *log_sum = most[0] + logf(total((sums[0] + sums[1]) + (sums[2] + sums[3]))[0]);
}

/* logits [N, V] -> maxima [N, M] and log_sums [N]. A block is a multiple of a vector. Where a logit is no number, the
   sum is none. */
void summarise_vocabulary(
    const void *logits, float *maxima, float *log_sums, int64_t rows, int64_t vocabulary, int64_t block,
    int is_bfloat16, int threads) {
    int shared = threads > 1 && rows * vocabulary >= WORTH_SHARING / 8;
#pragma omp parallel for num_threads(threads) if (shared)
    for (int64_t row = 0; row < rows; row++) {
        float *own = maxima + row * (vocabulary / block);
        if (is_bfloat16) summarise_row(logits, row * vocabulary, own, log_sums + row, vocabulary, block, 1);
        else summarise_row(logits, row * vocabulary, own, log_sums + row, vocabulary, block, 0);
    }
}
