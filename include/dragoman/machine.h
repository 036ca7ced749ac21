// dragoman/machine.h - run a Linux program built for another CPU, from your own process.
//
//     dgm_options opt = dgm_options_default();
//     dgm_machine *m = dgm_machine_new(&opt);
//     char *argv[] = {"hello", NULL};
//     dgm_exit how;
//     if (dgm_machine_load(m, "hello", argv, environ) || dgm_machine_run(m, &how))
//         fprintf(stderr, "dragoman: %s\n", dgm_machine_error(m));
//     dgm_machine_free(m);
//
// Nothing here is global: many machines of different guests may live in one process, on different
// threads. A machine is used by one thread at a time, unless a function says otherwise. No function
// exits, aborts or prints; those that can fail return 0 or a negative errno value and leave one
// line of text in dgm_machine_error().
#ifndef DRAGOMAN_MACHINE_H
#define DRAGOMAN_MACHINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define DGM_API __attribute__((visibility("default")))

typedef struct dgm_machine dgm_machine;

// execve() in the guest puts this before those variables of the new program's environment that the
// host's own loader would obey (LD_PRELOAD); who is started by self_argv takes it off again.
#define DGM_HIDDEN_ENV "DRAGOMAN_GUEST:"

// How a machine is set up. Start from dgm_options_default(): later versions add fields. Strings are
// borrowed and must live as long as the machine.
typedef struct dgm_options {
    const char *host;       // "x86_64", "interp"; NULL: the fastest that this computer runs
    const char *host_limit; // host features not to use, comma separated
                            // (avx512,avx2,avx,fma,bmi,sse4); NULL: none
    const char *cpu;        // guest CPU model, e.g. "cortex-a72"; NULL: the guest's default
    const char *sysroot; // -L: where the ELF interpreter and absolute paths are looked for first;
                         // NULL: none
    const char *rootfs;  // the guest's "/"; NULL: the host's
    const char *const *binds; // "HOST[:GUEST]", NULL-terminated: laid over rootfs, the later over
                              // the earlier; NULL: none beside /proc, /sys, /dev, /etc/resolv.conf
    const char *chroot;       // where in rootfs the guest has made its "/" by chroot(), as execve()
                              // hands it on; NULL: it has not
    const char *workdir;      // where the guest begins (this process's directory is changed to it);
                              // NULL: where this process is, if the guest can see that
    bool fake_root;           // the guest is root to itself: ids, owners, modes, device nodes
    const char *fake_root_state; // what execve() hands on of it; NULL: it begins here
    int program_fd; // closed when the program is loaded: how execve() hands on one without a
                    // name; 0: none
    int seccomp_fd; // the guest's seccomp filters that execve() hands on; 0: none
    const char
        *limit_as;      // "SOFT,HARD": RLIMIT_AS of the guest, as execve() hands it on; NULL: none
    const char *argv0;  // argv[0] as the guest sees it; NULL: argv[0]
    size_t stack_bytes; // of the main thread; 0: 8 MiB
    bool strace;        // print system calls to stderr as strace does
    bool count;         // count guest instructions exactly (dgm_stats.guest_instructions)
    bool one_insn;      // one guest instruction a block
    const char
        *single_tier; // for tests. "cold": no block is made anew when it proves hot; "hot": every
                      // block is made so; "restless": both, and homes change; NULL: as it pays
    bool verify;      // check the IR of every block
    bool perf_map;    // name translated code to Linux perf, in /tmp/perf-PID.map
    size_t code_cache_bytes; // 0: 256 MiB, of which only what is used takes memory
    const char *cache; // translations are kept in this directory over runs (see dragoman/cache.h);
                       // NULL: they are not
    uint64_t cache_size; // bytes that directory may have; 0: 1 GiB
    const char
        *log;   // topics, comma separated: guest, ir, opt, host, exec, unimp, page, signal; with
                // ":LO-HI" (hexadecimal) only for guest addresses there; NULL: nothing
    int log_fd; // where --log and --strace write; 2
    // How this program was started up to and without the guest program's name, NULL-terminated:
    // execve() in the guest starts guest programs through it. NULL: guest programs cannot be
    // exec'ed (ENOEXEC).
    const char *const *self_argv;
} dgm_options;

DGM_API dgm_options dgm_options_default(void);

// How a program ended.
typedef struct dgm_exit {
    int status; // exit status, 0..255, when signal is 0
    int signal; // the signal that it died of, or 0
} dgm_exit;

typedef struct dgm_stats {
    uint64_t guest_instructions; // executed; 0 unless options.count
    uint64_t blocks;             // translated
    uint64_t translated_insns;   // guest instructions translated
    uint64_t translated_bytes;   // of guest code
    uint64_t host_bytes;         // of host code made
    uint64_t ir_instructions;    // built
    uint64_t translate_ns;       // spent making blocks (not on looking up and linking known ones)
    uint64_t dispatches;         // times that translated code was left for the dispatcher
    uint64_t loaded;             // blocks that came from options.cache
    uint64_t hot;                // of blocks: made anew because they proved to be hot
    uint64_t
        homes_changed; // times that other registers got host registers, and all code was made anew
    uint64_t made_again; // times that all code was made again, with care, for it ran on and on
    uint64_t invalidations, flushes; // blocks forgotten; times the whole code cache was emptied
    uint64_t fp_traps;               // rare floating point found by exceptions of the host's FPU
} dgm_stats;

// The library's version, e.g. "0.1.0". Any thread.
DGM_API const char *dgm_version(void);
// The i-th guest CPU architecture that this build runs ("aarch64"), or NULL behind the last. Any
// thread.
DGM_API const char *dgm_guest_name(unsigned i);
// The j-th CPU model of guest i and a line about it, or NULL behind the last. Any thread.
DGM_API const char *dgm_cpu_name(unsigned i, unsigned j, const char **summary);

// A machine without a program. NULL only when there is no memory. Copies *options, not the strings.
DGM_API dgm_machine *dgm_machine_new(const dgm_options *options);
// Loads an ELF program (or a #! script) of any supported guest with these arguments and environment
// (both NULL-terminated, copied into the guest). Errors: -ENOENT (also for a missing interpreter),
// -EACCES, -ENOEXEC, -ENOMEM, -EINVAL (options).
DGM_API int dgm_machine_load(dgm_machine *m, const char *path, char *const argv[],
                             char *const envp[]);
// Runs the loaded program to its end on the calling thread.
DGM_API int dgm_machine_run(dgm_machine *m, dgm_exit *how);
// The last error as one line without a newline; "" when there was none. Valid until the next call.
DGM_API const char *dgm_machine_error(const dgm_machine *m);
DGM_API void dgm_machine_stats(const dgm_machine *m, dgm_stats *out);
// How far a program that runs has come: instructions (0 unless they are counted, for options.count
// or a tool) and threads. From any thread while dgm_machine_run is at work. Counts are in registers
// while code runs; who asks makes threads bring them up to date soon, so ask again a moment later.
typedef struct dgm_progress {
    uint64_t instructions;
    unsigned threads;
} dgm_progress;
DGM_API void dgm_machine_progress(dgm_machine *m, dgm_progress *out);
DGM_API void dgm_machine_free(dgm_machine *m);

#ifdef __cplusplus
}
#endif

#endif
