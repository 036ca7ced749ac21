// sys_socket.c - socket calls with addresses, under a root: the paths of AF_UNIX sockets are the
// guest's on its side and the host's on the other. Without binds everything is passed as it is.
//
// A path of the host that does not fit in a socket address is named through a descriptor of its
// directory (/proc/self/fd/N/name), open for the time of the call. getsockname() of a socket bound
// so shows that name.
#include "linux/syscall.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

enum { UN_PATH_AT = offsetof(struct sockaddr_un, sun_path), MAX_MESSAGES = 1024 };

typedef struct HostAddr {
    union {
        struct sockaddr_storage any;
        struct sockaddr_un un;
        char bytes[sizeof(struct sockaddr_storage)];
    };
    socklen_t len;
    int dir; // open while the address is in use; -1: none
} HostAddr;

static uint64_t at(const void *p) {
    return (uint64_t)(uintptr_t)p;
}

static void addr_done(HostAddr *h) {
    if (h->dir >= 0) close(h->dir);
    h->dir = -1;
}

static int64_t long_path(HostAddr *h, char *host) {
    char *slash = strrchr(host, '/');
    if (!slash) return -ENAMETOOLONG;
    *slash = 0;
    h->dir = open(host[0] ? host : "/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (h->dir < 0) return -errno;
    int n =
        snprintf(h->un.sun_path, sizeof h->un.sun_path, "/proc/self/fd/%d/%s", h->dir, slash + 1);
    if (n < (int)sizeof h->un.sun_path) {
        h->len = (socklen_t)(UN_PATH_AT + n + 1);
        return 0;
    }
    addr_done(h);
    return -ENAMETOOLONG;
}

// The guest's address for the host. PATH_* in how.
static int64_t addr_in(Vcpu *v, uint64_t addr, uint64_t len, unsigned how, HostAddr *h) {
    char guest[sizeof h->bytes + 1], host[PATH_MAX];
    h->dir = -1;
    if (len > sizeof h->bytes) return -EINVAL;
    h->len = (socklen_t)len;
    if (!guest_read(v, addr, h->bytes, len)) return -EFAULT;
    if (len <= UN_PATH_AT || h->un.sun_family != AF_UNIX || !h->un.sun_path[0]) return 0;
    if (len > sizeof h->un) return -EINVAL;
    memcpy(guest, h->un.sun_path, len - UN_PATH_AT);
    guest[len - UN_PATH_AT] = 0;
    int e = path_host(process_of(v), AT_FDCWD, guest, how, host);
    if (e) return e;
    size_t n = strlen(host);
    if (n >= sizeof h->un.sun_path) return long_path(h, host);
    memcpy(h->un.sun_path, host, n + 1);
    h->len = (socklen_t)(UN_PATH_AT + n + 1);
    return 0;
}

// The kernel's address in h (of h->len bytes in truth) to the guest's buffer of `room` bytes; the
// true length in *len.
static bool addr_out(Vcpu *v, HostAddr *h, uint64_t addr, uint32_t room, uint32_t *len) {
    char guest[PATH_MAX], host[sizeof h->un.sun_path + 1];
    size_t n = MIN(h->len, (socklen_t)sizeof h->bytes);
    *len = h->len;
    if (n > UN_PATH_AT && h->un.sun_family == AF_UNIX && h->un.sun_path[0] == '/') {
        size_t k = MIN(n - UN_PATH_AT, sizeof h->un.sun_path);
        memcpy(host, h->un.sun_path, k);
        host[k] = 0;
        path_guest(process_of(v), host, guest);
        k = strlen(guest);
        if (k < sizeof h->un.sun_path) {
            memcpy(h->un.sun_path, guest, k + 1);
            n = UN_PATH_AT + k + 1;
            *len = (uint32_t)n;
        }
    }
    return guest_write(v, addr, h->bytes, MIN(n, room));
}

static bool bound(Vcpu *v) {
    return process_of(v)->n_binds;
}

// ---- one address in ----

int64_t sys_bind(Vcpu *v, const uint64_t a[6]) {
    HostAddr h;
    if (!bound(v)) return safe_syscall(v, SYS_bind, a[0], a[1], a[2], 0, 0, 0);
    int64_t r = addr_in(v, a[1], (uint32_t)a[2], PATH_CREATE | PATH_NOFOLLOW, &h);
    if (r < 0) return r;
    r = safe_syscall(v, SYS_bind, a[0], at(&h.any), h.len, 0, 0, 0);
    addr_done(&h);
    return r;
}

int64_t sys_connect(Vcpu *v, const uint64_t a[6]) {
    HostAddr h;
    if (!bound(v)) return safe_syscall(v, SYS_connect, a[0], a[1], a[2], 0, 0, 0);
    int64_t r = addr_in(v, a[1], (uint32_t)a[2], 0, &h);
    if (r < 0) return r;
    r = safe_syscall(v, SYS_connect, a[0], at(&h.any), h.len, 0, 0, 0);
    addr_done(&h);
    return r;
}

int64_t sys_sendto(Vcpu *v, const uint64_t a[6]) {
    HostAddr h;
    if (!bound(v) || !a[4]) return safe_syscall(v, SYS_sendto, a[0], a[1], a[2], a[3], a[4], a[5]);
    int64_t r = addr_in(v, a[4], (uint32_t)a[5], 0, &h);
    if (r < 0) return r;
    r = safe_syscall(v, SYS_sendto, a[0], a[1], a[2], a[3], at(&h.any), h.len);
    addr_done(&h);
    return r;
}

// ---- one address out: at a[i], its length at a[i + 1] ----

static int64_t with_address_out(Vcpu *v, long nr, const uint64_t a[6], unsigned i) {
    HostAddr h = {.len = sizeof h.bytes, .dir = -1};
    uint64_t b[6];
    uint32_t room, len;
    memcpy(b, a, sizeof b);
    if (!bound(v) || !a[i]) return safe_syscall(v, nr, a[0], a[1], a[2], a[3], a[4], a[5]);
    if (!guest_read(v, a[i + 1], &room, sizeof room)) return -EFAULT;
    if ((int32_t)room < 0) return -EINVAL;
    b[i] = at(&h.any);
    b[i + 1] = at(&h.len);
    int64_t r = safe_syscall(v, nr, b[0], b[1], b[2], b[3], b[4], b[5]);
    if (r < 0) return r;
    return addr_out(v, &h, a[i], room, &len) && guest_write(v, a[i + 1], &len, sizeof len)
               ? r
               : -EFAULT;
}

int64_t sys_accept(Vcpu *v, const uint64_t a[6]) {
    return with_address_out(v, SYS_accept, a, 1);
}
int64_t sys_accept4(Vcpu *v, const uint64_t a[6]) {
    return with_address_out(v, SYS_accept4, a, 1);
}
int64_t sys_getsockname(Vcpu *v, const uint64_t a[6]) {
    return with_address_out(v, SYS_getsockname, a, 1);
}
int64_t sys_getpeername(Vcpu *v, const uint64_t a[6]) {
    return with_address_out(v, SYS_getpeername, a, 1);
}
int64_t sys_recvfrom(Vcpu *v, const uint64_t a[6]) {
    return with_address_out(v, SYS_recvfrom, a, 4);
}

// ---- messages ----

typedef struct Messages { // n of the guest's, copied, each with an address of ours
    unsigned n;
    bool single; // a struct msghdr in the guest and no struct mmsghdr
    struct mmsghdr *m;
    struct msghdr *guest; // as the guest gave them
    HostAddr *addr;
} Messages;

static void messages_free(Messages *x) {
    for (unsigned i = 0; x->addr && i < x->n; i++) addr_done(&x->addr[i]);
    free(x->m);
    free(x->guest);
    free(x->addr);
}

static uint64_t message_at(const Messages *x, uint64_t base, unsigned i) {
    return base + i * (x->single ? sizeof(struct msghdr) : sizeof(struct mmsghdr));
}

static int64_t messages_in(Vcpu *v, uint64_t base, uint64_t n, bool send, Messages *x) {
    x->n = (unsigned)MIN(n, (uint64_t)MAX_MESSAGES);
    x->m = calloc(MAX(x->n, 1u), sizeof *x->m);
    x->guest = calloc(MAX(x->n, 1u), sizeof *x->guest);
    x->addr = calloc(MAX(x->n, 1u), sizeof *x->addr);
    if (!x->m || !x->guest || !x->addr) return -ENOMEM;
    for (unsigned i = 0; i < x->n; i++) x->addr[i].dir = -1;
    for (unsigned i = 0; i < x->n; i++) {
        struct msghdr *h = &x->guest[i];
        if (!guest_read(v, message_at(x, base, i), h, sizeof *h)) return -EFAULT;
        x->m[i].msg_hdr = *h;
        if (!h->msg_name) continue;
        if (send) {
            int64_t e = addr_in(v, at(h->msg_name), h->msg_namelen, 0, &x->addr[i]);
            if (e < 0) return e;
        } else {
            x->addr[i].len = sizeof x->addr[i].bytes;
        }
        x->m[i].msg_hdr.msg_name = &x->addr[i].any;
        x->m[i].msg_hdr.msg_namelen = x->addr[i].len;
    }
    return 0;
}

// What a receive or send wrote into the first n headers goes back to the guest.
static bool messages_out(Vcpu *v, uint64_t base, unsigned n, bool send, Messages *x) {
    for (unsigned i = 0; i < n; i++) {
        struct msghdr *h = &x->guest[i], *now = &x->m[i].msg_hdr;
        uint64_t to = message_at(x, base, i);
        if (!send) {
            uint32_t len = now->msg_namelen;
            x->addr[i].len = now->msg_namelen;
            if (h->msg_name && !addr_out(v, &x->addr[i], at(h->msg_name), h->msg_namelen, &len))
                return false;
            h->msg_namelen = len;
            h->msg_controllen = now->msg_controllen;
            h->msg_flags = now->msg_flags;
            if (!guest_write(v, to, h, sizeof *h)) return false;
        }
        if (!x->single && !guest_write(v, to + offsetof(struct mmsghdr, msg_len), &x->m[i].msg_len,
                                       sizeof x->m[i].msg_len))
            return false;
    }
    return true;
}

static int64_t with_messages(Vcpu *v, long nr, const uint64_t a[6], bool send, bool single) {
    if (!bound(v)) return safe_syscall(v, nr, a[0], a[1], a[2], a[3], a[4], 0);
    Messages x = {.single = single};
    int64_t r = messages_in(v, a[1], single ? 1 : a[2], send, &x);
    if (!r && single)
        r = safe_syscall(v, nr, a[0], at(&x.m[0].msg_hdr), a[2], 0, 0, 0);
    else if (!r)
        r = safe_syscall(v, nr, a[0], at(x.m), x.n, a[3], a[4], 0);
    if (r >= 0 && !messages_out(v, a[1], single ? 1 : (unsigned)r, send, &x)) r = -EFAULT;
    messages_free(&x);
    return r;
}

int64_t sys_sendmsg(Vcpu *v, const uint64_t a[6]) {
    return with_messages(v, SYS_sendmsg, a, true, true);
}
int64_t sys_recvmsg(Vcpu *v, const uint64_t a[6]) {
    return with_messages(v, SYS_recvmsg, a, false, true);
}
int64_t sys_sendmmsg(Vcpu *v, const uint64_t a[6]) {
    return with_messages(v, SYS_sendmmsg, a, true, false);
}
int64_t sys_recvmmsg(Vcpu *v, const uint64_t a[6]) {
    return with_messages(v, SYS_recvmmsg, a, false, false);
}
