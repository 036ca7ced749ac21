// binds.c - the guest's file system as pieces of the host's: --rootfs is the piece at "/", each
// --bind HOST[:GUEST] lies over it, and /proc, /sys, /dev and /etc/resolv.conf are the host's
// unless something else was bound there.
//
// chroot() makes a new table of what is visible below the new root. Exec hands it on as the path of
// that root in the guest's first one (--chroot).
//
// A Bind's `guest` has no trailing slash, and is "" for the guest's "/"; `host` likewise ("" is the
// host's "/") and holds no symbolic link. A table never changes; the longest guest path comes
// first, so the first match is the innermost.
#include "linux/syscall.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

bool path_below(const char *path, const char *dir) {
    size_t n = strlen(dir);
    return !strncmp(path, dir, n) && (path[n] == 0 || path[n] == '/');
}

int path_copy(const char *path, char out[PATH_MAX]) {
    size_t n = strnlen(path, PATH_MAX);
    bool fits = n < PATH_MAX;
    memcpy(out, path, n);
    out[fits ? n : PATH_MAX - 1] = 0;
    return fits ? 0 : -ENAMETOOLONG;
}

static int bind_order(const void *a, const void *b) {
    size_t m = strlen(((const Bind *)a)->guest), n = strlen(((const Bind *)b)->guest);
    return m < n ? 1 : m > n ? -1 : strcmp(((const Bind *)a)->guest, ((const Bind *)b)->guest);
}

// "/a//b/./c/" to "/a/b/c"; "/" to "". ".." is refused: what it means depends on links.
static char *tidy(const char *path) {
    char *out = malloc(strlen(path) + 1);
    size_t n = 0;
    for (const char *at = path; out && *at;) {
        at += strspn(at, "/");
        size_t k = strcspn(at, "/");
        if (k == 2 && at[0] == '.' && at[1] == '.') {
            free(out);
            return NULL;
        }
        if (k && !(k == 1 && at[0] == '.')) {
            out[n++] = '/';
            memcpy(out + n, at, k);
            n += k;
        }
        at += k;
    }
    if (out) out[n] = 0;
    return out;
}

// Takes both strings over, also when it fails. A guest path that is bound already is left alone.
static int add(LinuxProcess *p, char *guest, char *host) {
    for (unsigned i = 0; guest && host && i < p->n_binds; i++)
        if (!strcmp(p->binds[i].guest, guest)) {
            free(guest);
            free(host);
            return 0;
        }
    Bind *more = guest && host ? realloc(p->binds, (p->n_binds + 1) * sizeof *p->binds) : NULL;
    if (!more) {
        free(guest);
        free(host);
        return -ENOMEM;
    }
    p->binds = more;
    p->binds[p->n_binds++] = (Bind){.guest = guest, .host = host};
    return 0;
}

static char *real_host(const char *path) {
    char *real = realpath(path, NULL);
    if (real && !strcmp(real, "/")) real[0] = 0;
    return real;
}

// "HOST" or "HOST:GUEST".
static int add_spec(LinuxProcess *p, const char *spec, DgmErr *err) {
    const char *colon = strchr(spec, ':');
    char *host = colon ? strndup(spec, (size_t)(colon - spec)) : strdup(spec);
    const char *guest = colon ? colon + 1 : spec;
    char *tidied = *guest == '/' ? tidy(guest) : NULL;
    if (!host || !tidied) {
        free(host);
        free(tidied);
        return err_set(err, -EINVAL,
                       "--bind %s: the guest's side must be absolute and without '..'", spec);
    }
    char *real = real_host(host);
    int e = real ? 0 : -errno;
    free(host);
    if (e) {
        free(tidied);
        // a place that is not there is the user's mistake, not a missing program
        return err_set(err, -EINVAL, "--bind %s: %s", spec, strerror(-e));
    }
    e = add(p, tidied, real);
    return e ? err_set(err, e, "--bind %s: out of memory", spec) : 0;
}

int binds_init(LinuxProcess *p, const LinuxConfig *c, DgmErr *err) {
    static const char *const defaults[] = {"/proc", "/sys", "/dev", "/etc/resolv.conf"};
    if (!c->rootfs && !(c->binds && c->binds[0])) return 0;
    int e = 0;
    // later ones win, as with mounts: so they are added first
    size_t n = 0;
    while (c->binds && c->binds[n]) n++;
    while (!e && n-- > 0) e = add_spec(p, c->binds[n], err);
    if (e) return e;
    p->rootfs = real_host(c->rootfs ? c->rootfs : "/");
    char *root = p->rootfs ? strdup(p->rootfs) : NULL;
    if (!e) e = add(p, strdup(""), root);
    for (size_t i = 0; !e && c->rootfs && i < ARRAY_LEN(defaults); i++) {
        char *real = real_host(defaults[i]);
        if (real) e = add(p, strdup(defaults[i]), real);
    }
    if (e || !p->rootfs) return err_set(err, -ENOMEM, "--rootfs: out of memory");
    qsort(p->binds, p->n_binds, sizeof *p->binds, bind_order);
    e = c->chroot ? binds_chroot(p, c->chroot) : 0;
    return e ? err_set(err, e, "--chroot %s: %s", c->chroot, strerror(-e)) : 0;
}

