/* Tokens to spans, spans to bytes and back, with integers only: docs/compress.md, ternac/run/coding.py. */
#include "native.h"

enum { LOG2_E = 23637, LOG2_E_SHIFT = 6, LEAST_SHIFT = 24, TOP = 56, BOTTOM = 48 };

/* The frequency of a token whose logit is `distance` below the largest. */
static inline uint64_t frequency(const uint16_t *exp2, uint32_t distance, int shift) {
  const uint64_t code = (uint64_t)distance * LOG2_E >> shift;
  return code >> 8 < LEAST_SHIFT ? (((uint32_t)exp2[code & 255] << 8) >> (code >> 8)) + 1 : 1;
}

static int32_t largest(const int16_t *logits, int vocab) {
  int16_t most = logits[0];
  for (int i = 1; i < vocab; i++) most = logits[i] > most ? logits[i] : most;
  return most;
}

void tn_span_of(const uint16_t *exp2, int scale_bits, const int16_t *logits, int vocab, int32_t token, uint64_t *span) {
  const int32_t most = largest(logits, vocab);
  uint64_t total = 0, start = 0;
  for (int i = 0; i < vocab; i++) {
    if (i == token) start = total;
    total += frequency(exp2, (uint32_t)(most - logits[i]), LOG2_E_SHIFT + scale_bits);
  }
  span[0] = start;
  span[1] = frequency(exp2, (uint32_t)(most - logits[token]), LOG2_E_SHIFT + scale_bits);
  span[2] = total;
}

size_t tn_encode(const uint64_t *spans, size_t count, uint8_t *out, size_t room) {
  const uint64_t mask = (UINT64_C(1) << TOP) - 1;
  uint64_t low = 0, range = UINT64_C(1) << TOP;
  size_t size = 0;
  for (size_t i = 0; i <= count; i++) {
    int shifts = 0;
    if (i < count) {
      const uint64_t part = range / spans[3 * i + 2];
      low += part * spans[3 * i];
      range = part * spans[3 * i + 1];
      for (; range < UINT64_C(1) << BOTTOM; range <<= 8) shifts++;
    } else { /* the fewest bytes that stand for the tokens, with zeros behind them */
      for (;; shifts++) {
        const uint64_t free = (UINT64_C(1) << (TOP - 8 * shifts)) - 1, value = (low + free) & ~free;
        if (value - low < range) {
          low = value;
          break;
        }
      }
    }
    if (low >> TOP) {
      low &= mask;
      size_t at = size;
      while (at > 0 && ++out[--at] == 0) continue;
    }
    if (size + (size_t)shifts > room) return room + 1;
    for (; shifts > 0; shifts--) {
      out[size++] = (uint8_t)(low >> BOTTOM);
      low = low << 8 & mask;
    }
  }
  return size;
}

int32_t tn_decode_one(const uint16_t *exp2, int scale_bits, const int16_t *logits, int vocab, tn_decoder *decoder) {
  enum { GROUP = 16 };
  const int32_t most = largest(logits, vocab);
  const int shift = LOG2_E_SHIFT + scale_bits;
  uint64_t total = 0;
  uint64_t groups[65536 / GROUP]; /* frequencies before each group, so that the token is found in few steps */
  for (int first = 0; first < vocab; first += GROUP) {
    groups[first / GROUP] = total;
    const int last = first + GROUP < vocab ? first + GROUP : vocab;
    for (int i = first; i < last; i++) total += frequency(exp2, (uint32_t)(most - logits[i]), shift);
  }
  const uint64_t part = decoder->range / total, position = decoder->code / part;
  if (position >= total) return -1;
  int low = 0, high = (vocab - 1) / GROUP;
  while (low < high) {
    const int middle = (low + high + 1) / 2;
    if (groups[middle] <= position) low = middle; else high = middle - 1;
  }
  uint64_t start = groups[low], size;
  int32_t token = low * GROUP;
  for (;; token++, start += size) {
    size = frequency(exp2, (uint32_t)(most - logits[token]), shift);
    if (position < start + size) break;
  }
  decoder->code -= part * start;
  decoder->range = part * size;
  for (; decoder->range < UINT64_C(1) << BOTTOM; decoder->range <<= 8) {
    decoder->code = decoder->code << 8 | (decoder->at < decoder->end ? decoder->data[decoder->at] : 0);
    decoder->at++;
  }
  if (decoder->at > decoder->end + TOP / 8) return -1; /* no encoder leaves out more */
  return token;
}
