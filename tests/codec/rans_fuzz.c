/* Drive the compiled coder's core with good and hostile input, under AddressSanitizer and UBSan.
 *
 *     cc -g -O1 -fsanitize=address,undefined -fno-sanitize-recover=all -I src/isplit/codec tests/codec/rans_fuzz.c -o fuzz
 *     ./fuzz SEED ROUNDS
 *
 * Every buffer is allocated with exactly the length that the core is told, so that a byte read or written beside it ends
 * the program. Payloads that the core encoded must decode to the same symbols; of mutated payloads and of tables that no
 * codec has (zeros, sums that are wrong, starts in disorder) only memory errors are looked for.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "_rans_core.h"

static uint64_t random_state;

static uint32_t draw(uint32_t below) { /* xorshift64*, Vigna (2014) */
    random_state ^= random_state >> 12;
    random_state ^= random_state << 25;
    random_state ^= random_state >> 27;
    return below ? (uint32_t)((random_state * 0x2545F4914F6CDD1Dull) >> 32) % below : 0;
}

static void *copy(const void *bytes, size_t length) {
    void *block = malloc(length);
    if (length) memcpy(block, bytes, length);
    return block;
}

/* Frequencies that sum to 65536, each at least 1, and where they start. */
static void good_table(uint16_t *frequencies, uint16_t *starts, size_t levels) {
    uint32_t left = 65536 - (uint32_t)levels, sum = 0;
    size_t symbol;
    for (symbol = 0; symbol < levels; symbol++) {
        uint32_t share = symbol + 1 == levels ? left : draw(draw(4) ? left / 4 + 1 : left + 1);
        frequencies[symbol] = (uint16_t)(share + 1);
        starts[symbol] = (uint16_t)sum;
        sum += share + 1;
        left -= share;
    }
}

static void fail(const char *what, uint64_t seed, unsigned long round) {
    fprintf(stderr, "%s at seed %llu, round %lu\n", what, (unsigned long long)seed, round);
    abort();
}

int main(int count_of_arguments, char **arguments) {
    uint64_t seed = count_of_arguments > 1 ? strtoull(arguments[1], NULL, 10) : 1;
    unsigned long rounds = count_of_arguments > 2 ? strtoul(arguments[2], NULL, 10) : 1000, round;
    unsigned long accepted = 0, refused = 0;
    random_state = seed * 0x9E3779B97F4A7C15ull + 1;
    for (round = 0; round < rounds; round++) {
        size_t levels = draw(8) ? 2 + draw(255) : draw(300), rows = draw(8) ? 1 + draw(4) : draw(3);
        size_t count = rows * draw(draw(4) ? 60 : 1500) + (draw(8) ? 0 : draw(3));
        size_t lanes = draw(4) ? 1 + draw(4) : draw(1100);
        size_t entries = rows * levels, i, where, first = 0, length;
        int honest = levels >= 2 && levels <= 256 && draw(3);
        uint16_t *frequencies = malloc(2 * entries), *starts = malloc(2 * entries);
        uint8_t *symbols = malloc(count), *decoded = malloc(count), *room, *payload;
        rans_tables tables = {frequencies, starts, rows, levels, lanes};
        rans_status status;

        for (i = 0; honest && i < rows; i++) good_table(frequencies + i * levels, starts + i * levels, levels);
        for (i = 0; !honest && i < entries; i++) {
            frequencies[i] = (uint16_t)draw(draw(4) ? 65536 : 3);
            starts[i] = (uint16_t)draw(65536);
        }
        for (i = 0; i < count; i++) symbols[i] = (uint8_t)draw(draw(500) && levels < 256 ? (uint32_t)levels : 256);
        room = malloc(rans_max_bytes(&tables, count));
        status = rans_encode(&tables, symbols, count, room, &first, &where);
        if (status == RANS_OK) {
            length = rans_max_bytes(&tables, count) - first;
            payload = copy(room + first, length);
            status = rans_decode(&tables, payload, length, decoded, count, &where);
            if (honest && (status != RANS_OK || memcmp(symbols, decoded, count))) fail("no round trip", seed, round);
        } else {
            length = draw(200);
            payload = malloc(length);
            for (i = 0; i < length; i++) payload[i] = (uint8_t)draw(256);
        }
        for (i = 0; i < 4; i++) {
            size_t other = draw(4) ? length : draw((uint32_t)length + 8), bytes;
            uint8_t *changed = malloc(other);
            for (bytes = 0; bytes < other; bytes++)
                changed[bytes] = bytes < length && draw(40) ? payload[bytes] : (uint8_t)draw(256);
            status = rans_decode(&tables, changed, other, decoded, count, &where);
            if (status == RANS_OK) accepted++;
            else refused++;
            free(changed);
        }
        free(frequencies), free(starts), free(symbols), free(decoded), free(room), free(payload);
    }
    printf("%lu rounds: %lu mutated payloads refused, %lu still valid\n", rounds, refused, accepted);
    return 0;
}
