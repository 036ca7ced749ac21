// stubs.h - the code every block relies on; see stubs.c.
#ifndef DGM_HOST_X86_64_STUBS_H
#define DGM_HOST_X86_64_STUBS_H

#include "host/x86_64/x86.h"

// Generates the stubs into room and notes them in h. Homes and level are already set.
void x86_make_stubs(HostCtx *h, HostCode *room);
// Around a call of a function that is not Dragoman's own.
void x86_fp_of_c(X86 *x);
void x86_fp_of_guest(X86 *x);
int32_t x86_eval_rax_disp(void); // where code around the evaluator keeps rax

#endif
