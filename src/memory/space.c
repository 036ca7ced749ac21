// space.c - see space.h. The list is a sorted array of disjoint ranges: programs have tens to a few
// thousand mappings, and look-ups (which matter) are a binary search; changes move the tail.
#include "memory/space.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

struct AddressSpace {
    pthread_rwlock_t lock;
    SpaceRange *at;
    size_t n, cap;
    _Atomic size_t asked;     // the range of the last question; may be none any more
    _Atomic uint64_t changes; // how often the list has begun to change: see space_fetch_near
    uint64_t brk_start, brk_now;
    uint64_t limit; // of all bytes together
};

enum { STACK_GAP_BYTES = 256 * SPACE_PAGE }; // as the kernel keeps below a growing stack
// Flags of mmap that only the host has (MAP_32BIT, MAP_ABOVE4G): to the guest they mean nothing.
enum { HOST_ONLY_FLAGS = 0xc0 };

AddressSpace *space_new(void) {
    AddressSpace *s = calloc(1, sizeof *s);
    if (!s) return NULL;
    pthread_rwlock_init(&s->lock, NULL);
    s->limit = UINT64_MAX;
    return s;
}

void space_free(AddressSpace *s) {
    if (!s) return;
    for (size_t i = 0; i < s->n; i++) munmap((void *)s->at[i].lo, s->at[i].hi - s->at[i].lo);
    free(s->at);
    pthread_rwlock_destroy(&s->lock);
    free(s);
}

void space_fork_prepare(AddressSpace *s) {
    pthread_rwlock_rdlock(&s->lock);
}
void space_fork_parent(AddressSpace *s) {
    pthread_rwlock_unlock(&s->lock);
}
void space_fork_child(AddressSpace *s) {
    pthread_rwlock_init(&s->lock, NULL);
}

// ---- the list ----

static void lock_to_change(AddressSpace *s) {
    pthread_rwlock_wrlock(&s->lock);
    atomic_fetch_add(&s->changes, 1);
}

// The first range that ends above addr.
static size_t find(const AddressSpace *s, uint64_t addr) {
    return COUNT_BEFORE(s->n, i, s->at[i].hi <= addr);
}

static bool reserve(AddressSpace *s, size_t more) {
    if (s->n + more <= s->cap) return true;
    size_t cap = s->cap ? s->cap * 2 : 64;
    SpaceRange *at = realloc(s->at, cap * sizeof *at);
    if (!at) return false;
    s->at = at;
    s->cap = cap;
    return true;
}

static void insert(AddressSpace *s, size_t i, SpaceRange r) {
    memmove(&s->at[i + 1], &s->at[i], (s->n - i) * sizeof *s->at);
    s->at[i] = r;
    s->n++;
}

static void drop(AddressSpace *s, size_t i) {
    s->n--;
    memmove(&s->at[i], &s->at[i + 1], (s->n - i) * sizeof *s->at);
}

// Makes addr a boundary, so that changes touch whole ranges. Room for one more range is reserved.
static void split(AddressSpace *s, uint64_t addr) {
    size_t i = find(s, addr);
    if (i == s->n || s->at[i].lo >= addr) return;
    SpaceRange right = s->at[i];
    right.file_off += addr - right.lo;
    right.lo = addr;
    s->at[i].hi = addr;
    insert(s, i + 1, right);
}

static bool joins(const SpaceRange *a, const SpaceRange *b) {
    return a->hi == b->lo && a->prot == b->prot && a->shared == b->shared && a->stack == b->stack &&
           a->dev == b->dev && a->inode == b->inode &&
           (!a->inode || a->file_off + (a->hi - a->lo) == b->file_off);
}

static void join_around(AddressSpace *s, uint64_t lo, uint64_t hi) {
    size_t i = find(s, lo);
    if (i) i--;
    while (i + 1 < s->n && s->at[i].lo <= hi)
        if (joins(&s->at[i], &s->at[i + 1])) {
            s->at[i].hi = s->at[i + 1].hi;
            drop(s, i + 1);
        } else {
            i++;
        }
}

static void remove_range(AddressSpace *s, uint64_t lo, uint64_t hi) {
    split(s, lo);
    split(s, hi);
    size_t i = find(s, lo), k = i;
    while (k < s->n && s->at[k].lo < hi) k++;
    memmove(&s->at[i], &s->at[k], (s->n - k) * sizeof *s->at);
    s->n -= k - i;
}

static void set_range(AddressSpace *s, SpaceRange r) {
    remove_range(s, r.lo, r.hi);
    insert(s, find(s, r.lo), r);
    join_around(s, r.lo, r.hi);
}

