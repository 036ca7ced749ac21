// warm.c - translating a file of guest code without running it (dragoman/cache.h).
//
// The file is mapped where a run would map it; translation starts from its entry, the functions of
// its symbol tables and those of its unwind table (which stripped files have, too), and goes on
// along every direct jump and call. What only an indirect jump leads to (a switch's cases) is left
// to the first run. All that is read from the file is checked: it may be any file.
#include "linux/process.h"

#include "engine/persist.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct Pcs {
    uint64_t *at;
    size_t n, cap;
    bool failed;
} Pcs;

typedef struct Warm {
    LinuxProcess *p;
    Vcpu *v;
    int fd;
    uint64_t file_bytes, lo, hi, bias; // of executable code
    Pcs entries, work;
} Warm;

static void add(Pcs *p, uint64_t pc) {
    if (p->n == p->cap) {
        uint64_t *more = realloc(p->at, (p->cap = p->cap * 2 + 1024) * sizeof *more);
        if (!more) {
            p->failed = true;
            p->cap = p->n;
            return;
        }
        p->at = more;
    }
    p->at[p->n++] = pc;
}

static void add_entry(Warm *w, uint64_t vaddr) {
    uint64_t pc = vaddr + w->bias;
    if (pc >= w->lo && pc < w->hi && !(pc & (w->p->m->guest->min_insn_bytes - 1u)))
        add(&w->entries, pc);
}

// Bytes of the file, malloc'ed; NULL when they are not all there.
static void *read_part(const Warm *w, uint64_t off, uint64_t bytes) {
    if (off > w->file_bytes || bytes > w->file_bytes - off) return NULL;
    char *out = malloc(bytes + 1);
    for (uint64_t done = 0; out && done < bytes;) {
        ssize_t r = pread(w->fd, out + done, bytes - done, (off_t)(off + done));
        if (r <= 0) {
            free(out);
            return NULL;
        }
        done += (uint64_t)r;
    }
    return out;
}

static void add_symbols(Warm *w, const Elf64_Ehdr *h) {
    if (h->e_shentsize != sizeof(Elf64_Shdr)) return;
    Elf64_Shdr *sections = read_part(w, h->e_shoff, (uint64_t)h->e_shnum * sizeof *sections);
    for (unsigned i = 0; sections && i < h->e_shnum; i++) {
        const Elf64_Shdr *s = &sections[i];
        if (s->sh_type != SHT_SYMTAB && s->sh_type != SHT_DYNSYM) continue;
        Elf64_Sym *symbols = read_part(w, s->sh_offset, s->sh_size);
        for (uint64_t k = 0; symbols && k < s->sh_size / sizeof *symbols; k++) {
            unsigned type = ELF64_ST_TYPE(symbols[k].st_info);
            if ((type == STT_FUNC || type == STT_GNU_IFUNC) && symbols[k].st_shndx)
                add_entry(w, symbols[k].st_value);
        }
        free(symbols);
    }
    free(sections);
}

// .eh_frame_hdr: a sorted table of functions. Only its usual encoding is read.
static void add_unwind(Warm *w, const Elf64_Phdr *p) {
    enum { VERSION = 1, COUNT_UDATA4 = 0x03, TABLE_DATAREL_SDATA4 = 0x3b, POINTER_SDATA4 = 0x1b };
    uint8_t *table = p->p_filesz >= 12 ? read_part(w, p->p_offset, p->p_filesz) : NULL;
    if (table && table[0] == VERSION && table[1] == POINTER_SDATA4 && table[2] == COUNT_UDATA4 &&
        table[3] == TABLE_DATAREL_SDATA4) {
        uint32_t count;
        memcpy(&count, table + 8, sizeof count);
        for (uint64_t i = 0; i < count && 12 + (i + 1) * 8 <= p->p_filesz; i++) {
            int32_t at;
            memcpy(&at, table + 12 + i * 8, sizeof at);
            add_entry(w, p->p_vaddr + (uint64_t)(int64_t)at);
        }
    }
    free(table);
}

static bool is_pie_program(const Warm *w, const Elf64_Phdr *dynamic) {
    Elf64_Dyn *d = read_part(w, dynamic->p_offset, dynamic->p_filesz);
    bool pie = false;
    for (uint64_t i = 0; d && i < dynamic->p_filesz / sizeof *d && d[i].d_tag != DT_NULL; i++)
        if (d[i].d_tag == DT_FLAGS_1) pie = d[i].d_un.d_val & DF_1_PIE;
    free(d);
    return pie;
}

