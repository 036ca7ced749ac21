// elf.c - ELF headers into an ElfImage, and an ElfImage into guest memory.
//
// elf_parse() believes nothing: every offset, size and count of the file is checked before use, and
// it only reads through a callback, so the fuzzer (tests/fuzz/fuzz_elf.c) runs it on plain bytes.
// After it returned 0, elf_map() may rely on: segments sorted by address, page-disjoint unless they
// share their boundary page, no wrap-around, all below SPACE_END, alignment a power of two.
#include "linux/process.h"

#include <elf.h>
#include <errno.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PAGE = SPACE_PAGE };
#define MAX_IMAGE_BYTES (1ull << 40)
#define MAX_ALIGN       (1ull << 30)

static const char *machine_name(unsigned m) {
    switch (m) {
    case EM_386: return "x86";
    case EM_X86_64: return "x86-64";
    case EM_ARM: return "ARM";
    case EM_AARCH64: return "AArch64";
    case EM_RISCV: return "RISC-V";
    case EM_PPC: return "PowerPC";
    case EM_PPC64: return "PowerPC64";
    case EM_S390: return "S/390";
    case EM_MIPS: return "MIPS";
    case EM_SPARC: return "SPARC";
    case EM_SPARCV9: return "SPARC V9";
    case EM_68K: return "68000";
    case EM_SH: return "SuperH";
    case EM_ALPHA: return "Alpha";
    case 258: return "LoongArch";
    default: return "another CPU";
    }
}

static int unsupported(const char *name, unsigned machine, const char *kind, DgmErr *err) {
    char list[128] = "";
    for (const Guest *const *g = guest_all; *g; g++) {
        size_t n = strlen(list);
        snprintf(list + n, sizeof list - n, "%s%s", n ? ", " : "", (*g)->name);
    }
    return err_set(err, -ENOEXEC, "%s: built for %s (EM %u, %s); this build runs %s", name,
                   machine_name(machine), machine, kind, list);
}

static int read_all(ElfRead read, void *ctx, void *out, size_t n, uint64_t off, const char *name,
                    DgmErr *err) {
    int64_t got = read(ctx, out, n, off);
    if (got < 0) return err_set(err, (int)got, "%s: %s", name, strerror((int)-got));
    if ((size_t)got != n) return err_set(err, -ENOEXEC, "%s: truncated ELF program", name);
    return 0;
}

static int check_header(const Elf64_Ehdr *h, int64_t got, const char *name, DgmErr *err) {
    if (got < SELFMAG || memcmp(h->e_ident, ELFMAG, SELFMAG))
        return err_set(err, -ENOEXEC, "%s: not an ELF program", name);
    if (got < (int64_t)sizeof(Elf32_Ehdr))
        return err_set(err, -ENOEXEC, "%s: truncated ELF program", name);
    if (h->e_ident[EI_DATA] != ELFDATA2LSB) {
        unsigned machine = (unsigned)(h->e_machine >> 8 | h->e_machine << 8) & 0xffff;
        if (h->e_ident[EI_DATA] == ELFDATA2MSB)
            return unsupported(name, machine, "big-endian", err);
        return err_set(err, -ENOEXEC, "%s: bad ELF header: no byte order", name);
    }
    unsigned elf_class = h->e_ident[EI_CLASS];
    if (elf_class != ELFCLASS32 && elf_class != ELFCLASS64)
        return err_set(err, -ENOEXEC, "%s: bad ELF header: class %u", name, elf_class);
    // e_type, e_machine and e_version lie at the same place in both classes
    if (!guest_by_elf(h->e_machine, (uint8_t)elf_class))
        return unsupported(name, h->e_machine, elf_class == ELFCLASS32 ? "32-bit" : "64-bit", err);
    if (elf_class != ELFCLASS64 || got < (int64_t)sizeof *h)
        return err_set(err, -ENOEXEC, "%s: truncated ELF program", name);
    if (h->e_type != ET_EXEC && h->e_type != ET_DYN)
        return err_set(err, -ENOEXEC, "%s: an ELF file of type %u, not a program", name, h->e_type);
    if (h->e_phentsize != sizeof(Elf64_Phdr))
        return err_set(err, -ENOEXEC, "%s: bad ELF header: program headers of %u bytes", name,
                       h->e_phentsize);
    if (!h->e_phnum || h->e_phnum > ELF_MAX_PHNUM)
        return err_set(err, -ENOEXEC, "%s: bad ELF header: %u program headers", name, h->e_phnum);
    return 0;
}

