/* softmax(QK^T / sqrt(K)) V for short rows (Vaswani et al., 2017, section 3.2.1).

   A library's batched product has a call's overhead for every head of every sentence, multiplies what is masked, and
   needs copies in its order. Here a query meets only the keys that it may look at, where they are.

   Shapes: B sentences, H heads, T queries, S keys, K head size. */

#include <stdlib.h>

#include "lanes.h"

#define MOST_VECTORS (256 / LANES)
/* Queries that go through each of the three stages together, so that one need not wait for the other's sums. */
#define ROWS 16

typedef struct {
    const void *query, *keys, *values;
    const float *mask; /* 0 for what is looked at */
    void *context;     /* [B, T, H, K] in order, of the query's type */
    int64_t sentences, heads, queries, keys_per_sentence, size;
    int64_t query_B, query_H, query_T; /* strides, in elements; K has stride 1 */
    int64_t keys_B, keys_H, keys_S;    /* the values' too */
    int64_t mask_B, mask_T;            /* 0 where sentences or queries share a mask; S has stride 1 */
    float scale;
    int query_is_bfloat16, keys_are_bfloat16;
} attention;

/* What one thread works in; every part begins a line of the cache. */
typedef struct {
    int32_t *lists;    /* of each mask the offsets of the keys that are looked at, [T or 1, room] */
    int32_t *counts;   /* their number */
    int32_t *offsets;  /* of each key in what `keys` points to */
    int32_t *used;     /* keys that any query looks at */
    float *shares;     /* [ROWS, room] */
    float *copies;     /* keys and values in float32, filled up to whole vectors */
} workplace;

/* Whole vectors of four-byte numbers, and whole lines of the cache. */
INLINE int64_t in_lanes(int64_t count) { return (count + LANES - 1) / LANES * LANES; }
INLINE int64_t in_lines(int64_t count) { return (count + 15) / 16 * 16; }

/* Length of a list or of scores: some behind the last are read and written. */
INLINE int64_t room_of(int64_t keys) { return in_lines(keys + LANES); }

/* `vectors` is a constant to the compiler wherever the head size is a usual one. */
INLINE lanes dots_of_1(const lanes *query, const float *keys, const int32_t *seen, int vectors) {
    lanes products = query[0] * load(keys + *seen);
    for (int v = 1; v < vectors; v++) products += query[v] * load(keys + *seen + v * LANES);
    return products;
}

/* Sums over lanes as a tree: n dot products take n - 1 additions of vectors. */
#define DOTS(n, half)                                                                                                  \
    INLINE lanes dots_of_##n(const lanes *query, const float *keys, const int32_t *seen, int vectors) {                \
        return pair_sums(                                                                                              \
            dots_of_##half(query, keys, seen, vectors), dots_of_##half(query, keys, seen + half, vectors));            \
    }
DOTS(2, 1)
DOTS(4, 2)
DOTS(8, 4)
DOTS(16, 8)
#if LANES == 16
#define DOTS_OF_ALL dots_of_16
#define DOTS_OF_HALF dots_of_8
#elif LANES == 8
#define DOTS_OF_ALL dots_of_8
#define DOTS_OF_HALF dots_of_4
#else
#define DOTS_OF_ALL dots_of_4
#define DOTS_OF_HALF dots_of_2
#endif

/* Scores of a query; those behind the last fill a vector and are as good as -inf. */
INLINE void score(
    const lanes *query, const float *keys, const int32_t *seen, int count, float *scores, int vectors) {
    const int_lanes number = {NUMBERS};
    for (int first = 0; first < count; first += LANES) {
        int rest = count - first;
        lanes dots;
        if (rest > LANES / 2) {
            dots = DOTS_OF_ALL(query, keys, seen + first, vectors);
        } else {
            dots = DOTS_OF_HALF(query, keys, seen + first, vectors);
            dots = pair_sums(dots, dots);
        }
        store(scores + first, choose(number < rest, dots, all(-3e38f)));
    }
}

/* Scores -> shares but for a factor, which is returned. */
INLINE float exponentials(float *scores, int count) {
    lanes most = load(scores);
    for (int first = LANES; first < count; first += LANES) most = larger(most, load(scores + first));
    most = greatest(most);
    lanes sums = {};
    for (int first = 0; first < count; first += LANES) {
        lanes shares = exponential(load(scores + first) - most);
        sums += shares;
        store(scores + first, shares);
    }
    return 1 / total(sums)[0];
}

