/* Op kinds, written from ternac/program/ops.py by `python -m ternac.host.native.build`. */
typedef enum { TN_GATHER, TN_NORM, TN_TMATVEC, TN_REQUANT, TN_TABLE, TN_MUL, TN_ADD, TN_LERP, TN_LOAD, TN_STORE, \
  TN_GATHER16, TN_RMSNORM, TN_SCALE, TN_PEAK, TN_QUANT, TN_RESCALE, TN_INTERP, TN_MUL16, TN_BLEND, TN_KINDS } \
  tn_kind;
enum { TN_GATHER_SHIFT = 0, TN_NORM_PRE = 0, TN_NORM_POST = 1, TN_REQUANT_SHIFT = 0, TN_REQUANT_MULTIPLIER = 1, \
  TN_MUL_SHIFT = 0, TN_RMSNORM_EPS = 0, TN_RMSNORM_SHIFT = 1, TN_SCALE_SHIFT = 0, TN_RESCALE_MULTIPLIER = 0, \
  TN_RESCALE_SHIFT = 1, TN_MUL16_SHIFT = 0 };
#define TN_KIND_NAMES { "GATHER", "NORM", "TMATVEC", "REQUANT", "TABLE", "MUL", "ADD", "LERP", "LOAD", "STORE", \
  "GATHER16", "RMSNORM", "SCALE", "PEAK", "QUANT", "RESCALE", "INTERP", "MUL16", "BLEND" }
#define TN_KIND_ATTRS { "shift", "pre post", "", "shift multiplier", "", "shift", "", "", "", "", "", "eps shift", \
  "shift", "", "", "multiplier shift", "", "shift", "" }
