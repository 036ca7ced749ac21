// run.c - `dragoman run`, and the same under qemu's name with qemu's options.
//
// One table serves both: a row gives an option's names in the two styles, its argument and what it
// does. Options that execve() in the guest must hand on are collected in self_argv on the way.
#include "cli.h"
#include "libraries.h"

#include "dragoman/machine.h"
#include "dragoman/tool.h"
#include "progress.h"
#include "tools/tools.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

extern char **environ;

enum { MAX_SELF_ARGS = 256, MAX_TOOLS = 16, BINFMT_PRESERVE_ARGV0 = 1 };

typedef struct Run {
    dgm_options opt;
    char **env;       // NULL-terminated, ours
    bool stats, qemu; // qemu: its command line
    bool kept_given;  // --cache
    char kept[PATH_MAX];
    char *self[MAX_SELF_ARGS];
    int n_self;
    char exe[PATH_MAX];
    const char *binds[MAX_SELF_ARGS]; // NULL-terminated
    unsigned n_binds;
    char *absolute[MAX_SELF_ARGS]; // paths of options, made absolute
    unsigned n_absolute;
    const dgm_tool *tools[MAX_TOOLS];
    const char *tool_options[MAX_TOOLS];
    int n_tools;
    bool json, plugins;
    ProgressWish progress;
    long progress_pid; // only this process shows it; 0: the one that is started
} Run;

typedef struct Option {
    const char *name, *qemu_name, *arg, *help;
    int (*set)(Run *, const char *arg); // 0, or an exit status
    bool not_inherited;                 // guest programs that the guest execs do not get it
    bool is_path;                       // begins with a path of the host, which is made absolute
} Option;

static void run_free(Run *r) {
    while (r->n_absolute) free(r->absolute[--r->n_absolute]);
    free(r->env);
}

// ---- environment ----

static void env_unset(char **env, const char *name) {
    size_t n = strlen(name);
    for (char **e = env; *e;)
        if (!strncmp(*e, name, n) && (*e)[n] == '=') {
            for (char **p = e; *p; p++) p[0] = p[1];
        } else {
            e++;
        }
}

static int set_env(Run *r, const char *arg) {
    const char *eq = strchr(arg, '=');
    if (!eq || eq == arg) {
        complain("-E %s: expected NAME=VALUE", arg);
        return EXIT_USAGE;
    }
    char *name = strndup(arg, (size_t)(eq - arg));
    size_t n = 0;
    while (r->env[n]) n++;
    char **env = realloc(r->env, (n + 2) * sizeof *env);
    if (!name || !env) {
        complain("-E %s: out of memory", arg);
        return EXIT_NOT_EXECUTABLE;
    }
    r->env = env;
    env_unset(env, name);
    free(name);
    for (n = 0; env[n]; n++) continue;
    env[n] = (char *)arg;
    env[n + 1] = NULL;
    return 0;
}

// qemu's -E and -U take several, separated by commas.
static int each_of_list(Run *r, const char *arg, int (*set)(Run *, const char *)) {
    int status = 0;
    char *words = strdup(arg); // lives as long as the environment that points into it
    if (!words) {
        complain("%s: out of memory", arg);
        return EXIT_NOT_EXECUTABLE;
    }
    for (char *word = words, *next; word && !status; word = next) {
        next = strchr(word, ',');
        if (next) *next++ = 0;
        status = set(r, word);
    }
    return status;
}

static int unset_env(Run *r, const char *arg) {
    env_unset(r->env, arg);
    return 0;
}

static int set_env_option(Run *r, const char *arg) {
    return r->qemu ? each_of_list(r, arg, set_env) : set_env(r, arg);
}
static int unset_env_option(Run *r, const char *arg) {
    return r->qemu ? each_of_list(r, arg, unset_env) : unset_env(r, arg);
}

// ---- the other options ----

