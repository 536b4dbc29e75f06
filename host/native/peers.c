/* Other libraries' kernels, called row by row from C, so that a comparison does not measure Python. */
#include "native.h"

void tn_peer_rows(void *function, int columns, const uint8_t *weights, size_t row_bytes, size_t rows,
                  const void *activations, float *out) {
  typedef void vec_dot(int n, float *s, size_t bs, const void *x, size_t bx, const void *y, size_t by, int nrc);
  vec_dot *dot = (vec_dot *)function; /* ggml's ggml_vec_dot_t */
  for (size_t r = 0; r < rows; r++) dot(columns, out + r, 0, weights + r * row_bytes, 0, activations, 0, 1);
}
