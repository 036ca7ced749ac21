// mix.c - what small controllers do: sort and search a linked list, multiply small integer
// matrices, and scan text with a state machine; a 16-bit CRC goes over everything.
#include "kernel.h"

typedef struct Node {
    struct Node *next;
    int16_t key, value;
} Node;

static uint16_t crc16(uint16_t crc, uint16_t v) {
    for (int i = 0; i < 16; i++, v >>= 1) crc = (crc ^ v) & 1 ? crc >> 1 ^ 0xa001 : crc >> 1;
    return crc;
}

static Node *merge(Node *a, Node *b, int by_key) {
    Node head, *tail = &head;
    while (a && b) {
        int left = by_key ? a->key <= b->key : a->value <= b->value;
        Node **from = left ? &a : &b;
        tail = tail->next = *from;
        *from = (*from)->next;
    }
    tail->next = a ? a : b;
    return head.next;
}

static Node *sort(Node *list, int by_key) {
    if (!list || !list->next) return list;
    Node *slow = list, *fast = list->next;
    while (fast && fast->next) slow = slow->next, fast = fast->next->next;
    Node *right = slow->next;
    slow->next = NULL;
    return merge(sort(list, by_key), sort(right, by_key), by_key);
}

static uint16_t lists(uint16_t crc, int salt) {
    static Node nodes[200];
    Node *list = NULL;
    for (int i = 0; i < 200; i++) {
        nodes[i] = (Node){list, (int16_t)(i * 37 + salt), (int16_t)((i * i) ^ salt)};
        list = &nodes[i];
    }
    list = sort(list, 0);
    for (int i = 0; i < 20; i++)
        for (Node *n = list; n; n = n->next)
            if (n->key == (int16_t)(i * 370 + salt)) crc = crc16(crc, (uint16_t)n->value);
    list = sort(list, 1);
    for (Node *n = list; n; n = n->next) crc = crc16(crc, (uint16_t)n->key);
    return crc;
}

static uint16_t matrices(uint16_t crc, int salt) {
    enum { N = 12 };
    int16_t a[N][N], b[N][N];
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++)
            a[i][j] = (int16_t)(i * j + salt), b[i][j] = (int16_t)(i - 3 * j);
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) {
            int32_t sum = 0;
            for (int k = 0; k < N; k++) sum += a[i][k] * b[k][j];
            crc = crc16(crc, (uint16_t)(sum >> 2 & 0x7fff));
        }
    return crc;
}

static uint16_t states(uint16_t crc, int salt) {
    static const char text[] = "5012,-874,+122,0x1f,3.1416,-.123,1.5e+3,T0.2,8+e,12a,99999,-0,.e5,";
    enum { START, INT, SIGN, DOT, FRACTION, EXP, EXPSIGN, EXPONENT, BAD } state = START;
    unsigned counts[BAD + 1] = {0};
    for (int i = 0; i < (int)sizeof text - 1; i++) {
        char c = text[(i + salt) % (int)(sizeof text - 1)];
        int digit = c >= '0' && c <= '9';
        counts[state]++;
        if (c == ',') {
            state = START;
            continue;
        }
        switch (state) {
        case START: state = digit ? INT : c == '+' || c == '-' ? SIGN : c == '.' ? DOT : BAD; break;
        case INT: state = digit ? INT : c == '.' ? FRACTION : BAD; break;
        case SIGN: state = digit ? INT : c == '.' ? DOT : BAD; break;
        case DOT: state = digit ? FRACTION : BAD; break;
        case FRACTION: state = digit ? FRACTION : c == 'e' ? EXP : BAD; break;
        case EXP: state = digit ? EXPONENT : c == '+' || c == '-' ? EXPSIGN : BAD; break;
        case EXPSIGN:
        case EXPONENT: state = digit ? EXPONENT : BAD; break;
        case BAD: break;
        }
    }
    for (int i = 0; i <= BAD; i++) crc = crc16(crc, (uint16_t)counts[i]);
    return crc;
}

int main(int argc, char **argv) {
    long repeats = kernel_repeats(argc, argv, 45000);
    uint16_t crc = 0;
    for (long r = 0; r < repeats; r++) {
        int salt = (int)(r & 255) ^ (crc & 15);
        crc = lists(crc, salt);
        crc = matrices(crc, salt);
        crc = states(crc, salt);
    }
    printf("mix %04x\n", crc);
    return 0;
}