INLINE void mix(
    const float *values, const int32_t *seen, int count, const float *shares, float factor, lanes *mean, int vectors) {
    /* Two sums, because an addition takes as long as several multiplications. */
    lanes even[MOST_VECTORS], odd[MOST_VECTORS];
    for (int v = 0; v < vectors; v++) even[v] = odd[v] = (lanes){};
    /* The share behind the last is next to nothing, and its value is that of a key that is looked at. */
    for (int s = 0; s < count; s += 2) {
        const float *one = values + seen[s], *other = values + seen[s + 1];
        for (int v = 0; v < vectors; v++) {
            even[v] += shares[s] * load(one + v * LANES);
            odd[v] += shares[s + 1] * load(other + v * LANES);
        }
    }
    for (int v = 0; v < vectors; v++) mean[v] = (even[v] + odd[v]) * factor;
}

#define WITH_CONSTANT(vectors, call)                                                                                   \
    switch (vectors) {                                                                                                 \
    case 32 / LANES: call(32 / LANES); break;                                                                          \
    case 64 / LANES: call(64 / LANES); break;                                                                          \
    case 128 / LANES: call(128 / LANES); break;                                                                        \
    default: call(vectors); break;                                                                                     \
    }

/* `size` numbers with zeros behind, as float32. */
INLINE void copy_float32(float *to, const float *from, int64_t size) {
    int64_t k = 0;
    for (; k + LANES <= size; k += LANES) store(to + k, load(from + k));
    if (k == size) return;
    store(to + k, (lanes){});
    for (; k < size; k++) to[k] = from[k];
}

INLINE void copy_bfloat16(float *to, const uint16_t *from, int64_t size) {
    int64_t k = 0;
    for (; k + LANES <= size; k += LANES) store(to + k, load_bfloat16(from + k));
    if (k == size) return;
    uint16_t filled[LANES] = {0};
    memcpy(filled, from + k, (size - k) * sizeof *from);
    store(to + k, load_bfloat16(filled));
}

INLINE void copy_row(float *to, const void *from, int64_t at, int64_t size, int is_bfloat16) {
    if (is_bfloat16) copy_bfloat16(to, (const uint16_t *)from + at, size);
    else copy_float32(to, (const float *)from + at, size);
}

INLINE void write_row(void *to, int64_t at, const lanes *values, int64_t size, int is_bfloat16) {
    int64_t k = 0;
    for (; k + LANES <= size; k += LANES) {
        if (is_bfloat16) store_bfloat16((uint16_t *)to + at + k, values[k / LANES]);
        else store((float *)to + at + k, values[k / LANES]);
    }
    if (k == size) return;
    uint16_t halves[LANES];
    store_bfloat16(halves, values[k / LANES]);
    if (is_bfloat16) memcpy((uint16_t *)to + at + k, halves, (size - k) * sizeof *halves);
    else memcpy((float *)to + at + k, &values[k / LANES], (size - k) * sizeof(float));
}

/* Which keys each query of sentence b looks at. */
INLINE void list_keys(attention job, int64_t b, workplace at, int64_t lists, int64_t room) {
    const float *mask = job.mask + b * job.mask_B;
    for (int64_t t = 0; t < lists; t++) {
        int32_t *list = at.lists + t * room;
        int32_t count = 0;
        for (int64_t s = 0; s < job.keys_per_sentence; s++) {
            list[count] = at.offsets[s];
            count += mask[t * job.mask_T + s] == 0;
        }
        at.counts[t] = count;
        for (int x = 0; x < LANES; x++) list[count + x] = list[0];
    }
}

/* Copy what any query of sentence b looks at -> where the keys of the first head lie; the values lie behind all
   keys. */
INLINE const float *copy_keys(attention job, int64_t b, workplace at, int64_t lists, int64_t row) {
    int64_t uses = 0, keys = job.keys_per_sentence;
    for (int64_t s = 0; s < keys; s++) {
        int looked_at = 0;
        for (int64_t t = 0; t < lists; t++)
            looked_at |= job.mask[b * job.mask_B + t * job.mask_T + s] == 0;
        at.offsets[s] = uses * row;
        at.used[uses] = s;
        uses += looked_at;
    }
    float *values = at.copies + job.heads * keys * row;
    for (int64_t h = 0; h < job.heads; h++)
        for (int64_t use = 0; use < uses; use++) {
            int64_t from = b * job.keys_B + h * job.keys_H + at.used[use] * job.keys_S;
            int64_t to = (h * keys + use) * row;
            copy_row(at.copies + to, job.keys, from, job.size, job.keys_are_bfloat16);
            copy_row(values + to, job.values, from, job.size, job.keys_are_bfloat16);
        }
    return at.copies;
}

/* Keys and values lie too far apart for a processor to foresee where it will read: without this a step of a large batch
   takes this function up to twice as long. */
