// events.c - tools and their options, threads and their counters, and everything that happens
// outside of translated code: the floors above tell it here, and each tool that wants to know is
// called.
#include "observe/observe.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/uio.h>
#include <unistd.h>

struct WatchThread {
    VcpuHot *hot;
    struct WatchThread *next;
};

// ---- attaching ----

Watches *watches_new(void) {
    Watches *ws = calloc(1, sizeof *ws);
    if (!ws) return NULL;
    ws->last = &ws->first;
    ws->n_slots = FIRST_FREE_SLOT;
    pthread_mutex_init(&ws->lock, NULL);
    return ws;
}

void watches_free(Watches *ws) {
    if (!ws) return;
    buffers_free(ws);
    contexts_free(ws);
    for (dgm_watch *w = ws->first, *next; w; w = next) {
        next = w->next;
        if (ws->started && w->tool->free) w->tool->free(w);
        free(w->options);
        free(w);
    }
    for (struct WatchThread *t = ws->threads, *next; t; t = next) {
        next = t->next;
        free(t);
    }
    modules_free(ws);
    free(ws->gone);
    free(ws->registers);
    arena_free(&ws->keep);
    arena_free(&ws->work);
    arena_free(&ws->woven_arena);
    arena_free(&ws->alone_arena);
    pthread_mutex_destroy(&ws->lock);
    free(ws);
}

// Takes "key=value,key" apart in place.
static int split_options(dgm_watch *w, char *at) {
    while (*at) {
        if (w->n_options == ARRAY_LEN(w->keys))
            return dgm_fail(w, -EINVAL, "more than %zu options", ARRAY_LEN(w->keys));
        char *end = at + strcspn(at, ",");
        char *next = *end ? end + 1 : end;
        *end = 0;
        char *eq = strchr(at, '=');
        if (eq) *eq = 0;
        w->keys[w->n_options] = at;
        w->values[w->n_options++] = eq ? eq + 1 : "";
        at = next;
    }
    return 0;
}

int watches_attach(Watches *ws, const dgm_tool *tool, const char *options) {
    if (tool->version != DGM_TOOL_VERSION)
        return err_set(&ws->err, -EINVAL, "tool '%s' is for version %u of the interface, not %u",
                       tool->name, tool->version, DGM_TOOL_VERSION);
    dgm_watch *w = calloc(1, sizeof *w);
    if (w) w->options = strdup(options ? options : "");
    if (!w || !w->options) {
        free(w);
        return err_set(&ws->err, -ENOMEM, "tool '%s': out of memory", tool->name);
    }
    w->tool = tool;
    w->ws = ws;
    w->stop_slot = atomic_fetch_add(&ws->n_slots, 1);
    w->after_slot = atomic_fetch_add(&ws->n_slots, 1);
    *ws->last = w;
    ws->last = &w->next;
    return split_options(w, w->options);
}

static int check_asked(dgm_watch *w) {
    for (unsigned i = 0; i < w->n_options; i++)
        if (!w->asked[i])
            return dgm_fail(w, -EINVAL, "no option '%s'; 'dragoman tools %s' lists them",
                            w->keys[i], w->tool->name);
    return 0;
}

int watches_start(Watches *ws, const Guest *guest, const char *program) {
    ws->guest = guest;
    ws->program = program;
    ir_region_init(&ws->woven, &ws->woven_arena, guest->fields, guest->n_fields, guest->pc_field);
    ir_region_init(&ws->alone, &ws->alone_arena, guest->fields, guest->n_fields, guest->pc_field);
    ws->registers = calloc(guest->n_fields + 1, sizeof *ws->registers);
    if (!ws->registers) return err_set(&ws->err, -ENOMEM, "tools: out of memory");
    for (unsigned i = 0; i < guest->n_fields; i++) {
        const IrField *f = &guest->fields[i];
        ws->registers[i] = (dgm_register){f->name, ir_bytes(f->type), f->gdb};
    }
    ws->started = true;
    for (dgm_watch *w = ws->first; w; w = w->next) {
        ws->err.code = 0;
        int e = filter_start(w);
        if (!e && w->tool->start) e = w->tool->start(w);
        if (!e) e = ws->err.code;
        if (!e) e = check_asked(w);
        if (e) return e;
        ws->floats |= w->tool->block && !w->no_floats;
        ws->wants_blocks |= w->tool->block != NULL;
        ws->wants_syscalls |= w->tool->syscall || w->tool->syscall_done;
    }
    return 0;
}

