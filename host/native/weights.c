/* Weights: their memory, and their layout in it, which is the order in which the kernels read them.

   A block is `trits` groups of `lanes` rows. It is stored quad by quad (four columns), each quad as 4 * lanes
   bytes: byte 4 i + c belongs to column c of the quad and to row i of every group; it holds the trits of the groups,
   plus one: as bit pairs (4 trits, group j at bit 2 j) or as digits in base 3 (5 trits, group j worth 3^j).
   Columns are filled up to a multiple of TN_COLUMNS and rows to whole blocks; what is filled in counts zero. */
#define _GNU_SOURCE
#include "native.h"

#include <sys/mman.h>

/* Pages, huge ones where the system has them. */
void *tn_alloc(size_t bytes) {
  void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return NULL;
#ifdef MADV_HUGEPAGE
  madvise(memory, bytes, MADV_HUGEPAGE);
#endif
  return memory;
}

void tn_free(void *memory, size_t bytes) {
  if (memory) munmap(memory, bytes);
}

static size_t up(size_t n, size_t step) { return (n + step - 1) / step * step; }

size_t tn_packed_size(int lanes, int trits, size_t rows, size_t columns) {
  size_t grain = (size_t)lanes * trits;
  return up(rows, grain) / trits * up(columns, TN_COLUMNS);
}

void tn_pack(int lanes, int trits, const int8_t *matrix, size_t rows, size_t columns, uint8_t *packed) {
  static const uint8_t worth[2][5] = {{1, 4, 16, 64, 0}, {1, 3, 9, 27, 81}};
  const uint8_t *w = worth[trits - 4];
  size_t grain = (size_t)lanes * trits, wide = up(columns, TN_COLUMNS), none = 0;
  for (int j = 0; j < trits; j++) none += w[j];
  for (size_t block = 0; block < rows; block += grain, packed += wide * lanes)
    for (size_t i = 0; i < (size_t)lanes; i++) {
      const int8_t *row[5];
      for (int j = 0; j < trits; j++) {
        size_t r = block + (size_t)j * lanes + i;
        row[j] = r < rows ? matrix + r * columns : NULL;
      }
      for (size_t k = 0; k < wide; k++) {
        int code = (int)none;
        if (k < columns)
          for (int j = 0; j < trits; j++)
            if (row[j]) code += row[j][k] * w[j];
        packed[k / 4 * 4 * lanes + 4 * i + k % 4] = (uint8_t)code;
      }
    }
}