// Maps the file and finds its entry points.
static int prepare(Warm *w, const char *path, DgmErr *err) {
    ElfImage *image = malloc(sizeof *image);
    Elf64_Ehdr *h = read_part(w, 0, sizeof *h);
    int e = image && h ? elf_parse_fd(w->fd, path, image, err)
                       : err_set(err, -ENOEXEC, "%s: not an ELF program", path);
    Elf64_Phdr *phdrs = e ? NULL : read_part(w, h->e_phoff, (uint64_t)h->e_phnum * sizeof *phdrs);
    if (!e && !phdrs) e = err_set(err, -ENOMEM, "%s: out of memory", path);
    bool program = !e && image->type == ET_EXEC;
    for (unsigned i = 0; !e && i < h->e_phnum; i++)
        if (phdrs[i].p_type == PT_DYNAMIC) program |= is_pie_program(w, &phdrs[i]);
    ElfLoaded at;
    if (!e) {
        uint64_t hint = program ? ELF_PIE_HINT : module_address(w->p, w->fd, image->hi - image->lo);
        e = elf_map(w->p->m->as, w->fd, image, hint, path, &at, err);
    }
    if (!e) {
        process_note_modules(w->p, w->fd, image, at.bias, program);
        w->bias = at.bias;
        w->lo = at.lo;
        w->hi = at.hi;
        add_entry(w, image->entry);
        add_symbols(w, h);
        for (unsigned i = 0; i < h->e_phnum; i++)
            if (phdrs[i].p_type == PT_GNU_EH_FRAME) add_unwind(w, &phdrs[i]);
    }
    free(image);
    free(h);
    free(phdrs);
    return e;
}

// The block at pc and all that it leads to.
static int translate_from(Warm *w, uint64_t pc) {
    Machine *m = w->p->m;
    uint32_t mode = vcpu_mode(w->v);
    w->work.n = 0;
    add(&w->work, pc);
    while (w->work.n && !w->work.failed) {
        pc = w->work.at[--w->work.n];
        if (block_table_find(m->blocks, pc, mode)) continue;
        const Block *b = block_make(w->v, pc, mode, m->max_block_insns);
        if (!b) return -ENOMEM;
        for (unsigned i = 0; i < b->n_links; i++) {
            uint64_t to = block_links(b)[i].target_pc;
            if (to >= w->lo && to < w->hi) add(&w->work, to);
        }
    }
    return w->work.failed ? -ENOMEM : 0;
}

static int warm_all(Warm *w, const LinuxWarm *how) {
    enum { AT_A_TIME = 64 };
    Machine *m = w->p->m;
    int e = w->entries.failed ? -ENOMEM : 0;
    for (size_t i = 0; !e && i < w->entries.n;) {
        if (how->progress) how->progress(how->ctx, i, w->entries.n);
        pthread_mutex_lock(&m->lock);
        for (size_t end = MIN(i + AT_A_TIME, w->entries.n); !e && i < end; i++)
            e = translate_from(w, w->entries.at[i]);
        bool nearly_full = m->cache_at > m->cache_first + (m->hot_end - m->cache_first) / 4 * 3 ||
                           m->cold_at > m->cache_cold + (m->cache_end - m->cache_cold) / 4 * 3;
        pthread_mutex_unlock(&m->lock);
        if (!nearly_full) continue;
        persist_save(m); // before the engine throws it away
        pthread_mutex_lock(&m->lock);
        machine_flush(m, w->v);
        pthread_mutex_unlock(&m->lock);
    }
    if (how->progress) how->progress(how->ctx, w->entries.n, w->entries.n);
    persist_save(m);
    return e;
}

int linux_guest_of_file(const char *path, const Guest **guest, DgmErr *err) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return err_set(err, -errno, "%s: %s", path, strerror(errno));
    ElfImage *image = malloc(sizeof *image);
    int e = image ? elf_parse_fd(fd, path, image, err)
                  : err_set(err, -ENOMEM, "%s: out of memory", path);
    if (!e) *guest = guest_by_elf(image->machine, image->elf_class);
    free(image);
    close(fd);
    return e;
}

int linux_warm(Machine *m, const LinuxWarm *how, DgmErr *err) {
    Warm w = {.fd = open(how->path, O_RDONLY | O_CLOEXEC)};
    struct stat st;
    if (w.fd < 0 || fstat(w.fd, &st)) {
        int code = -errno;
        if (w.fd >= 0) close(w.fd);
        return err_set(err, code, "%s: %s", how->path, strerror(-code));
    }
    w.file_bytes = (uint64_t)st.st_size;
    int e = linux_new_process(m, &w.p, err);
    persist_at_once(m);
    if (!e) e = prepare(&w, how->path, err);
    if (!e && !(w.v = vcpu_new(m, NULL))) e = err_set(err, -ENOMEM, "%s: out of memory", how->path);
    if (!e && (e = warm_all(&w, how))) err_set(err, e, "%s: out of memory", how->path);
    *how->entry_points = w.entries.n;
    free(w.entries.at);
    free(w.work.at);
    close(w.fd);
    linux_end(m);
    return e;
}
