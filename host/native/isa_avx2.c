/* AVX2 without VNNI: products of bytes are added in pairs to 16 bits, and for 16 quads stay there.

   That is exact: a digit stands for at most 8 (2 times 4, or 6 where base 3 is unpacked), and 8 * 128 * 2 * 16 = 2^15
   is reached on the negative side only. */
#include "native.h"
#ifdef TN_X86
#include <immintrin.h>

#define TARGET __attribute__((target("avx2,fma,bmi,bmi2")))
#define NAME(x) x##_avx2
#define V __m256i
#define LANES 8
#define QUADS 16
#define LOAD(p) _mm256_loadu_si256((const __m256i *)(const void *)(p))
#define STORE(p, v) _mm256_storeu_si256((__m256i *)(void *)(p), v)
#define BROADCAST(p) _mm256_set1_epi32(*(const tn_word *)(const void *)(p))
#define ZERO _mm256_setzero_si256()
#define AND(v, c) _mm256_and_si256(v, _mm256_set1_epi8(c))
#define DIFF _mm256_sub_epi8
#define MIN1(v, n) _mm256_min_epu8(v, _mm256_sub_epi8(v, _mm256_set1_epi8(n)))
#define MOD(v, n) MIN1(MIN1(v, n), n) /* v mod n for v < 3 n */
#define INVERSE3 0xaaaaaaab

#define WIDE_VECTORS
#include "maps.h"

#define DOT(s, digit, v) s = _mm256_add_epi16(s, _mm256_maddubs_epi16(digit, v));
#define FLUSH(t, s) t = _mm256_add_epi32(t, _mm256_madd_epi16(s, _mm256_set1_epi16(1)));
#define KEEP(o, t, sum) STORE(o, _mm256_sub_epi32(t, _mm256_set1_epi32(sum)));
#define THIRD(t) _mm256_mullo_epi32(t, _mm256_set1_epi32((int)INVERSE3))

/* `DIGITS`: the weights at w as digits d0, d1, ..; groups 1 and 3 come times 4 or times 3. */
#define PAIRS const V byte = LOAD(w), top = _mm256_srli_epi16(byte, 4), d0 = AND(byte, 3), d1 = AND(byte, 12), \
                      d2 = AND(top, 3), d3 = AND(top, 12);
#define BASE3 const V byte = LOAD(w), r4 = MOD(byte, 81), r3 = MOD(r4, 27), r2 = MOD(r3, 9), d0 = MOD(r2, 3), \
                      d1 = DIFF(r2, d0), d2 = AND(DIFF(r3, r2), 3), d3 = AND(DIFF(r4, r3), 7), \
                      d4 = AND(DIFF(byte, r4), 3);
