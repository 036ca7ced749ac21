// crc.c - integer work: CRC-32 by table and CRC-64 bit by bit over a buffer.
#include "kernel.h"

static uint32_t table[256];
static uint8_t buffer[1 << 16];

static uint32_t crc32_table(uint32_t crc, const uint8_t *p, size_t n) {
    crc = ~crc;
    while (n--) crc = table[(crc ^ *p++) & 255] ^ crc >> 8;
    return ~crc;
}

static uint64_t crc64_bits(uint64_t crc, const uint8_t *p, size_t n) {
    while (n--) {
        crc ^= *p++;
        for (int k = 0; k < 8; k++) crc = crc >> 1 ^ (0xc96c5795d7870f42ull & -(crc & 1));
    }
    return crc;
}

int main(int argc, char **argv) {
    long repeats = kernel_repeats(argc, argv, 3000);
    uint64_t seed = 1, c64 = 0;
    uint32_t c32 = 0;
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t c = i;
        for (int k = 0; k < 8; k++) c = c & 1 ? 0xedb88320u ^ c >> 1 : c >> 1;
        table[i] = c;
    }
    for (size_t i = 0; i < sizeof buffer; i++) buffer[i] = (uint8_t)kernel_random(&seed);
    for (long r = 0; r < repeats; r++) {
        c32 = crc32_table(c32, buffer, sizeof buffer);
        c64 = crc64_bits(c64 ^ c32, buffer, sizeof buffer / 4);
    }
    printf("crc %08x %016llx\n", c32, (unsigned long long)c64);
    return 0;
}