static int add_segment(ElfImage *out, const Elf64_Phdr *p, uint64_t file_bytes, const char *name,
                       DgmErr *err) {
    if (!p->p_memsz) return 0;
    bool from_file = p->p_filesz; // else its offset says nothing
    if (p->p_filesz > p->p_memsz ||
        (from_file && (p->p_offset > file_bytes || p->p_filesz > file_bytes - p->p_offset)))
        return err_set(err, -ENOEXEC, "%s: truncated ELF program: segment at %#lx", name,
                       (unsigned long)p->p_vaddr);
    if (p->p_memsz > MAX_IMAGE_BYTES || p->p_vaddr >= SPACE_END ||
        p->p_memsz > SPACE_END - PAGE - p->p_vaddr)
        return err_set(err, -ENOEXEC, "%s: bad ELF header: segment of %#lx bytes at %#lx", name,
                       (unsigned long)p->p_memsz, (unsigned long)p->p_vaddr);
    if ((p->p_vaddr ^ p->p_offset) & (PAGE - 1) && p->p_filesz)
        return err_set(err, -ENOEXEC, "%s: bad ELF header: segment at %#lx is not page-aligned",
                       name, (unsigned long)p->p_vaddr);
    if (p->p_align & (p->p_align - 1) || p->p_align > MAX_ALIGN)
        return err_set(err, -ENOEXEC, "%s: bad ELF header: alignment %#lx", name,
                       (unsigned long)p->p_align);
    if (out->n == ELF_MAX_SEGMENTS)
        return err_set(err, -ENOEXEC, "%s: bad ELF header: too many segments", name);
    ElfSegment s = {.vaddr = p->p_vaddr,
                    .mem_bytes = p->p_memsz,
                    .file_bytes = p->p_filesz,
                    .offset = p->p_offset,
                    .prot = (p->p_flags & PF_R ? PROT_READ : 0) |
                            (p->p_flags & PF_W ? PROT_WRITE : 0) |
                            (p->p_flags & PF_X ? PROT_EXEC : 0)};
    if (out->n) {
        const ElfSegment *last = &out->seg[out->n - 1];
        // Linux maps in file order; overlapping or descending segments are no sane program's
        if (s.vaddr < last->vaddr + last->mem_bytes ||
            (ALIGN_DOWN(s.vaddr, (uint64_t)PAGE) < ALIGN_UP(last->vaddr + last->mem_bytes, PAGE) &&
             last->mem_bytes > last->file_bytes))
            return err_set(err, -ENOEXEC, "%s: bad ELF header: segments overlap at %#lx", name,
                           (unsigned long)s.vaddr);
    }
    out->seg[out->n++] = s;
    out->align = MAX(out->align, p->p_align);
    return 0;
}

static int read_interp(ElfRead read, void *ctx, const Elf64_Phdr *p, const char *name,
                       ElfImage *out, DgmErr *err) {
    if (p->p_filesz < 2 || p->p_filesz > sizeof out->interp)
        return err_set(err, -ENOEXEC, "%s: bad ELF header: interpreter's name of %lu bytes", name,
                       (unsigned long)p->p_filesz);
    int e = read_all(read, ctx, out->interp, p->p_filesz, p->p_offset, name, err);
    if (e) return e;
    if (out->interp[p->p_filesz - 1])
        return err_set(err, -ENOEXEC, "%s: bad ELF header: interpreter's name does not end", name);
    return 0;
}