static void free_table(Bind *binds, unsigned n) {
    for (unsigned i = 0; binds && i < n; i++) {
        free(binds[i].guest);
        free(binds[i].host);
    }
    free(binds);
}

void binds_free(LinuxProcess *p, const LinuxProcess *parent) {
    Bind *binds = p->binds;
    char *chroot = p->chroot;
    OldBinds *older = p->old_binds;
    while (binds && !(parent && binds == parent->binds)) {
        free_table(binds, p->n_binds);
        free(chroot);
        OldBinds *gone = older;
        binds = gone ? gone->binds : NULL;
        chroot = gone ? gone->chroot : NULL;
        older = gone ? gone->older : NULL;
        free(gone);
    }
    p->old_binds = NULL;
    p->chroot = NULL;
    p->binds = NULL;
    p->n_binds = 0;
}

int binds_chroot(LinuxProcess *p, const char *guest) {
    char host[PATH_MAX], whole[2 * PATH_MAX];
    if (!strcmp(guest, "/")) return 0;
    int e = binds_host(p, guest, host);
    if (e) return e;
    snprintf(whole, sizeof whole, "%s%s", p->chroot ? p->chroot : "", guest);
    if (strlen(whole) >= PATH_MAX) return -ENAMETOOLONG;
    // As many as before, for who looks at n_binds and the table at different times: what is not
    // visible any more becomes the new root once again.
    Bind *binds = calloc(p->n_binds, sizeof *binds);
    OldBinds *old = calloc(1, sizeof *old);
    char *chroot = strdup(whole);
    bool ok = binds && old && chroot;
    for (unsigned i = 0; ok && i < p->n_binds; i++) {
        const Bind *b = &p->binds[i];
        bool seen = path_below(b->guest, guest) && strlen(b->guest) > strlen(guest);
        binds[i].guest = strdup(seen ? b->guest + strlen(guest) : "");
        binds[i].host = strdup(seen ? b->host : host);
        ok = binds[i].guest && binds[i].host;
    }
    if (!ok) {
        free_table(binds, p->n_binds);
        free(old);
        free(chroot);
        return -ENOMEM;
    }
    qsort(binds, p->n_binds, sizeof *binds, bind_order);
    *old = (OldBinds){.older = p->old_binds, .binds = p->binds, .chroot = p->chroot};
    p->old_binds = old;
    p->chroot = chroot;
    __atomic_store_n(&p->binds, binds, __ATOMIC_RELEASE);
    return 0;
}

int binds_host(const LinuxProcess *p, const char *guest, char out[PATH_MAX]) {
    const Bind *b = __atomic_load_n(&p->binds, __ATOMIC_ACQUIRE);
    while (!path_below(guest, b->guest)) b++; // the last one is "/"
    const char *rest = guest + strlen(b->guest);
    int n = snprintf(out, PATH_MAX, "%s%s", b->host, rest);
    if (n >= PATH_MAX) return -ENAMETOOLONG;
    if (!n) memcpy(out, "/", 2);
    return 0;
}

bool binds_has_name(const LinuxProcess *p, const char *name) {
    for (unsigned i = 0; i < p->n_binds; i++) {
        const char *slash = strrchr(p->binds[i].guest, '/');
        if (slash && !strcmp(slash + 1, name)) return true;
    }
    return false;
}

bool binds_cover(const LinuxProcess *p, const char *guest) {
    for (unsigned i = 0; i < p->n_binds; i++)
        if (p->binds[i].guest[0] && path_below(guest, p->binds[i].guest)) return true;
    return false;
}

int path_guest(LinuxProcess *p, const char *host, char out[PATH_MAX]) {
    const Bind *best = NULL;
    for (unsigned i = 0; i < p->n_binds; i++) {
        const Bind *b = &p->binds[i];
        if (path_below(host, b->host) && (!best || strlen(b->host) > strlen(best->host))) best = b;
    }
    if (!best) {
        path_copy(host, out);
        return p->n_binds ? -EACCES : 0;
    }
    const char *rest = host + strlen(best->host);
    if (!strcmp(rest, "/")) rest = "";
    int n = snprintf(out, PATH_MAX, "%s%s", best->guest, rest);
    if (n >= PATH_MAX) return -ENAMETOOLONG;
    if (!n) memcpy(out, "/", 2);
    return 0;
}