static int set_size(const char *option, const char *arg, size_t *out) {
    char *end;
    errno = 0;
    unsigned long long n = strtoull(arg, &end, 0);
    unsigned shift = *end == 'k' || *end == 'K'   ? 10
                     : *end == 'm' || *end == 'M' ? 20
                     : *end == 'g' || *end == 'G' ? 30
                                                  : 0;
    if (shift) end++;
    if (errno || end == arg || *end || *arg == '-' || !n || n > (1ull << 40) >> shift) {
        complain("%s %s: expected a size in bytes (with K, M or G behind it)", option, arg);
        return EXIT_USAGE;
    }
    *out = (size_t)n << shift;
    return 0;
}

static int set_stack(Run *r, const char *arg) {
    return set_size("-s", arg, &r->opt.stack_bytes);
}
static int set_cache(Run *r, const char *arg) {
    return set_size("--code-cache", arg, &r->opt.code_cache_bytes);
}
static int set_kept(Run *r, const char *arg) {
    r->kept_given = true;
    r->opt.cache = strcmp(arg, "off") ? arg : NULL;
    return 0;
}
static int set_kept_size(Run *r, const char *arg) {
    size_t n;
    int status = set_size("--cache-size", arg, &n);
    if (!status) r->opt.cache_size = n;
    return status;
}
static int set_sysroot(Run *r, const char *arg) {
    return r->opt.sysroot = arg, 0;
}
static int set_rootfs(Run *r, const char *arg) {
    return r->opt.rootfs = arg, 0;
}
static int set_bind(Run *r, const char *arg) {
    if (r->n_binds == MAX_SELF_ARGS - 1) {
        complain("--bind %s: too many", arg);
        return EXIT_USAGE;
    }
    r->binds[r->n_binds++] = arg;
    return 0;
}
static int set_workdir(Run *r, const char *arg) {
    return r->opt.workdir = arg, 0;
}
static int set_fake_root(Run *r, const char *arg) {
    return (void)arg, r->opt.fake_root = true, 0;
}
static int set_fake_root_state(Run *r, const char *arg) {
    return r->opt.fake_root_state = arg, 0;
}
static int set_program_fd(Run *r, const char *arg) {
    return r->opt.program_fd = atoi(arg), 0;
}
static int set_seccomp_fd(Run *r, const char *arg) {
    return r->opt.seccomp_fd = atoi(arg), 0;
}
static int set_limit_as(Run *r, const char *arg) {
    return r->opt.limit_as = arg, 0;
}
static int set_chroot(Run *r, const char *arg) {
    return r->opt.chroot = arg, 0;
}
static int set_argv0(Run *r, const char *arg) {
    return r->opt.argv0 = arg, 0;
}
static int set_host(Run *r, const char *arg) {
    return r->opt.host = arg, 0;
}
static int set_limit(Run *r, const char *arg) {
    return r->opt.host_limit = arg, 0;
}
static int set_log(Run *r, const char *arg) {
    r->opt.log = arg;
    return strstr(arg, "host") ? need_libraries() : 0;
}
static int set_strace(Run *r, const char *arg) {
    return (void)arg, r->opt.strace = true, 0;
}
static int set_tier(Run *r, const char *arg) {
    return r->opt.single_tier = arg, 0;
}
static int set_verify(Run *r, const char *arg) {
    return (void)arg, r->opt.verify = true, 0;
}
static int set_perf_map(Run *r, const char *arg) {
    return (void)arg, r->opt.perf_map = true, 0;
}
static int set_one(Run *r, const char *arg) {
    return (void)arg, r->opt.one_insn = true, 0;
}
static int set_stats(Run *r, const char *arg) {
    return (void)arg, r->stats = r->opt.count = true, 0;
}

