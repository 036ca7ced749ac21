// setjmp/longjmp, computed goto, function pointers, deep recursion, variable arguments, big stack
// frames.
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static jmp_buf env;

// Ends by longjmp.
static void descend(int n) {
    volatile char frame[300];
    frame[n % 300] = (char)n;
    if (n == 0) longjmp(env, 42);
    descend(n - 1);
    frame[0]++;
}

static long deep(long n) {
    return n ? 1 + deep(n - 1) + (n & 1) : 0;
}

static double sum(const char *kinds, ...) {
    va_list ap;
    double s = 0;
    va_start(ap, kinds);
    for (; *kinds; kinds++) switch (*kinds) {
        case 'i': s += va_arg(ap, int); break;
        case 'l': s += (double)va_arg(ap, long); break;
        case 'd': s += va_arg(ap, double); break;
        case 'L': s += (double)va_arg(ap, long double); break;
        case 's': s += (double)strlen(va_arg(ap, const char *)); break;
        }
    va_end(ap);
    return s;
}

typedef struct Big {
    long v[20];
} Big;
typedef struct Quad {
    float a, b, c, d;
} Quad; // passed in vector registers
static Big twice(Big b) {
    for (int i = 0; i < 20; i++) b.v[i] *= 2;
    return b;
}
static Quad turn(Quad q) {
    return (Quad){q.b, q.c, q.d, q.a};
}

static int machine(const char *code) {
    static const void *const labels[] = {&&inc, &&dbl, &&neg, &&end};
    int x = 1;
#define NEXT goto *labels[*code++ - '0']
    NEXT;
inc:
    x++;
    NEXT;
dbl:
    x *= 2;
    NEXT;
neg:
    x = -x;
    NEXT;
end:
    return x;
}

static int add(int a, int b) {
    return a + b;
}
static int mul(int a, int b) {
    return a * b;
}
static int by_value(const void *a, const void *b) {
    return *(const int *)a - *(const int *)b;
}

int main(void) {
    int volatile passes = 0;
    int value = setjmp(env);
    if (value == 0) descend(500);
    if (++passes < 3) longjmp(env, passes);
    printf("longjmp %d %d\n", value, passes);
    printf("deep %ld\n", deep(100000));
    printf("varargs %.3f\n", sum("idlsdLidddddddddiiiiiii", 1, 2.5, 3l, "four", 5.25, 6.125L, 7,
                                 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 1, 2, 3, 4, 5, 6, 7));
    Big b = {{1, 2, 3, [19] = 20}};
    b = twice(b);
    Quad q = turn((Quad){1, 2, 3, 4});
    printf("structs %ld %ld %g %g\n", b.v[2], b.v[19], q.a, q.d);
    printf("goto %d\n", machine("0110120113"));
    int (*volatile table[])(int, int) = {add, mul}, s = 1;
    for (int i = 1; i < 12; i++) s = table[i % 2](s, i);
    printf("pointers %d\n", s);
    int n[100];
    for (int i = 0; i < 100; i++) n[i] = i * 37 % 101;
    qsort(n, 100, sizeof *n, by_value);
    printf("qsort %d %d %d\n", n[0], n[50], n[99]);
    static char volatile *grow;
    char large[6 << 20];
    grow = large;
    memset(large, 3, sizeof large);
    printf("stack %d\n", grow[sizeof large - 1] + grow[0]);
    return 0;
}
