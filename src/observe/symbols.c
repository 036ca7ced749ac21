// symbols.c - which file guest code came from, which function it is, which source line.
//
// Function names are read from the ELF file's own symbol tables when somebody first asks about a
// module; line numbers by elfutils' libdw, which is loaded when somebody first asks for one. A
// guest's files are not trusted: everything read from them is checked against the file's size.
#include "observe/observe.h"

#include <dlfcn.h>
#include <elf.h>
#include <elfutils/libdw.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct Symbol {
    uint64_t address, bytes; // address in the file
    uint32_t name;           // offset in the image
} Symbol;

typedef struct Libdw {
    void *library;
    __typeof__(dwarf_begin) *begin;
    __typeof__(dwarf_end) *end;
    __typeof__(dwarf_addrdie) *addrdie;
    __typeof__(dwarf_getsrc_die) *getsrc_die;
    __typeof__(dwarf_linesrc) *linesrc;
    __typeof__(dwarf_lineno) *lineno;
} Libdw;

typedef struct WatchModule {
    dgm_module m;
    struct WatchModule *next;
    uint64_t offset;
    const uint8_t *image;
    size_t image_bytes;
    Symbol *symbols;
    size_t n_symbols;
    bool read, lines_tried, bias_known;
    bool gone; // unmapped; what was said about it stays true
    Libdw dw;
    Dwarf *dwarf;
    int fd;
} WatchModule;

// ---- the file ----

static bool within(const WatchModule *m, uint64_t at, uint64_t bytes) {
    return at <= m->image_bytes && bytes <= m->image_bytes - at;
}

