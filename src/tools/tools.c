// tools.c - the table of built-in tools and what they share.
#include "tools/tools.h"

#include "tools/calltree_internal.h"
#include "tools/page.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const dgm_tool *const builtin_tools[] = {&tool_count,   &tool_bbv,      &tool_cache, &tool_hot,
                                         &tool_profile, &tool_syscalls, &tool_trace, NULL};

// ---- reports ----

// This process's command line as a shell would take it. It must be asked for early: later /proc
// shows the guest's.
static char *command_line(void) {
    char *text = NULL;
    size_t n = 0;
    FILE *to = open_memstream(&text, &n), *from = fopen("/proc/self/cmdline", "re");
    bool plain = true;
    char *word = NULL;
    size_t cap = 0;
    for (ssize_t got; to && from && (got = getdelim(&word, &cap, 0, from)) > 0;) {
        if (!word[got - 1]) got--;
        word[got] = 0;
        static const char safe[] =
            "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./=:,+@%";
        plain = got && strspn(word, safe) == (size_t)got;
        if (ftell(to)) fputc(' ', to);
        if (!plain) fputc('\'', to);
        for (const char *p = word; *p; p++) fputs(*p == '\'' ? "'\\''" : (char[]){*p, 0}, to);
        if (!plain) fputc('\'', to);
    }
    free(word);
    if (from) fclose(from);
    if (to) fclose(to);
    return text;
}

