/* AVX-VNNI: VNNI for processors without AVX512. */
#include "native.h"
#ifdef TN_X86
#define TARGET __attribute__((target("avx2,fma,bmi,bmi2")))
#define NAME(x) x##_avxvnni
#define VEX_PREFIX "%{vex%} "
#include "vnni256.h"

const tn_table tn_table_avxvnni = {KERNELS};
#endif
