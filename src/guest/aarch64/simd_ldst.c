// simd_ldst.c - loads and stores of structures: LD1-LD4, ST1-ST4 of several registers, of one lane,
// and LD1R-LD4R. (LDR, STR, LDP... of SIMD registers are in ldst.c.)
//
// Several registers are moved as whole 16-byte pieces of memory and (de)interleaved by vector ops.
// All accesses come before the first write of a register, as everywhere.
#include "guest/aarch64/simd.h"

// Post-index: rm 31 stands for the number of bytes moved. What the base becomes; 0 without.
static IrRef next_base(Lift *l, IrRef base, unsigned post, unsigned rm, unsigned bytes) {
    if (!post) return 0;
    return ir_add(l->r, base, rm == 31 ? lift_i64(l, bytes) : lift_x(l, rm));
}
static void put_base(Lift *l, unsigned rn, IrRef next) {
    if (next) lift_put_reg_sp(l, rn, next);
}

// ---- interleaving: `n` registers (2..4) and n pieces of memory, in lanes of s ----

// Piece j's bytes come from register k where this says so (out of range elsewhere): for LD3 and
// ST3.
static IrRef three_by_table(Lift *l, const IrRef in[3], unsigned out, unsigned size, unsigned bytes,
                            bool load) {
    IrRef v = 0;
    for (unsigned k = 0; k < 3; k++) {
        V128 index;
        for (unsigned i = 0; i < 16; i++) {
            // The place in memory of byte i of what is made (or the register byte for a store).
            unsigned lane, at, from, byte;
            if (load) {
                lane = i >> size;
                at = (lane * 3 + out) << size | (i & ((1u << size) - 1));
                from = at / 16;
                byte = at % 16;
            } else {
                at = out * 16 + i;
                lane = at >> size;
                from = lane % 3;
                byte = lane / 3 << size | (at & ((1u << size) - 1));
            }
            bool wanted = from == k && (load ? i < bytes : true);
            index.b[i] = wanted ? (uint8_t)byte : 255;
        }
        if (index.d[0] == ~0ull && index.d[1] == ~0ull) continue; // nothing from there
        IrRef part = ir_op2(l->r, IR_tbl, IR_I8X16, in[k],
                            ir_vconst(l->r, IR_I8X16, index.d[0], index.d[1]));
        v = v ? ir_op2(l->r, IR_or, IR_V128, v, part) : part;
    }
    return v;
}

// Four registers of bytes or halves: what belongs to one of them becomes a word in each piece, then
// words are transposed. A shuffle within a register is cheaper for hosts than one of two.
static void deinterleave_four(Lift *l, unsigned size, const IrRef mem[4], IrRef reg[4]) {
    static const uint64_t index[2][2] = {{0x0D0905010C080400, 0x0F0B07030E0A0602},
                                         {0x0B0A030209080100, 0x0F0E07060D0C0504}};
    IrRef at = ir_vconst(l->r, IR_I8X16, index[size][0], index[size][1]), word[4];
    for (unsigned k = 0; k < 4; k++) word[k] = ir_op2(l->r, IR_tbl, IR_I8X16, mem[k], at);
    for (unsigned k = 0; k < 4; k += 2) {
        IrOp zip = k ? IR_ziphi : IR_ziplo;
        IrRef low = ir_op2(l->r, zip, IR_I32X4, word[0], word[1]);
        IrRef high = ir_op2(l->r, zip, IR_I32X4, word[2], word[3]);
        reg[k] = ir_op2(l->r, IR_ziplo, IR_I64X2, low, high);
        reg[k + 1] = ir_op2(l->r, IR_ziphi, IR_I64X2, low, high);
    }
}

