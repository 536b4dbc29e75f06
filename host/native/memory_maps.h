/* Ops of memories (ternac/program/memory_ops.py), included by maps.h. `data` points to the rows: of a constant, or of
   the session, set for each token by the caller. Threads split rows by elements, so that an update and the read
   after it need no meeting. */

EVERY(sub_i8, int8_t, sat8((int32_t)in0[i] - in1[i]))
EVERY(sub_i16, int16_t, sat16((int32_t)in0[i] - in1[i]))
BY_FORM(sub)

TARGET static int NAME(argmax8)(const int8_t *x, size_t n) {
  int8_t most = x[0];
  for (size_t i = 1; i < n; i++) most = x[i] > most ? x[i] : most;
  int at = 0;
  while (x[at] != most) at++;
  return at;
}

MAP(winners) {
  OUT(int16_t)
  const size_t size = (size_t)(op->width / op->length);
  const int8_t *narrow = (const int8_t *)(row + op->in[0]);
  const int16_t *wide = (const int16_t *)(row + op->in[0]);
  EACH out[i] = (int16_t)(op->form & TN_WIDE_0 ? NAME(argmax)(wide + i * size, (int)size)
                                               : NAME(argmax8)(narrow + i * size, size));
}

MAP(mask) { /* width: how many groups */
  IN(int8_t, 0) IN(int16_t, 1) OUT(int8_t)
  const size_t size = (size_t)(op->length / op->width);
  EACH out[i] = 0;
  for (size_t group = lo / size; group * size < hi; group++) {
    const int digit = in1[group] % (int)size;
    const size_t at = group * size + (size_t)(digit < 0 ? digit + (int)size : digit);
    if (lo <= at && at < hi) out[at] = in0[at];
  }
}

/* The low bits of a digit are all that counts: no digit reaches rows of another head. */
static inline size_t row_number(const tn_op *op, const uint8_t *row, int bits, int shared, size_t head) {
  const uint32_t low = (UINT32_C(1) << bits) - 1;
  const uint8_t *a = row + op->in[0], *b = row + op->in[1];
  uint32_t at = low & (uint32_t)(op->form & TN_WIDE_0 ? ((const int16_t *)(const void *)a)[head] : ((const int8_t *)a)[head]);
  if (op->form & TN_TWO_DIGITS) {
    const int second = op->form & TN_WIDE_1 ? ((const int16_t *)(const void *)b)[head] : ((const int8_t *)b)[head];
    at = at << bits | (low & (uint32_t)second);
    bits *= 2;
  }
  return shared ? at : at + (head << bits);
}

#define READ(name, type) \
  MAP(mem_read_##name) { \
    OUT(int32_t) \
    const int bits = (int)op->attr[TN_MEM_READ_BITS], shared = (int)op->attr[TN_MEM_READ_SHARED]; \
    EACH out[i] = 0; \
    for (size_t head = 0; head < (size_t)op->width; head++) { \
      const size_t at = row_number(op, row, bits, shared, head) * (size_t)op->length; \
      const type *restrict from = (const type *)op->data + at; \
      EACH out[i] += from[i]; \
    } \
  }
READ(i8, int8_t)
READ(i16, int16_t)
MAP(mem_read) { (op->form & TN_WIDE_ROWS ? NAME(mem_read_i16) : NAME(mem_read_i8))(op, row, lo, hi); }

#define UPDATE(name, type, change, sat) \
  MAP(mem_update_##name) { \
    const int bits = (int)op->attr[TN_MEM_UPDATE_BITS], keep = (int)op->attr[TN_MEM_UPDATE_KEEP]; \
    const int32_t half = (int32_t)((UINT32_C(1) << keep) >> 1); \
    const change *restrict e = (const change *)(row + op->in[op->form & TN_TWO_DIGITS ? 2 : 1]); \
    for (size_t head = 0; head < (size_t)op->width; head++) { \
      const size_t at = row_number(op, row, bits, 0, head) * (size_t)op->length; \
      type *restrict to = (type *)op->data + at; \
      if (keep) EACH to[i] = (type)sat(to[i] - ((to[i] + half) >> keep) - e[i]); \
      else EACH to[i] = (type)sat(to[i] - e[i]); \
    } \
  }
UPDATE(i8_i8, int8_t, int8_t, sat8)
UPDATE(i8_i16, int8_t, int16_t, sat8)
UPDATE(i16_i8, int16_t, int8_t, sat16)
UPDATE(i16_i16, int16_t, int16_t, sat16)
MAP(mem_update) {
  const int wide = op->form & (op->form & TN_TWO_DIGITS ? TN_WIDE_2 : TN_WIDE_1);
  if (op->form & TN_WIDE_ROWS) (wide ? NAME(mem_update_i16_i16) : NAME(mem_update_i16_i8))(op, row, lo, hi);
  else (wide ? NAME(mem_update_i8_i16) : NAME(mem_update_i8_i8))(op, row, lo, hi);
}
