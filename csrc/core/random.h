/* Philox4x32-10 (Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3",
 * SC 2011), scalar form. The key is (seed), the counter (position, image, call, stream): a number
 * depends on where it is used in logical order, never on layout or thread. Kernels have vector
 * forms of the same function. */
#ifndef PCNN_CORE_RANDOM_H
#define PCNN_CORE_RANDOM_H

#include <stdint.h>

static inline void
pcnn_philox(uint32_t counter[4], uint32_t key0, uint32_t key1)
{
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * counter[0];
        uint64_t p1 = (uint64_t)0xCD9E8D57u * counter[2];
        uint32_t c0 = (uint32_t)(p1 >> 32) ^ counter[1] ^ key0;
        uint32_t c2 = (uint32_t)(p0 >> 32) ^ counter[3] ^ key1;
        counter[1] = (uint32_t)p1;
        counter[3] = (uint32_t)p0;
        counter[0] = c0;
        counter[2] = c2;
        key0 += 0x9E3779B9u;
        key1 += 0xBB67AE85u;
    }
}

#endif