// Registers from memory pieces. With 64-bit registers only the first half of the pieces is there.
static void deinterleave(Lift *l, Shape s, unsigned n, const IrRef mem[4], IrRef reg[4]) {
    bool half = s.bits == 64;
    if (n == 1) {
        reg[0] = mem[0];
    } else if (n == 2) {
        IrRef second = half ? mem[0] : mem[1];
        reg[0] = v2(l, IR_uzpe, s, mem[0], second);
        reg[1] = v2(l, IR_uzpo, s, mem[0], second);
    } else if (n == 3) {
        for (unsigned k = 0; k < 3; k++)
            reg[k] = three_by_table(l, mem, k, shape_size(s), s.bits / 8, true);
    } else if (!half && shape_size(s) < 2) {
        deinterleave_four(l, shape_size(s), mem, reg);
    } else {
        IrRef even = v2(l, IR_uzpe, s, mem[0], mem[1]), odd = v2(l, IR_uzpo, s, mem[0], mem[1]);
        IrRef even2 = half ? even : v2(l, IR_uzpe, s, mem[2], mem[3]);
        IrRef odd2 = half ? odd : v2(l, IR_uzpo, s, mem[2], mem[3]);
        reg[0] = v2(l, IR_uzpe, s, even, even2);
        reg[1] = v2(l, IR_uzpe, s, odd, odd2);
        reg[2] = v2(l, IR_uzpo, s, even, even2);
        reg[3] = v2(l, IR_uzpo, s, odd, odd2);
    }
}

static void interleave(Lift *l, Shape s, unsigned n, const IrRef reg[4], IrRef mem[4]) {
    if (n == 1) {
        mem[0] = reg[0];
    } else if (n == 2) {
        mem[0] = v2(l, IR_ziplo, s, reg[0], reg[1]);
        mem[1] = v2(l, IR_ziphi, s, reg[0], reg[1]);
    } else if (n == 3) {
        for (unsigned k = 0; k < 3; k++)
            mem[k] = three_by_table(l, reg, k, shape_size(s), 16, false);
    } else {
        IrRef lo02 = v2(l, IR_ziplo, s, reg[0], reg[2]), lo13 = v2(l, IR_ziplo, s, reg[1], reg[3]);
        IrRef hi02 = v2(l, IR_ziphi, s, reg[0], reg[2]), hi13 = v2(l, IR_ziphi, s, reg[1], reg[3]);
        mem[0] = v2(l, IR_ziplo, s, lo02, lo13);
        mem[1] = v2(l, IR_ziphi, s, lo02, lo13);
        mem[2] = v2(l, IR_ziplo, s, hi02, hi13);
        mem[3] = v2(l, IR_ziphi, s, hi02, hi13);
    }
}

// Loads or stores `bytes` (8 or a multiple of 16, or 24) of memory in pieces.
static void load_pieces(Lift *l, IrRef base, unsigned at, unsigned bytes, IrRef mem[4]) {
    for (unsigned i = 0; i < (bytes + 15) / 16; i++) {
        if (bytes - i * 16 >= 16) {
            mem[i] = ir_load(l->r, IR_V128, IR_V128, 0, base, at + i * 16);
        } else {
            IrRef low = ir_load(l->r, IR_F64, IR_F64, 0, base, at + i * 16);
            mem[i] = ir_op1(l->r, IR_vzext, IR_V128, low);
        }
    }
}
static void store_pieces(Lift *l, IrRef base, unsigned at, unsigned bytes, const IrRef mem[4]) {
    for (unsigned i = 0; i < (bytes + 15) / 16; i++) {
        if (bytes - i * 16 >= 16)
            ir_store(l->r, IR_V128, 0, base, at + i * 16, mem[i]);
        else
            ir_store(l->r, IR_F64, 0, base, at + i * 16, v_lane(l, IR_F64, mem[i], 0));
    }
}

// ---- several structures ----