#define SUMS4(s) V s##0 = ZERO, s##1 = ZERO, s##2 = ZERO, s##3 = ZERO;
#define SUMS5(s) SUMS4(s) V s##4 = ZERO;
#define DOTS4(s, p) { const V v = BROADCAST(p); DOT(s##0, d0, v) DOT(s##1, d1, v) DOT(s##2, d2, v) DOT(s##3, d3, v) }
#define DOTS5(s, p) DOTS4(s, p) { const V v = BROADCAST(p); DOT(s##4, d4, v) }
#define FLUSH4(t, s) FLUSH(t##0, s##0) FLUSH(t##1, s##1) FLUSH(t##2, s##2) FLUSH(t##3, s##3)
#define FLUSH5(t, s) FLUSH4(t, s) FLUSH(t##4, s##4)
#define KEEP4(o, t, sum) \
  KEEP(o, t##0, sum) KEEP(o + 8, _mm256_srai_epi32(t##1, 2), sum) KEEP(o + 16, t##2, sum) \
  KEEP(o + 24, _mm256_srai_epi32(t##3, 2), sum)
#define KEEP5(o, t, sum) \
  KEEP(o, t##0, sum) KEEP(o + 8, THIRD(t##1), sum) KEEP(o + 16, t##2, sum) KEEP(o + 24, THIRD(t##3), sum) \
  KEEP(o + 32, t##4, sum)

#define KERNELS(one, two, trits, DIGITS, SUMS, DOTS, FLUSHES, KEEPS) \
  TARGET static void one(const uint8_t *w, size_t blocks, size_t quads, const int8_t *const *x, \
                         const int32_t *sums, int32_t *const *out) { \
    int32_t *o = out[0]; \
    for (; blocks > 0; blocks--, o += trits * LANES) { \
      const int8_t *p = x[0]; \
      SUMS(t) \
      for (size_t k = 0; k < quads; k += QUADS) { \
        SUMS(s) \
        for (size_t end = quads - k < QUADS ? quads - k : QUADS; end > 0; end--, w += 4 * LANES, p += 4) { \
          _mm_prefetch((const char *)w + 4096, _MM_HINT_T0); \
          DIGITS DOTS(s, p) \
        } \
        FLUSHES(t, s) \
      } \
      KEEPS(o, t, sums[0]) \
    } \
  } \
  TARGET static void two(const uint8_t *w, size_t blocks, size_t quads, const int8_t *const *x, \
                         const int32_t *sums, int32_t *const *out) { \
    for (size_t at = 0; at < blocks * trits * LANES; at += trits * LANES) { \
      const int8_t *p = x[0], *q = x[1]; \
      SUMS(t) SUMS(u) \
      for (size_t k = 0; k < quads; k += QUADS) { \
        SUMS(s) SUMS(z) \
        for (size_t end = quads - k < QUADS ? quads - k : QUADS; end > 0; end--, w += 4 * LANES, p += 4, q += 4) { \
          DIGITS DOTS(s, p) DOTS(z, q) \
        } \
        FLUSHES(t, s) FLUSHES(u, z) \
      } \
      KEEPS(out[0] + at, t, sums[0]) KEEPS(out[1] + at, u, sums[1]) \
    } \
  }
KERNELS(one4, two4, 4, PAIRS, SUMS4, DOTS4, FLUSH4, KEEP4)
KERNELS(one5, two5, 5, BASE3, SUMS5, DOTS5, FLUSH5, KEEP5)

static void four4(const uint8_t *w, size_t blocks, size_t quads, const int8_t *const *x, const int32_t *sums,
                  int32_t *const *out) {
  two4(w, blocks, quads, x, sums, out);
  two4(w, blocks, quads, x + 2, sums + 2, out + 2);
}

static void four5(const uint8_t *w, size_t blocks, size_t quads, const int8_t *const *x, const int32_t *sums,
                  int32_t *const *out) {
  two5(w, blocks, quads, x, sums, out);
  two5(w, blocks, quads, x + 2, sums + 2, out + 2);
}

TARGET static uint64_t read_avx2(const uint8_t *memory, size_t bytes) {
  V a = ZERO, b = ZERO, c = ZERO, d = ZERO;
  for (size_t i = 0; i + 128 <= bytes; i += 128) {
    _mm_prefetch((const char *)memory + i + 4096, _MM_HINT_T0);
    _mm_prefetch((const char *)memory + i + 4160, _MM_HINT_T0);
    a = _mm256_add_epi64(a, LOAD(memory + i)), b = _mm256_add_epi64(b, LOAD(memory + i + 32));
    c = _mm256_add_epi64(c, LOAD(memory + i + 64)), d = _mm256_add_epi64(d, LOAD(memory + i + 96));
  }
  uint64_t parts[4];
  STORE(parts, _mm256_add_epi64(_mm256_add_epi64(a, b), _mm256_add_epi64(c, d)));
  return parts[0] + parts[1] + parts[2] + parts[3];
}

const tn_table tn_table_avx2 = {.block = {{one4, two4, four4}, {one5, two5, four5}}, .read = read_avx2, MAPS};
#endif
