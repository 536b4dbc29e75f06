/* Elementwise ops, the norm and what else runs over vectors, in plain C that the compiler vectorizes. Included once
   per instruction set, which has defined NAME (suffixes names) and TARGET (function attribute). docs/numerics.md is
   the law; `>>` of a negative number is arithmetic with every compiler that this is built with (checked below). */
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

#define MAP(name) TARGET static void NAME(name)(const tn_op *op, uint8_t *row, size_t lo, size_t hi)
#define IN(type, i) const type *restrict in##i = (const type *)(row + op->in[i]);
#define OUT(type) type *restrict out = (type *)(row + op->out);
#define EACH for (size_t i = lo; i < hi; i++)

#define BY_FORM(name) \
  MAP(name) { \
    static tn_map_fn *const form[8] = {NAME(name##_i8_00), NAME(name##_i8_10), NAME(name##_i8_01), \
                                       NAME(name##_i8_11), NAME(name##_i16_00), NAME(name##_i16_10), \
                                       NAME(name##_i16_01), NAME(name##_i16_11)}; \
    form[op->form](op, row, lo, hi); \
  }

#include "import_maps.h"

/* REQUANT: acc or i16 to i8 or i16; with a multiplier it is the product of import_maps.h. */
#define REQUANT(name, from, to, sat) \
  MAP(requant_##name) { \
    IN(from, 0) OUT(to) \
    const int shift = (int)op->attr[TN_REQUANT_SHIFT]; \
    const int64_t factor = op->attr[TN_REQUANT_MULTIPLIER]; \
    if (factor == 1) { \
      const int32_t half = (int32_t)((UINT32_C(1) << shift) >> 1); \
      EACH out[i] = (to)sat((in0[i] + half) >> shift); \
    } else { \
      NAME(times_##name)(in0 + lo, factor, shift, out + lo, hi - lo); \
    } \
  }
REQUANT(i8_i16, int16_t, int8_t, sat8)
REQUANT(i8_acc, int32_t, int8_t, sat8)
REQUANT(i16_i16, int16_t, int16_t, sat16)
REQUANT(i16_acc, int32_t, int16_t, sat16)

MAP(requant) {
  if (op->form & 4) (op->form & 1 ? NAME(requant_i16_acc) : NAME(requant_i16_i16))(op, row, lo, hi);
  else (op->form & 1 ? NAME(requant_i8_acc) : NAME(requant_i8_i16))(op, row, lo, hi);
}

#define BINARY(name, a, b, to, expression) \
  MAP(name) { \
    IN(a, 0) IN(b, 1) OUT(to) \
    const int shift = (int)op->attr[TN_MUL_SHIFT]; /* ADD has none and does not look */ \
    const int32_t half = (int32_t)((UINT32_C(1) << shift) >> 1); \
    (void)shift, (void)half; \
    EACH out[i] = (to)(expression); \
  }
#define EVERY(name, to, expression) \
  BINARY(name##_00, int8_t, int8_t, to, expression) BINARY(name##_10, int16_t, int8_t, to, expression) \
  BINARY(name##_01, int8_t, int16_t, to, expression) BINARY(name##_11, int16_t, int16_t, to, expression)
EVERY(mul_i8, int8_t, sat8(((int32_t)in0[i] * in1[i] + half) >> shift))
EVERY(mul_i16, int16_t, sat16(((int32_t)in0[i] * in1[i] + half) >> shift))
EVERY(add_i8, int8_t, sat8((int32_t)in0[i] + in1[i]))
EVERY(add_i16, int16_t, sat16((int32_t)in0[i] + in1[i]))

BY_FORM(mul)
BY_FORM(add)

MAP(lerp) {
  IN(int16_t, 0) IN(int16_t, 1) IN(int16_t, 2) OUT(int16_t)
  EACH out[i] = (int16_t)(in1[i] + ((in2[i] * ((int32_t)in0[i] - in1[i]) + 128) >> 8));
}

MAP(gather) { /* in[0]: offset of the token's row in the embedding, set for each token by the caller */
  const int8_t *restrict from = (const int8_t *)op->data + op->in[0];
  OUT(int16_t)
  const int factor = 1 << (8 - op->attr[TN_GATHER_SHIFT]);
  EACH out[i] = (int16_t)(from[i] * factor);
}

#ifndef OWN_TABLE
MAP(table) {
  IN(int8_t, 0) OUT(int16_t)
  const int16_t *entries = op->data;
  EACH out[i] = entries[in0[i] + 128];
}
#endif

MAP(norm) { /* the sum of squares takes the whole vector, the product elements lo..hi-1 */
  IN(int16_t, 0) OUT(int8_t)
  const size_t n = (size_t)op->length;
  const int pre = (int)op->attr[TN_NORM_PRE];
  const int32_t half = (1 << pre) >> 1;
  uint32_t sum = 0;
  for (size_t i = 0; i < n; i++) {
    int32_t q = sat8((in0[i] + half) >> pre);
    sum += (uint32_t)(q * q);
  }
  int exponent;
  const int32_t mantissa = ((const uint8_t *)op->data)[norm_index(sum, &exponent)];
  const int shift = (int)op->attr[TN_NORM_POST] + exponent;
  const int32_t round = (int32_t)((UINT32_C(1) << shift) >> 1);
  EACH out[i] = (int8_t)sat8((in0[i] * mantissa + round) >> shift);
}

TARGET static int32_t NAME(sum)(const int8_t *x, size_t n) {
  int32_t sum = 0;
  for (size_t i = 0; i < n; i++) sum += x[i];
  return sum;
}

TARGET static int NAME(argmax)(const int16_t *x, int n) {
  int16_t most = x[0];
  for (int i = 1; i < n; i++) most = x[i] > most ? x[i] : most;
  int at = 0;
  while (x[at] != most) at++;
  return at;
}

TARGET static void NAME(widen)(const int16_t *restrict x, int32_t *restrict out, size_t n) {
  for (size_t i = 0; i < n; i++) out[i] = x[i];
}

#include "memory_maps.h"

#define MAPS \
  .map = {[TN_GATHER] = NAME(gather), [TN_NORM] = NAME(norm), [TN_REQUANT] = NAME(requant), \
          [TN_TABLE] = NAME(table), [TN_MUL] = NAME(mul), [TN_ADD] = NAME(add), [TN_LERP] = NAME(lerp), \
          [TN_GATHER16] = NAME(gather16), [TN_RMSNORM] = NAME(rmsnorm), [TN_SCALE] = NAME(scale), \
          [TN_PEAK] = NAME(peak), [TN_QUANT] = NAME(quant), [TN_RESCALE] = NAME(rescale), \
          [TN_INTERP] = NAME(interp), [TN_MUL16] = NAME(mul16), [TN_BLEND] = NAME(blend), \
          [TN_WINNERS] = NAME(winners), [TN_MASK] = NAME(mask), [TN_SUB] = NAME(sub), \
          [TN_MEM_READ] = NAME(mem_read), [TN_MEM_UPDATE] = NAME(mem_update)}, \
  .sum = NAME(sum), .argmax = NAME(argmax), .widen = NAME(widen)
