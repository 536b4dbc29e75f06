/* Which instruction sets this processor runs. */
#include "native.h"

#include <string.h>
#ifdef TN_X86
#include <cpuid.h>
#endif

static const char *const names[TN_ISAS] = {"portable", "avx2", "avxvnni", "avx512vnni", "avxvnni-evex"};

int tn_isa_count(void) { return TN_ISAS; }

const char *tn_isa_name(int isa) { return isa >= 0 && isa < TN_ISAS ? names[isa] : ""; }

int tn_isa_lanes(int isa) { return isa == TN_AVX512VNNI ? 16 : 8; }

#ifdef TN_X86
static int has_avxvnni(void) {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 4 & 1);
}
#endif

const char *tn_isa_missing(int isa) {
  if (isa == TN_PORTABLE) return "";
#ifdef TN_X86
  __builtin_cpu_init(); /* these ask the operating system too, whether it saves the registers */
  if (!__builtin_cpu_supports("avx2")) return "the processor has no AVX2";
  if (isa == TN_AVX2) return "";
  if (isa == TN_AVXVNNI) return has_avxvnni() ? "" : "the processor has no AVX-VNNI (CPUID 7.1 EAX bit 4)";
  if (!__builtin_cpu_supports("avx512vnni") || !__builtin_cpu_supports("avx512vl"))
    return "the processor has no AVX512-VNNI with AVX512VL";
  if (isa == TN_AVXVNNI_EVEX) return "";
  if (!__builtin_cpu_supports("avx512bw") || !__builtin_cpu_supports("avx512vbmi"))
    return "the processor has no AVX512-BW and AVX512-VBMI";
  return isa == TN_AVX512VNNI ? "" : "there is no such instruction set";
#else
  return "not an x86 processor";
#endif
}
