/* Runs a program's ops for many rows (one token of one session each) on several threads.

   Every thread runs the same list. A product is split among them by blocks of the matrix's rows. What stands between
   two products, a stretch, is split by rows: one thread takes a row through all of its ops while it is in the
   innermost cache, and nobody waits in between, since a vector of some thousand elements takes less time than a
   meeting. Only where rows pass on a state (a prompt) the ops of its segment are split by elements, row by row. A
   program whose ops seldom read whole vectors meets less often where all is split by elements: then all is. */
#include "native.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MOST_ROWS = 64 };

struct tn_model {
  const tn_table *table;
  tn_op *ops;
  int count, max_rows, threads, grain, lanes, vocab;
  int by_rows; /* stretches are split by rows */
  size_t row_bytes;
  int64_t logits;
  const uint16_t *weights;
  uint8_t *memory;
  tn_pool *pool;
};

typedef struct {
  tn_model *model;
  int rows, wanted;
  int every[MOST_ROWS], want[MOST_ROWS];
  uint8_t wants[MOST_ROWS];
  int apart; /* no two rows are of one session */
  int64_t *spent, *since; /* nanoseconds of thread 0 by op, behind them those of waiting; NULL: not measured */
  int32_t *tokens;
  const int32_t *slot;
  int16_t *states;
  int64_t stride;
  int32_t *out;
  int steps, greedy, m, s, top_k;
  uint32_t *rngs;
  int32_t *chosen;
  const uint16_t *exp2;
  int scale_bits;
  const int32_t *next;
  uint64_t *spans;
  tn_decoder *decoders;
} job;

static const char *const kind_names[] = TN_KIND_NAMES, *const kind_attrs[] = TN_KIND_ATTRS;

int tn_kind_count(void) { return TN_KINDS; }
const char *tn_kind_name(int kind) { return kind_names[kind]; }
const char *tn_kind_attrs(int kind) { return kind_attrs[kind]; }
int tn_has_kernel(int kind) {
  const int here = kind == TN_TMATVEC || kind == TN_LOAD || kind == TN_STORE || kind == TN_TOKEN;
  return here || tn_table_portable.map[kind] != NULL;
}

static void span(const tn_model *model, int thread, size_t length, size_t *first, size_t *last) {
  const size_t blocks = (length + model->grain - 1) / model->grain;
  *first = blocks * thread / model->threads;
  *last = blocks * (thread + 1) / model->threads;
}

static uint8_t *row_of(const tn_model *model, int row) { return model->memory + (size_t)row * model->row_bytes; }

static void product(const job *j, const tn_op *op, int thread, const int *rows, int count) {
  const tn_model *model = j->model;
  const int8_t *x[MOST_ROWS];
  int32_t *out[MOST_ROWS];
  size_t first, last;
  span(model, thread, (size_t)op->length, &first, &last);
  if (first == last) return;
  for (int i = 0; i < count; i++) {
    uint8_t *row = row_of(model, rows[i]);
    x[i] = (const int8_t *)(row + op->in[0]);
    out[i] = (int32_t *)(void *)(row + op->out);
  }
  tn_product_part(model->table, model->lanes, model->grain / model->lanes, op->data, (size_t)op->width, first, last, x,
                  out, count);
}

static void one_row(const job *j, const tn_op *op, int index, size_t lo, size_t hi) {
  const tn_model *model = j->model;
  uint8_t *row = row_of(model, index);
  const size_t bytes = (hi - lo) * sizeof(int16_t);
  int16_t *state = j->states + (int64_t)j->slot[index] * j->stride;
  switch (op->kind) {
    case TN_LOAD: memcpy((int16_t *)(void *)(row + op->out) + lo, state + op->in[0] + lo, bytes); return;
    case TN_STORE: memcpy(state + op->out + lo, (int16_t *)(void *)(row + op->in[0]) + lo, bytes); return;
    case TN_GATHER:
    case TN_GATHER16: {
      tn_op here = *op;
      here.in[0] = (int64_t)j->tokens[index] * op->length;
      model->table->map[op->kind](&here, row, lo, hi);
      return;
    }
    case TN_TOKEN:
      for (size_t i = lo; i < hi; i++)
        ((int16_t *)(void *)(row + op->out))[i] = (int16_t)(i ? j->tokens[index] & 255 : j->tokens[index] >> 8);
      return;
    case TN_MEM_READ:
    case TN_MEM_UPDATE: {
      tn_op here = *op;
      if (op->memory >= 0) here.data = state + op->memory;
      model->table->map[op->kind](&here, row, lo, hi);
      return;
    }
  }
  model->table->map[op->kind](op, row, lo, hi);
  const size_t over = (size_t)op->length % TN_COLUMNS; /* products read whole groups of columns */
  if (!(op->form & 4) && hi == (size_t)op->length && over) memset(row + op->out + hi, 0, TN_COLUMNS - over);
}

