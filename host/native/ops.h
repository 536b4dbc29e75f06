/* The scalar rules of docs/numerics.md that the ops share. */
#ifndef TERNAC_OPS_H
#define TERNAC_OPS_H

#include "native.h"

_Static_assert(-1 >> 1 == -1 && -3 >> 1 == -2, "right shifts of negative numbers must be arithmetic");

#define sat8(x) ((x) < -128 ? -128 : (x) > 127 ? 127 : (x))
#define sat16(x) ((x) < -32768 ? -32768 : (x) > 32767 ? 32767 : (x))

/* Exponent E and table index of a sum of squares. */
static inline int norm_index(uint32_t sum, int *exponent) {
  if (sum == 0) return *exponent = 0;
  const int e = (31 - __builtin_clz(sum)) / 2;
  *exponent = e;
  return (int)(e >= 3 ? sum >> (2 * e - 6) : sum << (6 - 2 * e));
}

/* Largest integer whose square is at most v < 2^63. */
static inline uint64_t square_root(uint64_t v) {
  uint64_t r = (uint64_t)__builtin_sqrt((double)v);
  while (r * r > v) r--;
  while ((r + 1) * (r + 1) <= v) r++;
  return r;
}

#endif
