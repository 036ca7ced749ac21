// pauth.h - pointer authentication (FEAT_PAuth), see pauth.c.
#ifndef DGM_A64_PAUTH_H
#define DGM_A64_PAUTH_H
#include "guest/aarch64/lift.h"
IrRef lift_sign(Lift *l, IrRef pointer, IrRef modifier, A64KeyId key);
IrRef lift_auth(Lift *l, IrRef pointer, IrRef modifier, A64KeyId key);
IrRef lift_strip(Lift *l, IrRef pointer);
#endif
