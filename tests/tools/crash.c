// A tool that crashes, for tests/tools/tools.py.
#include "dragoman/tool.h"

static void crash(dgm_vcpu *v, void *data) {
    (void)v;
    *(volatile int *)data = 1;
}
static void block(dgm_watch *w, dgm_block *b) {
    (void)w;
    dgm_at_call(b, 0, crash, DGM_NO_REGS, (void *)8);
}
const dgm_tool dgm_tool_main = {
    .version = DGM_TOOL_VERSION, .name = "crash", .summary = "crashes", .block = block};
