// process.h - what the files of src/linux share: the guest's process and its threads, the shape of
// a system call handler, and how guest memory is touched.
//
// Ownership: LinuxProcess hangs off Machine.os, LinuxThread off Vcpu.os. A LinuxThread is used by
// its own host thread only, except the fields marked (any) - other threads - and (handler) - the
// host signal handler on the same thread.
//
// Signals: the host's signal mask of a guest's thread is the guest's own mask, and a blocked signal
// stays pending in the host's kernel, which therefore orders, merges and queues exactly. When a
// host handler catches a signal for the guest it fills `caught`, closes the host mask completely
// and sets the vCPU's interrupt, so that at most one signal is ever in our hands; linux_poll()
// builds the guest's frame and opens the mask again. The synchronous signals (SEGV, BUS, ILL, FPE,
// TRAP) and the kick (LINUX_KICK) are never blocked in the host; when they come from kill() their
// guest-blocked state is `soft_pending`.
#ifndef DGM_LINUX_PROCESS_H
#define DGM_LINUX_PROCESS_H

#include "linux/personality.h"
#include "observe/observe.h"

#include <limits.h>
#include <signal.h>
#include <sys/types.h>
#include <time.h>

// LINUX_KICK shakes a thread out of a host call; never blocked in the host anyway.
enum { LINUX_NSIG = 64, LINUX_KICK = SIGBUS };

// Results of handlers beside values and -errno; the first three are the kernel's own. An
// interrupted call is done again when no handler runs; when one does:
enum {
    LINUX_RESTART = -512,        // again if the handler has SA_RESTART, else -EINTR
    LINUX_RESTART_ALWAYS = -513, // again: it had not begun
    LINUX_RESTART_NEVER = -514,  // -EINTR
    LINUX_NO_RESULT = -1000      // registers are as they should be (rt_sigreturn, execve, exit)
};
static inline bool is_restart(int64_t r) {
    return r <= LINUX_RESTART && r >= LINUX_RESTART_NEVER;
}

typedef struct GuestSigaction { // the guest's layout (generic Linux: arm64, riscv)
    uint64_t handler, flags, restorer, mask;
} GuestSigaction;

typedef struct GuestSigaltstack {
    uint64_t sp;
    int32_t flags, pad;
    uint64_t size;
} GuestSigaltstack;

typedef struct Bind { // a piece of the host's file system in the guest's; binds.c
    char *guest, *host;
} Bind;
typedef struct OldBinds { // from before a chroot: other threads may still look at them
    struct OldBinds *older;
    Bind *binds;
    char *chroot;
} OldBinds;

enum { LIMIT_AS, LIMIT_DATA, N_LIMITS };
struct GuestLimit { // struct rlimit64
    uint64_t soft, hard;
};

typedef struct LinuxProcess {
    Machine *m;
    // fixed after linux_start
    char *sysroot, *rootfs; // NULL: none; host paths without a trailing /, so "" is "/"
    Bind *binds;            // none without --rootfs and --bind; (any), see binds_chroot
    unsigned n_binds;
    OldBinds *old_binds;
    char *chroot;          // where the guest's "/" is in the one it began with; NULL: there
    struct FakeRoot *fake; // --fake-root; NULL: not
    char **self_argv;      // how to start a guest program; NULL: cannot
    char *exe_guest;       // /proc/self/exe as the guest sees it: absolute
    char *exe_host;        // and where that is
    bool published; // the host's /proc/self/cmdline, environ and auxv are the guest's; publish.c
    char *cmdline, *environ; // /proc/self/cmdline, environ: strings with their NULs
    size_t cmdline_bytes, environ_bytes;
    uint8_t *auxv; // as on the guest's stack
    size_t auxv_bytes;
    uint64_t stack_lo, stack_hi, stack_start; // of the main thread; start: the first sp
    uint64_t code_lo, code_hi, data_lo, data_hi, brk_start, arg_lo, arg_hi, env_lo, env_hi;
    uint64_t sigreturn;                 // address of the guest's trampoline page
    struct GuestLimit limits[N_LIMITS]; // those that must not limit Dragoman itself
    // signal actions
    pthread_mutex_t signal_lock;
    GuestSigaction actions[LINUX_NSIG + 1];      // by action_at()
    uint64_t actions_known;                      // bits of those that the host was asked for
    GuestSigaction last_handled[LINUX_NSIG + 1]; // the newest of each that was a handler
    // threads, under thread_lock
    pthread_mutex_t thread_lock;
    pthread_cond_t thread_gone;
    struct LinuxThread *threads;
    unsigned n_threads;
    _Atomic int opened;           // (any) what openat gave last, for module_address
    _Atomic bool exiting;         // (any) exit_group was called, or a signal killed all
    int exit_status, exit_signal; // valid when exiting; first come
    _Atomic bool exit_decided;
    struct SeccompFilter *seccomp_made; // all filters of its threads; under thread_lock
    bool forked;  // this is a child that the guest made: at its end it leaves by _exit
    bool vforked; // ... and all our memory is also its waiting parent's
} LinuxProcess;

