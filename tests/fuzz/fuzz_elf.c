// fuzz_elf.c - the ELF header parser on any bytes. What it accepts must keep elf.c's promises.
#include "fuzz.h"

#include "linux/process.h"

#include <stdlib.h>
#include <sys/mman.h>

typedef struct Bytes {
    const uint8_t *at;
    size_t n;
} Bytes;

static int64_t read_bytes(void *ctx, void *out, size_t n, uint64_t off) {
    const Bytes *b = ctx;
    if (off >= b->n) return 0;
    n = MIN(n, b->n - off);
    memcpy(out, b->at + off, n);
    return (int64_t)n;
}

static void check_image(const ElfImage *e, size_t file_bytes) {
    require(e->n > 0 && e->n <= ELF_MAX_SEGMENTS);
    require(e->lo < e->hi && e->hi <= SPACE_END);
    require(e->align >= SPACE_PAGE && !(e->align & (e->align - 1)));
    require(memchr(e->interp, 0, sizeof e->interp));
    for (unsigned i = 0; i < e->n; i++) {
        const ElfSegment *s = &e->seg[i];
        require(s->mem_bytes && s->file_bytes <= s->mem_bytes);
        require(!s->file_bytes || // else its offset says nothing
                (s->offset <= file_bytes && s->file_bytes <= file_bytes - s->offset));
        require(s->vaddr >= e->lo && s->vaddr + s->mem_bytes <= e->hi);
        if (i) require(s->vaddr >= e->seg[i - 1].vaddr + e->seg[i - 1].mem_bytes);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    Bytes b = {data, n};
    DgmErr err = {""};
    ElfImage *e = malloc(sizeof *e);
    if (!e) return 0;
    int r = elf_parse(read_bytes, &b, n, "input", e, &err);
    if (r)
        require(r < 0 && err.text[0] && !strchr(err.text, '\n'));
    else
        check_image(e, n);
    free(e);
    return 0;
}
