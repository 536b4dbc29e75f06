/* From logits to a token, with integers only: docs/numerics.md, ternac/run/sampling.py. */
#include "native.h"

#include <string.h>

/* The `keep`-th largest logit, and how many logits equal to it are kept: by counting high bytes, then low bytes.
   Neighbours count in tables of their own, as a counter that was just written takes long to read. */
static int32_t threshold(const int16_t *logits, int vocab, int keep, int *equal) {
  enum { TABLES = 4 };
  int count[TABLES][256], byte = 255;
  memset(count, 0, sizeof count);
  for (int i = 0; i < vocab; i++) count[i % TABLES][(logits[i] + 32768) >> 8]++;
  for (int t = 1; t < TABLES; t++)
    for (int b = 0; b < 256; b++) count[0][b] += count[t][b];
  while (keep > count[0][byte]) keep -= count[0][byte--];
  const int high = byte;
  memset(count[0], 0, sizeof count[0]);
  for (int i = 0; i < vocab; i++)
    if ((logits[i] + 32768) >> 8 == high) count[0][(logits[i] + 32768) & 255]++;
  for (byte = 255; keep > count[0][byte]; byte--) keep -= count[0][byte];
  *equal = keep;
  return (high << 8 | byte) - 32768;
}

/* The least logit whose weight may not be 0: a distance d weighs nothing where d * m >> s is a code without weight. */
static int32_t lightest(const uint16_t *weight_of, int32_t most, int m, int s) {
  int code = 256;
  while (code > 0 && weight_of[code - 1] == 0) code--;
  if (code == 256) return -32768;
  const int64_t least = most - ((((int64_t)code << s) - 1) / m);
  return least < -32768 ? -32768 : (int32_t)least;
}

/* `weight_of`: 256 weights by distance from the largest logit (EXP of ternac/run/sampling.py). */
static int32_t draw(const uint16_t *weight_of, const int16_t *logits, int vocab, int m, int s, int top_k,
                    uint32_t *rng) {
  int32_t most = -32768;
  int equal = 0;
  for (int i = 0; i < vocab; i++) most = logits[i] > most ? logits[i] : most;
  const int32_t light = lightest(weight_of, most, m, s);
  const int32_t kept = top_k > 0 && top_k < vocab ? threshold(logits, vocab, top_k, &equal) : -32769;
  const int32_t least = light > kept ? light : kept;
  uint64_t total = 0, r = 0;
  for (int turn = 0; turn < 2; turn++) { /* first the sum of all weights, then the token that the draw falls on */
    uint64_t sum = 0;
    int left = equal;
    for (int i = 0; i < vocab; i++) {
      if (logits[i] < least || (logits[i] == kept && left-- <= 0)) continue;
      const uint32_t distance = (uint32_t)(most - logits[i]) * (uint32_t)m >> s;
      sum += weight_of[distance < 255 ? distance : 255];
      if (turn && sum > r) return i;
    }
    if (turn) break;
    total = sum;
    uint32_t x = *rng;
    x ^= x << 13, x ^= x >> 17, x ^= x << 5;
    *rng = x;
    r = (uint64_t)x * total >> 32;
  }
  return vocab - 1; /* not reached: r is below the sum */
}

int32_t tn_choose(const uint16_t *weights, const int16_t *logits, int vocab, int greedy, int m, int s, int top_k,
                  uint32_t *rng) {
  if (greedy) return tn_table_portable.argmax(logits, vocab);
  return draw(weights, logits, vocab, m, s, top_k, rng);
}
