/* Product kernels for instruction sets that multiply bytes and add four products in one step (vpdpbusd).

   Included once per instruction set, after it has defined: TARGET (function attribute), V (register), LANES, LOAD,
   BROADCAST (four bytes to all lanes), AND, ADD8.., DP(acc, unsigned bytes, signed bytes) and WIDE (1: registers for
   four vectors at a time, and vpermi2b). A lane is a row; its four bytes are four columns of a quad. No shifts: a bit
   pair is used where it stands in the byte, and its sum is divided at the end, exactly. */

#define FOUR_OF(w, p) V w = LOAD(p), w##1 = AND(w, mask1), w##2 = AND(w, mask2), w##3 = AND(w, mask3);
#define MASKS const V mask1 = SET8(0x0C), mask2 = SET8(0x30), mask3 = SET8((char)0xC0);
/* The whole byte stands for the first pair: the others are subtracted from its sum. At most 170 * 128 * 65535. */
#define ACCS4(b) V a##b##0 = ZERO, a##b##1 = ZERO, a##b##2 = ZERO, a##b##3 = ZERO;
#define DOTS4(b, w, p) \
  { const V v = BROADCAST(p); DP(a##b##0, w, v); DP(a##b##1, w##1, v); DP(a##b##2, w##2, v); DP(a##b##3, w##3, v); }
#define STORE4(b, o, sum) \
  { const V s = SET32(sum); \
    STORE(o, SUB32(SUB32(a##b##0, a##b##1), ADD32(ADD32(a##b##2, a##b##3), s))); \
    STORE(o + LANES, SUB32(SRA32(a##b##1, 2), s)); \
    STORE(o + 2 * LANES, SUB32(SRA32(a##b##2, 4), s)); \
    STORE(o + 3 * LANES, SUB32(SRA32(a##b##3, 6), s)); }

/* One vector: two sets of sums, because each step of a sum waits for the one before. */
TARGET static void NAME(one4)(const uint8_t *w, size_t blocks, size_t quads, const int8_t *const *x,
                              const int32_t *sums, int32_t *const *out) {
  MASKS
  int32_t *o = out[0];
  for (; blocks > 0; blocks--, o += 4 * LANES) {
    const int8_t *p = x[0];
    ACCS4(0) ACCS4(1)
    for (size_t q = quads; q > 0; q -= 2, w += 8 * LANES, p += 8) {
      PREFETCH(w, 8 * LANES)
      FOUR_OF(e, w)
      DOTS4(0, e, p)
      FOUR_OF(f, w + 4 * LANES)
      DOTS4(1, f, p + 4)
    }
    a00 = ADD32(a00, a10), a01 = ADD32(a01, a11), a02 = ADD32(a02, a12), a03 = ADD32(a03, a13);
    STORE4(0, o, sums[0])
  }
}

TARGET static void NAME(two4)(const uint8_t *w, size_t blocks, size_t quads, const int8_t *const *x,
                              const int32_t *sums, int32_t *const *out) {
  MASKS
  for (size_t at = 0; at < blocks * 4 * LANES; at += 4 * LANES) {
    ACCS4(0) ACCS4(1)
    for (size_t k = 0; k < 4 * quads; k += 4, w += 4 * LANES) {
      PREFETCH(w, 4 * LANES)
      FOUR_OF(e, w)
      DOTS4(0, e, x[0] + k) DOTS4(1, e, x[1] + k)
    }
    STORE4(0, out[0] + at, sums[0]) STORE4(1, out[1] + at, sums[1])
  }
}

#if WIDE
TARGET static void NAME(four4)(const uint8_t *w, size_t blocks, size_t quads, const int8_t *const *x,
                               const int32_t *sums, int32_t *const *out) {
  MASKS
  const int8_t *x0 = x[0], *x1 = x[1], *x2 = x[2], *x3 = x[3];
  for (size_t at = 0; at < blocks * 4 * LANES; at += 4 * LANES) {
    ACCS4(0) ACCS4(1) ACCS4(2) ACCS4(3)
    for (size_t k = 0; k < 4 * quads; k += 4, w += 4 * LANES) {
      PREFETCH(w, 4 * LANES)
      FOUR_OF(e, w)
      DOTS4(0, e, x0 + k) DOTS4(1, e, x1 + k) DOTS4(2, e, x2 + k) DOTS4(3, e, x3 + k)
    }
    STORE4(0, out[0] + at, sums[0]) STORE4(1, out[1] + at, sums[1])
    STORE4(2, out[2] + at, sums[2]) STORE4(3, out[3] + at, sums[3])
  }
}
#endif

/* Five trits a byte. MOD: v mod n for v < 3 n, as two minima of unsigned bytes (v - n wraps where v < n). */
#define MOD(v, n) MIN8(MIN8(v, SUB8(v, n)), SUB8(MIN8(v, SUB8(v, n)), n))
#define ACCS5(b) ACCS4(b) V a##b##4 = ZERO;
#if WIDE
/* byte = r + 81 c, r's four trits become bit pairs by one look-up. Five sums give five trits, two of them without a
   mask: byte = s0 + 3 s1 + 9 s2 + 27 s3 + 81 s4, r = s0 + .. + 27 s3, pairs = s0 + 4 s1 + 16 s2 + 64 s3. */
#define CONSTANTS5 \
  const V mask2 = SET8(0x30), mask3 = SET8((char)0xC0), n81 = SET8(81), low = LOAD(tn_pairs), high = LOAD(tn_pairs + 64);
#define FIVE_OF(w, p) \
  const V w##4 = LOAD(p), w = MOD(w##4, n81), w##1 = LOOKUP(low, w, high), w##2 = AND(w##1, mask2), \
          w##3 = AND(w##1, mask3);
#define DOTS5(b, w, p) DOTS4(b, w, p) { const V v = BROADCAST(p); DP(a##b##4, w##4, v); }
#define TIMES3(v) ADD32(v, ADD32(v, v))
#define STORE5(b, o, sum) \
  { const V s = SET32(sum), s2 = SRA32(a##b##2, 4), s3 = SRA32(a##b##3, 6), three = TIMES3(s3), \
            rest = SUB32(a##b##0, TIMES3(TIMES3(ADD32(s2, three)))), /* s0 + 3 s1 */ \
            s1 = SUB32(SUB32(SUB32(a##b##1, a##b##2), a##b##3), rest); \
    STORE(o, SUB32(SUB32(rest, TIMES3(s1)), s)); \
    STORE(o + LANES, SUB32(s1, s)); \
    STORE(o + 2 * LANES, SUB32(s2, s)); \
    STORE(o + 3 * LANES, SUB32(s3, s)); \
    STORE(o + 4 * LANES, SUB32(MUL32(SUB32(a##b##4, a##b##0), SET32((int)INVERSE81)), s)); }
#else
/* The byte and its four remainders are multiplied; neighbouring sums differ by one trit's sum times 81, 27, 9, 3. */
#define CONSTANTS5 const V n81 = SET8(81), n27 = SET8(27), n9 = SET8(9), n3 = SET8(3);
#define FIVE_OF(w, p) \
  const V w = LOAD(p), w##1 = MOD(w, n81), w##2 = MOD(w##1, n27), w##3 = MOD(w##2, n9), w##4 = MOD(w##3, n3);
#define DOTS5(b, w, p) DOTS4(b, w, p) { const V v = BROADCAST(p); DP(a##b##4, w##4, v); }
#define STORE5(b, o, sum) \
  { const V s = SET32(sum); \
    STORE(o, SUB32(a##b##4, s)); \
    STORE(o + LANES, SUB32(MUL32(SUB32(a##b##3, a##b##4), SET32((int)INVERSE3)), s)); \
    STORE(o + 2 * LANES, SUB32(MUL32(SUB32(a##b##2, a##b##3), SET32((int)INVERSE9)), s)); \
    STORE(o + 3 * LANES, SUB32(MUL32(SUB32(a##b##1, a##b##2), SET32((int)INVERSE27)), s)); \
    STORE(o + 4 * LANES, SUB32(MUL32(SUB32(a##b##0, a##b##1), SET32((int)INVERSE81)), s)); }
#endif

TARGET static void NAME(one5)(const uint8_t *w, size_t blocks, size_t quads, const int8_t *const *x,
                              const int32_t *sums, int32_t *const *out) {
  CONSTANTS5
  int32_t *o = out[0];
  for (; blocks > 0; blocks--, o += 5 * LANES) {
    const int8_t *p = x[0];
    ACCS5(0)
#if WIDE
    ACCS5(1)
    for (size_t q = quads; q > 0; q -= 2, w += 8 * LANES, p += 8) {
      PREFETCH(w, 8 * LANES)
      FIVE_OF(e, w)
      DOTS5(0, e, p)
      FIVE_OF(f, w + 4 * LANES)
      DOTS5(1, f, p + 4)
    }
    a00 = ADD32(a00, a10), a01 = ADD32(a01, a11), a02 = ADD32(a02, a12), a03 = ADD32(a03, a13);
    a04 = ADD32(a04, a14);
#else
    for (size_t q = quads; q > 0; q--, w += 4 * LANES, p += 4) {
      PREFETCH(w, 4 * LANES)
      FIVE_OF(e, w)
      DOTS5(0, e, p)
    }
#endif
    STORE5(0, o, sums[0])
  }
}

TARGET static void NAME(two5)(const uint8_t *w, size_t blocks, size_t quads, const int8_t *const *x,
                              const int32_t *sums, int32_t *const *out) {
  CONSTANTS5
  for (size_t at = 0; at < blocks * 5 * LANES; at += 5 * LANES) {
    ACCS5(0) ACCS5(1)
    for (size_t k = 0; k < 4 * quads; k += 4, w += 4 * LANES) {
      PREFETCH(w, 4 * LANES)
      FIVE_OF(e, w)
      DOTS5(0, e, x[0] + k) DOTS5(1, e, x[1] + k)
    }
    STORE5(0, out[0] + at, sums[0]) STORE5(1, out[1] + at, sums[1])
  }
}

#if WIDE
TARGET static void NAME(four5)(const uint8_t *w, size_t blocks, size_t quads, const int8_t *const *x,
                               const int32_t *sums, int32_t *const *out) {
  CONSTANTS5
  const int8_t *x0 = x[0], *x1 = x[1], *x2 = x[2], *x3 = x[3];
  for (size_t at = 0; at < blocks * 5 * LANES; at += 5 * LANES) {
    ACCS5(0) ACCS5(1) ACCS5(2) ACCS5(3)
    for (size_t k = 0; k < 4 * quads; k += 4, w += 4 * LANES) {
      PREFETCH(w, 4 * LANES)
      FIVE_OF(e, w)
      DOTS5(0, e, x0 + k) DOTS5(1, e, x1 + k) DOTS5(2, e, x2 + k) DOTS5(3, e, x3 + k)
    }
    STORE5(0, out[0] + at, sums[0]) STORE5(1, out[1] + at, sums[1])
    STORE5(2, out[2] + at, sums[2]) STORE5(3, out[3] + at, sums[3])
  }
}
#endif
