// personality.h - the Linux personality: a guest program's process as its kernel would show it.
//
// Start reading at start.c (loading), syscall.c (dispatch by syscalls.def), signal.c (delivery).
// Per process: LinuxProcess, at Machine.os. Per thread: LinuxThread, at Vcpu.os.
#ifndef DGM_LINUX_PERSONALITY_H
#define DGM_LINUX_PERSONALITY_H

#include "dragoman/tool.h"
#include "engine/engine.h"
#include "memory/space.h"

extern const dgm_tool strace_tool; // --strace; strace.c

typedef struct LinuxConfig {
    const char *path;         // the program, as the user gave it (a path of the host, or in rootfs)
    char **argv, **envp;      // NULL-terminated
    const char *sysroot;      // -L
    const char *rootfs;       // --rootfs
    const char *const *binds; // --bind: "HOST[:GUEST]", NULL-terminated; NULL: none
    const char *chroot;       // --chroot: where the guest's "/" is in that root; NULL: there
    const char *workdir;      // --workdir, a path of the guest; NULL: where we are
    bool fake_root;           // --fake-root
    const char *fake_root_state; // --fake-root-state, of an exec'ed program; NULL: none
    const char *argv0;           // -0
    int program_fd;              // --program-fd: to be closed when the program is loaded; 0: none
    const char *limit_as;        // --limit-as: "SOFT,HARD" of RLIMIT_AS over exec; NULL: none
    int seccomp_fd;              // --seccomp-fd: filters that come over exec; 0: none
    size_t stack_bytes;          // 0: 8 MiB
    const char *const
        *self_argv; // how to start a guest program anew, NULL-terminated; NULL: cannot
} LinuxConfig;

// Opens the program far enough to know its CPU (following #! scripts). 0 or -errno with a message.
int linux_find_guest(const LinuxConfig *c, const Guest **guest, DgmErr *err);
// Makes the address space, loads program and interpreter, builds the stack and the first vCPU.
int linux_start(Machine *m, const LinuxConfig *c, DgmErr *err);
// Runs the first vCPU on the calling thread until the process has ended.
int linux_run(Machine *m, int *status, int *signal, DgmErr *err);
// Frees all that linux_start made (vCPUs and the address space too).
void linux_end(Machine *m);

// Translates a file of guest code into the machine's cache on disk, without running it; warm.c.
typedef struct LinuxWarm {
    const char *path;
    void (*progress)(void *ctx, uint64_t done, uint64_t all); // may be NULL
    void *ctx;
    uint64_t *entry_points; // out
} LinuxWarm;
// The guest CPU of an ELF file, a library too.
int linux_guest_of_file(const char *path, const Guest **guest, DgmErr *err);
int linux_warm(Machine *m, const LinuxWarm *how, DgmErr *err);

extern const Personality linux_personality;

#endif
