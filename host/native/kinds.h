/* Op kinds, written from ternac/program/ops.py by `python -m ternac.host.native.build`. */
typedef enum { TN_GATHER, TN_NORM, TN_TMATVEC, TN_REQUANT, TN_TABLE, TN_MUL, TN_ADD, TN_LERP, TN_LOAD, TN_STORE, \
  TN_GATHER16, TN_RMSNORM, TN_SCALE, TN_PEAK, TN_QUANT, TN_RESCALE, TN_INTERP, TN_MUL16, TN_BLEND, TN_WINNERS, \
  TN_MASK, TN_SUB, TN_MEM_READ, TN_MEM_UPDATE, TN_TOKEN, TN_LOOP, TN_KINDS } tn_kind;
enum { TN_GATHER_SHIFT = 0, TN_NORM_PRE = 0, TN_NORM_POST = 1, TN_REQUANT_SHIFT = 0, TN_REQUANT_MULTIPLIER = 1, \
  TN_MUL_SHIFT = 0, TN_RMSNORM_EPS = 0, TN_RMSNORM_SHIFT = 1, TN_SCALE_SHIFT = 0, TN_RESCALE_MULTIPLIER = 0, \
  TN_RESCALE_SHIFT = 1, TN_MUL16_SHIFT = 0, TN_WINNERS_GROUPS = 0, TN_MEM_READ_BITS = 0, TN_MEM_READ_SHARED = 1, \
  TN_MEM_UPDATE_BITS = 0, TN_MEM_UPDATE_KEEP = 1, TN_LOOP_FIRST = 0, TN_LOOP_LENGTH = 1, TN_LOOP_TIMES = 2, \
  TN_LOOP_MOST = 3, TN_LOOP_LEVELS = 4 };
#define TN_KIND_NAMES { "GATHER", "NORM", "TMATVEC", "REQUANT", "TABLE", "MUL", "ADD", "LERP", "LOAD", "STORE", \
  "GATHER16", "RMSNORM", "SCALE", "PEAK", "QUANT", "RESCALE", "INTERP", "MUL16", "BLEND", "WINNERS", "MASK", "SUB", \
  "MEM_READ", "MEM_UPDATE", "TOKEN", "LOOP" }
#define TN_KIND_ATTRS { "shift", "pre post", "", "shift multiplier", "", "shift", "", "", "", "", "", "eps shift", \
  "shift", "", "", "multiplier shift", "", "shift", "", "groups", "", "", "bits shared", "bits keep", "", "first \
  length times most levels" }
