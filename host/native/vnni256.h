/* 256-bit VNNI: 8 rows side by side. Included with VEX_PREFIX, the encoding of vpdpbusd, TARGET and NAME. */
#include <immintrin.h>

#define V __m256i
#define LANES 8
#define WIDE 0
#define LOAD(p) _mm256_loadu_si256((const __m256i *)(const void *)(p))
#define STORE(p, v) _mm256_storeu_si256((__m256i *)(void *)(p), v)
#define BROADCAST(p) _mm256_set1_epi32(*(const tn_word *)(const void *)(p))
#define ZERO _mm256_setzero_si256()
#define SET8(c) _mm256_set1_epi8(c)
#define SET32(c) _mm256_set1_epi32(c)
#define AND _mm256_and_si256
#define SUB8 _mm256_sub_epi8
#define MIN8 _mm256_min_epu8
#define ADD32 _mm256_add_epi32
#define SUB32 _mm256_sub_epi32
#define MUL32 _mm256_mullo_epi32
#define SRA32 _mm256_srai_epi32
#define DP(acc, u, s) __asm__(VEX_PREFIX "vpdpbusd %2, %1, %0" : "+x"(acc) : "x"(u), "x"(s))
#define PREFETCH(p, n) _mm_prefetch((const char *)(p) + 4096, _MM_HINT_T0);
#define INVERSE3 0xaaaaaaab
#define INVERSE9 0x38e38e39
#define INVERSE27 0x684bda13
#define INVERSE81 0x781948b1

#include "product_vnni.h"
#define WIDE_VECTORS
#include "maps.h"

/* Sixteen registers hold the sums of two vectors; four go in two turns. */
static void NAME(four4)(const uint8_t *w, size_t blocks, size_t quads, const int8_t *const *x, const int32_t *sums,
                        int32_t *const *out) {
  NAME(two4)(w, blocks, quads, x, sums, out);
  NAME(two4)(w, blocks, quads, x + 2, sums + 2, out + 2);
}

static void NAME(four5)(const uint8_t *w, size_t blocks, size_t quads, const int8_t *const *x, const int32_t *sums,
                        int32_t *const *out) {
  NAME(two5)(w, blocks, quads, x, sums, out);
  NAME(two5)(w, blocks, quads, x + 2, sums + 2, out + 2);
}

TARGET static uint64_t NAME(read)(const uint8_t *memory, size_t bytes) {
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

#define KERNELS \
  .block = {{NAME(one4), NAME(two4), NAME(four4)}, {NAME(one5), NAME(two5), NAME(four5)}}, .read = NAME(read), MAPS