int elf_parse(ElfRead read, void *ctx, uint64_t file_bytes, const char *name, ElfImage *out,
              DgmErr *err) {
    memset(out, 0, sizeof *out);
    Elf64_Ehdr h = {0};
    int64_t got = read(ctx, &h, sizeof h, 0);
    if (got < 0) return err_set(err, (int)got, "%s: %s", name, strerror((int)-got));
    int e = check_header(&h, got, name, err);
    if (e) return e;
    if (h.e_phoff > file_bytes || (uint64_t)h.e_phnum * sizeof(Elf64_Phdr) > file_bytes - h.e_phoff)
        return err_set(err, -ENOEXEC, "%s: truncated ELF program", name);
    out->machine = h.e_machine;
    out->type = h.e_type;
    out->elf_class = h.e_ident[EI_CLASS];
    out->entry = h.e_entry;
    out->phnum = h.e_phnum;
    out->phentsize = h.e_phentsize;
    out->align = PAGE;
    uint64_t phdr_bytes = (uint64_t)h.e_phnum * sizeof(Elf64_Phdr);
    Elf64_Phdr some[16]; // most programs have no more
    for (unsigned i = 0; i < h.e_phnum; i++) {
        size_t n = MIN(h.e_phnum - i, (unsigned)ARRAY_LEN(some)) * sizeof *some;
        if (i % ARRAY_LEN(some) == 0)
            e = read_all(read, ctx, some, n, h.e_phoff + i * sizeof *some, name, err);
        if (e) return e;
        Elf64_Phdr p = some[i % ARRAY_LEN(some)];
        if (p.p_type == PT_LOAD) {
            e = add_segment(out, &p, file_bytes, name, err);
            if (!e && h.e_phoff >= p.p_offset && h.e_phoff - p.p_offset <= p.p_filesz &&
                phdr_bytes <= p.p_filesz - (h.e_phoff - p.p_offset) && !out->phdr_vaddr)
                out->phdr_vaddr = p.p_vaddr + (h.e_phoff - p.p_offset);
        } else if (p.p_type == PT_INTERP && !out->interp[0]) {
            e = read_interp(read, ctx, &p, name, out, err);
        } else if (p.p_type == PT_GNU_STACK) {
            out->exec_stack = p.p_flags & PF_X;
        }
        if (e) return e;
    }
    if (!out->n) return err_set(err, -ENOEXEC, "%s: an ELF program with nothing to load", name);
    const ElfSegment *last = &out->seg[out->n - 1];
    out->lo = ALIGN_DOWN(out->seg[0].vaddr, (uint64_t)PAGE);
    out->hi = ALIGN_UP(last->vaddr + last->mem_bytes, (uint64_t)PAGE);
    if (out->hi - out->lo > MAX_IMAGE_BYTES)
        return err_set(err, -ENOEXEC, "%s: bad ELF header: %#lx bytes of memory", name,
                       (unsigned long)(out->hi - out->lo));
    return 0;
}

static int64_t read_fd(void *ctx, void *out, size_t n, uint64_t off) {
    size_t done = 0;
    while (done < n) {
        ssize_t r = pread(*(int *)ctx, (char *)out + done, n - done, (off_t)(off + done));
        if (r < 0 && errno == EINTR) continue;
        if (r < 0) return -errno;
        if (!r) break;
        done += (size_t)r;
    }
    return (int64_t)done;
}

int elf_parse_fd(int fd, const char *name, ElfImage *out, DgmErr *err) {
    struct stat st;
    if (fstat(fd, &st)) return err_set(err, -errno, "%s: %s", name, strerror(errno));
    return elf_parse(read_fd, &fd, (uint64_t)st.st_size, name, out, err);
}

// ---- mapping ----

