/* The kernels of AVX-VNNI, in the encoding of AVX512VL: how they are tested on processors that lack the former. */
#include "native.h"
#ifdef TN_X86
#define TARGET __attribute__((target("avx2,fma,bmi,bmi2,avx512f,avx512vl,avx512vnni")))
#define NAME(x) x##_avxvnni_evex
#define VEX_PREFIX "%{evex%} "
#include "vnni256.h"

const tn_table tn_table_avxvnni_evex = {KERNELS};
#endif