static int set_tool(Run *r, const char *arg) {
    if (r->n_tools == MAX_TOOLS) {
        complain("--tool %s: too many", arg);
        return EXIT_USAGE;
    }
    int status = need_libraries();
    if (status) return status;
    const char *options;
    const dgm_tool *tool = tool_find(arg, &options);
    if (!tool) return EXIT_USAGE;
    r->tools[r->n_tools] = tool;
    r->tool_options[r->n_tools++] = options;
    return 0;
}
static int set_plugin(Run *r, const char *arg) {
    int status = need_libraries();
    if (status) return status;
    const char *why = qemu_plugin_add(arg);
    if (why) {
        complain("--plugin %s: %s", arg, why);
        return EXIT_USAGE;
    }
    if (r->plugins) return 0;
    r->plugins = true;
    if (r->n_tools == MAX_TOOLS) {
        complain("--plugin %s: too many tools", arg);
        return EXIT_USAGE;
    }
    r->tools[r->n_tools++] = &tool_qemu_plugin;
    return 0;
}
static int set_json(Run *r, const char *arg) {
    return (void)arg, r->json = true, 0;
}

static int set_progress(Run *r, const char *arg) {
    return (void)arg, r->progress = PROGRESS_ON, 0;
}
static int set_no_progress(Run *r, const char *arg) {
    return (void)arg, r->progress = PROGRESS_OFF, 0;
}
static int set_progress_pid(Run *r, const char *arg) {
    return r->progress_pid = atol(arg), 0;
}

static int set_cpu(Run *r, const char *arg) {
    if (!strcmp(arg, "help") || !strcmp(arg, "?")) {
        char *no_args[] = {"cpus", NULL};
        cmd_cpus(1, no_args);
        exit(0);
    }
    r->opt.cpu = arg;
    return 0;
}

