// guest.h (aarch64) - what the files of this folder give guest.c to put into guest_aarch64.
#ifndef DGM_A64_GUEST_H
#define DGM_A64_GUEST_H

#include "engine/vcpu.h"
#include "guest/aarch64/features.h"
#include "guest/aarch64/state.h"

extern const IrField a64_fields[A64_FIELD_COUNT];
void a64_reset(void *state, uint64_t features);
void a64_share(void *state, uint64_t shared);
void a64_faulted(void *state, const void *insn_at, bool write);
uint32_t a64_mode(const void *state);
uint32_t a64_fp_mode(const void *state);
void a64_lift_block(IrRegion *r, const GuestLift *how);
void a64_direct_block(const GuestLift *how, IrRegion *r, Direct *d, GuestDirect *made);
enum GuestMark a64_mark(const uint8_t *bytes, unsigned size); // system.c
unsigned a64_disassemble(const uint8_t *bytes, size_t n, uint64_t pc, Buf *out);
extern const GuestLinuxAbi a64_linux_abi;
// cpuid.c: value of the read-only register 3, 0, c0, c<crm>, <op2> as Linux lets user mode see it.
uint64_t a64_id_register(uint64_t features, unsigned crm, unsigned op2);

#endif