static int64_t clock_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

/* What has passed since the last call goes to op `at` (the number of ops: to waiting). */
static void account(const job *j, int thread, int at) {
  if (!j->spent || thread != 0) return;
  const int64_t now = clock_ns();
  j->spent[at] += now - *j->since;
  *j->since = now;
}

static void meet(const job *j, int thread) {
  tn_pool_barrier(j->model->pool, thread);
  if (j->model->threads > 1) account(j, thread, j->model->count);
}

/* The weights of norms are read once a token, each from memory, in pieces too short for the processor to see a stream:
   ask for all of a stretch's at once. */
static void fetch(const tn_model *model, int first, int last) {
  for (int at = first; at < last; at++) {
    const tn_op *op = &model->ops[at];
    if (op->kind == TN_SCALE)
      for (const char *p = op->data, *end = p + 2 * op->length; p < end; p += 64) __builtin_prefetch(p);
  }
}

/* Ops first..last-1, none of them a product, on this thread's rows. */
static void stretch(const job *j, int first, int last, int thread) {
  const tn_model *model = j->model;
  if (thread < j->rows) fetch(model, first, last);
  for (int row = thread; row < j->rows; row += model->threads)
    for (int at = first; at < last; at++) {
      const tn_op *op = &model->ops[at];
      if (op->tail && !j->wants[row]) continue;
      one_row(j, op, row, 0, (size_t)op->length);
      account(j, thread, at);
    }
}

/* An op on this thread's elements of each of the rows. */
static void by_elements(const job *j, int at, int thread, const int *rows, int count) {
  const tn_model *model = j->model;
  const tn_op *op = &model->ops[at];
  if (op->sync) meet(j, thread);
  if (op->kind == TN_TMATVEC) {
    product(j, op, thread, rows, count);
  } else {
    size_t begin, end;
    span(model, thread, (size_t)op->length, &begin, &end);
    const size_t lo = begin * model->grain, n = (size_t)op->length, hi = end * model->grain < n ? end * model->grain : n;
    if (lo < hi)
      for (int i = 0; i < count; i++) one_row(j, op, rows[i], lo, hi);
  }
  account(j, thread, at);
}

/* A segment whose rows pass on a state: row after row, each op on this thread's elements. */
static void segment(const job *j, int first, int last, int thread) {
  for (int row = 0; row < j->rows; row++)
    for (int at = first; at < last; at++) by_elements(j, at, thread, &row, 1);
}

static void token(const job *j, int thread) {
  const tn_model *model = j->model;
  enum { MET, ROWS, PRODUCTS } since = MET; /* what was split how since the last meeting */
  for (int at = 0; at < model->count;) {
    const tn_op *op = &model->ops[at];
    if (op->segment && !j->apart) {
      if (model->by_rows && since != MET) meet(j, thread);
      segment(j, at, at + op->segment, thread);
      if (model->by_rows) meet(j, thread);
      since = MET, at += op->segment;
    } else if (!model->by_rows) {
      by_elements(j, at, thread, op->tail ? j->want : j->every, op->tail ? j->wanted : j->rows);
      at++;
    } else if (op->kind == TN_TMATVEC) {
      if (since == ROWS || (op->sync && since != MET)) meet(j, thread);
      product(j, op, thread, op->tail ? j->want : j->every, op->tail ? j->wanted : j->rows);
      account(j, thread, at);
      since = PRODUCTS, at++;
    } else {
      int last = at + 1;
      while (last < model->count && model->ops[last].kind != TN_TMATVEC && (j->apart || !model->ops[last].segment))
        last++;
      if (since == PRODUCTS) meet(j, thread);
      stretch(j, at, last, thread);
      since = ROWS, at = last;
    }
  }
  meet(j, thread);
}