uint64_t clock_ns(clockid_t which) {
    struct timespec now;
    clock_gettime(which, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

// Names the run by when the process began: its forked children are others, what it execs is not.
static void name_run(Report *r) {
    r->id = clock_ns(CLOCK_MONOTONIC);
    unsigned long long began = 0;
    FILE *f = fopen("/proc/self/stat", "re");
    char line[1024];
    size_t n = f ? fread(line, 1, sizeof line - 1, f) : 0;
    line[n] = 0;
    const char *at = strrchr(line, ')'); // field 2; the 22nd is the time
    for (int field = 2; at && field < 22; field++)
        if ((at = strchr(at + 1, ' ')) == NULL) break;
    if (at) began = strtoull(at, NULL, 10);
    if (f) fclose(f);
    snprintf(r->run, sizeof r->run, "%llu", began);
}

int report_start(Report *r, dgm_watch *w) {
    return report_start_to(r, w, dgm_option_path(w, "out"));
}

int report_start_to(Report *r, dgm_watch *w, const char *path) {
    enum { HIGH_FD = 700 };
    r->path = path;
    r->html = dgm_option_path(w, "html");
    r->json = dgm_option(w, "json") != NULL;
    r->stderr_fd = r->path ? -1 : fcntl(2, F_DUPFD_CLOEXEC, HIGH_FD);
    if (!r->path && r->stderr_fd < 0) r->stderr_fd = fcntl(2, F_DUPFD_CLOEXEC, 3);
    if (r->path && !*r->path) return dgm_fail(w, -EINVAL, "out=: no file is named");
    if (r->html && !*r->html) return dgm_fail(w, -EINVAL, "html=: no file is named");
    if (!r->html) return 0;
    name_run(r);
    r->command = command_line();
    return 0;
}

char *report_path(const char *path) {
    size_t cap = strlen(path) + 64, n = 0;
    char *out = malloc(cap);
    for (const char *p = path; out && *p && n + 32 < cap; p++) {
        if (p[0] == '%' && p[1] == 'p') {
            n += (size_t)snprintf(out + n, cap - n, "%d", (int)getpid());
            p++;
        } else {
            if (p[0] == '%' && p[1] == '%') p++;
            out[n++] = *p;
        }
    }
    if (out) out[n] = 0;
    return out;
}

FILE *report_begin(Report *r, dgm_watch *w) {
    FILE *f = NULL;
    if (r->path) {
        char *path = report_path(r->path);
        if (path) f = fopen(path, "we");
        if (!f) dprintf(2, "dragoman: tool: %s: %s\n", path ? path : r->path, strerror(errno));
        free(path);
    } else {
        int fd = r->stderr_fd >= 0 ? fcntl(r->stderr_fd, F_DUPFD_CLOEXEC, 3) : -1;
        if (fd >= 0) f = fdopen(fd, "w");
    }
    (void)w;
    return f;
}

void report_end(Report *r, dgm_watch *w, FILE *f) {
    bool failed = ferror(f);
    failed |= fclose(f) != 0;
    (void)w;
    if (failed)
        dprintf(2, "dragoman: tool: %s: %s\n", r->path ? r->path : "stderr", strerror(errno));
}

static void write_page(Report *r, dgm_watch *w, const char *name, const char *script,
                       void (*write)(dgm_watch *w, FILE *f)) {
    char run[96], *path = report_path(r->html);
    snprintf(run, sizeof run, "%d-%s", (int)getpid(), r->run);
    PageHead head = {.tool = name,
                     .script = script,
                     .program = dgm_watch_program(w),
                     .command = r->command ? r->command : dgm_watch_program(w),
                     .run = run,
                     .id = r->id,
                     .pid = (uint32_t)getpid()};
    FILE *f = path ? page_open(path, &head) : NULL;
    bool asked = r->json, ok = f != NULL;
    if (f) {
        r->json = r->page = true;
        write(w, f);
        r->json = asked;
        r->page = false;
        ok = page_close(f, &head);
    }
    if (!ok)
        dprintf(2, "dragoman: tool '%s': %s: %s\n", name, path ? path : r->html, strerror(errno));
    free(path);
}

void report_write(Report *r, dgm_watch *w, const char *name, const char *script,
                  void (*write)(dgm_watch *w, FILE *f)) {
    bool only_page = r->html && !r->path && !r->json;
    FILE *f = only_page ? NULL : report_begin(r, w);
    if (f) {
        write(w, f);
        report_end(r, w, f);
    }
    if (r->html) write_page(r, w, name, script, write);
}

uint64_t report_rows(const Report *r, uint64_t top) {
    enum { PAGE_ROWS = 500 };
    return r->page && top < PAGE_ROWS ? PAGE_ROWS : top;
}

void report_free(Report *r) {
    if (r->stderr_fd > 2) close(r->stderr_fd);
    free(r->command);
}

void report_string(FILE *f, const char *text) {
    calltree_put_json(f, text);
}

void report_place(FILE *f, dgm_watch *w, uint64_t address, bool json) {
    dgm_symbol s;
    bool known = dgm_symbol_at(w, address, &s);
    const dgm_module *m = dgm_module_at(w, address);
    if (json) {
        fprintf(f, "\"address\": %" PRIu64, address);
        if (known) {
            fprintf(f, ", \"function\": ");
            report_string(f, s.name);
        }
        if (m) {
            fprintf(f, ", \"module\": ");
            report_string(f, m->path);
        }
        return;
    }
    if (known && address != s.address)
        fprintf(f, "%s+0x%" PRIx64, s.name, address - s.address);
    else if (known)
        fprintf(f, "%s", s.name);
    else
        fprintf(f, "0x%" PRIx64, address);
    const char *name = m ? strrchr(m->path, '/') : NULL;
    if (m) fprintf(f, " (%s)", name ? name + 1 : m->path);
}

const char *report_number(uint64_t n, char out[32]) {
    char digits[24];
    int len = snprintf(digits, sizeof digits, "%" PRIu64, n), k = 0;
    for (int i = 0; i < len; i++) {
        if (i && (len - i) % 3 == 0) out[k++] = ',';
        out[k++] = digits[i];
    }
    out[k] = 0;
    return out;
}

// ---- map ----

static struct MapEntry *map_slot(const Map *m, uint64_t key) {
    size_t i = (size_t)(key * 0x9e3779b97f4a7c15ull >> 20) & (m->cap - 1);
    while (m->at[i].value && m->at[i].key != key) i = (i + 1) & (m->cap - 1);
    return &m->at[i];
}

void *map_find(const Map *m, uint64_t key) {
    return m->cap ? map_slot(m, key)->value : NULL;
}

void **map_at(Map *m, uint64_t key) {
    if (m->n * 2 >= m->cap) {
        Map bigger = {.n = 0, .cap = m->cap ? m->cap * 2 : 1024};
        bigger.at = calloc(bigger.cap, sizeof *bigger.at);
        if (!bigger.at) return NULL;
        for (size_t i = 0; i < m->cap; i++)
            if (m->at[i].value) {
                *map_slot(&bigger, m->at[i].key) = m->at[i];
                bigger.n++;
            }
        free(m->at);
        *m = bigger;
    }
    struct MapEntry *e = map_slot(m, key);
    if (!e->value) {
        e->key = key;
        m->n++; // the caller puts something there
    }
    return &e->value;
}

void map_free(Map *m) {
    free(m->at);
    *m = (Map){0};
}
