/* Memory for weights: aligned to pages, huge ones where the system has them. */
#define _GNU_SOURCE
#include "native.h"

#include <sys/mman.h>

void *tn_alloc(size_t bytes) {
  void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return NULL;
#ifdef MADV_HUGEPAGE
  madvise(memory, bytes, MADV_HUGEPAGE);
#endif
  return memory;
}

void tn_free(void *memory, size_t bytes) {
  if (memory) munmap(memory, bytes);
}