static int set_log_file(Run *r, const char *arg) {
    r->opt.log_fd = open(arg, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (r->opt.log_fd >= 0) return 0;
    complain("%s: %s", arg, strerror(errno));
    return EXIT_USAGE;
}

static int show_version(Run *r, const char *arg) {
    (void)r, (void)arg;
    printf("dragoman %s\n", dgm_version());
    exit(0);
}

static int show_help(Run *r, const char *arg);

static const Option options[] = {
    {"-L", "-L", "DIR", "look for the program's interpreter and libraries in DIR first",
     set_sysroot, false, true},
    {"--rootfs", "-rootfs", "DIR", "DIR is the program's whole file system", set_rootfs, false,
     true},
    {"--bind", "-bind", "HOST[:GUEST]",
     "the program sees HOST at GUEST (at HOST); /proc, /sys, /dev, /etc/resolv.conf by themselves",
     set_bind, false, true},
    {"--workdir", "-workdir", "DIR", "the program begins in DIR", set_workdir, true, false},
    {"--fake-root", "-fake-root", NULL, "the program is root to itself: ids, owners, device nodes",
     set_fake_root, true, false},
    {"--program-fd", "--program-fd", "N", NULL, set_program_fd, true, false},
    {"--seccomp-fd", "--seccomp-fd", "N", NULL, set_seccomp_fd, true, false},
    {"--limit-as", "--limit-as", "SOFT,HARD", NULL, set_limit_as, true, false},
    {"--chroot", "--chroot", "DIR", NULL, set_chroot, true, false},
    {"--fake-root-state", "--fake-root-state", "STATE", NULL, set_fake_root_state, true, false},
    {"-E", "-E", "NAME=VALUE", "set an environment variable of the program", set_env_option, true},
    {"-U", "-U", "NAME", "unset an environment variable of the program", unset_env_option, true},
    {"-0", "-0", "ARGV0", "what the program sees as its own name", set_argv0, true},
    {"-s", "-s", "SIZE", "stack size of the main thread (8M)", set_stack, false},
    {"--cpu", "-cpu", "NAME", "guest CPU model; 'help' lists them", set_cpu, false},
    {"--strace", "-strace", NULL, "print every system call, as strace does", set_strace, false},
    {"--log", "-d", "WHAT[:LO-HI]",
     "log guest,ir,opt,host,exec,unimp,page,signal (of guest addresses LO-HI)", set_log, false},
    {"--log-file", "-D", "FILE", "append --log and --strace output to FILE instead of stderr",
     set_log_file, false, true},
    {"--stats", "-stats", NULL,
     "count instructions and say what was translated, on stderr at the end", set_stats, true},
    {"--tool", "-tool", "NAME[:OPTIONS]",
     "watch the program by a tool ('dragoman tools'; ./my.so); several at once", set_tool, false},
    {"--plugin", "-plugin", "FILE[,NAME=VALUE]", "watch the program by a plugin made for QEMU",
     set_plugin, true},
    {"--json", "-json", NULL, "tools give their results as JSON", set_json, false},
    {"--progress", "-progress", NULL,
     "a status line on stderr each second, also where tools do not show one", set_progress, false},
    {"--no-progress", "-no-progress", NULL, "none, whatever stderr is", set_no_progress, false},
    {"--progress-pid", "-progress-pid", "PID", NULL, set_progress_pid, true},
    {"--host", "-host", "NAME", "code generator: x86_64, or interp (slow, portable)", set_host,
     false},
    {"--host-limit", "-host-limit", "LIST",
     "host features not to use: avx512,avx2,avx,fma,bmi,sse4,fp16,fptraps,direct", set_limit,
     false},
    {"--code-cache", "-code-cache", "SIZE", "room for translated code (256M; at most 2G)",
     set_cache, false},
    {"--cache", "-cache", "DIR|off",
     "keep translations in DIR for the next run (XDG_CACHE_HOME/dragoman)", set_kept, false, true},
    {"--cache-size", "-cache-size", "SIZE", "of all that is kept (1G)", set_kept_size, false},
    {"--one-insn", "-one-insn-per-tb", NULL, "translate one instruction at a time", set_one, false},
    {"--single-tier", "-single-tier", "cold|hot|restless",
     "for tests: never make hot code anew; make all code as hot code is; change homes all the time",
     set_tier, false},
    {"--verify", "-verify", NULL, "check the intermediate code of every block", set_verify, false},
    {"--perfmap", "-perfmap", NULL, "name translated code to Linux perf (/tmp/perf-PID.map)",
     set_perf_map, false},
    {"--version", "-version", NULL, "print the version", show_version, true},
    {"--help", "-help", NULL, "print this", show_help, true},
    {"-h", "-h", NULL, NULL, show_help, true},
    {"--singlestep", "-singlestep", NULL, NULL, set_one, false},
};
enum { N_OPTIONS = sizeof options / sizeof *options };

static int show_help(Run *r, const char *arg) {
    (void)r, (void)arg;
    printf(
        "Usage: dragoman run [OPTION...] PROGRAM [ARG...]\n\n"
        "Runs a Linux program built for another CPU (found in its ELF header) as if it were\n"
        "native: its input, output, exit status and death by a signal are the program's own.\n\n");
    for (int i = 0; i < N_OPTIONS; i++) {
        const Option *o = &options[i];
        if (!o->help) continue;
        char left[64];
        snprintf(left, sizeof left, "%s%s%s", o->name, o->arg ? " " : "", o->arg ? o->arg : "");
        printf("  %-24s %s\n", left, o->help);
    }
    printf("\nTry:\n"
           "  dragoman run -L ROOT ROOT/bin/ls        with the libraries in ROOT\n"
           "  dragoman run --stats ./program          instructions a second\n"
           "  dragoman run --log guest,host ./program what it was translated to\n\n"
           "Exit status: the program's own; 126 when it cannot be run, 127 when it is not there,\n"
           "2 for a wrong option. Environment: QEMU_LD_PREFIX gives a default for -L.\n");
    exit(0);
}

static int unknown_option(const char *word, bool qemu) {
    const char *names[N_OPTIONS + 1] = {NULL};
    for (int i = 0; i < N_OPTIONS; i++) names[i] = qemu ? options[i].qemu_name : options[i].name;
    const char *near = nearest(word, names);
    complain("%s: no such option%s%s%s", word, near ? "; did you mean '" : "; see --help",
             near ? near : "", near ? "'?" : "");
    return EXIT_USAGE;
}

static const Option *find_option(const char *word, size_t n, bool qemu) {
    for (int i = 0; i < N_OPTIONS; i++) {
        const char *name = qemu ? options[i].qemu_name : options[i].name;
        if (strlen(name) == n && !strncmp(name, word, n)) return &options[i];
        // qemu takes its options with one dash or two
        if (qemu && word[0] == '-' && word[1] == '-' && strlen(name) == n - 1 &&
            !strncmp(name, word + 1, n - 1))
            return &options[i];
    }
    return NULL;
}

// The guest may be elsewhere when it execs. NULL: out of memory, or too many.
static const char *absolute(Run *r, const char *path) {
    char cwd[PATH_MAX], *out;
    if (path[0] == '/' || !getcwd(cwd, sizeof cwd)) return path;
    if (r->n_absolute == MAX_SELF_ARGS || asprintf(&out, "%s/%s", cwd, path) < 0) return NULL;
    return r->absolute[r->n_absolute++] = out;
}

static bool names_file(const Option *o, const char *arg) {
    if (o->set == set_tool || o->set == set_plugin) return memchr(arg, '/', strcspn(arg, ":,"));
    return o->is_path && strcmp(arg, "off");
}

// Reads options up to the program's name; *at is its index. 0, or an exit status.
static int parse_options(Run *r, int argc, char **argv, bool qemu, int *at) {
    int i = 1;
    for (; i < argc && argv[i][0] == '-' && argv[i][1]; i++) {
        if (!strcmp(argv[i], "--")) {
            i++;
            break;
        }
        const char *eq = !strncmp(argv[i], "--", 2) ? strchr(argv[i], '=') : NULL;
        size_t n = eq ? (size_t)(eq - argv[i]) : strlen(argv[i]);
        const Option *o = find_option(argv[i], n, qemu);
        if (!o) return unknown_option(argv[i], qemu);
        const char *arg = NULL;
        if (o->arg && !(arg = eq ? eq + 1 : i + 1 < argc ? argv[++i] : NULL)) {
            complain("%s: needs %s", argv[i], o->arg);
            return EXIT_USAGE;
        }
        if (!o->arg && eq) {
            complain("%s: takes no argument", argv[i]);
            return EXIT_USAGE;
        }
        if (names_file(o, arg) && !(arg = absolute(r, arg))) {
            complain("%s: out of memory", argv[i]);
            return EXIT_NOT_EXECUTABLE;
        }
        int status = o->set(r, arg);
        if (status) return status;
        if (o->not_inherited) continue;
        if (r->n_self >= MAX_SELF_ARGS - 2) {
            complain("too many options");
            return EXIT_USAGE;
        }
        r->self[r->n_self++] = (char *)(qemu ? o->qemu_name : o->name);
        if (arg) r->self[r->n_self++] = (char *)arg;
    }
    *at = i;
    return 0;
}

static void print_stats(const dgm_machine *m, uint64_t cpu_ns) {
    dgm_stats s;
    dgm_machine_stats(m, &s);
    double run_s = (double)cpu_ns / 1e9, translate_s = (double)s.translate_ns / 1e9;
    fprintf(stderr, "guest_instructions %llu\n", (unsigned long long)s.guest_instructions);
    fprintf(stderr, "guest_mips %.1f\n",
            run_s > 0 ? (double)s.guest_instructions / run_s / 1e6 : 0);
    fprintf(stderr, "cpu_seconds %.3f\n", run_s);
    fprintf(stderr, "blocks %llu\n", (unsigned long long)s.blocks);
    fprintf(stderr, "translated_instructions %llu\n", (unsigned long long)s.translated_insns);
    fprintf(stderr, "translated_bytes %llu\n", (unsigned long long)s.translated_bytes);
    fprintf(stderr, "host_bytes %llu\n", (unsigned long long)s.host_bytes);
    fprintf(stderr, "ir_instructions %llu\n", (unsigned long long)s.ir_instructions);
    fprintf(stderr, "translate_seconds %.4f\n", translate_s);
    fprintf(stderr, "translate_mips %.2f\n",
            translate_s > 0 ? (double)s.translated_insns / translate_s / 1e6 : 0);
    fprintf(stderr, "dispatches %llu\n", (unsigned long long)s.dispatches);
    fprintf(stderr, "loaded_blocks %llu\n", (unsigned long long)s.loaded);
    fprintf(stderr, "hot_blocks %llu\n", (unsigned long long)s.hot);
    fprintf(stderr, "homes_changed %llu\n", (unsigned long long)s.homes_changed);
    fprintf(stderr, "made_again %llu\n", (unsigned long long)s.made_again);
    fprintf(stderr, "invalidations %llu\n", (unsigned long long)s.invalidations);
    fprintf(stderr, "flushes %llu\n", (unsigned long long)s.flushes);
    fprintf(stderr, "fp_traps %llu\n", (unsigned long long)s.fp_traps);
}

static uint64_t cpu_ns(void) {
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (uint64_t)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000000000u +
           (uint64_t)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1000u;
}

// The guest died of this signal; the caller shall see the same of us.
static int die_of(int sig) {
    struct rlimit no_core = {0, 0};
    setrlimit(RLIMIT_CORE, &no_core);
    signal(sig, SIG_DFL);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, sig);
    sigprocmask(SIG_UNBLOCK, &set, NULL);
    raise(sig);
    return EXIT_SIGNALLED + sig;
}

