// memory.h - guest memory accesses of the interpreter: plain copies, host atomics where the IR asks
// for single-copy atomicity or order. An access may fault; it then raises the host's SIGSEGV or
// SIGBUS right here, and interp.c says how that leaves.
#ifndef DGM_HOST_INTERP_MEMORY_H
#define DGM_HOST_INTERP_MEMORY_H

#include "ir/ir.h"

// All values zero-extended. p is a host address.
V128 interp_load(const void *p, unsigned bytes, unsigned flags);
void interp_store(void *p, unsigned bytes, unsigned flags, const V128 *v);
// Both give the old value. A 16-byte cas needs p aligned (the caller checks).
V128 interp_cas(void *p, unsigned bytes, const V128 *expected, const V128 *desired);
uint64_t interp_rmw(void *p, unsigned bytes, IrRmw op, uint64_t v);

#endif
