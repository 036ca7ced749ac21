// The tool of docs/writing-a-tool.md; tests/tools/tools.py checks that they are the same.
#include "dragoman/tool.h"
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

enum { MAX = 65536 };
static struct {
    uint64_t address;
    dgm_counter executed, taken;
} branch[MAX];
static unsigned n;

static void block(dgm_watch *w, dgm_block *b) {
    unsigned last = dgm_block_insns(b) - 1;
    const dgm_insn *in = dgm_block_insn(b, last);
    if (!(in->classes & DGM_CLASS_BRANCH) || n == MAX) return;
    branch[n].address = in->address;
    branch[n].executed = dgm_counter_new(w);
    branch[n].taken = dgm_counter_new(w);
    dgm_at_count(b, last, branch[n].executed, 1);
    dgm_at_branch_count(b, last, branch[n].taken);
    n++;
}

static void finish(dgm_watch *w, bool last) {
    (void)last;
    for (unsigned i = 0; i < n; i++)
        dprintf(2, "%" PRIx64 " %" PRIu64 " %" PRIu64 "\n", branch[i].address,
                dgm_counter_read(w, branch[i].executed), dgm_counter_read(w, branch[i].taken));
}

const dgm_tool dgm_tool_main = {.version = DGM_TOOL_VERSION,
                                .name = "branches",
                                .summary = "how often branches are taken",
                                .block = block,
                                .finish = finish};
