/* Plain C for any processor, in the layout of 8 rows side by side. */
#include "native.h"

#define TARGET
#define NAME(x) x##_portable
#define LANES 8
#include "maps.h"

/* `trits` digits of a byte, as sums of digit * x: `pairs` says whether they are bit pairs or base 3. */
static void block_portable(const uint8_t *w, size_t blocks, size_t quads, const int8_t *x, int32_t sum, int32_t *out,
                           int trits) {
  static const int worth[2][6] = {{1, 4, 16, 64, 256, 0}, {1, 3, 9, 27, 81, 243}};
  for (; blocks > 0; blocks--, out += trits * LANES) {
    int32_t acc[5][LANES] = {{0}};
    for (size_t k = 0; k < 4 * quads; k += 4, w += 4 * LANES)
      for (int c = 0; c < 4; c++) {
        const int32_t v = x[k + c];
        for (int j = 0; j < trits; j++) {
          const int step = worth[trits - 4][j], base = trits == 4 ? 4 : 3;
          for (int i = 0; i < LANES; i++) acc[j][i] += v * (w[4 * i + c] / step % base);
        }
      }
    for (int j = 0; j < trits; j++)
      for (int i = 0; i < LANES; i++) out[j * LANES + i] = acc[j][i] - sum;
  }
}

#define BLOCKS(name, trits, count) \
  static void name(const uint8_t *w, size_t blocks, size_t quads, const int8_t *const *x, const int32_t *sums, \
                   int32_t *const *out) { \
    for (int b = 0; b < count; b++) block_portable(w, blocks, quads, x[b], sums[b], out[b], trits); \
  }
BLOCKS(one4_portable, 4, 1)
BLOCKS(two4_portable, 4, 2)
BLOCKS(four4_portable, 4, 4)
BLOCKS(one5_portable, 5, 1)
BLOCKS(two5_portable, 5, 2)
BLOCKS(four5_portable, 5, 4)

static uint64_t read_portable(const uint8_t *memory, size_t bytes) {
  uint64_t sum = 0;
  const uint64_t *words = (const uint64_t *)(const void *)memory;
  for (size_t i = 0; i < bytes / 8; i++) sum += words[i];
  return sum;
}

const tn_table tn_table_portable = {
    .block = {{one4_portable, two4_portable, four4_portable}, {one5_portable, two5_portable, four5_portable}},
    .read = read_portable,
    MAPS};