// LDn, STn {Vt.T ...}, [Xn|SP]: n registers (of a structure), and LD1, ST1 of regs 1..4
bool lift_simd_ld_multiple(Lift *l, const Args_simd_ld_multiple *a) {
    Shape s = shape_vec(int_elem(a->size), a->q);
    unsigned bytes = s.bits / 8;
    IrRef base = lift_xsp(l, a->rn), reg[4], mem[4];
    IrRef next = next_base(l, base, a->post, a->rm, bytes * a->regs);
    if (a->n == 1) {
        for (unsigned i = 0; i < a->regs; i++) load_pieces(l, base, i * bytes, bytes, &reg[i]);
    } else {
        load_pieces(l, base, 0, bytes * a->n, mem);
        deinterleave(l, s, a->n, mem, reg);
    }
    for (unsigned i = 0; i < a->regs; i++) v_put(l, (a->rt + i) % 32, reg[i], s);
    put_base(l, a->rn, next);
    return true;
}

bool lift_simd_st_multiple(Lift *l, const Args_simd_st_multiple *a) {
    Shape s = shape_vec(int_elem(a->size), a->q);
    unsigned bytes = s.bits / 8;
    IrRef base = lift_xsp(l, a->rn), reg[4], mem[4];
    IrRef next = next_base(l, base, a->post, a->rm, bytes * a->regs);
    for (unsigned i = 0; i < a->regs; i++) reg[i] = v_get(l, (a->rt + i) % 32);
    if (a->n == 1) {
        for (unsigned i = 0; i < a->regs; i++) store_pieces(l, base, i * bytes, bytes, &reg[i]);
    } else {
        // 64-bit registers next to each other would do as well; their zips fill the first pieces
        interleave(l, s, a->n, reg, mem);
        store_pieces(l, base, 0, bytes * a->n, mem);
    }
    put_base(l, a->rn, next);
    return true;
}

// ---- one structure to one lane ----

// Where Q:S:size says the lane is, by its log2 size.
static unsigned lane_index(unsigned lane_size, unsigned q, unsigned s, unsigned size) {
    return (q << 3 | s << 2 | size) >> lane_size;
}

// LDn {Vt.T ...}[index], [Xn|SP]
bool lift_simd_ld_lane(Lift *l, const Args_simd_ld_lane *a) {
    IrElem e = int_elem(a->lane);
    unsigned index = lane_index(a->lane, a->q, a->s, a->size), bytes = 1u << a->lane;
    IrRef base = lift_xsp(l, a->rn), v[4];
    IrRef next = next_base(l, base, a->post, a->rm, bytes * a->n);
    for (unsigned i = 0; i < a->n; i++) v[i] = ir_load(l->r, e, e, 0, base, i * bytes);
    for (unsigned i = 0; i < a->n; i++) {
        unsigned t = (a->rt + i) % 32;
        lift_put_v(l, t, v_set_lane(l, ir_vec_of(e), v_get(l, t), index, v[i]));
    }
    put_base(l, a->rn, next);
    return true;
}

// STn {Vt.T ...}[index], [Xn|SP]
bool lift_simd_st_lane(Lift *l, const Args_simd_st_lane *a) {
    IrElem e = int_elem(a->lane);
    unsigned index = lane_index(a->lane, a->q, a->s, a->size), bytes = 1u << a->lane;
    IrRef base = lift_xsp(l, a->rn);
    IrRef next = next_base(l, base, a->post, a->rm, bytes * a->n);
    for (unsigned i = 0; i < a->n; i++)
        ir_store(l->r, e, 0, base, i * bytes, v_lane(l, e, v_get(l, (a->rt + i) % 32), index));
    put_base(l, a->rn, next);
    return true;
}

// LDnR {Vt.T ...}, [Xn|SP]
bool lift_simd_ld_replicate(Lift *l, const Args_simd_ld_replicate *a) {
    IrElem e = int_elem(a->size);
    Shape s = shape_vec(e, a->q);
    unsigned bytes = 1u << a->size;
    IrRef base = lift_xsp(l, a->rn), v[4];
    IrRef next = next_base(l, base, a->post, a->rm, bytes * a->n);
    for (unsigned i = 0; i < a->n; i++) v[i] = ir_load(l->r, e, e, 0, base, i * bytes);
    for (unsigned i = 0; i < a->n; i++)
        v_put(l, (a->rt + i) % 32, ir_op1(l->r, IR_splat, s.t, v[i]), s);
    put_base(l, a->rn, next);
    return true;
}
