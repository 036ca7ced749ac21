// A tool that prints what happens outside of translated code, for tests/tools/tools.py.
#include "dragoman/tool.h"

#include <stdio.h>
#include <string.h>

static const char *base(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}
static void module(dgm_watch *w, const dgm_module *m) {
    (void)w;
    fprintf(stderr, "module %s\n", base(m->path));
}
static void module_gone(dgm_watch *w, const dgm_module *m) {
    (void)w;
    fprintf(stderr, "gone %s\n", base(m->path));
}
static void exec(dgm_watch *w, dgm_vcpu *v, const char *path, char *const *argv) {
    (void)w, (void)v;
    fprintf(stderr, "exec %s %s\n", base(path), argv[1] ? argv[1] : "-");
}
static void forked(dgm_watch *w, dgm_vcpu *v) {
    (void)w;
    fprintf(stderr, "forked %u\n", dgm_vcpu_thread(v));
}
static void got_signal(dgm_watch *w, dgm_vcpu *v, const dgm_signal *s) {
    (void)w, (void)v;
    fprintf(stderr, "signal %d %#llx\n", s->number, (unsigned long long)s->address);
}
static void thread_start(dgm_watch *w, dgm_vcpu *v) {
    (void)w;
    fprintf(stderr, "thread %u\n", dgm_vcpu_thread(v));
}

const dgm_tool dgm_tool_main = {.version = DGM_TOOL_VERSION,
                                .name = "events",
                                .summary = "prints events",
                                .thread_start = thread_start,
                                .module = module,
                                .module_gone = module_gone,
                                .exec = exec,
                                .forked = forked,
                                .signal = got_signal};
