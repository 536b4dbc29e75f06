/* Kernels of imported models' ops in vectors, a template: included by import_maps.h where WIDE_VECTORS is defined,
   with the 256-bit registers of AVX2 or, where LANES is 16, the 512-bit ones of AVX512BW.

   Each takes whole vectors from the front and returns how many elements it did; the plain loop of import_maps.h does
   the rest. Sums are taken in 32 bits: the two halves of a register of 16-bit numbers are unpacked and packed again
   in the same order, so that nothing ever crosses the 128-bit parts. Packing saturates, which is sat16. */
#if LANES == 16
#define W __m512i
#define WL(op) _mm512_##op
#define WLOAD(p) _mm512_loadu_si512((const void *)(p))
#define WSTORE(p, v) _mm512_storeu_si512((void *)(p), v)
#define WXOR _mm512_xor_si512
#define WAND _mm512_and_si512
#define WZERO _mm512_setzero_si512()
#define WSET64(x) _mm512_set1_epi64(x)
#define ODDS(even, odd) _mm512_mask_blend_epi32(0xAAAA, even, odd)
#else
#define W __m256i
#define WL(op) _mm256_##op
#define WLOAD(p) _mm256_loadu_si256((const __m256i *)(const void *)(p))
#define WSTORE(p, v) _mm256_storeu_si256((__m256i *)(void *)(p), v)
#define WXOR _mm256_xor_si256
#define WAND _mm256_and_si256
#define WZERO _mm256_setzero_si256()
#define WSET64(x) _mm256_set1_epi64x(x)
#define ODDS(even, odd) _mm256_blend_epi32(even, odd, 0xAA)
#endif
enum { NAME(STEP) = 2 * LANES }; /* 16-bit elements of a register */
#define WHOLE(n) ((n) / NAME(STEP) * NAME(STEP))
#define PAIR(low, high) WL(set1_epi32)((int)((uint32_t)(uint16_t)(low) | (uint32_t)(high) << 16))
#define SHIFTED(low, high, count) WL(packs_epi32)(WL(sra_epi32)(low, count), WL(sra_epi32)(high, count))

/* Sum of squares: pairs of products reach 2^31, as numbers without a sign. */
TARGET static size_t NAME(squares_v)(const int16_t *x, size_t n, uint64_t *sum) {
  const W mask = WSET64(0xFFFFFFFF);
  W even = WZERO, odd = WZERO;
  for (size_t i = 0; i < WHOLE(n); i += NAME(STEP)) {
    const W v = WLOAD(x + i), squares = WL(madd_epi16)(v, v);
    even = WL(add_epi64)(even, WAND(squares, mask)), odd = WL(add_epi64)(odd, WL(srli_epi64)(squares, 32));
  }
  uint64_t parts[LANES / 2];
  WSTORE(parts, WL(add_epi64)(even, odd));
  for (int i = 0; i < LANES / 2; i++) *sum += parts[i];
  return WHOLE(n);
}

/* x * factor >> shift for factor = high 2^16 + low: mulhi gives x * low >> 16 exactly, and one multiply-add of the
   pairs (x, that) and (high, 1) the sum. `half` is one half of 2^(shift - 16). */
#define TIMES_PARTS(v) \
  const W rest = WL(mulhi_epi16)(v, lows), \
          first = WL(add_epi32)(WL(madd_epi16)(WL(unpacklo_epi16)(v, rest), highs), half), \
          second = WL(add_epi32)(WL(madd_epi16)(WL(unpackhi_epi16)(v, rest), highs), half);
#define TIMES_SETUP \
  const W lows = WL(set1_epi16)(low), highs = PAIR(high, 1), half = WL(set1_epi32)((1 << (shift - 16)) >> 1); \
  const __m128i count = _mm_cvtsi32_si128(shift - 16);

TARGET static size_t NAME(times_i16_i16_v)(const int16_t *x, int16_t high, int16_t low, int shift, int16_t *out, size_t n) {
  TIMES_SETUP
  for (size_t i = 0; i < WHOLE(n); i += NAME(STEP)) {
    const W v = WLOAD(x + i);
    TIMES_PARTS(v)
    WSTORE(out + i, SHIFTED(first, second, count));
  }
  return WHOLE(n);
}

TARGET static size_t NAME(times_i8_i16_v)(const int16_t *x, int16_t high, int16_t low, int shift, int8_t *out, size_t n) {
  TIMES_SETUP
  for (size_t i = 0; i < WHOLE(n); i += NAME(STEP)) {
    const W v = WLOAD(x + i);
    TIMES_PARTS(v)
    const W wide = SHIFTED(first, second, count);
#if LANES == 16
    _mm256_storeu_si256((__m256i *)(void *)(out + i), _mm512_cvtsepi16_epi8(wide));
#else
    const W narrow = _mm256_permute4x64_epi64(_mm256_packs_epi16(wide, wide), 0xD8);
    _mm_storeu_si128((__m128i *)(void *)(out + i), _mm256_castsi256_si128(narrow));
#endif
  }
  return WHOLE(n);
}

