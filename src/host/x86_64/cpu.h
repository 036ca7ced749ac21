// cpu.h - feature detection; see cpu.c.
#ifndef DGM_HOST_X86_64_CPU_H
#define DGM_HOST_X86_64_CPU_H

#include "host/x86_64/x86.h"

// limit: a comma list of features not to use (each takes those that build on it along), or NULL.
int x86_detect(X86Cpu *cpu, const char *limit, DgmErr *err);

#endif
