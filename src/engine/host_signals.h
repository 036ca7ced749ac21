// host_signals.h - the host's signals on threads that run vCPUs; see host_signals.c.
#ifndef DGM_ENGINE_HOST_SIGNALS_H
#define DGM_ENGINE_HOST_SIGNALS_H

#include "engine/engine.h"

#include <signal.h>

// What is called, in the handler, for a signal that somebody sent (not a fault) while v's thread
// runs the vCPU.
typedef void (*HostSignalFn)(Vcpu *v, int signo, const siginfo_t *si, void *ucontext);

// The calling thread runs v from now on: fault handlers are installed (once a process), an
// alternate stack is made. Nests not. 0 or -errno.
int host_signals_enter(Vcpu *v, HostSignalFn fn, DgmErr *err);
void host_signals_leave(Vcpu *v);
// In a fork's child: the calling thread goes on with v.
void host_signals_fork_child(Vcpu *v);
Vcpu *host_signals_current(void);
// A vfork child goes on as `v` on its parent's thread-local memory, which the parent takes back so.
void host_signals_take_over(Vcpu *v);

// A signal's disposition in the host: SIG_DFL, SIG_IGN, or our handler. 0 or -errno. The faults
// (SEGV, BUS, ILL, FPE, TRAP) stay ours.
typedef enum HostDisposition { HOST_SIG_DEFAULT, HOST_SIG_IGNORE, HOST_SIG_CATCH } HostDisposition;
int host_signals_dispose(int signo, HostDisposition how, bool no_child_stop, bool no_child_wait);
// Whether the host's process ignored it before that was changed here.
bool host_signals_was_ignored(int signo);

// memcpy that survives faults in either place: false when there was one.
bool host_copy(void *to, const void *from, size_t n);

// Calls fn; false when it was left by a fault.
bool host_try(void (*fn)(void *ctx), void *ctx);

// The host's system call, race-free towards signals. HOST_SYSCALL_NOT_BEGUN: *stop was non-zero, or
// a signal came, before the system call instruction was executed. HOST_SYSCALL_STOPPED: a signal
// interrupted it, and the kernel would restart it after a handler with SA_RESTART; -EINTR is left
// for calls that it would not.
enum { HOST_SYSCALL_STOPPED = -512, HOST_SYSCALL_NOT_BEGUN = -513 };
int64_t host_syscall(const volatile uint8_t *stop, long nr, const uint64_t a[6]);

#endif