int dgm_fail(dgm_watch *w, int error, const char *format, ...) {
    char text[400];
    va_list ap;
    va_start(ap, format);
    vsnprintf(text, sizeof text, format, ap);
    va_end(ap);
    return err_set(&w->ws->err, error, "tool '%s': %s", w->tool->name, text);
}

void dgm_set_context(dgm_watch *w, void *context) {
    w->context = context;
}
void *dgm_context(const dgm_watch *w) {
    return w->context;
}
void dgm_want(dgm_watch *w, unsigned needs) {
    if (needs & DGM_NO_FLOATS) w->no_floats = true;
    needs &= ~(unsigned)DGM_NO_FLOATS;
    w->ws->needs |= needs | (needs & DGM_STOPS ? DGM_COUNTS : 0);
}
const char *dgm_watch_guest(const dgm_watch *w) {
    return w->ws->guest->name;
}
const char *dgm_watch_program(const dgm_watch *w) {
    return w->ws->program;
}

const char *dgm_option(dgm_watch *w, const char *key) {
    const char *value = NULL;
    for (unsigned i = 0; i < w->n_options; i++)
        if (!strcmp(w->keys[i], key)) {
            w->asked[i] = true;
            value = w->values[i];
        }
    return value;
}

const char *dgm_option_path(dgm_watch *w, const char *key) {
    const char *path = dgm_option(w, key);
    char *cwd = path && *path && *path != '/' ? getcwd(NULL, 0) : NULL;
    if (!cwd) return path;
    const char *whole = arena_printf(&w->ws->keep, "%s/%s", cwd, path);
    free(cwd);
    return whole ? whole : path;
}

const char *dgm_option_at(dgm_watch *w, unsigned i, const char **value) {
    if (i >= w->n_options) return NULL;
    w->asked[i] = true;
    *value = w->values[i];
    return w->keys[i];
}

uint64_t dgm_option_number(dgm_watch *w, const char *key, uint64_t otherwise, uint64_t lo,
                           uint64_t hi) {
    const char *text = dgm_option(w, key);
    if (!text) return otherwise;
    char *end;
    errno = 0;
    uint64_t n = strtoull(text, &end, 0), unit = 1;
    if (*end == 'k' || *end == 'K')
        unit = 1000, end++;
    else if (*end == 'm' || *end == 'M')
        unit = 1000000, end++;
    else if (*end == 'g' || *end == 'G')
        unit = 1000000000, end++;
    bool bad = errno || end == text || *end || *text == '-' || n > UINT64_MAX / unit;
    if (!bad && n * unit >= lo && n * unit <= hi) return n * unit;
    dgm_fail(w, -EINVAL, "%s=%s: expected a number from %lu to %lu", key, text, lo, hi);
    return otherwise;
}

// ---- counters ----

// Slots go down in memory, so the last of them is the first of an array.
dgm_counter dgm_counters_new(dgm_watch *w, unsigned n) {
    Watches *ws = w->ws;
    if (!n || atomic_load(&ws->n_slots) + n > WATCH_SLOTS) return UINT32_MAX;
    return atomic_fetch_add(&ws->n_slots, n) + n - 1;
}
dgm_counter dgm_counter_new(dgm_watch *w) {
    return dgm_counters_new(w, 1);
}
uint64_t *dgm_counter_pointer(dgm_vcpu *v, dgm_counter first) {
    return first < WATCH_SLOTS ? vcpu_slot(hot_of(v), first) : NULL;
}

dgm_filter *dgm_filter_new(dgm_watch *w, unsigned line_shift, unsigned sets, unsigned page_shift) {
    if (!sets || sets & (sets - 1) || line_shift > 63 || page_shift > 63) return NULL;
    dgm_filter *f = arena_alloc(&w->ws->keep, sizeof *f);
    if (!f) return NULL;
    *f = (dgm_filter){line_shift, sets, page_shift, dgm_counters_new(w, sets), dgm_counter_new(w)};
    return f->first == UINT32_MAX || f->page == UINT32_MAX ? NULL : f;
}

