/* AVX512-VNNI: 16 rows side by side. */
#include "native.h"
#ifdef TN_X86
#include <immintrin.h>

#define TARGET __attribute__((target("avx2,fma,bmi,bmi2,avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vnni,prefer-vector-width=512")))
#define NAME(x) x##_avx512vnni

/* Bit pairs of the four base-3 digits of 0 .. 80. */
static const uint8_t tn_pairs[128] __attribute__((aligned(64))) = {
#define P1(d, c, b) (d << 6 | c << 4 | b << 2), (d << 6 | c << 4 | b << 2 | 1), (d << 6 | c << 4 | b << 2 | 2)
#define P2(d, c) P1(d, c, 0), P1(d, c, 1), P1(d, c, 2)
#define P3(d) P2(d, 0), P2(d, 1), P2(d, 2)
    P3(0), P3(1), P3(2)};

#define V __m512i
#define LANES 16
#define WIDE 1
#define LOAD(p) _mm512_loadu_si512((const void *)(p))
#define STORE(p, v) _mm512_storeu_si512((void *)(p), v)
#define BROADCAST(p) _mm512_set1_epi32(*(const tn_word *)(const void *)(p))
#define ZERO _mm512_setzero_si512()
#define SET8(c) _mm512_set1_epi8(c)
#define SET32(c) _mm512_set1_epi32(c)
#define AND _mm512_and_si512
#define SUB8 _mm512_sub_epi8
#define MIN8 _mm512_min_epu8
#define ADD32 _mm512_add_epi32
#define SUB32 _mm512_sub_epi32
#define MUL32 _mm512_mullo_epi32
#define SRA32 _mm512_srai_epi32
#define LOOKUP _mm512_permutex2var_epi8
/* Written out because gcc moves accumulators to memory around the intrinsic. */
#define DP(acc, u, s) __asm__("vpdpbusd %2, %1, %0" : "+v"(acc) : "v"(u), "v"(s))
#define PREFETCH(p, n) /* the processor sees the stream by itself: fetching ahead cost 3 to 6% */
#define INVERSE81 0x781948b1

#include "product_vnni.h"

/* 256 entries of 16 bits in eight registers: each look-up sees two, the top bits of the code choose. */
#define OWN_TABLE
#define WIDE_VECTORS
#include "maps.h"
TARGET static void table_avx512vnni(const tn_op *op, uint8_t *row, size_t lo, size_t hi) {
  const int16_t *entries = op->data;
  const int8_t *in = (const int8_t *)(row + op->in[0]);
  int16_t *out = (int16_t *)(row + op->out);
  const V t0 = LOAD(entries), t1 = LOAD(entries + 32), t2 = LOAD(entries + 64), t3 = LOAD(entries + 96),
          t4 = LOAD(entries + 128), t5 = LOAD(entries + 160), t6 = LOAD(entries + 192), t7 = LOAD(entries + 224);
  for (size_t i = lo; i < hi; i += 32) {
    const __mmask32 live = hi - i >= 32 ? 0xFFFFFFFF : (UINT32_C(1) << (hi - i)) - 1;
    const V code = _mm512_add_epi16(_mm512_cvtepi8_epi16(_mm256_maskz_loadu_epi8(live, in + i)),
                                    _mm512_set1_epi16(128));
    const __mmask32 bit6 = _mm512_test_epi16_mask(code, _mm512_set1_epi16(64)),
                    bit7 = _mm512_test_epi16_mask(code, _mm512_set1_epi16(128));
    const V low = _mm512_mask_mov_epi16(_mm512_permutex2var_epi16(t0, code, t1), bit6,
                                        _mm512_permutex2var_epi16(t2, code, t3)),
            high = _mm512_mask_mov_epi16(_mm512_permutex2var_epi16(t4, code, t5), bit6,
                                         _mm512_permutex2var_epi16(t6, code, t7));
    _mm512_mask_storeu_epi16(out + i, live, _mm512_mask_mov_epi16(low, bit7, high));
  }
}

TARGET static uint64_t read_avx512vnni(const uint8_t *memory, size_t bytes) {
  V a = ZERO, b = ZERO, c = ZERO, d = ZERO;
  for (size_t i = 0; i + 256 <= bytes; i += 256) {
    _mm_prefetch((const char *)memory + i + 4096, _MM_HINT_T0);
    _mm_prefetch((const char *)memory + i + 4160, _MM_HINT_T0);
    _mm_prefetch((const char *)memory + i + 4224, _MM_HINT_T0);
    _mm_prefetch((const char *)memory + i + 4288, _MM_HINT_T0);
    a = _mm512_add_epi64(a, LOAD(memory + i)), b = _mm512_add_epi64(b, LOAD(memory + i + 64));
    c = _mm512_add_epi64(c, LOAD(memory + i + 128)), d = _mm512_add_epi64(d, LOAD(memory + i + 192));
  }
  return (uint64_t)_mm512_reduce_add_epi64(_mm512_add_epi64(_mm512_add_epi64(a, b), _mm512_add_epi64(c, d)));
}

const tn_table tn_table_avx512vnni = {
    .block = {{one4_avx512vnni, two4_avx512vnni, four4_avx512vnni}, {one5_avx512vnni, two5_avx512vnni, four5_avx512vnni}},
    .read = read_avx512vnni,
    MAPS};
#endif