// Processes that this one starts do not show theirs on top of ours; what it execs does.
static bool shows_progress(const Run *r) {
    bool others_print = r->opt.log_fd == STDERR_FILENO && (r->opt.log || r->opt.strace);
    if (r->progress_pid && r->progress_pid != getpid()) return false;
    if (r->progress == PROGRESS_AUTO && (!r->n_tools || others_print)) return false;
    return progress_of_run_wanted(r->progress);
}

static void hand_on_progress(Run *r) {
    static char pid[24]; // argv of programs that the guest execs
    if (r->n_self >= MAX_SELF_ARGS - 2) return;
    snprintf(pid, sizeof pid, "%ld", r->progress_pid ? r->progress_pid : (long)getpid());
    r->self[r->n_self++] = (char *)(r->qemu ? "-progress-pid" : "--progress-pid");
    r->self[r->n_self++] = pid;
}

static int attach_tools(Run *r, dgm_machine *m) {
    int e = shows_progress(r) ? dgm_machine_attach(m, &tool_progress, NULL) : 0;
    for (int i = 0; i < r->n_tools && !e; i++) {
        char *with = NULL;
        const char *options = r->tool_options[i];
        if (r->json && r->tools[i] != &tool_qemu_plugin &&
            asprintf(&with, "%s%sjson", options ? options : "", options ? "," : "") < 0)
            return -ENOMEM;
        e = dgm_machine_attach(m, r->tools[i], with ? with : options);
        free(with);
    }
    return e;
}

