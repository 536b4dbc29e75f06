/* Ops of imported models (docs/numerics.md, ternac/program/import_ops.py), a template. Included by maps.h. */

MAP(gather16) { /* in[0]: as for gather, in elements */
  const int16_t *restrict from = (const int16_t *)op->data + op->in[0];
  OUT(int16_t)
  EACH out[i] = from[i];
}

MAP(rmsnorm) { /* the sum takes the whole vector */
  IN(int16_t, 0) OUT(int16_t)
  const size_t n = (size_t)op->length;
  uint64_t sum = (uint64_t)op->attr[TN_RMSNORM_EPS];
  for (size_t i = 0; i < n; i++) sum += (uint64_t)(uint32_t)((int32_t)in0[i] * in0[i]);
  const uint64_t root = square_root(sum << 16);
  const int shift = (int)op->attr[TN_RMSNORM_SHIFT];
  const int64_t inverse = root ? (int64_t)((UINT64_C(1) << 47) / root) : 0, half = (INT64_C(1) << shift) >> 1;
  EACH out[i] = (int16_t)sat16((in0[i] * inverse + half) >> shift);
}

MAP(scale) {
  IN(int16_t, 0) OUT(int16_t)
  const int16_t *restrict gain = op->data;
  const int shift = (int)op->attr[TN_SCALE_SHIFT];
  if (shift < 31) {
    const int32_t half = (1 << shift) >> 1;
    EACH out[i] = (int16_t)sat16(((int32_t)in0[i] * gain[i] + half) >> shift);
  } else { /* only (-2^15)^2 reaches one half */
    EACH out[i] = (int32_t)in0[i] * gain[i] == 1 << 30;
  }
}

/* MUL16 at shift 31 saturates nothing: as above. */
#define MUL16(name, a, b, to, sat) \
  MAP(name) { \
    IN(a, 0) IN(b, 1) OUT(to) \
    const int shift = (int)op->attr[TN_MUL16_SHIFT]; \
    if (shift < 31) { \
      const int32_t half = (1 << shift) >> 1; \
      EACH out[i] = (to)sat(((int32_t)in0[i] * in1[i] + half) >> shift); \
    } else { \
      EACH out[i] = (int32_t)in0[i] * in1[i] == 1 << 30; \
    } \
  }
#define EVERY16(name, to, sat) \
  MUL16(name##_00, int8_t, int8_t, to, sat) MUL16(name##_10, int16_t, int8_t, to, sat) \
  MUL16(name##_01, int8_t, int16_t, to, sat) MUL16(name##_11, int16_t, int16_t, to, sat)
EVERY16(mul16_i8, int8_t, sat8)
EVERY16(mul16_i16, int16_t, sat16)
BY_FORM(mul16)

MAP(peak) {
  IN(int16_t, 0) OUT(int16_t)
  const size_t n = (size_t)op->width;
  int32_t most = 0;
  for (size_t i = 0; i < n; i++) {
    const int32_t size = in0[i] < 0 ? -(int32_t)in0[i] : in0[i];
    most = size > most ? size : most;
  }
  if (lo < hi) out[0] = (int16_t)(most > 32767 ? 32767 : most);
}

MAP(quant) {
  IN(int16_t, 0) IN(int16_t, 1) OUT(int8_t)
  const int64_t inverse = in1[0] > 0 ? (INT64_C(127) << 24) / in1[0] : 0;
  EACH out[i] = (int8_t)sat8((in0[i] * inverse + (1 << 23)) >> 24);
}

#define RESCALE(name, from, to, sat) \
  MAP(name) { \
    IN(from, 0) IN(int16_t, 1) OUT(to) \
    const int shift = (int)op->attr[TN_RESCALE_SHIFT]; \
    const int64_t factor = in1[0] * op->attr[TN_RESCALE_MULTIPLIER], half = (INT64_C(1) << shift) >> 1; \
    EACH out[i] = (to)sat((in0[i] * factor + half) >> shift); \
  }
RESCALE(rescale_i8_i16, int16_t, int8_t, sat8)
RESCALE(rescale_i8_acc, int32_t, int8_t, sat8)
RESCALE(rescale_i16_i16, int16_t, int16_t, sat16)
RESCALE(rescale_i16_acc, int32_t, int16_t, sat16)

MAP(rescale) {
  if (op->form & 4) (op->form & 1 ? NAME(rescale_i16_acc) : NAME(rescale_i16_i16))(op, row, lo, hi);
  else (op->form & 1 ? NAME(rescale_i8_acc) : NAME(rescale_i8_i16))(op, row, lo, hi);
}

MAP(interp) {
  IN(int16_t, 0) OUT(int16_t)
  const int16_t *restrict curve = op->data;
  EACH {
    const int32_t at = in0[i] + 32768, k = at >> 6, low = curve[k];
    out[i] = (int16_t)(low + (((curve[k + 1] - low) * (at & 63) + 32) >> 6));
  }
}

MAP(blend) { /* 32767 * 65535 + 2^14 is below 2^31 */
  IN(int16_t, 0) IN(int16_t, 1) IN(int16_t, 2) OUT(int16_t)
  EACH out[i] = (int16_t)(in0[i] + ((in2[i] * ((int32_t)in1[i] - in0[i]) + (1 << 14)) >> 15));
}