static const int16_t *logits_of(const tn_model *model, int row) {
  return (const int16_t *)(const void *)(row_of(model, row) + model->logits);
}

static void feed_work(void *context, int thread) {
  const job *j = context;
  const tn_model *model = j->model;
  token(j, thread);
  if (j->out)
    for (int i = thread; i < j->wanted; i += model->threads)
      model->table->widen(logits_of(model, j->want[i]), j->out + (size_t)i * model->vocab, (size_t)model->vocab);
}

static void generate_work(void *context, int thread) {
  const job *j = context;
  const tn_model *model = j->model;
  for (int step = 0; step < j->steps; step++) {
    token(j, thread);
    for (int i = thread; i < j->rows; i += model->threads) {
      const int16_t *logits = logits_of(model, i);
      const int32_t next = j->greedy ? model->table->argmax(logits, model->vocab)
                                     : tn_choose(model->weights, logits, model->vocab, 0, j->m, j->s, j->top_k,
                                                 &j->rngs[i]);
      j->chosen[(size_t)i * j->steps + step] = j->tokens[i] = next;
    }
    tn_pool_barrier(model->pool, thread);
  }
}

static void spans_work(void *context, int thread) {
  const job *j = context;
  const tn_model *model = j->model;
  token(j, thread);
  for (int i = thread; i < j->rows; i += model->threads)
    tn_span_of(j->exp2, j->scale_bits, logits_of(model, i), model->vocab, j->next[i], j->spans + 3 * (size_t)i);
}

static void decode_work(void *context, int thread) {
  const job *j = context;
  const tn_model *model = j->model;
  for (int step = 0; step < j->steps; step++) {
    token(j, thread);
    for (int i = thread; i < j->rows; i += model->threads) {
      tn_decoder *decoder = &j->decoders[i];
      const int32_t next = decoder->range == 0 /* found to be bad before */
                               ? -1
                               : tn_decode_one(j->exp2, j->scale_bits, logits_of(model, i), model->vocab, decoder);
      if (next < 0) decoder->range = 0;
      j->chosen[(size_t)i * j->steps + step] = j->tokens[i] = next < 0 ? 0 : next;
    }
    tn_pool_barrier(model->pool, thread);
  }
}

static void products_work(void *context, int thread) {
  const job *j = context;
  const tn_model *model = j->model;
  for (int at = 0; at < model->count; at++) {
    if (model->ops[at].kind != TN_TMATVEC) continue;
    if (model->ops[at].sync) tn_pool_barrier(model->pool, thread);
    product(j, &model->ops[at], thread, j->every, j->rows);
    if (model->by_rows && at + 1 < model->count && model->ops[at + 1].kind != TN_TMATVEC)
      tn_pool_barrier(model->pool, thread);
  }
}

static void all_rows(job *j, tn_model *model, int rows) {
  j->model = model, j->rows = j->wanted = rows;
  for (int i = 0; i < rows; i++) j->every[i] = j->want[i] = i, j->wants[i] = 1;
}

/* Which rows are wanted (NULL: all), whether they are of different sessions. */
static void choose_rows(job *j, tn_model *model, int rows, const uint8_t *want) {
  all_rows(j, model, rows);
  j->apart = 1;
  for (int i = 1; i < rows; i++)
    for (int k = 0; k < i; k++)
      if (j->slot[i] == j->slot[k]) j->apart = 0;
  if (!want) return;
  j->wanted = 0;
  for (int i = 0; i < rows; i++) {
    j->wants[i] = want[i] != 0;
    if (want[i]) j->want[j->wanted++] = i;
  }
}

