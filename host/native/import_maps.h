/* Ops of imported models (docs/numerics.md, ternac/program/import_ops.py), a template. Included by maps.h.

   An op finds its factors and calls a loop on bare vectors. Where the instruction set defines WIDE_VECTORS, wide.h
   has done most of the elements before the loop begins; without, the compiler makes vectors of the loop itself. */
#ifdef WIDE_VECTORS
#include "wide.h"
#define BY_VECTORS(name, ...) NAME(name##_v)(__VA_ARGS__)
#else
#define BY_VECTORS(name, ...) 0
#endif
#define LOOP(name) TARGET static void NAME(name)
#define REST for (; i < n; i++)

MAP(gather16) { /* in[0]: as for gather, in elements */
  const int16_t *restrict from = (const int16_t *)op->data + op->in[0];
  OUT(int16_t)
  EACH out[i] = from[i];
}

/* sat((x * factor + 2^(shift-1)) >> shift) as it is written; |x * factor| <= 2^62, factor >= 0. */
#define FULL(name, from, to, sat) \
  LOOP(full_##name)(const from *restrict x, int64_t factor, int shift, to *restrict out, size_t i, size_t n) { \
    const int64_t half = (INT64_C(1) << shift) >> 1; \
    REST out[i] = (to)sat((x[i] * factor + half) >> shift); \
  }
FULL(i8_i16, int16_t, int8_t, sat8)
FULL(i8_acc, int32_t, int8_t, sat8)
FULL(i16_i16, int16_t, int16_t, sat16)
FULL(i16_acc, int32_t, int16_t, sat16)

/* The same for 16-bit x in 32 bits: factor = high 2^16 + low, both of 16 bits with a sign. 2^16 divides x * high 2^16
   and one half, so that floor((x high + floor(x low / 2^16) + half / 2^16) / 2^(shift - 16)) is exact. Factor and
   shift grow together until the shift is 17. */
