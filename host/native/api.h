/* What Python sees of the native executor. Read twice: by the C files, and by cffi as its declarations; so there
   is nothing here for a preprocessor. docs/host.md explains layouts and ideas. */

/* ---- instruction sets (isa.c): 0 portable, 1 AVX2, 2 AVX-VNNI, 3 AVX512-VNNI, 4 AVX-VNNI's kernels in the
   encoding of AVX512VL, which runs them where the former is missing ---- */
int tn_isa_count(void);
const char *tn_isa_name(int isa);
const char *tn_isa_missing(int isa); /* empty: this processor runs it; else what it lacks */
int tn_isa_lanes(int isa);           /* rows side by side in a register: 16 or 8; decides the layout of weights */

/* ---- memory for weights (weights.c): zeroed, on huge pages where the system gives them ---- */
void *tn_alloc(size_t bytes);
void tn_free(void *memory, size_t bytes);

/* ---- packed weights (weights.c): `trits` 4 (2 bits each) or 5 (1.6 bits) to a byte ---- */
size_t tn_packed_size(int lanes, int trits, size_t rows, size_t columns);
void tn_pack(int lanes, int trits, const int8_t *matrix, size_t rows, size_t columns, uint8_t *packed);

/* ---- a product alone (product.c), for tests and measurements ----
   x: int8 [count][x_stride], zeros from `columns` up to the next multiple of 16; out: int32 [count][out_stride],
   rows rounded up to whole blocks are written. */
void tn_product(int isa, int trits, const uint8_t *packed, size_t rows, size_t columns, const int8_t *x,
                size_t x_stride, int32_t *out, size_t out_stride, int count);
/* Sum of `bytes` bytes read with the widest loads of the instruction set: the limit of reading memory. */
uint64_t tn_read(int isa, const uint8_t *memory, size_t bytes);

/* ---- peers (product.c): a kernel with the signature of ggml's vec_dot, for each row ---- */
void tn_peer_rows(void *function, int columns, const uint8_t *weights, size_t row_bytes, size_t rows,
                  const void *activations, float *out);

/* ---- programs (model.c) ---- */
enum { TN_ATTRS = 4, TN_INPUTS = 3 };
enum { TN_WIDE_0 = 1, TN_WIDE_1 = 2, TN_WIDE_OUT = 4, TN_WIDE_2 = 8, TN_WIDE_ROWS = 16, TN_TWO_DIGITS = 32 };
typedef struct {
  int32_t kind;           /* tn_kind of kinds.h */
  int32_t form;           /* the first, second, third input has the wider of its kind's dtypes; the result is not i8;
                             rows are i16; the address has two digits */
  int32_t length;         /* elements of the result (STORE: of the state; MEM_UPDATE: of a row) */
  int32_t width;          /* elements of the first input (MASK: of the second) */
  int32_t sync;           /* threads that split vectors wait for each other before it */
  int32_t segment;        /* > 0: first of a run of this many ops that go row by row, as they pass on a state */
  int32_t tail;           /* needed by logits only */
  int64_t out;            /* byte offset in the row's memory; STORE: offset in words of the state */
  int64_t in[TN_INPUTS];  /* byte offsets; LOAD: in[0] is the offset in words of the state */
  int64_t attr[TN_ATTRS]; /* integer attributes, by their numbers in kinds.h */
  int64_t memory;         /* first word of the memory in the state, or -1: rows are a constant */
  const void *data;       /* constant */
} tn_op;

/* Kinds by number: names, names of the integer attributes with spaces between, whether there is a kernel. */
int tn_kind_count(void);
const char *tn_kind_name(int kind);
const char *tn_kind_attrs(int kind);
int tn_has_kernel(int kind);

typedef struct tn_model tn_model;
/* `row_bytes`: memory of one row, a multiple of 64; at most `max_rows` rows at a time; `grain`: rows of a block.
   `weights`: 256 of the sampler. NULL if memory or threads are refused. The ops are copied, constants are not. */
tn_model *tn_open(int isa, const tn_op *ops, int count, size_t row_bytes, int max_rows, int threads, int grain,
                  int64_t logits, int vocab, const uint16_t *weights);
void tn_close(tn_model *model);

/* Feed tokens: row i feeds tokens[i] to the state at `states` + slot[i] * `stride` words; rows of one state one
   after the other, in order. `out` int32 [rows with want][vocab], or NULL. `spent` [ops + 1] or NULL: nanoseconds of
   each op in the first thread, and of its waiting for the others, are added. 0, or -1 after a fork. */
int tn_feed(tn_model *model, int rows, const int32_t *tokens, const int32_t *slot, const uint8_t *want,
            int16_t *states, int64_t stride, int32_t *out, int64_t *spent);
/* Memory of row 0, for a trace. */
const uint8_t *tn_row(tn_model *model, int row);
/* `count` times: feed each row's token, choose the next: chosen [rows][count]; tokens and rngs hold the last ones then. */
int tn_generate(tn_model *model, int rows, int32_t *tokens, const int32_t *slot, int16_t *states, int64_t stride,
                int count, int greedy, int m, int s, int top_k, uint32_t *rngs, int32_t *chosen);
/* ---- coding (code.c): `exp2` 256 numbers by which frequencies are made, `scale_bits` logit_scale_bits ---- */
typedef struct {
  uint64_t code, range;  /* the position in the range, below it; the range */
  uint64_t at, end;      /* the next byte, where the bytes end: zeros follow them */
  const uint8_t *data;
} tn_decoder;
/* Start, size, total of a token among the frequencies of all. */
void tn_span_of(const uint16_t *exp2, int scale_bits, const int16_t *logits, int vocab, int32_t token, uint64_t *span);
/* Bytes of `count` spans; returns how many, or more than `room`. */
size_t tn_encode(const uint64_t *spans, size_t count, uint8_t *out, size_t room);
/* The next token, or -1: the bytes are of no text. */
int32_t tn_decode_one(const uint16_t *exp2, int scale_bits, const int16_t *logits, int vocab, tn_decoder *decoder);
/* As tn_feed, every row wanted: the span of next[i] by the logits of row i goes to spans[3 * i]. */
int tn_feed_spans(tn_model *model, int rows, const int32_t *tokens, const int32_t *slot, int16_t *states,
                  int64_t stride, const uint16_t *exp2, int scale_bits, const int32_t *next, uint64_t *spans);
/* `count` times: feed each row's token, decode the next: chosen [rows][count]; tokens hold the last ones then.
   -1 after a fork, -2: the bytes of a row are of no text. */
int tn_decode(tn_model *model, int rows, int32_t *tokens, const int32_t *slot, int16_t *states, int64_t stride,
              int count, const uint16_t *exp2, int scale_bits, tn_decoder *decoders, int32_t *chosen);

/* Only the products of a token, in order, on whatever the row holds: what a token cannot be faster than. */
int tn_products_only(tn_model *model, int rows);

/* ---- sampling alone (sample.c) ---- */
int32_t tn_choose(const uint16_t *weights, const int16_t *logits, int vocab, int greedy, int m, int s, int top_k,
                  uint32_t *rng);