int tn_feed(tn_model *model, int rows, const int32_t *tokens, const int32_t *slot, const uint8_t *want,
            int16_t *states, int64_t stride, int32_t *out, int64_t *spent) {
  int64_t since = clock_ns();
  job j = {.tokens = (int32_t *)tokens, .slot = slot, .states = states, .stride = stride, .out = out, .spent = spent,
           .since = &since};
  choose_rows(&j, model, rows, want);
  return tn_pool_run(model->pool, feed_work, &j);
}

int tn_generate(tn_model *model, int rows, int32_t *tokens, const int32_t *slot, int16_t *states, int64_t stride,
                int count, int greedy, int m, int s, int top_k, uint32_t *rngs, int32_t *chosen) {
  job j = {.tokens = tokens, .slot = slot, .states = states, .stride = stride, .steps = count, .greedy = greedy,
           .m = m, .s = s, .top_k = top_k, .rngs = rngs, .chosen = chosen};
  choose_rows(&j, model, rows, NULL);
  return tn_pool_run(model->pool, generate_work, &j);
}

int tn_feed_spans(tn_model *model, int rows, const int32_t *tokens, const int32_t *slot, int16_t *states,
                  int64_t stride, const uint16_t *exp2, int scale_bits, const int32_t *next, uint64_t *spans) {
  job j = {.tokens = (int32_t *)tokens, .slot = slot, .states = states, .stride = stride, .exp2 = exp2,
           .scale_bits = scale_bits, .next = next, .spans = spans};
  choose_rows(&j, model, rows, NULL);
  return tn_pool_run(model->pool, spans_work, &j);
}

int tn_decode(tn_model *model, int rows, int32_t *tokens, const int32_t *slot, int16_t *states, int64_t stride,
              int count, const uint16_t *exp2, int scale_bits, tn_decoder *decoders, int32_t *chosen) {
  job j = {.tokens = tokens, .slot = slot, .states = states, .stride = stride, .steps = count, .exp2 = exp2,
           .scale_bits = scale_bits, .decoders = decoders, .chosen = chosen};
  choose_rows(&j, model, rows, NULL);
  if (tn_pool_run(model->pool, decode_work, &j)) return -1;
  for (int i = 0; i < rows; i++)
    if (decoders[i].range == 0) return -2;
  return 0;
}

int tn_products_only(tn_model *model, int rows) {
  job j = {0};
  all_rows(&j, model, rows);
  return tn_pool_run(model->pool, products_work, &j);
}

/* Whether threads meet less often where stretches are split by rows; one thread never waits. */
static int fewer_by_rows(const tn_model *model) {
  int rows = 0, elements = 0;
  for (int at = 0; at < model->count; at++) {
    const int product = model->ops[at].kind == TN_TMATVEC, before = at && model->ops[at - 1].kind == TN_TMATVEC;
    rows += product != before || (product && model->ops[at].sync);
    elements += model->ops[at].sync;
  }
  return model->threads == 1 || rows < elements;
}

const uint8_t *tn_row(tn_model *model, int row) { return row_of(model, row); }

tn_model *tn_open(int isa, const tn_op *ops, int count, size_t row_bytes, int max_rows, int threads, int grain,
                  int64_t logits, int vocab, const uint16_t *weights) {
  tn_model *model = calloc(1, sizeof *model);
  if (!model) return NULL;
  *model = (tn_model){.table = tn_table_of(isa), .count = count, .max_rows = max_rows, .threads = threads,
                      .grain = grain, .lanes = tn_isa_lanes(isa), .vocab = vocab, .row_bytes = row_bytes,
                      .logits = logits, .weights = weights};
  model->ops = malloc(sizeof *ops * (size_t)count);
  model->memory = tn_alloc(row_bytes * (size_t)max_rows);
  model->pool = tn_pool_new(threads);
  if (!model->ops || !model->memory || !model->pool) return tn_close(model), NULL;
  memcpy(model->ops, ops, sizeof *ops * (size_t)count);
  model->by_rows = fewer_by_rows(model);
  return model;
}

void tn_close(tn_model *model) {
  if (!model) return;
  tn_pool_free(model->pool);
  tn_free(model->memory, model->row_bytes * (size_t)model->max_rows);
  free(model->ops), free(model);
}
