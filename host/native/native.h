/* Shared by the C files: the table of functions of one instruction set. */
#ifndef TERNAC_NATIVE_H
#define TERNAC_NATIVE_H

#include <stddef.h>
#include <stdint.h>

#include "api.h"
#include "kinds.h"

#if defined(__x86_64__) && defined(__GNUC__)
#define TN_X86 1
#endif

enum { TN_PORTABLE, TN_AVX2, TN_AVXVNNI, TN_AVX512VNNI, TN_AVXVNNI_EVEX, TN_ISAS };
typedef int32_t __attribute__((may_alias, aligned(1))) tn_word; /* four activations at once */

enum { TN_COLUMNS = 16 }; /* columns of a matrix are rounded up to these */

/* Sums of blocks of rows times up to four activation vectors: out[b][0 .. blocks * grain) for vector b.
   w: the first block's weights; quads: columns / 4, a multiple of 4; sums[b]: sum of vector b. */
typedef void tn_block_fn(const uint8_t *w, size_t blocks, size_t quads, const int8_t *const *x, const int32_t *sums,
                         int32_t *const *out);

/* Elementwise ops on elements lo..hi-1 of one row; `row` is the row's memory. */
typedef void tn_map_fn(const tn_op *op, uint8_t *row, size_t lo, size_t hi);

typedef struct {
  tn_block_fn *block[2][3];   /* [4 or 5 trits a byte][1, 2 or 4 vectors] */
  tn_map_fn *map[TN_KINDS];   /* by kind; none for TMATVEC, LOAD, STORE */
  int32_t (*sum)(const int8_t *x, size_t n);
  int (*argmax)(const int16_t *x, int n);
  void (*widen)(const int16_t *x, int32_t *out, size_t n);
  uint64_t (*read)(const uint8_t *memory, size_t bytes);
} tn_table;

extern const tn_table tn_table_portable;
#ifdef TN_X86
extern const tn_table tn_table_avx2, tn_table_avxvnni, tn_table_avx512vnni, tn_table_avxvnni_evex;
#endif
const tn_table *tn_table_of(int isa);

/* All vectors of one product, for blocks first..last-1 (product.c). */
void tn_product_part(const tn_table *table, int lanes, int trits, const uint8_t *packed, size_t columns,
                     size_t first, size_t last, const int8_t *const *x, int32_t *const *out, int count);

/* Threads that run one function together (pool.c). */
typedef struct tn_pool tn_pool;
typedef void tn_work(void *context, int thread);
tn_pool *tn_pool_new(int threads);
void tn_pool_free(tn_pool *pool);
int tn_pool_run(tn_pool *pool, tn_work *work, void *context); /* -1 in a forked child */
void tn_pool_barrier(tn_pool *pool, int thread);

#endif
