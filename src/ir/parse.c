// parse.c - reads what print.c writes, to the same region: for tests, and for a region that someone
// cut out of a log. Nothing is folded. Values may carry any numbers in the text; a name must be
// defined in an earlier line. Text after `;` is comment; the `region` line may be missing.
//
// Guest registers are named by the fields that the region was made with; helpers by those in r's
// table of calls when parsing starts (there is no global table of helpers to look in).
//
// Start at parse_line(). The tables of names are print.c's.
#include "ir/text.h"

#include <errno.h>
#include <stdlib.h>

typedef struct Parser {
    IrRegion *r;
    DgmErr *err;
    const char *at; // in the current line
    unsigned line;
    bool failed;
    uint32_t *refs; // value of each name `%n`, 0 when not defined
    uint32_t n_refs;
    IrCall *known; // the calls that were there before
    uint32_t n_known;
} Parser;

static bool fail(Parser *p, const char *fmt, ...) PRINTF_LIKE(2, 3);
static bool fail(Parser *p, const char *fmt, ...) {
    if (p->failed) return false;
    p->failed = true;
    char why[200];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(why, sizeof why, fmt, ap);
    va_end(ap);
    for (char *c = why; *c; c++) // a message is one line, whatever it quotes
        if ((unsigned char)*c < ' ') *c = ' ';
    err_set(p->err, -EINVAL, "IR text, line %u: %s", p->line, why);
    return false;
}

// ---- tokens ----

static bool is_word(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}
static void skip_blanks(Parser *p) {
    while (*p->at == ' ' || *p->at == '\t') p->at++;
}
static bool at_end(Parser *p) {
    skip_blanks(p);
    return !*p->at || *p->at == '\n' || *p->at == ';';
}
static bool accept(Parser *p, const char *token) {
    skip_blanks(p);
    size_t n = strlen(token);
    if (strncmp(p->at, token, n) || (is_word(token[n - 1]) && is_word(p->at[n]))) return false;
    p->at += n;
    return true;
}
static bool expect(Parser *p, const char *token) {
    return accept(p, token) || fail(p, "`%s` expected at `%.20s`", token, p->at);
}
// The separator before each operand but the first.
static bool comma(Parser *p, unsigned *n) {
    return (*n)++ == 0 || expect(p, ",");
}

static bool word(Parser *p, char *out, size_t size) {
    skip_blanks(p);
    size_t n = 0;
    while (is_word(p->at[n]) && n + 1 < size) n++;
    memcpy(out, p->at, n);
    out[n] = 0;
    p->at += n;
    return n ? true : fail(p, "a name expected at `%.20s`", p->at);
}

static bool number(Parser *p, uint64_t *out) {
    skip_blanks(p);
    char *end;
    bool minus = *p->at == '-';
    if (p->at[minus] < '0' || p->at[minus] > '9')
        return fail(p, "a number expected at `%.20s`", p->at);
    errno = 0;
    *out = strtoull(p->at, &end, 0);
    p->at = end;
    return errno == 0 || fail(p, "the number is too large");
}
static bool small_number(Parser *p, uint64_t limit, uint64_t *out) {
    if (!number(p, out)) return false;
    return *out <= limit ||
           fail(p, "%llu is more than %llu", (unsigned long long)*out, (unsigned long long)limit);
}

static bool type_name(Parser *p, IrType *out) {
    char name[16], buf[16];
    if (!word(p, name, sizeof name)) return false;
    for (unsigned t = 0; t < 128; t++)
        if ((t & 15) < IR_ELEM_COUNT && !strcmp(ir_text_type((IrType)t, buf), name)) {
            *out = (IrType)t;
            return true;
        }
    return fail(p, "`%s` is no type", name);
}

static bool enum_name(Parser *p, IrTextEnum e, uint64_t *out) {
    skip_blanks(p);
    if (*p->at >= '0' && *p->at <= '9') return small_number(p, 255, out);
    char name[24];
    if (!word(p, name, sizeof name)) return false;
    const char *s;
    for (unsigned i = 0; (s = ir_text_enum(e, i)); i++)
        if (!strcmp(s, name)) {
            *out = i;
            return true;
        }
    return fail(p, "`%s` is not known here", name);
}

