// start.c - a guest process from the program's path to its end: #! scripts, program and
// interpreter, the first stack and vCPU; running; taking everything down.
//
// linux_find_guest() looks only (it decides which Machine is made); linux_start() does it again for
// good. Errors are those execve would give; a missing interpreter names where it was looked for.
#include "linux/fake_root.h"
#include "linux/process.h"

#include "engine/host_signals.h"
#include "engine/persist.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { MAX_SCRIPTS = 4, SHEBANG_BYTES = 256 };

const Personality linux_personality = {
    .syscall = linux_syscall, .fault = linux_fault, .poll = linux_poll};

// ---- finding the program ----

// user: the path is the user's, who may name a file of the host beside the rootfs.
static int open_program(LinuxProcess *p, const char *path, bool user, Program *g, DgmErr *err) {
    int e = -ENOENT;
    g->host_path[0] = 0;
    if (p->n_binds || !user) e = path_host(p, AT_FDCWD, path, 0, g->host_path);
    struct stat st;
    if (user && (e || stat(g->host_path, &st))) e = path_copy(path, g->host_path);
    if (e) return err_set(err, e, "%s: %s", path, strerror(-e));
    g->fd = open(g->host_path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (g->fd < 0) {
        e = errno;
        if (e == EACCES || e == ELOOP || e == ENAMETOOLONG || e == ENOTDIR || e == ENOENT)
            return err_set(err, -e, "%s: %s", path, strerror(e));
        return err_set(err, -EACCES, "%s: %s", path, strerror(e));
    }
    if (fstat(g->fd, &st)) return err_set(err, -EACCES, "%s: %s", path, strerror(errno));
    if (S_ISDIR(st.st_mode)) return err_set(err, -EACCES, "%s: is a directory", path);
    if (!S_ISREG(st.st_mode)) return err_set(err, -EACCES, "%s: not a regular file", path);
    if (!(st.st_mode & 0111)) return err_set(err, -EACCES, "%s: no permission to execute it", path);
    path_copy(path, g->guest_path);
    return 0;
}

// "#! interpreter [one argument]": argv becomes interpreter, argument, path, argv[1..].
static int script_line(Program *g, char *line, const char *path, char **interp, DgmErr *err) {
    line[strcspn(line, "\n")] = 0;
    size_t n = strlen(line);
    while (n && (line[n - 1] == ' ' || line[n - 1] == '\t')) line[--n] = 0;
    char *at = line + 2 + strspn(line + 2, " \t");
    if (!*at) return err_set(err, -ENOEXEC, "%s: #! without an interpreter", path);
    char *arg = at + strcspn(at, " \t");
    if (*arg) {
        *arg++ = 0;
        arg += strspn(arg, " \t");
    }
    size_t argc = 0;
    while (g->argv[argc]) argc++;
    char **argv = calloc(argc + 4, sizeof *argv);
    *interp = arena_printf(&g->words, "%s", at);
    char *word = *arg ? arena_printf(&g->words, "%s", arg) : NULL;
    char *script = arena_printf(&g->words, "%s", path);
    if (!argv || !*interp || !script || (*arg && !word)) {
        free(argv);
        return err_set(err, -ENOMEM, "%s: out of memory", path);
    }
    size_t k = 0;
    argv[k++] = *interp;
    if (word) argv[k++] = word;
    argv[k++] = script;
    for (size_t i = 1; i < argc; i++) argv[k++] = g->argv[i];
    free(g->argv);
    g->argv = argv;
    return 0;
}

static int copy_argv(char *const *argv, Program *out) {
    size_t argc = 0;
    while (argv[argc]) argc++;
    out->argv = calloc(argc + 2, sizeof *out->argv);
    if (!out->argv) return -ENOMEM;
    memcpy(out->argv, argv, argc * sizeof *argv);
    if (!argc) out->argv[0] = (char *)""; // as Linux since 5.18
    return 0;
}

int program_open(LinuxProcess *p, const char *path, bool user, char *const *argv, Program *out,
                 DgmErr *err) {
    memset(out, 0, sizeof *out);
    out->fd = -1;
    if (copy_argv(argv, out)) return err_set(err, -ENOMEM, "%s: out of memory", path);
    const char *name = path;
    int e = 0;
    for (unsigned depth = 0; !e; depth++) {
        e = open_program(p, name, user && !depth, out, err);
        if (e && depth) {
            DgmErr inner = *err;
            err_set(err, e, "%s: its #! interpreter cannot be run: %.400s", path, inner.text);
        }
        if (e) break;
        char line[SHEBANG_BYTES + 1];
        ssize_t n = pread(out->fd, line, SHEBANG_BYTES, 0);
        if (n < 0) e = err_set(err, -EACCES, "%s: %s", name, strerror(errno));
        if (n < 2 || memcmp(line, "#!", 2)) break;
        line[n] = 0;
        if (depth == MAX_SCRIPTS) {
            e = err_set(err, -ELOOP, "%s: too many #! interpreters in a row", path);
            break;
        }
        char *interp = NULL;
        e = script_line(out, line, name, &interp, err);
        close(out->fd);
        out->fd = -1;
        if (!e) name = interp;
    }
    if (!e) e = elf_parse_fd(out->fd, name, &out->image, err);
    if (e) program_close(out);
    return e;
}

void program_close(Program *g) {
    if (g->fd >= 0) close(g->fd);
    free(g->argv);
    arena_free(&g->words);
    g->fd = -1;
    g->argv = NULL;
}

static char *without_slash(const char *path) {
    if (!path || !*path) return NULL;
    char *abs = realpath(path, NULL);
    return abs ? abs : strdup(path);
}

int linux_find_guest(const LinuxConfig *c, const Guest **guest, DgmErr *err) {
    struct stat st;
    const char *roots[] = {c->rootfs, c->sysroot};
    for (unsigned i = 0; i < 2; i++)
        if (roots[i] && *roots[i] && (stat(roots[i], &st) || !S_ISDIR(st.st_mode)))
            return err_set(err, -EINVAL, "%s %s: not a directory", i ? "-L" : "--rootfs", roots[i]);
    LinuxProcess *p = calloc(1, sizeof *p);
    Program *g = malloc(sizeof *g);
    int e = p && g ? 0 : err_set(err, -ENOMEM, "%s: out of memory", c->path);
    if (!e) {
        p->sysroot = without_slash(c->sysroot);
        e = binds_init(p, c, err);
        if (!e) e = program_open(p, c->path, true, c->argv, g, err);
        if (!e) {
            *guest = guest_by_elf(g->image.machine, g->image.elf_class);
            program_close(g);
        }
        free(p->sysroot);
        free(p->rootfs);
        binds_free(p, NULL);
    }
    free(p);
    free(g);
    return e;
}

// ---- loading ----

static int open_interp(LinuxProcess *p, const char *interp, const char *prog, DgmErr *err) {
    char path[PATH_MAX];
    int fd = -1;
    if (p->sysroot && !p->n_binds &&
        snprintf(path, sizeof path, "%s%s", p->sysroot, interp) < (int)sizeof path)
        fd = open(path, O_RDONLY | O_CLOEXEC);
    int e = fd < 0 ? -path_host(p, AT_FDCWD, interp, 0, path) : 0;
    if (fd < 0 && !e && (fd = open(path, O_RDONLY | O_CLOEXEC)) < 0) e = errno;
    if (fd >= 0) return fd;
    const char *root = p->rootfs && p->rootfs[0] ? p->rootfs : p->sysroot;
    if (e == ENOENT || e == ENOTDIR)
        return err_set(err, -ENOENT, "%s: its interpreter %s was not found%s%s%s", prog, interp,
                       root ? " under " : "", root ? root : "",
                       root ? "" : ": give -L or --rootfs");
    return err_set(err, -EACCES, "%s: its interpreter %s: %s", prog, interp, strerror(e));
}

void process_note_modules(LinuxProcess *p, int fd, const ElfImage *e, uint64_t bias,
                          bool same_each_time) {
    for (unsigned i = 0; i < e->n; i++) {
        uint64_t start = e->seg[i].vaddr + bias, lo = ALIGN_DOWN(start, (uint64_t)SPACE_PAGE);
        if (e->seg[i].prot & PROT_EXEC)
            module_mapped(p, fd, lo, start + e->seg[i].file_bytes - lo,
                          e->seg[i].offset - (start - lo), same_each_time);
    }
}

static int load_interp(LinuxProcess *p, const Program *g, ElfLoaded *out, DgmErr *err) {
    int fd = open_interp(p, g->image.interp, g->guest_path, err);
    if (fd < 0) return fd;
    ElfImage *image = malloc(sizeof *image);
    int e = image ? elf_parse_fd(fd, g->image.interp, image, err)
                  : err_set(err, -ENOMEM, "%s: out of memory", g->guest_path);
    if (!e && image->machine != g->image.machine)
        e = err_set(err, -ENOEXEC, "%s: interpreter of %s is for another CPU", g->image.interp,
                    g->guest_path);
    uint64_t hint = e ? 0 : module_address(p, fd, image->hi - image->lo);
    if (!e) e = elf_map(p->m->as, fd, image, hint, g->image.interp, out, err);
    if (!e) process_note_modules(p, fd, image, out->bias, false);
    free(image);
    close(fd);
    return e;
}

// What AArch64's kernel has in its vdso: mov x8, #__NR_rt_sigreturn; svc #0.
static int map_sigreturn(LinuxProcess *p, DgmErr *err) {
    static const uint32_t aarch64[] = {0xd2801168, 0xd4000001};
    int64_t at = space_mmap(p->m->as, 0, SPACE_PAGE, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at < 0) return err_set(err, -ENOMEM, "signal trampoline: %s", strerror((int)-at));
    memcpy((void *)(space_base(p->m->as) + (uint64_t)at), aarch64, sizeof aarch64);
    space_mprotect(p->m->as, (uint64_t)at, SPACE_PAGE, PROT_READ | PROT_EXEC);
    p->sigreturn = (uint64_t)at;
    return 0;
}

static void note_ranges(LinuxProcess *p, const ElfImage *e, uint64_t bias) {
    for (unsigned i = 0; i < e->n; i++) {
        uint64_t lo = e->seg[i].vaddr + bias;
        if (e->seg[i].prot & PROT_EXEC) {
            if (!p->code_lo) p->code_lo = lo;
            p->code_hi = lo + e->seg[i].file_bytes;
        } else if (e->seg[i].prot & PROT_WRITE) {
            if (!p->data_lo) p->data_lo = lo;
            p->data_hi = lo + e->seg[i].file_bytes;
        }
    }
}

static int load(LinuxProcess *p, const LinuxConfig *c, Program *g, DgmErr *err) {
    Machine *m = p->m;
    StackPlan plan = {.image = &g->image,
                      .has_interp = g->image.interp[0],
                      .argv = g->argv,
                      .envp = c->envp,
                      .execfn = c->path,
                      .bytes = c->stack_bytes};
    if (c->argv0) g->argv[0] = (char *)c->argv0;
    int e = elf_map(m->as, g->fd, &g->image, ELF_PIE_HINT, g->guest_path, &plan.prog, err);
    if (!e)
        process_note_modules(p, g->fd, &g->image, plan.prog.bias,
                             g->image.type == ET_EXEC ||
                                 plan.prog.lo == ALIGN_DOWN(ELF_PIE_HINT, g->image.align));
    if (!e && plan.has_interp) e = load_interp(p, g, &plan.interp, err);
    uint64_t sp = 0;
    if (!e) e = stack_build(p, &plan, &sp, err);
    if (!e) e = map_sigreturn(p, err);
    if (e) return e;
    p->brk_start = plan.has_interp ? MAX(plan.prog.hi, ELF_HEAP) : plan.prog.hi;
    space_set_brk(m->as, p->brk_start);
    note_ranges(p, &g->image, plan.prog.bias);
    char host_view[PATH_MAX], guest_view[PATH_MAX];
    p->exe_host = path_of_fd(g->fd, host_view) ? strdup(host_view) : realpath(g->host_path, NULL);
    if (p->exe_host && !path_guest(p, p->exe_host, guest_view)) p->exe_guest = strdup(guest_view);
    Vcpu *v = vcpu_new(m, NULL);
    if (!p->exe_host || !p->exe_guest || !v || !thread_new(p, v, true))
        return err_set(err, -ENOMEM, "%s: out of memory", c->path);
    vcpu_set_reg(v, m->guest->pc_field, plan.has_interp ? plan.interp.entry : plan.prog.entry);
    vcpu_set_reg(v, m->guest->linux_abi->sp, sp);
    return 0;
}

static char **copy_words(const char *const *from) {
    size_t n = 0;
    while (from[n]) n++;
    char **to = calloc(n + 1, sizeof *to);
    for (size_t i = 0; to && i < n; i++) to[i] = strdup(from[i]);
    return to;
}

// Where the guest begins: --workdir; else where we are, if the guest can see that; else the same
// name in its root, or its "/".
static int enter_workdir(LinuxProcess *p, const LinuxConfig *c, DgmErr *err) {
    char cwd[PATH_MAX], guest[PATH_MAX], host[PATH_MAX];
    if (c->workdir) {
        int e = path_host(p, AT_FDCWD, c->workdir, 0, host);
        if (!e && chdir(host)) e = -errno;
        // a directory that is not there is the user's mistake, not a missing program
        return e ? err_set(err, -EINVAL, "--workdir %s: %s", c->workdir, strerror(-e)) : 0;
    }
    if (!p->n_binds || !getcwd(cwd, sizeof cwd) || !path_guest(p, cwd, guest)) return 0;
    if (!path_resolved(p, AT_FDCWD, cwd, 0, guest) && !binds_host(p, guest, host) && !chdir(host))
        return 0;
    if (!binds_host(p, "/", host) && !chdir(host)) return 0;
    return err_set(err, -EACCES, "--rootfs: %s", strerror(errno));
}

int linux_new_process(Machine *m, LinuxProcess **out, DgmErr *err) {
    LinuxProcess *p = calloc(1, sizeof *p);
    AddressSpace *as = space_new();
    if (!p || !as) {
        free(p);
        space_free(as);
        return err_set(err, -ENOMEM, "out of memory");
    }
    m->as = as;
    m->os = p;
    m->personality = &linux_personality;
    p->m = m;
    pthread_mutex_init(&p->signal_lock, NULL);
    pthread_mutex_init(&p->thread_lock, NULL);
    pthread_cond_init(&p->thread_gone, NULL);
    *out = p;
    return 0;
}

int linux_start(Machine *m, const LinuxConfig *c, DgmErr *err) {
    LinuxProcess *p = NULL;
    Program *g = malloc(sizeof *g);
    int e = g ? linux_new_process(m, &p, err) : err_set(err, -ENOMEM, "%s: out of memory", c->path);
    if (e) {
        free(g);
        return e;
    }
    if (m->watches) m->watches->syscall_text = strace_text;
    static const int kept[N_LIMITS] = {[LIMIT_AS] = RLIMIT_AS, [LIMIT_DATA] = RLIMIT_DATA};
    for (unsigned i = 0; i < N_LIMITS; i++) {
        struct rlimit host;
        getrlimit(kept[i], &host);
        p->limits[i] = (struct GuestLimit){host.rlim_cur, host.rlim_max};
    }
    if (c->limit_as)
        sscanf(c->limit_as, "%lu,%lu", &p->limits[LIMIT_AS].soft, &p->limits[LIMIT_AS].hard);
    space_set_limit(m->as, p->limits[LIMIT_AS].soft);
    p->sysroot = without_slash(c->sysroot);
    p->self_argv = c->self_argv ? copy_words(c->self_argv) : NULL;
    e = binds_init(p, c, err);
    if (!e) e = enter_workdir(p, c, err);
    if (!e) e = fake_root_init(p, c, err);
    if (!e) e = program_open(p, c->path, true, c->argv, g, err);
    if (!e) {
        e = load(p, c, g, err);
        if (!e && c->seccomp_fd > 2 && (e = seccomp_take_over(p->threads, c->seccomp_fd)))
            err_set(err, e, "--seccomp-fd: %s", strerror(-e));
        if (!e && c->self_argv) process_publish(p, c->path);
        program_close(g);
    }
    free(g);
    if (c->program_fd > 2) close(c->program_fd);
    if (e) linux_end(m);
    return e;
}

// ---- running ----

int linux_run(Machine *m, int *status, int *signal, DgmErr *err) {
    LinuxProcess *p = m->os;
    Vcpu *v = m->vcpus;
    LinuxThread *t = thread_of(v);
    t->tid = gettid();
    t->host = pthread_self();
    int e = host_signals_enter(v, linux_host_signal, err);
    if (e) return e;
    uint64_t host_mask = signals_start(p, t);
    void *robust_list = NULL; // the guest's takes its place
    size_t robust_bytes = 0;
    syscall(SYS_get_robust_list, 0, &robust_list, &robust_bytes);
    if (m->watches && !observe_thread_start(m->watches, v->state, (uint32_t)t->tid)) {
        e = err_set(err, -ENOMEM, "tools: out of memory");
        process_exit(v, 127, 0);
    }
    vcpu_run(v, -1);
    int stop = e ? e : v->stop_code;
    threads_stop_others(v);
    if (m->watches) {
        observe_thread_end(m->watches, v->state);
        observe_finish(m->watches, NULL, true);
    }
    persist_save(m);
    if (p->forked) process_leave_forked(p);
    if (robust_list) syscall(SYS_set_robust_list, robust_list, robust_bytes);
    signals_end(p, t, host_mask);
    host_signals_leave(v);
    if (e) return e;
    if (stop < 0) return err_set(err, stop, "%s", m->err.text);
    *status = p->exit_status;
    *signal = p->exit_signal;
    return 0;
}

void linux_end(Machine *m) {
    LinuxProcess *p = m->os;
    if (!p) return;
    while (p->threads) {
        Vcpu *v = p->threads->v;
        thread_free(p->threads);
        vcpu_free(v);
    }
    while (m->vcpus) vcpu_free(m->vcpus);
    space_free(m->as);
    m->as = NULL;
    m->os = NULL;
    for (char **w = p->self_argv; w && *w; w++) free(*w);
    free(p->self_argv);
    binds_free(p, NULL);
    fake_root_free(p);
    seccomp_free(p, NULL);
    char *strings[] = {p->sysroot, p->rootfs,  p->exe_guest,   p->exe_host,
                       p->cmdline, p->environ, (char *)p->auxv};
    for (unsigned i = 0; i < ARRAY_LEN(strings); i++) free(strings[i]);
    pthread_mutex_destroy(&p->signal_lock);
    pthread_mutex_destroy(&p->thread_lock);
    pthread_cond_destroy(&p->thread_gone);
    free(p);
}