// LeakSanitizer wants to see it freed.
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define LEAKS_COUNT true
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#define LEAKS_COUNT true
#elif !defined(LEAKS_COUNT)
#define LEAKS_COUNT false
#endif

static int run_program(Run *r, const char *path, char **argv) {
    dgm_machine *m = dgm_machine_new(&r->opt);
    if (!m) {
        complain("%s: out of memory", path);
        return EXIT_NOT_EXECUTABLE;
    }
    int e = attach_tools(r, m);
    if (!e) e = dgm_machine_load(m, path, argv, r->env);
    bool loaded = !e;
    dgm_exit how = {0};
    if (loaded && shows_progress(r)) progress_of_run_start(m, r->progress == PROGRESS_ON);
    if (loaded) e = dgm_machine_run(m, &how);
    progress_of_run_end();
    if (e) complain("%s", dgm_machine_error(m));
    if (!e && r->stats) print_stats(m, cpu_ns());
    if (r->n_tools || LEAKS_COUNT) dgm_machine_free(m); // else the process's end does, all at once
    run_free(r);
    if (e && loaded) return EXIT_NOT_EXECUTABLE; // what is wrong then is not the command line
    if (e) return e == -ENOENT ? EXIT_NOT_FOUND : e == -EINVAL ? EXIT_USAGE : EXIT_NOT_EXECUTABLE;
    fflush(NULL);
    return how.signal ? die_of(how.signal) : how.status;
}