// ---- the region's arrays ----

static void *grown(Parser *p, void *old, uint32_t n, uint32_t *cap, size_t item) {
    if (n < *cap) return old;
    uint32_t more = *cap ? *cap * 2 : 64;
    void *bigger = arena_alloc(p->r->arena, more * item);
    if (!bigger) {
        p->r->failed = true;
        fail(p, "out of memory");
        return NULL;
    }
    if (n) memcpy(bigger, old, n * item);
    *cap = more;
    return bigger;
}

static IrRef append(Parser *p, IrInst in) {
    IrRegion *r = p->r;
    IrInst *insts = grown(p, r->insts, r->n_insts, &r->cap_insts, sizeof *insts);
    if (!insts) return 0;
    r->insts = insts;
    r->insts[r->n_insts] = in;
    return r->n_insts++;
}

static bool define(Parser *p, uint64_t name, IrRef v) {
    if (name >= p->n_refs) {
        uint32_t n = ALIGN_UP((uint32_t)name + 1, 256u);
        uint32_t *bigger = realloc(p->refs, n * sizeof *bigger);
        if (!bigger) return fail(p, "out of memory");
        memset(bigger + p->n_refs, 0, (n - p->n_refs) * sizeof *bigger);
        p->refs = bigger;
        p->n_refs = n;
    }
    p->refs[name] = v;
    return true;
}

// ---- operands ----

static bool value(Parser *p, IrRef *out) {
    uint64_t n;
    if (!expect(p, "%") || !number(p, &n)) return false;
    *out = n < p->n_refs ? p->refs[n] : 0;
    return *out || fail(p, "%%%llu is not defined", (unsigned long long)n);
}

static bool field(Parser *p, int64_t *out) {
    char name[40];
    if (!word(p, name, sizeof name)) return false;
    for (uint32_t i = 0; i < p->r->n_fields; i++)
        if (!strcmp(p->r->fields[i].name, name)) {
            *out = i;
            return true;
        }
    return fail(p, "`%s` is no guest register", name);
}

static bool block(Parser *p, uint64_t *out) {
    skip_blanks(p);
    if (*p->at != 'b') return fail(p, "a block expected at `%.20s`", p->at);
    p->at++;
    return small_number(p, UINT32_MAX, out);
}

static bool constant(Parser *p, IrInst *in) {
    uint64_t hi, lo;
    if (!ir_is_vec(in->type)) return number(p, (uint64_t *)&in->imm);
    if (!number(p, &hi) || !expect(p, ":") || !number(p, &lo)) return false;
    IrRegion *r = p->r;
    uint32_t i = 0;
    while (i < r->n_vconsts && (r->vconsts[i].d[0] != lo || r->vconsts[i].d[1] != hi)) i++;
    if (i == r->n_vconsts) {
        V128 *pool = grown(p, r->vconsts, r->n_vconsts, &r->cap_vconsts, sizeof *pool);
        if (!pool) return false;
        r->vconsts = pool;
        r->vconsts[r->n_vconsts++] = (V128){.d = {lo, hi}};
    }
    in->imm = i;
    return true;
}

static bool call(Parser *p, IrInst *in) {
    char name[64];
    if (!word(p, name, sizeof name) || !expect(p, "(")) return false;
    IrCall c = {0};
    for (uint32_t i = 0; i < p->n_known && !c.helper; i++)
        if (!strcmp(p->known[i].helper->name, name)) c.helper = p->known[i].helper;
    if (!c.helper) return fail(p, "`%s` is no helper of this region", name);
    while (!accept(p, ")")) {
        if (c.n_args == 4) return fail(p, "more than four arguments");
        if (c.n_args && !expect(p, ",")) return false;
        if (!value(p, &c.args[c.n_args++])) return false;
    }
    if (accept(p, "#") && !number(p, &c.imm)) return false;
    IrRegion *r = p->r;
    IrCall *calls = grown(p, r->calls, r->n_calls, &r->cap_calls, sizeof *calls);
    if (!calls) return false;
    r->calls = calls;
    in->imm = r->n_calls;
    r->calls[r->n_calls++] = c;
    return true;
}