INLINE void fetch_ahead(const float *one, const float *other, const int32_t *seen, int count, int vectors) {
    for (int s = 0; s < count; s++)
        for (int v = 0; v < vectors; v += 16 / LANES) {
            __builtin_prefetch(one + seen[s] + v * LANES);
            if (other) __builtin_prefetch(other + seen[s] + v * LANES);
        }
}

static void attend_sentence(attention job, int64_t b, workplace at) {
    int vectors = (job.size + LANES - 1) / LANES;
    int64_t lists = job.mask_T ? job.queries : 1, room = room_of(job.keys_per_sentence);
    const float *keys = (const float *)job.keys + b * job.keys_B;
    const float *values = (const float *)job.values + b * job.keys_B;
    int64_t head = job.keys_H;
    if (job.keys_are_bfloat16 || job.size % LANES) {
        int64_t row = vectors * LANES;
        keys = copy_keys(job, b, at, lists, row);
        head = job.keys_per_sentence * row;
        values = keys + job.heads * head;
    } else {
        for (int64_t s = 0; s < job.keys_per_sentence; s++) at.offsets[s] = s * job.keys_S;
    }
    list_keys(job, b, at, lists, room);

    for (int64_t list = 0; list < lists; list++)
        fetch_ahead(keys, NULL, at.lists + list * room, at.counts[list], vectors);

    int64_t rows = job.heads * job.queries;
    for (int64_t first = 0; first < rows; first += ROWS) {
        int count = rows - first < ROWS ? rows - first : ROWS;
        lanes row[MOST_VECTORS];
        float factors[ROWS];
        for (int r = 0; r < count; r++) {
            int64_t h = (first + r) / job.queries, t = (first + r) % job.queries, list = job.mask_T ? t : 0;
            float query[MOST_VECTORS * LANES];
            int64_t from = b * job.query_B + h * job.query_H + t * job.query_T;
            copy_row(query, job.query, from, job.size, job.query_is_bfloat16);
            for (int v = 0; v < vectors; v++) row[v] = load(query + v * LANES) * job.scale;
            const int32_t *seen = at.lists + list * room;
#define SCORE(vectors) score(row, keys + h * head, seen, at.counts[list], at.shares + r * room, vectors)
            WITH_CONSTANT(vectors, SCORE)
            /* What comes next: the values of this head and the keys of the next one. */
            if (job.mask_T || t == 0) {
                const float *next_keys = h + 1 < job.heads ? keys + (h + 1) * head : NULL;
                fetch_ahead(values + h * head, next_keys, seen, at.counts[list], vectors);
            }
        }
        for (int r = 0; r < count; r++) {
            int32_t seen = at.counts[job.mask_T ? (first + r) % job.queries : 0];
            factors[r] = seen ? exponentials(at.shares + r * room, seen) : 0;
        }
        for (int r = 0; r < count; r++) {
            int64_t h = (first + r) / job.queries, t = (first + r) % job.queries, list = job.mask_T ? t : 0;
            const int32_t *seen = at.lists + list * room;
#define MIX(vectors) mix(values + h * head, seen, at.counts[list], at.shares + r * room, factors[r], row, vectors)
            WITH_CONSTANT(vectors, MIX)
            int64_t to = ((b * job.queries + t) * job.heads + h) * job.size;
            write_row(job.context, to, row, job.size, job.query_is_bfloat16);
        }
    }
}

/* Returns 0, or 1 if there is no memory. A query that may look at nothing gets zeros. */
int attend(const attention *job, int threads) {
    int64_t lists = job->mask_T ? job->queries : 1, keys = job->keys_per_sentence, room = room_of(keys);
    int copied = job->keys_are_bfloat16 || job->size % LANES;
    int64_t sizes[] = {
        lists * room, lists, keys, keys, ROWS * room, copied ? 2 * job->heads * keys * in_lanes(job->size) : 0};
    int64_t size = 0;
    for (int part = 0; part < 6; part++) size += in_lines(sizes[part]);
    if (job->sentences * job->heads * job->queries * keys * job->size < WORTH_SHARING) threads = 1;
    if (threads > job->sentences) threads = job->sentences > 0 ? job->sentences : 1;
    char *memory = aligned_alloc(64, threads * 4 * size);
    if (!memory) return 1;
#pragma omp parallel for num_threads(threads) if (threads > 1)
    for (int thread = 0; thread < threads; thread++) {
        char *parts[6], *next = memory + thread * 4 * size;
        for (int part = 0; part < 6; next += 4 * in_lines(sizes[part++])) parts[part] = next;
        workplace at = {
            (int32_t *)parts[0], (int32_t *)parts[1], (int32_t *)parts[2], (int32_t *)parts[3], (float *)parts[4],
            (float *)parts[5]};
        for (int64_t b = thread; b < job->sentences; b += threads) attend_sentence(*job, b, at);
    }
    free(memory);
    return 0;
}