#define TIMES(name, to, sat) \
  LOOP(times_##name)(const int16_t *restrict x, int64_t factor, int shift, to *restrict out, size_t n) { \
    for (; shift < 17 && factor < 1 << 30; shift++) factor *= 2; \
    if (shift < 17 || shift > 46 || factor >= (INT64_C(1) << 31) - (1 << 15)) { \
      NAME(full_##name)(x, factor, shift, out, 0, n); \
      return; \
    } \
    const int16_t low = (int16_t)(uint16_t)factor, high = (int16_t)((factor - low) >> 16); \
    const int32_t half = (1 << (shift - 16)) >> 1; \
    size_t i = BY_VECTORS(times_##name, x, high, low, shift, out, n); \
    REST out[i] = (to)sat((x[i] * high + (x[i] * low >> 16) + half) >> (shift - 16)); \
  }
TIMES(i16_i16, int16_t, sat16)
TIMES(i8_i16, int8_t, sat8)

/* Accumulators are within 2^23. Vectors take factors below 2^39 and results that fit into 32 bits. */
LOOP(times_i16_acc)(const int32_t *restrict x, int64_t factor, int shift, int16_t *restrict out, size_t n) {
  for (; shift < 9 && factor < INT64_C(1) << 38; shift++) factor *= 2;
  size_t i = 0;
  if (shift >= 9 && factor < INT64_C(1) << 39 && (shift >= 32 || factor <= INT64_C(1) << (shift + 7)))
    i = BY_VECTORS(times_i16_acc, x, (uint32_t)(factor >> 8), (int)(factor & 255), shift, out, n);
  NAME(full_i16_acc)(x, factor, shift, out, i, n);
}

LOOP(times_i8_acc)(const int32_t *restrict x, int64_t factor, int shift, int8_t *restrict out, size_t n) {
  NAME(full_i8_acc)(x, factor, shift, out, 0, n);
}

MAP(rmsnorm) { /* the sum takes the whole vector */
  IN(int16_t, 0) OUT(int16_t)
  const size_t n = (size_t)op->length;
  uint64_t sum = (uint64_t)op->attr[TN_RMSNORM_EPS];
  size_t i = BY_VECTORS(squares, in0, n, &sum);
  REST sum += (uint64_t)(uint32_t)((int32_t)in0[i] * in0[i]);
  const uint64_t root = square_root(sum << 16);
  const int64_t inverse = root ? (int64_t)((UINT64_C(1) << 47) / root) : 0;
  NAME(times_i16_i16)(in0 + lo, inverse, (int)op->attr[TN_RMSNORM_SHIFT], out + lo, hi - lo);
}

/* Products of two vectors; at shift 31 nothing saturates and only (-2^15)^2 reaches one half. */
#define PRODUCTS(name, a, b, to, sat, vectors) \
  LOOP(products_##name)(const a *restrict x, const b *restrict y, int shift, to *restrict out, size_t n) { \
    size_t i = 0; \
    if (shift < 31) { \
      const int32_t half = (1 << shift) >> 1; \
      i = vectors; \
      REST out[i] = (to)sat(((int32_t)x[i] * y[i] + half) >> shift); \
    } else { \
      REST out[i] = (int32_t)x[i] * y[i] == 1 << 30; \
    } \
  } \
  MAP(mul16_##name) { \
    IN(a, 0) IN(b, 1) OUT(to) \
    NAME(products_##name)(in0 + lo, in1 + lo, (int)op->attr[TN_MUL16_SHIFT], out + lo, hi - lo); \
  }
#define EVERY16(name, to, sat, vectors) \
  PRODUCTS(name##_00, int8_t, int8_t, to, sat, 0) PRODUCTS(name##_10, int16_t, int8_t, to, sat, 0) \
  PRODUCTS(name##_01, int8_t, int16_t, to, sat, 0) PRODUCTS(name##_11, int16_t, int16_t, to, sat, vectors)
EVERY16(i8, int8_t, sat8, 0)
EVERY16(i16, int16_t, sat16, BY_VECTORS(products, x, y, shift, out, n))
BY_FORM(mul16)

MAP(scale) {
  IN(int16_t, 0) OUT(int16_t)
  const int16_t *restrict gain = op->data;
  NAME(products_i16_11)(in0 + lo, gain + lo, (int)op->attr[TN_SCALE_SHIFT], out + lo, hi - lo);
}

MAP(peak) {
  IN(int16_t, 0) OUT(int16_t)
  const size_t n = (size_t)op->width;
  int16_t most = 0, least = 0;
  for (size_t i = 0; i < n; i++) {
    most = in0[i] > most ? in0[i] : most;
    least = in0[i] < least ? in0[i] : least;
  }
  if (lo < hi) out[0] = least < -32767 ? 32767 : -least > most ? (int16_t)-least : most;
}

MAP(quant) {
  IN(int16_t, 0) IN(int16_t, 1) OUT(int8_t)
  NAME(times_i8_i16)(in0 + lo, in1[0] > 0 ? (INT64_C(127) << 24) / in1[0] : 0, 24, out + lo, hi - lo);
}

#define RESCALE(name, from, to) \
  MAP(rescale_##name) { \
    IN(from, 0) IN(int16_t, 1) OUT(to) \
    const int64_t factor = in1[0] * op->attr[TN_RESCALE_MULTIPLIER]; \
    NAME(times_##name)(in0 + lo, factor, (int)op->attr[TN_RESCALE_SHIFT], out + lo, hi - lo); \
  }
RESCALE(i8_i16, int16_t, int8_t)
RESCALE(i8_acc, int32_t, int8_t)
RESCALE(i16_i16, int16_t, int16_t)
RESCALE(i16_acc, int32_t, int16_t)

MAP(rescale) {
  if (op->form & 4) (op->form & 1 ? NAME(rescale_i16_acc) : NAME(rescale_i16_i16))(op, row, lo, hi);
  else (op->form & 1 ? NAME(rescale_i8_acc) : NAME(rescale_i8_i16))(op, row, lo, hi);
}

LOOP(curve)(const int16_t *restrict x, const int16_t *restrict points, int16_t *restrict out, size_t n) {
  size_t i = BY_VECTORS(interp, x, points, out, n);
  REST {
    const int32_t at = x[i] + 32768, k = at >> 6, low = points[k];
    out[i] = (int16_t)(low + (((points[k + 1] - low) * (at & 63) + 32) >> 6));
  }
}

MAP(interp) {
  IN(int16_t, 0) OUT(int16_t)
  NAME(curve)(in0 + lo, op->data, out + lo, hi - lo);
}

LOOP(mix)(const int16_t *restrict h, const int16_t *restrict c, const int16_t *restrict e, int16_t *restrict out,
          size_t n) { /* 32767 * 65535 + 2^14 is below 2^31 */
  size_t i = BY_VECTORS(blend, h, c, e, out, n);
  REST out[i] = (int16_t)(h[i] + ((e[i] * ((int32_t)c[i] - h[i]) + (1 << 14)) >> 15));
}

MAP(blend) {
  IN(int16_t, 0) IN(int16_t, 1) IN(int16_t, 2) OUT(int16_t)
  NAME(mix)(in0 + lo, in1 + lo, in2 + lo, out + lo, hi - lo);
}