static bool address(Parser *p, IrInst *in) {
    uint64_t disp = 0;
    if (!expect(p, "[") || !value(p, &in->a)) return false;
    if (accept(p, "+")) {
        if (!number(p, &disp)) return false;
    } else if (accept(p, "-")) {
        if (!number(p, &disp)) return false;
        disp = 0 - disp;
    }
    if (in->op != IR_rmw) in->imm = (int64_t)disp;
    return expect(p, "]");
}

// mem=TYPE, names of IrMem bits, insn=N, aux=N, aux2=N.
static bool words(Parser *p, IrInst *in) {
    while (!at_end(p)) {
        char name[24];
        uint64_t n = 0;
        if (!word(p, name, sizeof name)) return false;
        if (accept(p, "=")) {
            if (!strcmp(name, "mem")) {
                if (!type_name(p, &in->aux)) return false;
            } else if (!strcmp(name, "insn") && (in->op == IR_load || in->op == IR_store)) {
                if (!small_number(p, IR_MAX_BEHIND - 1, &n)) return false;
                in->c = (IrRef)n + 1;
            } else if (!strcmp(name, "aux")) {
                if (!small_number(p, 255, &n)) return false;
                in->aux = (uint8_t)n;
            } else if (!strcmp(name, "aux2")) {
                if (!small_number(p, 255, &n)) return false;
                in->aux2 = (uint8_t)n;
            } else {
                return fail(p, "`%s=` is not known", name);
            }
            continue;
        }
        unsigned bit = 0;
        const char *s;
        while ((s = ir_text_mem(bit)) && strcmp(s, name)) bit++;
        if (!s && sscanf(name, "bit%u", &bit) != 1) return fail(p, "`%s` is not known here", name);
        if (bit > 7) return fail(p, "`%s` is no flag", name);
        in->aux2 |= (uint8_t)(1u << bit);
    }
    return true;
}

static bool operands(Parser *p, IrInst *in) {
    const IrOpInfo *info = &ir_op_info[in->op];
    IrTextForm form = ir_text_of(in->op).form;
    IrRef *refs[3] = {&in->a, &in->b, &in->c};
    unsigned n = 0, first = 0;
    uint64_t x = 0, y = 0;
    if (form == TEXT_FIELD && (n++, !field(p, &in->imm))) return false;
    if (form == TEXT_MEM && (first = 1, n++, !address(p, in))) return false;
    for (unsigned k = first; k < info->n_args; k++)
        if (!comma(p, &n) || !value(p, refs[k])) return false;
    switch (form) {
    case TEXT_PLAIN:
    case TEXT_SCALE:
    case TEXT_NUM: // the number may be missing when it is 0
        if (n ? accept(p, ",") : (skip_blanks(p), *p->at == '#'))
            return expect(p, "#") && number(p, (uint64_t *)&in->imm);
        return true;
    case TEXT_CONST: return constant(p, in);
    case TEXT_INSN:
        if (!number(p, (uint64_t *)&in->imm) || !expect(p, ",") || !small_number(p, 255, &x))
            return false;
        in->aux = (uint8_t)x;
        return true;
    case TEXT_PC:
    case TEXT_COUNT: return comma(p, &n) && number(p, (uint64_t *)&in->imm);
    case TEXT_CALL: return call(p, in);
    case TEXT_BLOCK: return block(p, (uint64_t *)&in->imm);
    case TEXT_BR:
        if (!comma(p, &n) || !block(p, &x) || !expect(p, ",") || !block(p, &y)) return false;
        in->imm = (int64_t)(x | y << 32);
        return true;
    default: return true;
    }
}

// ---- lines ----

