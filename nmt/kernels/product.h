/* What the products of an activation with packed weights have in common: 6 positions by 64 outputs are summed up in
   24 registers, while a block of the weights stays in the first or second cache.

   Shapes: N positions, D input width, E output width. */
#pragma once

#include "lanes.h"

/* Outputs in a block of packed weights, and positions that meet it at a time. */
#define BLOCK 64
#define ROWS 6
/* Positions that meet one block of weights before the next one does: they stay in the second cache. */
#define STRIP 192
/* Blocks that a thread takes at a time. */
#define GROUP 8

INLINE int64_t blocks_of(int64_t outputs) { return (outputs + BLOCK - 1) / BLOCK; }

/* The sums are variables of their own: a compiler leaves an array of them in memory. */
#define EACH_ROW(what) what(0) what(1) what(2) what(3) what(4) what(5)
#define START(r) sum_lanes sum##r##a = {0}, sum##r##b = {0}, sum##r##c = {0}, sum##r##d = {0};
#define WRITE(r)                                                                                                       \
    if (r < rows) {                                                                                                    \
        write_outputs(job, sum##r##a, row + r, first);                                                                 \
        write_outputs(job, sum##r##b, row + r, first + 16);                                                            \
        write_outputs(job, sum##r##c, row + r, first + 32);                                                            \
        write_outputs(job, sum##r##d, row + r, first + 48);                                                            \
    }

/* A strip of positions by a group of blocks; `multiply(job, row, block, rows)` is told its rows as a constant. */
#define MULTIPLY_GROUP(name, multiply)                                                                                 \
    static void name(product job, int64_t strip, int64_t group) {                                                      \
        int64_t begin = strip * STRIP, end = begin + STRIP < job.positions ? begin + STRIP : job.positions;            \
        int64_t blocks = blocks_of(job.output_width);                                                                  \
        int64_t stop = (group + 1) * GROUP < blocks ? (group + 1) * GROUP : blocks;                                    \
        for (int64_t block = group * GROUP; block < stop; block++)                                                     \
            for (int64_t row = begin; row < end; row += ROWS)                                                          \
                switch (end - row < ROWS ? end - row : ROWS) {                                                         \
                case 1: multiply(job, row, block, 1); break;                                                           \
                case 2: multiply(job, row, block, 2); break;                                                           \
                case 3: multiply(job, row, block, 3); break;                                                           \
                case 4: multiply(job, row, block, 4); break;                                                           \
                case 5: multiply(job, row, block, 5); break;                                                           \
                default: multiply(job, row, block, ROWS); break;                                                       \
                }                                                                                                      \
    }
