// stack.c - the main thread's first stack, as arm64 Linux (and every generic 64-bit Linux) lays it
// out: from the top the file name, environment, arguments, platform string and random bytes; below,
// aligned to 16, the auxiliary vector, envp, argv and argc. No vdso is offered: the C libraries
// then use system calls, which is allowed.
#include "linux/fake_root.h"

#include <elf.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

enum { DEFAULT_STACK_BYTES = 8 << 20, MIN_STACK_BYTES = 128 << 10 };
#ifndef AT_MINSIGSTKSZ
enum { AT_MINSIGSTKSZ = 51 };
#endif

typedef struct Stack { // grows down in host memory that is the guest's
    uint64_t at;
    uint64_t base; // host address of guest address 0
} Stack;

static uint64_t push(Stack *s, const void *data, size_t n) {
    s->at -= n;
    memcpy((void *)(s->base + s->at), data, n);
    return s->at;
}

static size_t strings_bytes(char *const *v, size_t *count) {
    size_t bytes = 0;
    for (*count = 0; v[*count]; ++*count) bytes += strlen(v[*count]) + 1;
    return bytes;
}

// Pushes the strings so that the first lies lowest, and remembers where each is.
static uint64_t push_strings(Stack *s, char *const *v, size_t n, uint64_t *where) {
    for (size_t i = n; i-- > 0;) where[i] = push(s, v[i], strlen(v[i]) + 1);
    return s->at;
}

static bool copy_out(char **out, size_t *n, uint64_t base, uint64_t lo, uint64_t hi) {
    *n = hi - lo;
    *out = malloc(MAX(*n, 1));
    if (*out) memcpy(*out, (void *)(base + lo), *n);
    return *out;
}