typedef struct LinuxThread {
    Vcpu *v;
    LinuxProcess *p;
    struct LinuxThread *next; // under thread_lock
    pid_t tid;                // (any) of the host, and so of the guest
    pthread_t host;
    bool ending;            // under thread_lock: gone for the guest
    bool is_main;           // runs on linux_run's caller's thread
    uint64_t sigmask;       // the guest's; bit signo-1
    uint64_t saved_sigmask; // rt_sigsuspend: what the frame shall restore
    bool has_saved_sigmask;
    GuestSigaltstack altstack;
    uint64_t clear_child_tid, robust_list, robust_bytes;
    // the restart of an interrupted call
    int restart; // 0: none; or LINUX_RESTART...
    uint64_t restart_pc;
    bool sleep_again; // ... a sleep, of which this is left
    struct timespec sleep_left;
    // (handler) one caught signal; see the head
    volatile sig_atomic_t has_caught;
    siginfo_t caught;
    volatile uint64_t soft_pending; // (handler)
    siginfo_t soft_info[LINUX_NSIG + 1];
    const struct SeccompFilter *seccomp; // the newest filter; (any) with TSYNC
    int seccomp_mode;
    int late_waits;    // a score (futex.c)
    struct Exec *exec; // what execve works with, for a vfork parent to free
} LinuxThread;

static inline LinuxThread *thread_of(Vcpu *v) {
    return v->os;
}
static inline LinuxProcess *process_of(Vcpu *v) {
    return thread_of(v)->p;
}
static inline const GuestLinuxAbi *abi_of(Vcpu *v) {
    return v->m->guest->linux_abi;
}

// ---- system calls ----

// Named sys_<name>; declared and put in a table by syscalls.def (syscall.c).
typedef int64_t (*SyscallFn)(Vcpu *v, const uint64_t a[6]);
// Personality.syscall, in syscall.c. On LINUX_RESTART it calls thread_restart and leaves the
// registers alone.
void linux_syscall(Vcpu *v, unsigned imm);
// dgm_syscall_text.
void strace_text(dgm_vcpu *v, const dgm_syscall *call, char *out, size_t cap);
// The call that just returned this LINUX_RESTART... is to be done again or to give -EINTR:
// linux_poll decides.
void thread_restart(Vcpu *v, int how);

// A host system call that a signal for the guest interrupts without a race: LINUX_RESTART... when a
// signal was caught before it started or while it slept; else its value or -errno.
int64_t safe_syscall_args(Vcpu *v, long nr, const uint64_t a[6]);
static inline int64_t safe_syscall(Vcpu *v, long nr, uint64_t a0, uint64_t a1, uint64_t a2,
                                   uint64_t a3, uint64_t a4, uint64_t a5) {
    return safe_syscall_args(v, nr, (const uint64_t[6]){a0, a1, a2, a3, a4, a5});
}

// ---- guest memory (memory.c) ----
// False and -EFAULT when any of it is not the guest's with that protection, also when another
// thread unmaps it meanwhile.

bool guest_read(Vcpu *v, uint64_t addr, void *out, size_t n);
bool guest_write(Vcpu *v, uint64_t addr, const void *in, size_t n);
// A NUL-terminated string: its length, -EFAULT, or -ENAMETOOLONG when it does not fit in cap.
int64_t guest_string(Vcpu *v, uint64_t addr, char *out, size_t cap);
// For handing to a host system call (which itself answers EFAULT when it goes away meanwhile).
// NULL: not all of it is the guest's with these PROT_* bits. len 0: any address is fine.
void *guest_ptr(Vcpu *v, uint64_t addr, size_t len, int prot);

// ---- paths (path.c) ----
enum {
    PATH_NOFOLLOW = 1,  // the last component is not followed
    PATH_CREATE = 2,    // the last component need not exist
    PATH_EMPTY = 4,     // AT_EMPTY_PATH
    PATH_NO_LINKS = 8,  // a symbolic link on the way is ELOOP (openat2)
    PATH_NO_MAGIC = 16, // ... one of /proc that is no path is
};
// Where the guest's path is on the host. 0 or -errno. `out` is absolute, or relative to
// guest_dirfd.
int path_host(LinuxProcess *p, int guest_dirfd, const char *guest_path, unsigned flags,
              char out[PATH_MAX]);