uint64_t dgm_counter_read(dgm_watch *w, dgm_counter c) {
    Watches *ws = w->ws;
    if (c >= WATCH_SLOTS) return 0;
    pthread_mutex_lock(&ws->lock);
    uint64_t sum = ws->gone ? ws->gone[c] : 0;
    for (struct WatchThread *t = ws->threads; t; t = t->next) sum += *vcpu_slot(t->hot, c);
    pthread_mutex_unlock(&ws->lock);
    return sum;
}

uint64_t dgm_counter_of(dgm_vcpu *v, dgm_counter c) {
    return c < WATCH_SLOTS ? *vcpu_slot(hot_of(v), c) : 0;
}
void dgm_counter_set(dgm_vcpu *v, dgm_counter c, uint64_t value) {
    if (c >= FIRST_FREE_SLOT && c < WATCH_SLOTS) *vcpu_slot(hot_of(v), c) = value;
}

void observe_undo(VcpuHot *hot, const WatchUndo *undo, uint32_t n, uint32_t off) {
    for (uint32_t i = 0; i < n; i++)
        if (undo[i].segment <= off && off <= undo[i].insn)
            *vcpu_slot(hot, undo[i].counter) -= undo[i].n;
}

// ---- threads ----

bool observe_thread_start(Watches *ws, dgm_vcpu *v, uint32_t tid) {
    VcpuHot *hot = hot_of(v);
    struct WatchThread *t = calloc(1, sizeof *t);
    *vcpu_slot(hot, SLOT_THREAD) = atomic_fetch_add(&ws->n_threads, 1);
    if (!t || !buffers_open(ws, hot) || !contexts_open(ws, hot)) {
        free(t);
        return false;
    }
    *vcpu_slot(hot, SLOT_TID) = tid;
    t->hot = hot;
    filter_thread(ws, hot);
    pthread_mutex_lock(&ws->lock);
    t->next = ws->threads;
    ws->threads = t;
    pthread_mutex_unlock(&ws->lock);
    for (dgm_watch *w = ws->first; w; w = w->next) {
        if (w->after && w->off) *vcpu_slot(hot, w->after_slot) = w->after;
        if (w->tool->thread_start) w->tool->thread_start(w, v);
    }
    return true;
}

// Lock held. Slots that no thread may have used are not looked at: their pages are not there.
static void keep_counts(Watches *ws, VcpuHot *hot) {
    uint32_t n = MIN(atomic_load(&ws->n_slots), (uint32_t)WATCH_SLOTS);
    if (!ws->gone) ws->gone = calloc(WATCH_SLOTS, sizeof *ws->gone);
    for (uint32_t i = FIRST_FREE_SLOT; ws->gone && i < n; i++) ws->gone[i] += *vcpu_slot(hot, i);
}

void observe_thread_end(Watches *ws, dgm_vcpu *v) {
    VcpuHot *hot = hot_of(v);
    *vcpu_slot(hot, SLOT_AHEAD) = 0;
    buffers_drain(ws, hot);
    for (dgm_watch *w = ws->first; w; w = w->next)
        if (w->tool->thread_end) w->tool->thread_end(w, v);
    buffers_close(ws, hot);
    contexts_close(ws, hot);
    pthread_mutex_lock(&ws->lock);
    for (struct WatchThread **at = &ws->threads; *at; at = &(*at)->next)
        if ((*at)->hot == hot) {
            struct WatchThread *t = *at;
            *at = t->next;
            keep_counts(ws, hot);
            free(t);
            break;
        }
    pthread_mutex_unlock(&ws->lock);
}