// The page-aligned file part of a segment, then zeros up to its end.
static int map_segment(AddressSpace *as, int fd, const ElfSegment *s, uint64_t bias) {
    uint64_t start = s->vaddr + bias, lo = ALIGN_DOWN(start, (uint64_t)PAGE),
             file_end = start + s->file_bytes, mem_end = start + s->mem_bytes;
    uint64_t file_hi = ALIGN_UP(file_end, (uint64_t)PAGE), hi = ALIGN_UP(mem_end, (uint64_t)PAGE);
    if (!s->file_bytes) file_hi = lo;
    if (file_hi > lo) {
        int64_t r = space_mmap(as, lo, file_hi - lo, s->prot, MAP_PRIVATE | MAP_FIXED, fd,
                               s->offset - (start - lo));
        if (r < 0) return (int)r;
        if (mem_end > file_end && file_end < file_hi) {
            bool writable = s->prot & PROT_WRITE;
            if (!writable && space_mprotect(as, lo, file_hi - lo, PROT_READ | PROT_WRITE))
                return -ENOMEM;
            memset((void *)(space_base(as) + file_end), 0,
                   file_hi - file_end); // all of the page, as Linux does
            if (!writable && space_mprotect(as, lo, file_hi - lo, s->prot)) return -ENOMEM;
        }
    }
    if (hi > file_hi) {
        int64_t r = space_mmap(as, file_hi, hi - file_hi, s->prot,
                               MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
        if (r < 0) return (int)r;
    }
    return 0;
}

// Claims [lo, hi) of the image somewhere (or there, for ET_EXEC), aligned.
static int64_t claim(AddressSpace *as, const ElfImage *e, uint64_t hint) {
    uint64_t bytes = e->hi - e->lo;
    if (e->type == ET_EXEC)
        return space_mmap(as, e->lo, bytes, PROT_NONE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
    int64_t r = space_mmap(as, ALIGN_DOWN(hint, e->align), bytes + e->align, PROT_NONE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (r < 0) return r;
    uint64_t at = ALIGN_UP((uint64_t)r - e->lo % e->align, e->align) + e->lo % e->align;
    if (at > (uint64_t)r) space_munmap(as, (uint64_t)r, at - (uint64_t)r);
    uint64_t end = (uint64_t)r + bytes + e->align;
    if (end > at + bytes) space_munmap(as, at + bytes, end - (at + bytes));
    return (int64_t)at;
}

int elf_map(AddressSpace *as, int fd, const ElfImage *e, uint64_t hint, const char *name,
            ElfLoaded *out, DgmErr *err) {
    int64_t at = claim(as, e, hint);
    if (at < 0)
        return err_set(err, -ENOMEM, "%s: cannot map %#lx bytes at %#lx: %s", name,
                       (unsigned long)(e->hi - e->lo), (unsigned long)e->lo,
                       at == -EEXIST ? "the host uses that address" : strerror((int)-at));
    uint64_t bias = (uint64_t)at - e->lo;
    for (unsigned i = 0; i < e->n; i++) {
        int r = map_segment(as, fd, &e->seg[i], bias);
        if (r) return err_set(err, r, "%s: cannot map a segment: %s", name, strerror(-r));
        // holes between segments are nobody's
        uint64_t end = ALIGN_UP(e->seg[i].vaddr + e->seg[i].mem_bytes, (uint64_t)PAGE);
        if (i + 1 < e->n && ALIGN_DOWN(e->seg[i + 1].vaddr, (uint64_t)PAGE) > end)
            space_munmap(as, end + bias, ALIGN_DOWN(e->seg[i + 1].vaddr, (uint64_t)PAGE) - end);
    }
    *out = (ElfLoaded){.bias = bias,
                       .entry = e->entry + bias,
                       .phdr = e->phdr_vaddr ? e->phdr_vaddr + bias : 0,
                       .lo = e->lo + bias,
                       .hi = e->hi + bias};
    return 0;
}
