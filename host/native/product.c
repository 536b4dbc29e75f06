/* Products: which kernel, how many vectors at a time. */
#include "native.h"

const tn_table *tn_table_of(int isa) {
#ifdef TN_X86
  switch (isa) {
    case TN_AVX2: return &tn_table_avx2;
    case TN_AVXVNNI: return &tn_table_avxvnni;
    case TN_AVX512VNNI: return &tn_table_avx512vnni;
    case TN_AVXVNNI_EVEX: return &tn_table_avxvnni_evex;
  }
#endif
  (void)isa;
  return &tn_table_portable;
}

/* Block by block, so that a block's weights come from memory once and from the cache for all vectors but the
   first few. */
void tn_product_part(const tn_table *table, int lanes, int trits, const uint8_t *packed, size_t columns,
                     size_t first, size_t last, const int8_t *const *x, int32_t *const *out, int count) {
  enum { MOST = 64 };
  size_t quads = (columns + TN_COLUMNS - 1) / TN_COLUMNS * (TN_COLUMNS / 4);
  size_t grain = (size_t)lanes * trits, bytes = quads * 4 * lanes;
  int32_t sums[MOST];
  for (; count > 0; x += MOST, out += MOST, count -= MOST) {
    int here = count < MOST ? count : MOST;
    for (int b = 0; b < here; b++) sums[b] = table->sum(x[b], quads * 4);
    size_t step = here == 1 ? last - first : 1;
    for (size_t block = first; block < last; block += step)
      for (int b = 0; b < here;) {
        int form = here - b >= 3 ? 2 : here - b == 2 ? 1 : 0, width = 1 << form;
        const int8_t *xs[4];
        int32_t *outs[4], four[4];
        for (int i = 0; i < width; i++) { /* three vectors: the last one twice */
          int at = b + i < here ? b + i : here - 1;
          xs[i] = x[at], outs[i] = out[at] + block * grain, four[i] = sums[at];
        }
        table->block[trits - 4][form](packed + block * bytes, step, quads, xs, four, outs);
        b += width;
      }
  }
}

void tn_product(int isa, int trits, const uint8_t *packed, size_t rows, size_t columns, const int8_t *x,
                size_t x_stride, int32_t *out, size_t out_stride, int count) {
  int lanes = tn_isa_lanes(isa);
  size_t grain = (size_t)lanes * trits;
  const int8_t *xs[64];
  int32_t *outs[64];
  for (int b = 0; b < count; b += 64) {
    int here = count - b < 64 ? count - b : 64;
    for (int i = 0; i < here; i++) xs[i] = x + (b + i) * x_stride, outs[i] = out + (b + i) * out_stride;
    tn_product_part(tn_table_of(isa), lanes, trits, packed, columns, 0, (rows + grain - 1) / grain, xs, outs, here);
  }
}

uint64_t tn_read(int isa, const uint8_t *memory, size_t bytes) { return tn_table_of(isa)->read(memory, bytes); }

/* Another library's kernel, called row by row from C, so that a comparison does not measure Python. */
void tn_peer_rows(void *function, int columns, const uint8_t *weights, size_t row_bytes, size_t rows,
                  const void *activations, float *out) {
  typedef void vec_dot(int n, float *s, size_t bs, const void *x, size_t bx, const void *y, size_t by, int nrc);
  vec_dot *dot = (vec_dot *)function; /* ggml's ggml_vec_dot_t */
  for (size_t r = 0; r < rows; r++) dot(columns, out + r, 0, weights + r * row_bytes, 0, activations, 0, 1);
}