void observe_forked(Watches *ws, dgm_vcpu *v, uint32_t tid) {
    VcpuHot *hot = hot_of(v);
    pthread_mutex_init(&ws->lock, NULL); // another thread of the parent may have held it
    for (struct WatchThread **at = &ws->threads; *at;) {
        struct WatchThread *t = *at;
        if (t->hot == hot) {
            at = &t->next;
            continue;
        }
        *at = t->next;
        free(t);
    }
    if (ws->gone) memset(ws->gone, 0, WATCH_SLOTS * sizeof *ws->gone);
    uint32_t n = MIN(atomic_load(&ws->n_slots), (uint32_t)WATCH_SLOTS);
    buffers_forked(ws, hot);
    for (uint32_t i = FIRST_FREE_SLOT; i < n; i++) {
        const dgm_buffer *b = ws->buffers;
        while (b && (i < b->slot || i >= b->slot + BUFFER_SLOTS)) b = b->next;
        if (!b && !contexts_own(ws, i)) *vcpu_slot(hot, i) = 0;
    }
    contexts_forked(ws, hot);
    *vcpu_slot(hot, SLOT_AHEAD) = 0;
    *vcpu_slot(hot, SLOT_THREAD) = 0;
    *vcpu_slot(hot, SLOT_TID) = tid;
    ws->n_threads = 1;
    filter_thread(ws, hot);
    hot->count_base = (uint64_t)hot->budget; // it has executed nothing yet
    ws->finished = false;
    for (dgm_watch *w = ws->first; w; w = w->next)
        if (w->tool->forked) w->tool->forked(w, v);
}

void observe_finish(Watches *ws, dgm_vcpu *v, bool last) {
    if (ws->finished) return;
    ws->finished = last;
    if (v) {
        *vcpu_slot(hot_of(v), SLOT_AHEAD) = 0;
        buffers_drain(ws, hot_of(v));
        contexts_settle(ws, hot_of(v));
    }
    buffers_settle(ws);
    for (dgm_watch *w = ws->first; w; w = w->next)
        if (w->tool->finish) w->tool->finish(w, last);
}

void dgm_retranslate(dgm_watch *w) {
    Watches *ws = w->ws;
    atomic_store(&ws->stale, true);
    pthread_mutex_lock(&ws->lock);
    for (struct WatchThread *t = ws->threads; t; t = t->next) vcpu_hot_interrupt(t->hot);
    pthread_mutex_unlock(&ws->lock);
}

// ---- what happens to a thread ----

bool observe_syscall(Watches *ws, dgm_vcpu *v, dgm_syscall *s) {
    bool answered = false;
    for (dgm_watch *w = ws->first; w && !answered; w = w->next)
        if (w->tool->syscall && filter_tells(w, v)) answered = w->tool->syscall(w, v, s);
    return answered;
}

void observe_syscall_done(Watches *ws, dgm_vcpu *v, dgm_syscall *s) {
    for (dgm_watch *w = ws->first; w; w = w->next)
        if (w->tool->syscall_done && filter_tells(w, v)) w->tool->syscall_done(w, v, s);
}

void observe_signal(Watches *ws, dgm_vcpu *v, const dgm_signal *s) {
    contexts_signal(ws, hot_of(v));
    for (dgm_watch *w = ws->first; w; w = w->next)
        if (w->tool->signal && filter_tells(w, v)) w->tool->signal(w, v, s);
}

void observe_exec(Watches *ws, dgm_vcpu *v, const char *path, char *const *argv) {
    for (dgm_watch *w = ws->first; w; w = w->next)
        if (w->tool->exec && filter_tells(w, v)) w->tool->exec(w, v, path, argv);
}

// ---- stops ----

void observe_arm(Watches *ws, dgm_vcpu *v) {
    VcpuHot *hot = hot_of(v);
    uint64_t now = vcpu_insns(hot), next = UINT64_MAX;
    for (dgm_watch *w = ws->first; w; w = w->next) {
        uint64_t at = *vcpu_slot(hot, w->stop_slot), after = *vcpu_slot(hot, w->after_slot);
        if (at && at < next) next = at;
        if (after && after < next) next = after;
    }
    hot->budget = next - now > INT64_MAX ? INT64_MAX : (int64_t)(next - now);
    hot->count_base = now + (uint64_t)hot->budget;
}

void observe_reached(Watches *ws, dgm_vcpu *v) {
    VcpuHot *hot = hot_of(v);
    uint64_t now = vcpu_insns(hot);
    for (dgm_watch *w = ws->first; w; w = w->next) {
        uint64_t *at = vcpu_slot(hot, w->stop_slot), *after = vcpu_slot(hot, w->after_slot);
        if (*after && *after <= now) {
            *after = 0;
            filter_reached(w, v);
        }
        if (!*at || *at > now) continue;
        *at = 0;
        if (w->tool->reached) w->tool->reached(w, v);
    }
    observe_arm(ws, v);
}