static void map_image(WatchModule *m) {
    struct stat st;
    int fd = open(m->m.host_path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return;
    if (!fstat(fd, &st) && S_ISREG(st.st_mode) && st.st_size >= (off_t)sizeof(Elf64_Ehdr)) {
        void *p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (p != MAP_FAILED) {
            m->image = p;
            m->image_bytes = (size_t)st.st_size;
        }
    }
    close(fd);
    const Elf64_Ehdr *h = (const void *)m->image;
    if (m->image && (memcmp(h->e_ident, ELFMAG, SELFMAG) || h->e_ident[EI_CLASS] != ELFCLASS64 ||
                     h->e_ident[EI_DATA] != ELFDATA2LSB)) {
        munmap((void *)(uintptr_t)m->image, m->image_bytes);
        m->image = NULL;
    }
}

// Where the mapped part of the file says that it wants to be.
static void find_bias(WatchModule *m) {
    m->bias_known = true;
    Elf64_Ehdr h;
    memcpy(&h, m->image, sizeof h);
    for (unsigned i = 0; i < h.e_phnum; i++) {
        Elf64_Phdr p;
        uint64_t at = h.e_phoff + (uint64_t)i * sizeof p;
        if (at < h.e_phoff || !within(m, at, sizeof p)) return;
        memcpy(&p, m->image + at, sizeof p);
        if (p.p_type != PT_LOAD || m->offset < (p.p_offset & ~4095ull) ||
            m->offset >= p.p_offset + p.p_filesz)
            continue;
        m->m.bias = m->m.low - (p.p_vaddr + (m->offset - p.p_offset));
        if (p.p_flags & PF_X) return;
    }
}

static bool section(const WatchModule *m, unsigned i, Elf64_Shdr *out) {
    Elf64_Ehdr h;
    memcpy(&h, m->image, sizeof h);
    uint64_t at = h.e_shoff + (uint64_t)i * sizeof *out;
    if (i >= h.e_shnum || h.e_shoff < sizeof h || at < h.e_shoff || !within(m, at, sizeof *out))
        return false;
    memcpy(out, m->image + at, sizeof *out);
    return out->sh_type == SHT_NOBITS || within(m, out->sh_offset, out->sh_size);
}

static int by_address(const void *a, const void *b) {
    const Symbol *x = a, *y = b;
    if (x->address != y->address) return x->address < y->address ? -1 : 1;
    return x->bytes > y->bytes ? -1 : x->bytes < y->bytes; // the one that says its size first
}

static void read_table(WatchModule *m, const Elf64_Shdr *table) {
    Elf64_Shdr strings;
    if (!section(m, table->sh_link, &strings) || strings.sh_type != SHT_STRTAB ||
        !strings.sh_size || m->image[strings.sh_offset + strings.sh_size - 1])
        return;
    size_t n = table->sh_size / sizeof(Elf64_Sym);
    Symbol *s = realloc(m->symbols, (m->n_symbols + n + 1) * sizeof *s);
    if (!s) return;
    m->symbols = s;
    for (size_t i = 0; i < n; i++) {
        Elf64_Sym sym;
        memcpy(&sym, m->image + table->sh_offset + i * sizeof sym, sizeof sym);
        unsigned type = ELF64_ST_TYPE(sym.st_info);
        if ((type != STT_FUNC && type != STT_GNU_IFUNC) || sym.st_shndx == SHN_UNDEF ||
            sym.st_name >= strings.sh_size || !m->image[strings.sh_offset + sym.st_name])
            continue;
        m->symbols[m->n_symbols++] =
            (Symbol){sym.st_value, sym.st_size, (uint32_t)(strings.sh_offset + sym.st_name)};
    }
}

// .symtab has all that .dynsym has.
static void read_symbols(WatchModule *m) {
    m->read = true;
    map_image(m);
    if (!m->image) return;
    find_bias(m);
    Elf64_Ehdr h;
    memcpy(&h, m->image, sizeof h);
    const uint32_t kinds[] = {SHT_SYMTAB, SHT_DYNSYM};
    for (unsigned k = 0; k < ARRAY_LEN(kinds) && !m->n_symbols; k++)
        for (unsigned i = 0; i < h.e_shnum; i++) {
            Elf64_Shdr s;
            if (section(m, i, &s) && s.sh_type == kinds[k] && s.sh_entsize == sizeof(Elf64_Sym))
                read_table(m, &s);
        }
    if (m->n_symbols) qsort(m->symbols, m->n_symbols, sizeof *m->symbols, by_address);
}

// ---- modules ----

static bool same_file(const WatchModule *m, const char *host_path) {
    return !strcmp(m->m.host_path, host_path);
}

void observe_module(Watches *ws, const char *path, const char *host_path, uint64_t low,
                    uint64_t high, uint64_t offset) {
    WatchModule *m = calloc(1, sizeof *m);
    pthread_mutex_lock(&ws->lock);
    for (WatchModule *old = ws->modules; old; old = old->next)
        if (same_file(old, host_path) && old->m.low == low && old->m.high == high) {
            bool back = old->gone;
            old->gone = false;
            pthread_mutex_unlock(&ws->lock);
            free(m);
            for (dgm_watch *w = ws->first; w && back; w = w->next)
                if (w->tool->module) w->tool->module(w, &old->m);
            return;
        }
    char *a = arena_printf(&ws->keep, "%s", path), *b = arena_printf(&ws->keep, "%s", host_path);
    if (!m || !a || !b) {
        pthread_mutex_unlock(&ws->lock);
        free(m);
        return;
    }
    m->m = (dgm_module){.path = a, .host_path = b, .low = low, .high = high};
    m->offset = offset;
    m->fd = -1;
    m->next = ws->modules; // the newest first: what is mapped over an old one is found
    ws->modules = m;
    read_symbols(m);
    pthread_mutex_unlock(&ws->lock);
    for (dgm_watch *w = ws->first; w; w = w->next)
        if (w->tool->module) w->tool->module(w, &m->m);
}

void observe_unmapped(Watches *ws, uint64_t low, uint64_t high) {
    for (;;) {
        pthread_mutex_lock(&ws->lock);
        WatchModule *m = ws->modules;
        while (m && (m->gone || m->m.low < low || m->m.high > high)) m = m->next;
        if (m) m->gone = true;
        pthread_mutex_unlock(&ws->lock);
        if (!m) return;
        for (dgm_watch *w = ws->first; w; w = w->next)
            if (w->tool->module_gone) w->tool->module_gone(w, &m->m);
    }
}

static void close_lines(WatchModule *m) {
    if (m->dwarf) m->dw.end(m->dwarf);
    if (m->dw.library) dlclose(m->dw.library);
    if (m->fd >= 0) close(m->fd);
}

void modules_free(Watches *ws) {
    for (WatchModule *m = ws->modules, *next; m; m = next) {
        next = m->next;
        close_lines(m);
        if (m->image) munmap((void *)(uintptr_t)m->image, m->image_bytes);
        free(m->symbols);
        free(m);
    }
    ws->modules = NULL;
}

// Lock held.
static WatchModule *module_at(Watches *ws, uint64_t address) {
    WatchModule *was = NULL; // results are told when modules may have gone
    for (WatchModule *m = ws->modules; m; m = m->next) {
        if (address - m->m.low >= m->m.high - m->m.low) continue;
        if (!m->gone) return m;
        if (!was) was = m;
    }
    return was;
}

const dgm_module *dgm_module_at(dgm_watch *w, uint64_t address) {
    pthread_mutex_lock(&w->ws->lock);
    WatchModule *m = module_at(w->ws, address);
    pthread_mutex_unlock(&w->ws->lock);
    return m ? &m->m : NULL;
}

// The last symbol at or below; one without a size reaches to the next.
static const Symbol *find_symbol(const WatchModule *m, uint64_t address) {
    size_t n = COUNT_BEFORE(m->n_symbols, i, m->symbols[i].address <= address);
    if (!n) return NULL;
    const Symbol *s = &m->symbols[n - 1];
    while (s > m->symbols && s[-1].address == s->address) s--;
    if (s->bytes && address - s->address >= s->bytes) return NULL;
    return s;
}

bool dgm_symbol_at(dgm_watch *w, uint64_t address, dgm_symbol *out) {
    pthread_mutex_lock(&w->ws->lock);
    WatchModule *m = module_at(w->ws, address);
    const Symbol *s = m ? find_symbol(m, address - m->m.bias) : NULL;
    if (s)
        *out = (dgm_symbol){.name = (const char *)m->image + s->name,
                            .module = m->m.path,
                            .address = s->address + m->m.bias,
                            .bytes = s->bytes};
    pthread_mutex_unlock(&w->ws->lock);
    return s != NULL;
}

// ---- lines ----

static bool load_libdw(Libdw *d) {
    d->library = dlopen("libdw.so.1", RTLD_NOW | RTLD_LOCAL);
    if (!d->library) return false;
    *(void **)&d->begin = dlsym(d->library, "dwarf_begin");
    *(void **)&d->end = dlsym(d->library, "dwarf_end");
    *(void **)&d->addrdie = dlsym(d->library, "dwarf_addrdie");
    *(void **)&d->getsrc_die = dlsym(d->library, "dwarf_getsrc_die");
    *(void **)&d->linesrc = dlsym(d->library, "dwarf_linesrc");
    *(void **)&d->lineno = dlsym(d->library, "dwarf_lineno");
    return d->begin && d->end && d->addrdie && d->getsrc_die && d->linesrc && d->lineno;
}

static bool has_lines(const WatchModule *m) {
    Elf64_Ehdr h;
    Elf64_Shdr names, s;
    if (!m->image) return false;
    memcpy(&h, m->image, sizeof h);
    if (!section(m, h.e_shstrndx, &names) || !names.sh_size) return false;
    if (m->image[names.sh_offset + names.sh_size - 1]) return false;
    for (unsigned i = 0; i < h.e_shnum; i++)
        if (section(m, i, &s) && s.sh_name < names.sh_size &&
            !strcmp((const char *)m->image + names.sh_offset + s.sh_name, ".debug_line"))
            return true;
    return false;
}

static void open_lines(WatchModule *m) {
    m->lines_tried = true;
    if (!has_lines(m) || !load_libdw(&m->dw)) return;
    m->fd = open(m->m.host_path, O_RDONLY | O_CLOEXEC);
    if (m->fd >= 0) m->dwarf = m->dw.begin(m->fd, DWARF_C_READ);
}

bool dgm_line_at(dgm_watch *w, uint64_t address, const char **file, unsigned *line) {
    Watches *ws = w->ws;
    bool found = false;
    pthread_mutex_lock(&ws->lock);
    WatchModule *m = module_at(ws, address);
    if (m && !m->lines_tried) open_lines(m);
    Dwarf_Die cu;
    if (m && m->dwarf && m->dw.addrdie(m->dwarf, address - m->m.bias, &cu)) {
        Dwarf_Line *l = m->dw.getsrc_die(&cu, address - m->m.bias);
        int n = 0;
        const char *src = l ? m->dw.linesrc(l, NULL, NULL) : NULL;
        if (src && !m->dw.lineno(l, &n) && n > 0) {
            *file = src;
            *line = (unsigned)n;
            found = true;
        }
    }
    pthread_mutex_unlock(&ws->lock);
    return found;
}