// The guest path of what path_host() would give, without links; only with binds.
int path_resolved(LinuxProcess *p, int guest_dirfd, const char *guest_path, unsigned flags,
                  char out[PATH_MAX]);
// Where an open descriptor (or AT_FDCWD) leads on the host, without links; of a deleted file or a
// memfd_create, what the kernel says. False, and "": it is not open, or there is no /proc.
bool path_of_fd(int fd, char out[PATH_MAX]);
// The directory that paths relative to dirfd start from, as the guest sees it.
int path_of_dir(LinuxProcess *p, int dirfd, char out[PATH_MAX]);

// binds.c. 0, or -ENAMETOOLONG when it is cut. (What snprintf needs of libc is some page faults in
// each start.)
int path_copy(const char *path, char out[PATH_MAX]);
// True when path is dir or below it.
bool path_below(const char *path, const char *dir);
int binds_init(LinuxProcess *p, const LinuxConfig *c, DgmErr *err);
// Frees all tables; those that a vfork child made (by chroot) and not its parent's, when given.
void binds_free(LinuxProcess *p, const LinuxProcess *parent);
// Makes the directory at the resolved guest path the guest's "/". 0 or -errno.
int binds_chroot(LinuxProcess *p, const char *guest);
// Where a resolved guest path is; for a process with binds.
int binds_host(const LinuxProcess *p, const char *guest, char out[PATH_MAX]);
// True when something bound has this as its last component.
bool binds_has_name(const LinuxProcess *p, const char *name);
// True when something other than the root is bound at or above this.
bool binds_cover(const LinuxProcess *p, const char *guest);
// The guest's view of a host path (for getcwd, readlink of /proc/self/exe). -EACCES when the guest
// cannot see it; `out` is then the host's path.
int path_guest(LinuxProcess *p, const char *host_path, char out[PATH_MAX]);

// ---- loading (elf.c, stack.c) ----

typedef struct ElfSegment {
    uint64_t vaddr, mem_bytes, file_bytes, offset;
    int prot;
} ElfSegment;
enum { ELF_MAX_SEGMENTS = 64, ELF_MAX_PHNUM = 512 };
typedef struct ElfImage { // what the headers of a valid file say
    uint16_t machine, type;
    uint8_t elf_class;
    uint64_t entry, phdr_vaddr; // phdr_vaddr 0: the headers are in no segment
    uint16_t phnum, phentsize;
    uint64_t lo, hi; // of all segments, page aligned
    uint64_t align;
    unsigned n;
    ElfSegment seg[ELF_MAX_SEGMENTS];
    char interp[PATH_MAX]; // "" when there is none
    bool exec_stack;
} ElfImage;
// Reads n bytes at off: the number read, or -errno.
typedef int64_t (*ElfRead)(void *ctx, void *out, size_t n, uint64_t off);
// Checks and takes apart the headers; 0 or -ENOEXEC (-EIO..) with a message about `name`.
int elf_parse(ElfRead read, void *ctx, uint64_t file_bytes, const char *name, ElfImage *out,
              DgmErr *err);
int elf_parse_fd(int fd, const char *name, ElfImage *out, DgmErr *err);
typedef struct ElfLoaded {
    uint64_t bias, entry, phdr, lo, hi;
} ElfLoaded;
// Maps the image into the guest's memory.
// hint: where it may go when it may go anywhere, 0: the kernel's choice.
int elf_map(AddressSpace *as, int fd, const ElfImage *e, uint64_t hint, const char *name,
            ElfLoaded *out, DgmErr *err);
// Where files of code go that may go anywhere: low, for what is made of them is shorter when
// addresses have 31 bits. Libraries (modules.c), above them the program, then what brk gives; a
// dynamic program's heap is above all of them, also when it has an address of its own (and begins
// below 2 GB, for there the host's sanitizers have their shadow).
#define ELF_LIBRARIES 0x10000000ull
#define ELF_PIE_HINT  0x40000000ull
#define ELF_HEAP      0x60000000ull

// ---- start.c ----
// A process without a program, at m->os; linux_end frees it.
int linux_new_process(Machine *m, LinuxProcess **out, DgmErr *err);
// module_mapped for the executable segments of an ELF file that lies at bias.
void process_note_modules(LinuxProcess *p, int fd, const ElfImage *e, uint64_t bias,
                          bool same_each_time);

// ---- modules.c ----
// Where a file of code, which takes so many bytes, should be mapped so that its translations can be
// kept; 0: anywhere.
uint64_t module_address(const LinuxProcess *p, int fd, uint64_t bytes);
// Where mmap without an address should map.
uint64_t module_mmap_address(const LinuxProcess *p, uint64_t bytes, int prot, int flags, int fd,
                             uint64_t off);