// Where this command lies, for what the guest execs. In a chroot that we were started into, or when
// it was replaced, that is somewhere else or nowhere.
static void own_path(char *path, size_t bytes) {
    static const char link[] = "/proc/self/exe";
    struct stat own, there;
    ssize_t n = readlink(link, path, bytes - 1);
    if (n > 0) path[n] = 0;
    bool same = n > 0 && !stat(link, &own) && !stat(path, &there) && own.st_ino == there.st_ino &&
                own.st_dev == there.st_dev;
    if (!same) snprintf(path, bytes, "%s", link);
}

static bool run_init(Run *r, bool qemu) {
    *r = (Run){.opt = dgm_options_default(), .qemu = qemu};
    own_path(r->exe, sizeof r->exe);
    r->self[r->n_self++] = r->exe;
    // A link's name (dragoman-aarch64) is not in /proc/self/exe, so the style is handed on by a
    // word.
    r->self[r->n_self++] = qemu ? "run-as" : "run";
    size_t n_env = 0;
    while (environ[n_env]) n_env++;
    r->env = calloc(n_env + 1, sizeof *r->env);
    if (!r->env) return false;
    const size_t hidden = strlen(DGM_HIDDEN_ENV);
    for (size_t i = 0; i < n_env; i++)
        r->env[i] = environ[i] + (strncmp(environ[i], DGM_HIDDEN_ENV, hidden) ? 0 : hidden);
    return true;
}

// Programs that the guest execs are told, for their environment may be another.
static void default_cache(Run *r) {
    if (cache_default_dir(r->kept, sizeof r->kept)) r->opt.cache = r->kept;
    if (r->n_self >= MAX_SELF_ARGS - 2) return;
    r->self[r->n_self++] = (char *)(r->qemu ? "-cache" : "--cache");
    r->self[r->n_self++] = (char *)(r->opt.cache ? r->opt.cache : "off");
}

static int run_main(int argc, char **argv, bool qemu) {
    Run r;
    if (!run_init(&r, qemu)) {
        complain("out of memory");
        return EXIT_NOT_EXECUTABLE;
    }
    r.opt.sysroot = getenv("QEMU_LD_PREFIX");
    int at;
    int status = parse_options(&r, argc, argv, qemu, &at);
    if (!status && at >= argc) {
        complain("no program given; see --help");
        status = EXIT_USAGE;
    }
    if (status) {
        run_free(&r);
        return status;
    }
    char *path = argv[at];
    // binfmt_misc with the P flag puts the original argv[0] behind the program's path.
    if (qemu && (getauxval(AT_FLAGS) & BINFMT_PRESERVE_ARGV0) && at + 1 < argc) at++;
    if (!r.kept_given) default_cache(&r);
    if (r.n_tools || r.progress == PROGRESS_ON) hand_on_progress(&r);
    if (r.n_binds) r.opt.binds = r.binds;
    if (qemu && !(r.opt.log && strstr(r.opt.log, "plugin"))) qemu_plugin_quiet();
    r.opt.self_argv = (const char *const *)r.self;
    return run_program(&r, path, argv + at);
}

int cmd_run(int argc, char **argv) {
    return run_main(argc, argv, false);
}
int cmd_qemu_style(int argc, char **argv) {
    return run_main(argc, argv, true);
}

int cmd_cpus(int argc, char **argv) {
    (void)argc, (void)argv;
    for (unsigned i = 0; dgm_guest_name(i); i++) {
        printf("%s\n", dgm_guest_name(i));
        const char *name, *summary;
        for (unsigned j = 0; (name = dgm_cpu_name(i, j, &summary)); j++)
            printf("  %-14s %s\n", name, summary);
    }
    return 0;
}
