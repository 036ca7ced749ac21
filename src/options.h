// options.h - from the public options to the engine's configuration; machine.c.
#ifndef DGM_OPTIONS_H
#define DGM_OPTIONS_H

#include "dragoman/machine.h"
#include "engine/engine.h"

// All but the guest. 0 or -EINVAL with a message.
int options_config(const dgm_options *o, MachineConfig *c, DgmErr *err);
// The features of c->guest's model that the options name.
int options_cpu(const dgm_options *o, MachineConfig *c, DgmErr *err);

#endif