static bool owned(const AddressSpace *s, uint64_t lo, uint64_t hi) {
    for (size_t i = find(s, lo); lo < hi; lo = s->at[i++].hi)
        if (i == s->n || s->at[i].lo > lo) return false;
    return true;
}

static bool bad_range(uint64_t addr, uint64_t len) {
    return addr & (SPACE_PAGE - 1) || len > SPACE_END || addr > SPACE_END - len;
}

// Guest code is read, never run, by the host.
static int host_prot(int prot) {
    return (prot & (PROT_READ | PROT_WRITE)) | (prot & PROT_EXEC ? PROT_READ : 0);
}

// ---- mapping ----

// Gives back what claim_gaps() took in [lo, hi).
static void release_gaps(const AddressSpace *s, uint64_t lo, uint64_t hi) {
    for (size_t i = find(s, lo); lo < hi; i++) {
        uint64_t end = i < s->n && s->at[i].lo < hi ? s->at[i].lo : hi;
        if (end > lo) munmap((void *)lo, end - lo);
        if (i >= s->n) break;
        lo = MAX(lo, s->at[i].hi);
    }
}

// For MAP_FIXED over [lo, hi): what is not the guest's there must be nobody's. Claims those gaps
// with inaccessible pages; on failure gives them back.
static int claim_gaps(AddressSpace *s, uint64_t lo, uint64_t hi) {
    uint64_t at = lo;
    for (size_t i = find(s, lo); at < hi; i++) {
        uint64_t gap_end = i < s->n && s->at[i].lo < hi ? s->at[i].lo : hi;
        if (gap_end > at) {
            void *want = (void *)at;
            void *p =
                mmap(want, gap_end - at, PROT_NONE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
            if (p != want) {
                int e = p == MAP_FAILED ? errno : EEXIST;
                if (p != MAP_FAILED) munmap(p, gap_end - at);
                release_gaps(s, lo, at);
                return e == EEXIST ? -ENOMEM : -e;
            }
        }
        if (i >= s->n) break;
        at = MAX(at, s->at[i].hi);
    }
    return 0;
}

static uint64_t bytes_in(const AddressSpace *s, uint64_t lo, uint64_t hi) {
    uint64_t bytes = 0;
    for (size_t i = find(s, lo); i < s->n && s->at[i].lo < hi; i++)
        bytes += MIN(hi, s->at[i].hi) - MAX(lo, s->at[i].lo);
    return bytes;
}

// Are `more` bytes within the limit, when [lo, hi) goes away for them?
static bool within_limit(const AddressSpace *s, uint64_t more, uint64_t lo, uint64_t hi) {
    if (s->limit == UINT64_MAX) return true;
    uint64_t now = bytes_in(s, 0, SPACE_END) - (hi > lo ? bytes_in(s, lo, hi) : 0);
    return now + more <= s->limit;
}

static SpaceRange describe(uint64_t addr, uint64_t len, int prot, int flags, int fd, uint64_t off) {
    SpaceRange r = {.lo = addr,
                    .hi = addr + len,
                    .prot = (uint8_t)(prot & 7),
                    .shared = (flags & MAP_TYPE) != MAP_PRIVATE,
                    .stack = flags & MAP_GROWSDOWN};
    struct stat st;
    if (!(flags & MAP_ANONYMOUS) && !fstat(fd, &st)) {
        r.dev = st.st_dev;
        r.inode = st.st_ino;
        r.file_off = off;
    }
    return r;
}

static int64_t mmap_locked(AddressSpace *s, uint64_t addr, uint64_t len, int prot, int flags,
                           int fd, uint64_t off) {
    bool fixed = flags & (MAP_FIXED | MAP_FIXED_NOREPLACE);
    if (!reserve(s, 3)) return -ENOMEM;
    if (fixed && bad_range(addr, len)) return addr & (SPACE_PAGE - 1) ? -EINVAL : -ENOMEM;
    if (!within_limit(s, len, fixed ? addr : 0, fixed ? addr + len : 0)) return -ENOMEM;
    if ((flags & MAP_FIXED) && !(flags & MAP_FIXED_NOREPLACE)) {
        int e = claim_gaps(s, addr, addr + len);
        if (e) return e;
    }
    // A growing stack would grow into pages that the list does not know: space_grow_stack() does
    // it.
    void *p = mmap((void *)addr, len, host_prot(prot), flags & ~(MAP_GROWSDOWN | HOST_ONLY_FLAGS),
                   fd, (off_t)off);
    if (p == MAP_FAILED) {
        int e = errno;
        if ((flags & MAP_FIXED) && !(flags & MAP_FIXED_NOREPLACE))
            release_gaps(s, addr, addr + len);
        return -e;
    }
    if ((flags & MAP_FIXED_NOREPLACE) && (uint64_t)p != addr) {
        munmap(p, len);
        return -EEXIST;
    }
    set_range(s, describe((uint64_t)p, len, prot, flags, fd, off));
    return (int64_t)p;
}

int64_t space_mmap(AddressSpace *s, uint64_t addr, uint64_t len, int prot, int flags, int fd,
                   uint64_t off) {
    if (!len || off & (SPACE_PAGE - 1)) return -EINVAL;
    if (len > SPACE_END) return -ENOMEM;
    len = ALIGN_UP(len, (uint64_t)SPACE_PAGE);
    if (!(flags & (MAP_FIXED | MAP_FIXED_NOREPLACE)))
        addr = addr >= SPACE_END ? 0 : ALIGN_DOWN(addr, (uint64_t)SPACE_PAGE);
    lock_to_change(s);
    int64_t r = mmap_locked(s, addr, len, prot, flags, fd, off);
    pthread_rwlock_unlock(&s->lock);
    return r;
}

int64_t space_adopt(AddressSpace *s, uint64_t addr, uint64_t len, int prot) {
    len = ALIGN_UP(len, (uint64_t)SPACE_PAGE);
    lock_to_change(s);
    bool room = reserve(s, 3);
    if (room)
        set_range(
            s, (SpaceRange){.lo = addr, .hi = addr + len, .prot = (uint8_t)prot, .shared = true});
    pthread_rwlock_unlock(&s->lock);
    return room ? 0 : -ENOMEM;
}

int64_t space_munmap(AddressSpace *s, uint64_t addr, uint64_t len) {
    if (!len || len > SPACE_END) return -EINVAL;
    len = ALIGN_UP(len, (uint64_t)SPACE_PAGE);
    if (bad_range(addr, len)) return -EINVAL;
    lock_to_change(s);
    int64_t e = reserve(s, 3) ? 0 : -ENOMEM;
    for (size_t i = find(s, addr); !e && i < s->n && s->at[i].lo < addr + len; i++) {
        uint64_t lo = MAX(addr, s->at[i].lo), hi = MIN(addr + len, s->at[i].hi);
        if (munmap((void *)lo, hi - lo)) e = -errno;
    }
    if (!e) remove_range(s, addr, addr + len);
    pthread_rwlock_unlock(&s->lock);
    return e;
}

int64_t space_mprotect(AddressSpace *s, uint64_t addr, uint64_t len, int prot) {
    len = ALIGN_UP(len, (uint64_t)SPACE_PAGE);
    if (addr & (SPACE_PAGE - 1)) return -EINVAL;
    if (bad_range(addr, len)) return -ENOMEM;
    if (!len) return 0;
    lock_to_change(s);
    int64_t e = !owned(s, addr, addr + len) || !reserve(s, 3) ? -ENOMEM : 0;
    if (!e && mprotect((void *)addr, len, host_prot(prot))) e = -errno;
    if (!e) {
        split(s, addr);
        split(s, addr + len);
        for (size_t i = find(s, addr); i < s->n && s->at[i].lo < addr + len; i++)
            s->at[i].prot = (uint8_t)(prot & 7);
        join_around(s, addr, addr + len);
    }
    pthread_rwlock_unlock(&s->lock);
    return e;
}

// Shrinking in place is a munmap of the tail, whatever mappings lie there.
static int64_t shrink_locked(AddressSpace *s, uint64_t old, uint64_t old_len, uint64_t new_len) {
    uint64_t lo = old + new_len, hi = old + old_len, at = lo, end = hi;
    if (!owned(s, old, old + SPACE_PAGE)) return -EFAULT;
    for (size_t i = find(s, lo); i < s->n && s->at[i].lo < hi; i++) {
        at = MAX(lo, s->at[i].lo);
        end = MIN(hi, s->at[i].hi);
        if (munmap((void *)at, end - at)) return -errno;
    }
    remove_range(s, lo, hi);
    return (int64_t)old;
}

static int64_t mremap_locked(AddressSpace *s, uint64_t old, uint64_t old_len, uint64_t new_len,
                             int flags, uint64_t new_addr) {
    if (!reserve(s, 4)) return -ENOMEM;
    if (flags & ~(MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP)) return -EINVAL;
    if (old_len > new_len && !(flags & (MREMAP_FIXED | MREMAP_DONTUNMAP)))
        return shrink_locked(s, old, old_len, new_len);
    if (!owned(s, old, old + MAX(old_len, (uint64_t)SPACE_PAGE))) return -EFAULT;
    SpaceRange was = s->at[find(s, old)];
    if (was.hi < old + old_len) return -EFAULT;
    if (!within_limit(s, new_len, old, flags & MREMAP_DONTUNMAP ? old : old + old_len))
        return -ENOMEM;
    if (flags & MREMAP_FIXED) { // what the host refuses must not claim anything first
        if (!(flags & MREMAP_MAYMOVE)) return -EINVAL;
        if (new_addr < old + old_len && old < new_addr + new_len) return -EINVAL;
        int e = claim_gaps(s, new_addr, new_addr + new_len);
        if (e) return e;
    }
    void *p = flags & (MREMAP_FIXED | MREMAP_DONTUNMAP)
                  ? mremap((void *)old, old_len, new_len, flags, (void *)new_addr)
                  : mremap((void *)old, old_len, new_len, flags);
    if (p == MAP_FAILED) {
        int e = errno;
        if (flags & MREMAP_FIXED) release_gaps(s, new_addr, new_addr + new_len);
        return -e;
    }
    was.file_off += old - was.lo;
    was.lo = (uint64_t)p;
    was.hi = was.lo + new_len;
    if (old_len && !(flags & MREMAP_DONTUNMAP)) remove_range(s, old, old + old_len);
    set_range(s, was);
    return (int64_t)p;
}

int64_t space_mremap(AddressSpace *s, uint64_t old, uint64_t old_len, uint64_t new_len, int flags,
                     uint64_t new_addr) {
    old_len = ALIGN_UP(old_len, (uint64_t)SPACE_PAGE);
    new_len = ALIGN_UP(new_len, (uint64_t)SPACE_PAGE);
    if (bad_range(old, old_len) || !new_len || new_len > SPACE_END) return -EINVAL;
    if ((flags & MREMAP_FIXED) && bad_range(new_addr, new_len)) return -EINVAL;
    lock_to_change(s);
    int64_t r = mremap_locked(s, old, old_len, new_len, flags, new_addr);
    pthread_rwlock_unlock(&s->lock);
    return r;
}

void space_set_limit(AddressSpace *s, uint64_t bytes) {
    lock_to_change(s);
    s->limit = bytes;
    pthread_rwlock_unlock(&s->lock);
}

bool space_grow_stack(AddressSpace *s, uint64_t addr, uint64_t max_bytes) {
    uint64_t lo = ALIGN_DOWN(addr, (uint64_t)SPACE_PAGE);
    lock_to_change(s);
    size_t i = find(s, addr);
    bool grown = i < s->n && s->at[i].lo > addr && s->at[i].stack && reserve(s, 3);
    if (grown) {
        SpaceRange r = s->at[i];
        uint64_t more = r.lo - lo, below = i ? s->at[i - 1].hi : 0;
        // what is inaccessible below is a guard already
        bool guard = !i || s->at[i - 1].prot == PROT_NONE;
        grown = r.hi - lo <= max_bytes && (guard || lo - below >= STACK_GAP_BYTES) &&
                within_limit(s, more, 0, 0);
        void *p =
            grown ? mmap((void *)lo, more, host_prot(r.prot),
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0)
                  : MAP_FAILED;
        if (p != MAP_FAILED && p != (void *)lo) munmap(p, more);
        grown = p == (void *)lo;
        if (grown) {
            r.hi = r.lo;
            r.lo = lo;
            set_range(s, r);
        }
    }
    pthread_rwlock_unlock(&s->lock);
    return grown;
}

uint64_t space_stack_start(AddressSpace *s, uint64_t addr) {
    pthread_rwlock_rdlock(&s->lock);
    size_t i = find(s, addr);
    uint64_t lo = i < s->n && s->at[i].lo <= addr && s->at[i].stack ? s->at[i].lo : 0;
    pthread_rwlock_unlock(&s->lock);
    return lo;
}

bool space_next(AddressSpace *s, uint64_t *lo, uint64_t *hi) {
    pthread_rwlock_rdlock(&s->lock);
    size_t i = find(s, *lo);
    bool any = i < s->n && s->at[i].lo < *hi;
    if (any) {
        *lo = MAX(*lo, s->at[i].lo);
        *hi = MIN(*hi, s->at[i].hi);
    }
    pthread_rwlock_unlock(&s->lock);
    return any;
}

int64_t space_check_owned(AddressSpace *s, uint64_t addr, uint64_t len) {
    if (addr & (SPACE_PAGE - 1)) return -EINVAL;
    len = ALIGN_UP(len, (uint64_t)SPACE_PAGE);
    if (bad_range(addr, len)) return -ENOMEM;
    pthread_rwlock_rdlock(&s->lock);
    bool yes = owned(s, addr, addr + len);
    pthread_rwlock_unlock(&s->lock);
    return yes ? 0 : -ENOMEM;
}

// ---- brk ----

void space_set_brk(AddressSpace *s, uint64_t addr) {
    s->brk_start = s->brk_now = ALIGN_UP(addr, (uint64_t)SPACE_PAGE);
}

uint64_t space_brk(AddressSpace *s, uint64_t addr) {
    lock_to_change(s);
    uint64_t mapped = ALIGN_UP(s->brk_now, (uint64_t)SPACE_PAGE),
             want = ALIGN_UP(addr, (uint64_t)SPACE_PAGE);
    if (addr >= s->brk_start && addr < SPACE_END) {
        bool ok = true;
        if (want > mapped)
            ok = mmap_locked(s, mapped, want - mapped, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1,
                             0) == (int64_t)mapped;
        else if (want < mapped && (ok = reserve(s, 3)) &&
                 (ok = !munmap((void *)want, mapped - want)))
            remove_range(s, want, mapped);
        if (ok) s->brk_now = addr;
    }
    uint64_t now = s->brk_now;
    pthread_rwlock_unlock(&s->lock);
    return now;
}

// ---- questions ----

bool space_allows(AddressSpace *s, uint64_t addr, uint64_t len, int prot) {
    if (len > SPACE_END || addr > SPACE_END - len) return false;
    uint64_t end = addr + len;
    bool yes = true;
    pthread_rwlock_rdlock(&s->lock);
    // As a rule where it was the last time: blocks of code that follow each other.
    size_t i = atomic_load_explicit(&s->asked, memory_order_relaxed);
    if (i >= s->n || addr - s->at[i].lo >= s->at[i].hi - s->at[i].lo) {
        i = find(s, addr);
        atomic_store_explicit(&s->asked, i, memory_order_relaxed);
    }
    for (; yes && addr < end; addr = s->at[i++].hi)
        if (i == s->n || s->at[i].lo > addr || (s->at[i].prot & prot) != prot) {
            yes = false;
            break;
        }
    pthread_rwlock_unlock(&s->lock);
    return yes;
}

uint64_t space_mapping_bytes(AddressSpace *s, uint64_t addr) {
    pthread_rwlock_rdlock(&s->lock);
    size_t i = find(s, addr);
    uint64_t n = i < s->n && s->at[i].lo == addr ? s->at[i].hi - addr : 0;
    pthread_rwlock_unlock(&s->lock);
    return n;
}

const uint8_t *space_fetch(AddressSpace *s, uint64_t pc, unsigned bytes) {
    return space_allows(s, pc, bytes, PROT_EXEC) ? (const uint8_t *)pc : NULL;
}

// Who has begun a change holds the lock until it is made, so what was found before it began, and
// not since, is what the list still says.
const uint8_t *space_fetch_near(AddressSpace *s, SpaceWindow *w, uint64_t pc, unsigned bytes) {
    if (pc >= w->lo && pc < w->hi && bytes <= w->hi - pc && atomic_load(&s->changes) == w->changes)
        return (const uint8_t *)pc;
    pthread_rwlock_rdlock(&s->lock);
    size_t i = find(s, pc);
    bool here = i < s->n && s->at[i].lo <= pc && s->at[i].prot & PROT_EXEC;
    *w = (SpaceWindow){0};
    if (here) *w = (SpaceWindow){s->at[i].lo, s->at[i].hi, atomic_load(&s->changes)};
    pthread_rwlock_unlock(&s->lock);
    return space_fetch(s, pc, bytes);
}

int space_si_code(AddressSpace *s, uint64_t addr) {
    return space_allows(s, addr, 1, 0) ? SEGV_ACCERR : SEGV_MAPERR;
}

SpaceRange *space_list(AddressSpace *s, size_t *n) {
    pthread_rwlock_rdlock(&s->lock);
    SpaceRange *copy = malloc(MAX(s->n, 1) * sizeof *copy);
    if (copy) memcpy(copy, s->at, s->n * sizeof *copy);
    *n = s->n;
    pthread_rwlock_unlock(&s->lock);
    return copy;
}