static bool op_name(Parser *p, IrInst *in) {
    char name[24];
    if (!word(p, name, sizeof name)) return false;
    unsigned op = 0;
    while (op < IR_OP_COUNT && strcmp(ir_op_info[op].name, name)) op++;
    if (op == IR_OP_COUNT) return fail(p, "`%s` is no op", name);
    in->op = (uint8_t)op;
    switch (ir_op_info[op].result) {
    case 'T':
        if (!expect(p, ".") || !type_name(p, &in->type)) return false;
        break;
    case 'B': in->type = IR_I1; break;
    case 'G': in->type = IR_FLAGS; break;
    default: break;
    }
    IrTextEnum e = ir_text_of((IrOp)op).aux;
    uint64_t v = 0;
    if (!e) return true;
    if (!expect(p, ".") || !enum_name(p, e, &v)) return false;
    if (op == IR_rmw)
        in->imm = (int64_t)v;
    else
        in->aux = (uint8_t)v;
    return true;
}

static bool block_line(Parser *p, bool *is_block) {
    const char *s = p->at;
    if (*s != 'b' || s[1] < '0' || s[1] > '9') return true;
    for (s++; *s >= '0' && *s <= '9'; s++) {
    }
    if (*s != ':') return true;
    *is_block = true;
    uint64_t n, pc;
    if (!block(p, &n) || !expect(p, ":") || !number(p, &pc)) return false;
    if (n != p->r->n_blocks) return fail(p, "b%u is the next block", p->r->n_blocks);
    if (n) ir_block_end(p->r);
    ir_block_begin(p->r, pc);
    return at_end(p) || fail(p, "`%.20s` is too much", p->at);
}

static bool region_line(Parser *p) {
    IrRegion *r = p->r;
    uint64_t x;
    if (p->r->n_blocks) return fail(p, "`region` comes first");
    if (!number(p, &r->pc)) return false;
    r->fp_rules = IR_FP_ARM;
    while (!at_end(p)) {
        if (accept(p, "bytes")) {
            if (!expect(p, "=") || !small_number(p, UINT32_MAX, &x)) return false;
            r->size_bytes = (uint32_t)x;
        } else if (accept(p, "insns")) {
            if (!expect(p, "=") || !small_number(p, UINT32_MAX, &x)) return false;
            r->n_insns = (uint32_t)x;
        } else if (accept(p, "riscv")) {
            r->fp_rules = IR_FP_RISCV;
        } else if (accept(p, "exact")) {
            r->fp_exact = true;
        } else {
            return fail(p, "`%.20s` is not known here", p->at);
        }
    }
    return true;
}

static bool parse_line(Parser *p) {
    bool is_block = false;
    if (at_end(p)) return true;
    if (accept(p, "region")) return region_line(p);
    if (!block_line(p, &is_block)) return false;
    if (is_block) return true;
    if (!p->r->n_blocks) return fail(p, "an instruction before the first block");

    IrInst in = {0};
    uint64_t name = 0;
    bool named = *p->at == '%';
    if (named) {
        p->at++;
        if (!small_number(p, 1 << 24, &name) || !expect(p, "=")) return false;
        if (!name) return fail(p, "%%0 is no value");
    }
    if (!op_name(p, &in) || !operands(p, &in) || !words(p, &in)) return false;
    if (named != (in.type != IR_VOID))
        return fail(p, named ? "%s has no result" : "%s needs a name for its result",
                    ir_op_info[in.op].name);
    IrRef v = append(p, in);
    return v && (!named || define(p, name, v));
}

bool ir_parse(IrRegion *r, const char *text, DgmErr *err) {
    Parser p = {.r = r, .err = err, .known = r->calls, .n_known = r->n_calls};
    // the region's own array of calls is written over while the old one is still looked at
    r->calls = NULL;
    r->cap_calls = 0;
    ir_region_reset(r, r->pc);
    while (*text && !p.failed) {
        p.line++;
        p.at = text;
        parse_line(&p);
        const char *end = strchr(text, '\n');
        text = end ? end + 1 : text + strlen(text);
    }
    free(p.refs);
    if (r->n_blocks) ir_block_end(r);
    if (!p.failed && !r->n_blocks) fail(&p, "no block");
    if (!p.failed && r->failed) fail(&p, "out of memory");
    return !p.failed;
}