/* Products of two vectors; shift below 31. */
TARGET static size_t NAME(products_v)(const int16_t *a, const int16_t *b, int shift, int16_t *out, size_t n) {
  const W half = WL(set1_epi32)((1 << shift) >> 1);
  const __m128i count = _mm_cvtsi32_si128(shift);
  for (size_t i = 0; i < WHOLE(n); i += NAME(STEP)) {
    const W x = WLOAD(a + i), y = WLOAD(b + i), low = WL(mullo_epi16)(x, y), high = WL(mulhi_epi16)(x, y);
    WSTORE(out + i, SHIFTED(WL(add_epi32)(WL(unpacklo_epi16)(low, high), half),
                            WL(add_epi32)(WL(unpackhi_epi16)(low, high), half), count));
  }
  return WHOLE(n);
}

/* Accumulators |x| <= 2^23 times factor = high 2^8 + low, high below 2^31, so that x * low fits into 32 bits and its
   top, made positive by `up`, into the 64 that the products of even and odd elements have. The results fit into 32
   bits (the caller sees to it), and shift is 9 .. 40 (all of the low half is of the result) or above (so is the high). */
TARGET static size_t NAME(times_i16_acc_v)(const int32_t *x, uint32_t high, int low, int shift, int16_t *out, size_t n) {
  enum { UP = 1 << 24 };
  const int down = shift - 8;
  const W highs = WSET64(high), lows = WL(set1_epi32)(low), up = WL(set1_epi32)(UP),
          mask = WSET64(0xFFFFFFFF), half = WSET64((INT64_C(1) << (down - 1)) - UP);
  const __m128i right = _mm_cvtsi32_si128(down), left = _mm_cvtsi32_si128(32 - down),
                more = _mm_cvtsi32_si128(down - 32);
#define SCALED(name, p) \
  W name; \
  { \
    const W v = WLOAD(p), top = WL(add_epi32)(WL(srai_epi32)(WL(mullo_epi32)(v, lows), 8), up), \
            even = WL(add_epi64)(WL(add_epi64)(WL(mul_epi32)(v, highs), half), WAND(top, mask)), \
            odd = WL(add_epi64)(WL(add_epi64)(WL(mul_epi32)(WL(srli_epi64)(v, 32), highs), half), \
                                WL(srli_epi64)(top, 32)); \
    name = down <= 32 ? ODDS(WL(srl_epi64)(even, right), WL(sll_epi64)(odd, left)) \
                      : WL(sra_epi32)(ODDS(WL(srli_epi64)(even, 32), odd), more); \
  }
  for (size_t i = 0; i < WHOLE(n); i += NAME(STEP)) {
    SCALED(first, x + i)
    SCALED(second, x + i + LANES)
#if LANES == 16
    const W order = _mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7);
    WSTORE(out + i, _mm512_permutexvar_epi64(order, _mm512_packs_epi32(first, second)));
#else
    WSTORE(out + i, _mm256_permute4x64_epi64(_mm256_packs_epi32(first, second), 0xD8));
#endif
  }
#undef SCALED
  return WHOLE(n);
}

/* Both points of a segment are one load of 32 bits; low * (64 - r) + high * r is one multiply-add. */
TARGET static size_t NAME(interp_v)(const int16_t *x, const int16_t *curve, int16_t *out, size_t n) {
  const W sign = WL(set1_epi16)(INT16_MIN), parts = WL(set1_epi16)(63), all = WL(set1_epi16)(64),
          half = WL(set1_epi32)(32);
  const __m128i six = _mm_cvtsi32_si128(6);
  for (size_t i = 0; i < WHOLE(n); i += NAME(STEP)) {
    const W at = WXOR(WLOAD(x + i), sign), r = WAND(at, parts), k = WL(srli_epi16)(at, 6),
            rest = WL(sub_epi16)(all, r), k0 = WL(unpacklo_epi16)(k, WZERO), k1 = WL(unpackhi_epi16)(k, WZERO);
#if LANES == 16
    const W p0 = _mm512_i32gather_epi32(k0, curve, 2), p1 = _mm512_i32gather_epi32(k1, curve, 2);
#else
    const W p0 = _mm256_i32gather_epi32((const int *)(const void *)curve, k0, 2),
            p1 = _mm256_i32gather_epi32((const int *)(const void *)curve, k1, 2);
#endif
    WSTORE(out + i, SHIFTED(WL(add_epi32)(WL(madd_epi16)(p0, WL(unpacklo_epi16)(rest, r)), half),
                            WL(add_epi32)(WL(madd_epi16)(p1, WL(unpackhi_epi16)(rest, r)), half), six));
  }
  return WHOLE(n);
}

/* e * (c - h) is the multiply-add of (c, h) and (e, -e), below 2^31. Its quotient may need 17 bits and is packed
   without saturation; the sum with h is right again in 16. */
TARGET static size_t NAME(blend_v)(const int16_t *h, const int16_t *c, const int16_t *e, int16_t *out, size_t n) {
  const W half = WL(set1_epi32)(1 << 14);
  const __m128i sixteen = _mm_cvtsi32_si128(16);
#define MIXED(part) \
  WL(slli_epi32)(WL(add_epi32)(WL(madd_epi16)(WL(unpack##part##_epi16)(v, u), WL(unpack##part##_epi16)(w, minus)), half), 1)
  for (size_t i = 0; i < WHOLE(n); i += NAME(STEP)) {
    const W u = WLOAD(h + i), v = WLOAD(c + i), w = WLOAD(e + i), minus = WL(sub_epi16)(WZERO, w);
    WSTORE(out + i, WL(add_epi16)(u, SHIFTED(MIXED(lo), MIXED(hi), sixteen)));
  }
#undef MIXED
  return WHOLE(n);
}