static size_t fill_auxv(LinuxProcess *p, const StackPlan *plan, uint64_t random, uint64_t platform,
                        uint64_t execfn, Elf64_auxv_t *a) {
    const GuestLinuxAbi *abi = p->m->guest->linux_abi;
    uint64_t hwcap = 0, hwcap2 = 0;
    uint32_t(*id)[N_IDS] = p->fake ? p->fake->id : NULL;
    uid_t uid[3];
    gid_t gid[3];
    getresuid(&uid[0], &uid[1], &uid[2]);
    getresgid(&gid[0], &gid[1], &gid[2]);
    uint64_t unseen = watches_code(p->m->watches) ? p->m->guest->unseen : 0;
    abi->hwcaps(p->m->features & ~unseen, &hwcap, &hwcap2);
    const struct {
        uint64_t type, value;
    } rows[] = {
        {AT_MINSIGSTKSZ, ALIGN_UP(128 + 176 + abi->mcontext_bytes + 16, 16)},
        {AT_HWCAP, hwcap},
        {AT_PAGESZ, abi->page_bytes},
        {AT_CLKTCK, getauxval(AT_CLKTCK)},
        {AT_PHDR, plan->prog.phdr},
        {AT_PHENT, plan->image->phentsize},
        {AT_PHNUM, plan->image->phnum},
        {AT_BASE, plan->has_interp ? plan->interp.bias : 0},
        {AT_FLAGS, 0},
        {AT_ENTRY, plan->prog.entry},
        {AT_UID, id ? id[ID_USER][ID_REAL] : uid[0]},
        {AT_EUID, id ? id[ID_USER][ID_EFFECTIVE] : uid[1]},
        {AT_GID, id ? id[ID_GROUP][ID_REAL] : gid[0]},
        {AT_EGID, id ? id[ID_GROUP][ID_EFFECTIVE] : gid[1]},
        {AT_SECURE, getauxval(AT_SECURE)},
        {AT_RANDOM, random},
        {AT_HWCAP2, hwcap2},
        {AT_EXECFN, execfn},
        {AT_PLATFORM, platform},
        {AT_NULL, 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        a[i].a_type = rows[i].type;
        a[i].a_un.a_val = rows[i].value;
    }
    return ARRAY_LEN(rows);
}

static int fill(LinuxProcess *p, const StackPlan *plan, Stack *s, uint64_t *sp, DgmErr *err) {
    const GuestLinuxAbi *abi = p->m->guest->linux_abi;
    size_t argc, envc;
    strings_bytes(plan->argv, &argc);
    strings_bytes(plan->envp, &envc);
    uint64_t *words = calloc(argc + envc + 3, sizeof *words);
    if (!words) return err_set(err, -ENOMEM, "%s: out of memory", plan->execfn);
    words[0] = argc;
    uint64_t zero = 0;
    push(s, &zero, 8);
    uint64_t execfn = push(s, plan->execfn, strlen(plan->execfn) + 1);
    p->env_hi = s->at;
    p->env_lo = p->arg_hi = push_strings(s, plan->envp, envc, words + 2 + argc);
    p->arg_lo = push_strings(s, plan->argv, argc, words + 1);
    uint64_t platform = push(s, abi->platform, strlen(abi->platform) + 1);
    uint8_t random_bytes[16];
    if (getrandom(random_bytes, sizeof random_bytes, 0) != sizeof random_bytes) {
        free(words);
        return err_set(err, -EIO, "%s: no random bytes", plan->execfn);
    }
    s->at = ALIGN_DOWN(s->at, 16);
    uint64_t random = push(s, random_bytes, sizeof random_bytes);
    Elf64_auxv_t auxv[32];
    size_t n_aux = fill_auxv(p, plan, random, platform, execfn, auxv);
    size_t bytes = n_aux * sizeof *auxv + (argc + envc + 3) * 8;
    s->at = ALIGN_DOWN(s->at - bytes, 16) + bytes;
    push(s, auxv, n_aux * sizeof *auxv);
    *sp = push(s, words, (argc + envc + 3) * 8);
    free(words);
    p->auxv_bytes = n_aux * sizeof *auxv;
    p->auxv = malloc(p->auxv_bytes);
    if (!p->auxv || !copy_out(&p->cmdline, &p->cmdline_bytes, s->base, p->arg_lo, p->arg_hi) ||
        !copy_out(&p->environ, &p->environ_bytes, s->base, p->env_lo, p->env_hi))
        return err_set(err, -ENOMEM, "%s: out of memory", plan->execfn);
    memcpy(p->auxv, auxv, p->auxv_bytes);
    return 0;
}

int stack_build(LinuxProcess *p, const StackPlan *plan, uint64_t *sp, DgmErr *err) {
    AddressSpace *as = p->m->as;
    size_t n, bytes = ALIGN_UP(plan->bytes ? plan->bytes : (size_t)DEFAULT_STACK_BYTES, SPACE_PAGE);
    bytes = MAX(bytes, (size_t)MIN_STACK_BYTES);
    size_t need = strings_bytes(plan->argv, &n) + n * 8;
    need += strings_bytes(plan->envp, &n) + n * 8;
    // Linux allows a quarter of the stack for them
    if (need > bytes / 4) return err_set(err, -E2BIG, "%s: argument list too long", plan->execfn);
    int prot = PROT_READ | PROT_WRITE | (plan->image->exec_stack ? PROT_EXEC : 0);
    // one page below is kept inaccessible: a guard, as stack_guard_gap is
    int64_t at = space_mmap(as, 0, bytes + SPACE_PAGE, PROT_NONE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at > 0)
        at = space_mmap(as, (uint64_t)at + SPACE_PAGE, bytes, prot,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_GROWSDOWN | MAP_FIXED, -1,
                        0);
    if (at < 0)
        return err_set(err, -ENOMEM, "%s: stack of %zu bytes: %s", plan->execfn, bytes,
                       strerror((int)-at));
    p->stack_lo = (uint64_t)at;
    p->stack_hi = p->stack_lo + bytes;
    Stack s = {.at = p->stack_hi, .base = space_base(as)};
    int e = fill(p, plan, &s, sp, err);
    p->stack_start = *sp;
    return e;
}
