/* What a search asks of a whole vocabulary, without writing anything of its size: of each row of logits the greatest of
   every block and the logarithm of the sum of all exponentials, and then the best continuations.

   Shapes: N rows, V vocabulary, M whole blocks, B sentences, W beams, K best. */

#include <math.h>

#include "lanes.h"

INLINE lanes load_logits(const void *from, int64_t at, int is_bfloat16) {
    return is_bfloat16 ? load_bfloat16((const uint16_t *)from + at) : load((const float *)from + at);
}

INLINE float logit(const void *logits, int64_t at, int is_bfloat16) {
    if (!is_bfloat16) return ((const float *)logits)[at];
    uint32_t bits = (uint32_t)((const uint16_t *)logits)[at] << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* The last logits of a row, -inf behind them, which adds next to nothing to a sum. */
INLINE lanes load_rest(const void *from, int64_t at, int64_t count, int is_bfloat16) {
    float values[LANES];
    store(values, all(-INFINITY));
    for (int64_t lane = 0; lane < count; lane++) values[lane] = logit(from, at + lane, is_bfloat16);
    return load(values);
}

typedef struct {
    const void *logits; /* [N, V] */
    float *maxima;      /* [N, M] */
    float *log_sums;    /* [N] */
    int64_t rows, vocabulary, block;
    int is_bfloat16;
} summary;

INLINE void summarise_row(summary job, int64_t number, int is_bfloat16) {
    const void *logits = job.logits;
    int64_t vocabulary = job.vocabulary, block = job.block, row = number * vocabulary;
    int64_t blocks = vocabulary / block, vectors = vocabulary / LANES, rest = vocabulary % LANES;
    float *maxima = job.maxima + number * blocks;
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
    job.log_sums[number] = most[0] + logf(total((sums[0] + sums[1]) + (sums[2] + sums[3]))[0]);
}

/* A block is a multiple of a vector. Where a logit is no number, the sum is none. */
void summarise_vocabulary(const summary *job, int threads) {
    int shared = threads > 1 && job->rows * job->vocabulary >= WORTH_SHARING / 8;
#pragma omp parallel for num_threads(threads) if (shared)
    for (int64_t row = 0; row < job->rows; row++) {
        if (job->is_bfloat16) summarise_row(*job, row, 1);
        else summarise_row(*job, row, 0);
    }
}

typedef struct {
    const void *logits;   /* [B, W, V] */
    const float *offsets; /* [B, W], added to what a beam's logits are */
    const float *maxima;  /* [B, W, M], of whole blocks */
    float *values;        /* [B, K], falling */
    int64_t *places;      /* [B, K], beam x V + piece */
    int64_t rows, beams, vocabulary, block, count;
    int is_bfloat16;
} choice;

/* The K greatest of what was offered so far, falling; of equals the older comes first. */
typedef struct {
    float *values;
    int64_t *places, count;
} best;

INLINE void clear(best kept) {
    for (int64_t k = 0; k < kept.count; k++) kept.values[k] = -INFINITY, kept.places[k] = 0;
}

/* What is no number is not kept. */
INLINE void offer(best kept, float value, int64_t place) {
    int64_t at = kept.count - 1;
    if (!(value > kept.values[at])) return;
    for (; at > 0 && value > kept.values[at - 1]; at--) {
        kept.values[at] = kept.values[at - 1];
        kept.places[at] = kept.places[at - 1];
    }
    kept.values[at] = value;
    kept.places[at] = place;
}

/* Offer the sums of `offset` and these values, whose places follow each other. */
INLINE void offer_all(best kept, const void *from, int64_t at, int64_t count, float offset, int64_t place, int half) {
    int64_t i = 0;
    for (; i + LANES <= count; i += LANES) {
        lanes sums = load_logits(from, at + i, half) + offset;
        if (!any_greater(sums, kept.values[kept.count - 1])) continue;
        for (int lane = 0; lane < LANES; lane++) offer(kept, sums[lane], place + i + lane);
    }
    if (i == count) return;
    lanes sums = load_rest(from, at + i, count - i, half) + offset;
    for (int lane = 0; i < count; i++, lane++) offer(kept, sums[lane], place + i);
}

INLINE void choose_row(choice job, int64_t row, int half) {
    int64_t blocks = job.vocabulary / job.block;
    const float *offsets = job.offsets + row * job.beams, *maxima = job.maxima + row * job.beams * blocks;
    best kept = {job.values + row * job.count, job.places + row * job.count, job.count};
    /* The K greatest sums are no less than the K-th greatest of the maxima, each of which is one of them. */
    clear(kept);
    for (int64_t w = 0; w < job.beams; w++) offer_all(kept, maxima, w * blocks, blocks, offsets[w], 0, 0);
    float bound = kept.values[job.count - 1];
    clear(kept);
    for (int64_t w = 0; w < job.beams; w++) {
        int64_t place = w * job.vocabulary, first = row * job.beams * job.vocabulary + place;
        for (int64_t m = 0; m < blocks; m++) {
            if (!(maxima[w * blocks + m] + offsets[w] >= bound)) continue;
            int64_t at = m * job.block;
            offer_all(kept, job.logits, first + at, job.block, offsets[w], place + at, half);
        }
        int64_t at = blocks * job.block;
        offer_all(kept, job.logits, first + at, job.vocabulary - at, offsets[w], place + at, half);
    }
}

/* The K greatest sums of logit and offset of each row, of equals the one with the lower place. Where there are fewer
   that are more than -inf, -inf at place 0 follows. */
void choose_continuations(const choice *job, int threads) {
    int shared = threads > 1 && job->rows * job->beams * job->vocabulary >= WORTH_SHARING;
#pragma omp parallel for num_threads(threads) if (shared)
    for (int64_t row = 0; row < job->rows; row++) {
        if (job->is_bfloat16) choose_row(*job, row, 1);
        else choose_row(*job, row, 0);
    }
}
