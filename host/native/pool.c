/* A few threads that run one function together and meet at barriers.

   Who waits spins for some microseconds, then sleeps: with more threads than free processors, spinning alone would
   keep the one that is waited for from running. */
#include "native.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

enum { SPINS = 1500 };

typedef struct {
  atomic_uint turn;
  atomic_int sleepers;
  pthread_mutex_t mutex;
  pthread_cond_t changed;
} gate;

typedef struct { tn_pool *pool; int thread; } worker;

struct tn_pool {
  int threads;
  pid_t owner;
  gate start, meet;
  atomic_int arrived;
  atomic_int stop;
  tn_work *work;
  void *context;
  pthread_t *ids;
  worker *workers;
};

static inline void relax(void) {
#ifdef TN_X86
  __builtin_ia32_pause();
#endif
}

static void gate_init(gate *g) {
  atomic_init(&g->turn, 0);
  atomic_init(&g->sleepers, 0);
  pthread_mutex_init(&g->mutex, NULL);
  pthread_cond_init(&g->changed, NULL);
}

static void gate_wait(gate *g, unsigned turn) {
  for (int i = 0; i < SPINS; i++, relax())
    if (atomic_load_explicit(&g->turn, memory_order_acquire) != turn) return;
  atomic_fetch_add(&g->sleepers, 1);
  pthread_mutex_lock(&g->mutex);
  while (atomic_load(&g->turn) == turn) pthread_cond_wait(&g->changed, &g->mutex);
  pthread_mutex_unlock(&g->mutex);
  atomic_fetch_sub(&g->sleepers, 1);
}

/* Either this sees the sleeper, or the sleeper, which counts itself first, sees the new turn. */
static void gate_open(gate *g) {
  atomic_fetch_add(&g->turn, 1);
  if (atomic_load(&g->sleepers) > 0) {
    pthread_mutex_lock(&g->mutex);
    pthread_cond_broadcast(&g->changed);
    pthread_mutex_unlock(&g->mutex);
  }
}

void tn_pool_barrier(tn_pool *pool, int thread) {
  (void)thread;
  if (pool->threads == 1) return;
  const unsigned turn = atomic_load(&pool->meet.turn);
  if (atomic_fetch_add(&pool->arrived, 1) + 1 == pool->threads) {
    atomic_store(&pool->arrived, 0);
    gate_open(&pool->meet);
  } else {
    gate_wait(&pool->meet, turn);
  }
}

static void *serve(void *argument) {
  worker *me = argument;
  tn_pool *pool = me->pool;
  for (unsigned turn = 0;; turn++) {
    gate_wait(&pool->start, turn);
    if (atomic_load(&pool->stop)) return NULL;
    pool->work(pool->context, me->thread);
    tn_pool_barrier(pool, me->thread);
  }
}

int tn_pool_run(tn_pool *pool, tn_work *work, void *context) {
  if (pool->threads > 1) {
    if (getpid() != pool->owner) return -1;
    pool->work = work, pool->context = context;
    gate_open(&pool->start);
  }
  work(context, 0);
  tn_pool_barrier(pool, 0);
  return 0;
}

tn_pool *tn_pool_new(int threads) {
  tn_pool *pool = calloc(1, sizeof *pool);
  if (!pool) return NULL;
  pool->threads = 1;
  pool->owner = getpid();
  gate_init(&pool->start), gate_init(&pool->meet);
  pool->ids = calloc((size_t)threads, sizeof *pool->ids);
  pool->workers = calloc((size_t)threads, sizeof *pool->workers);
  if (!pool->ids || !pool->workers) return tn_pool_free(pool), NULL;
  for (int i = 1; i < threads; i++) {
    pool->workers[i] = (worker){pool, i};
    if (pthread_create(&pool->ids[i], NULL, serve, &pool->workers[i])) return tn_pool_free(pool), NULL;
    pool->threads = i + 1;
  }
  return pool;
}

void tn_pool_free(tn_pool *pool) {
  if (!pool) return;
  if (pool->threads > 1 && getpid() == pool->owner) {
    atomic_store(&pool->stop, 1);
    gate_open(&pool->start);
    for (int i = 1; i < pool->threads; i++) pthread_join(pool->ids[i], NULL);
  }
  free(pool->ids), free(pool->workers), free(pool);
}