void dgm_stop_after(dgm_watch *w, dgm_vcpu *v, uint64_t n) {
    *vcpu_slot(hot_of(v), w->stop_slot) = n ? vcpu_insns(hot_of(v)) + n : 0;
    observe_arm(w->ws, v);
}

// ---- a thread's CPU ----

static Watches *watches_of(dgm_vcpu *v) {
    return hot_of(v)->watches;
}

uint32_t dgm_vcpu_thread(dgm_vcpu *v) {
    return (uint32_t)*vcpu_slot(hot_of(v), SLOT_THREAD);
}
uint32_t dgm_vcpu_tid(dgm_vcpu *v) {
    return (uint32_t)*vcpu_slot(hot_of(v), SLOT_TID);
}
uint64_t dgm_vcpu_insns(dgm_vcpu *v) {
    return vcpu_insns(hot_of(v)) - *vcpu_slot(hot_of(v), SLOT_AHEAD);
}

uint64_t dgm_vcpu_pc(dgm_vcpu *v) {
    const Guest *g = watches_of(v)->guest;
    uint64_t pc;
    memcpy(&pc, (char *)v + g->fields[g->pc_field].offset, sizeof pc);
    return pc;
}

const dgm_register *dgm_register_at(dgm_watch *w, unsigned i) {
    return i < w->ws->guest->n_fields ? &w->ws->registers[i] : NULL;
}

int dgm_register_read(dgm_vcpu *v, unsigned i, void *out) {
    const Guest *g = watches_of(v)->guest;
    if (i >= g->n_fields) return -EINVAL;
    memcpy(out, (char *)v + g->fields[i].offset, ir_bytes(g->fields[i].type));
    return 0;
}

// The pc is where the guest is, which is not for a callback to say.
int dgm_register_write(dgm_vcpu *v, unsigned i, const void *in) {
    const Guest *g = watches_of(v)->guest;
    if (i >= g->n_fields || i == g->pc_field) return -EINVAL;
    memcpy((char *)v + g->fields[i].offset, in, ir_bytes(g->fields[i].type));
    return 0;
}

// By the kernel, which says so where a plain copy would fault.
static int copy_memory(dgm_vcpu *v, uint64_t address, void *here, size_t n, bool write) {
    struct iovec mine = {here, n}, guests = {vcpu_mem(v, address), n};
    ssize_t done = write ? process_vm_writev(getpid(), &mine, 1, &guests, 1, 0)
                         : process_vm_readv(getpid(), &mine, 1, &guests, 1, 0);
    return done == (ssize_t)n ? 0 : -EFAULT;
}
int dgm_memory_read(dgm_vcpu *v, uint64_t address, void *out, size_t n) {
    return copy_memory(v, address, out, n, false);
}
int dgm_memory_write(dgm_vcpu *v, uint64_t address, const void *in, size_t n) {
    return copy_memory(v, address, (void *)(uintptr_t)in, n, true);
}

void dgm_access_value(dgm_vcpu *v, uint64_t *low, uint64_t *high) {
    *low = *vcpu_slot(hot_of(v), SLOT_VALUE);
    if (high) *high = *vcpu_slot(hot_of(v), SLOT_VALUE_HIGH);
}

unsigned dgm_disassemble(dgm_watch *w, const uint8_t *bytes, size_t n, uint64_t address, char *out,
                         size_t cap) {
    Buf text = {0};
    unsigned size = w->ws->guest->disassemble(bytes, n, address, &text);
    if (cap) snprintf(out, cap, "%s", size && text.data ? text.data : "");
    for (char *at = out; cap && *at; at++)
        if (*at == '\n') *at = 0;
    buf_free(&text);
    return size;
}

void dgm_syscall_text(dgm_vcpu *v, const dgm_syscall *call, char *out, size_t cap) {
    if (watches_of(v)->syscall_text)
        watches_of(v)->syscall_text(v, call, out, cap);
    else if (cap)
        *out = 0;
}