// It was mapped executable at lo from `off` on, where it is in every run (else only such an address
// counts).
void module_mapped(LinuxProcess *p, int fd, uint64_t lo, uint64_t len, uint64_t off,
                   bool same_each_time);

typedef struct StackPlan {
    const ElfImage *image;
    ElfLoaded prog, interp; // interp.bias 0 and has_interp false: static
    bool has_interp;
    char **argv, **envp;
    const char *execfn;
    size_t bytes;
} StackPlan;
// Maps the stack and fills it; *sp is the first stack pointer.
int stack_build(LinuxProcess *p, const StackPlan *plan, uint64_t *sp, DgmErr *err);

// Follows #! lines. *fd is open on an ELF file; argv is replaced (malloc'ed, old words shared).
// Messages in err; -errno as execve would give.
typedef struct Program {
    int fd;
    char guest_path[PATH_MAX], host_path[PATH_MAX]; // of the ELF file
    char **argv;                                    // malloc'ed array; words in `words`
    Arena words;
    ElfImage image;
} Program;
int program_open(LinuxProcess *p, const char *path, bool user, char *const *argv, Program *out,
                 DgmErr *err);
void program_close(Program *g);

// Shows the guest's name, command line and so on in the host's /proc; publish.c.
void process_publish(LinuxProcess *p, const char *path);

// ---- signals (signal.c) ----

void linux_fault(Vcpu *v, int signo, int si_code, uint64_t addr);
void linux_poll(Vcpu *v);
// A signal that cannot be held back: when blocked or ignored it kills.
void signals_force(Vcpu *v, const siginfo_t *si);
// Host handlers' way in: a signal for this thread. Async-signal-safe.
void linux_host_signal(Vcpu *v, int signo, const siginfo_t *si, void *ucontext);
// Sets the guest's mask and the host's with it.
void thread_set_sigmask(LinuxThread *t, uint64_t mask);
// safe_syscall with the guest's mask at mask_at (0: none) for the time of the call; the host's call
// gets no mask.
int64_t masked_syscall(Vcpu *v, long nr, const uint64_t a[6], uint64_t mask_at,
                       uint64_t mask_bytes);
// Around running: takes the host's dispositions and mask over (returning the mask), gives them
// back.
uint64_t signals_start(LinuxProcess *p, LinuxThread *t);
void signals_end(LinuxProcess *p, LinuxThread *t, uint64_t host_mask);
// Closes the host's mask to all but the faults, which guest_read() and guest_write() need, and
// returns what it was; opens it again.
uint64_t signals_close_host_mask(void);
void signals_restore_host_mask(uint64_t mask);
// Handlers become SIG_DFL (CLONE_CLEAR_SIGHAND).
void signals_clear_handlers(LinuxProcess *p);
bool signals_pending(LinuxThread *t); // one that the guest's mask lets through is in our hands

// ---- seccomp (seccomp.c) ----

// May the call be made? If not, *result is what linux_syscall goes on with. For seccomp_mode != 0.
bool seccomp_allows(Vcpu *v, uint64_t nr, const uint64_t a[6], int64_t *result);
int64_t seccomp_prctl(Vcpu *v, const uint64_t a[6]);
// Frees the process's filters that were made after `until` (NULL: all).
void seccomp_free(LinuxProcess *p, const struct SeccompFilter *until);
// The thread's filters in a file that survives exec, or -errno; and taking them from there.
int seccomp_hand_on(const LinuxThread *t);
int seccomp_take_over(LinuxThread *t, int fd);

// ---- threads (thread.c) ----

enum { THREAD_HOST_STACK_BYTES = 1 << 20 };

typedef struct CloneArgs { // struct clone_args of the kernel
    uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_bytes, tls, set_tid,
        set_tid_n, cgroup;
} CloneArgs;
// clone with CLONE_THREAD: the new thread's number or -errno.
int64_t thread_start(Vcpu *v, const CloneArgs *c);
// Stack, TLS and result of a new thread or process in its copy of the registers.
void thread_child_regs(Vcpu *v, const CloneArgs *c);
// Frees what execve left behind; exec.c.
void exec_free(LinuxThread *t);

// Ends the whole process: every thread leaves vcpu_run soon. First come, first served.
void process_exit(Vcpu *v, int status, int signal);
LinuxThread *thread_new(LinuxProcess *p, Vcpu *v, bool is_main);
// A fork's child ends, as exit_status and exit_signal say.
_Noreturn void process_leave_forked(LinuxProcess *p);
// What the kernel does to memory when a thread ends: robust futexes, clear_child_tid.
void process_end_thread(LinuxThread *t);
void thread_free(LinuxThread *t);     // takes it out of the list
void threads_stop_others(Vcpu *self); // exit_group: waits until they are gone

#endif
