// bytecode.c - a branchy bytecode interpreter: a stack machine that counts Collatz steps and keeps
// a small table, dispatched once through computed gotos and once through a switch.
#include "kernel.h"

enum { PUSH, LOAD, STORE, ADD, MUL3, HALVE, ODD, JZ, JNZ, JMP, LESS, HASH, HALT };

// locals: 0 = n, 1 = x, 2 = steps, 3 = sum, 4 = limit
static const int32_t program[] = {
    PUSH,  1,  STORE, 0,                //  0: n = 1
    LOAD,  0,  STORE, 1,                //  4: x = n
    PUSH,  0,  STORE, 2,                //  8: steps = 0
    PUSH,  1,  LOAD,  1,     LESS,      // 12: 1 < x?
    JZ,    42,                          // 17
    LOAD,  1,  ODD,   JZ,    32,        // 19
    LOAD,  1,  MUL3,  PUSH,  1,    ADD, // 24
    JMP,   35,                          // 30
    LOAD,  1,  HALVE,                   // 32
    STORE, 1,                           // 35
    LOAD,  2,  HASH,  JMP,   58,        // 37
    LOAD,  3,  LOAD,  2,     ADD,       // 42: sum += steps
    STORE, 3,                           // 47
    LOAD,  0,  PUSH,  1,     ADD,       // 49: n++
    STORE, 0,  JMP,   66,               // 54
    PUSH,  1,  ADD,   STORE, 2,         // 58: steps++
    JMP,   12, HALT,                    // 63
    LOAD,  0,  LOAD,  4,     LESS,      // 66: n < limit?
    JNZ,   4,                           // 71
    HALT,                               // 73
};

static uint64_t run_goto(int64_t limit, uint64_t *hash) {
    static const void *const labels[] = {&&push, &&load, &&store, &&add,  &&mul3,  &&halve, &&odd,
                                         &&jz,   &&jnz,  &&jmp,   &&less, &&hash_, &&halt};
    int64_t stack[16], locals[5] = {0, 0, 0, 0, limit}, *sp = stack;
    const int32_t *pc = program;
#define NEXT goto *labels[*pc++]
    NEXT;
push:
    *sp++ = *pc++;
    NEXT;
load:
    *sp++ = locals[*pc++];
    NEXT;
store:
    locals[*pc++] = *--sp;
    NEXT;
add:
    sp--, sp[-1] += *sp;
    NEXT;
mul3:
    sp[-1] *= 3;
    NEXT;
halve:
    sp[-1] /= 2;
    NEXT;
odd:
    sp[-1] &= 1;
    NEXT;
jz:
    pc = *--sp ? pc + 1 : program + *pc;
    NEXT;
jnz:
    pc = *--sp ? program + *pc : pc + 1;
    NEXT;
jmp:
    pc = program + *pc;
    NEXT;
less:
    sp--, sp[-1] = sp[-1] < *sp;
    NEXT;
hash_:
    *hash = kernel_mix(*hash, (uint64_t)sp[-1]);
    NEXT;
halt:
    return (uint64_t)locals[3];
}

static uint64_t run_switch(int64_t limit, uint64_t *hash) {
    int64_t stack[16], locals[5] = {0, 0, 0, 0, limit}, *sp = stack;
    for (const int32_t *pc = program;;) {
        switch (*pc++) {
        case PUSH: *sp++ = *pc++; break;
        case LOAD: *sp++ = locals[*pc++]; break;
        case STORE: locals[*pc++] = *--sp; break;
        case ADD: sp--, sp[-1] += *sp; break;
        case MUL3: sp[-1] *= 3; break;
        case HALVE: sp[-1] /= 2; break;
        case ODD: sp[-1] &= 1; break;
        case JZ: pc = *--sp ? pc + 1 : program + *pc; break;
        case JNZ: pc = *--sp ? program + *pc : pc + 1; break;
        case JMP: pc = program + *pc; break;
        case LESS: sp--, sp[-1] = sp[-1] < *sp; break;
        case HASH: *hash = kernel_mix(*hash, (uint64_t)sp[-1]); break;
        default: return (uint64_t)locals[3];
        }
    }
}

int main(int argc, char **argv) {
    long repeats = kernel_repeats(argc, argv, 150);
    uint64_t hash = 1, sum = 0;
    for (long r = 0; r < repeats; r++) {
        sum += run_goto(2000 + r, &hash);
        sum += run_switch(2000 + r, &hash);
    }
    printf("bytecode %llu %016llx\n", (unsigned long long)sum, (unsigned long long)hash);
    return 0;
}
