/* The arithmetic of isplit.codec.rans.Rans in C: plain buffers in and out, no Python, so that a fuzzer can drive it.
 *
 * The format is described in rans.py; numpy_rans.py is the reference, and these functions give the same bytes. Neither
 * reads or writes outside the buffers whose lengths it is told, whatever the tables and the payload hold.
 */
#ifndef ISPLIT_RANS_CORE_H
#define ISPLIT_RANS_CORE_H

#include <stddef.h>
#include <stdint.h>

#define RANS_MAX_LANES 1024
#define RANS_START 65536u

/* What became of a call. */
typedef enum {
    RANS_OK,
    RANS_BAD_ARGUMENTS, /* no symbols, tables or lanes, or symbols that the tables cannot share out evenly */
    RANS_BAD_SYMBOL,    /* a symbol that the tables do not have; `where` is its position */
    RANS_BAD_TABLE,     /* a frequency of 0; `where` is the position of the symbol that met it */
    RANS_BAD_STATE,     /* a state below 65536; `where` is the state */
    RANS_TOO_SHORT,     /* the payload has fewer bytes than states, or an odd number */
    RANS_NO_WORD,       /* the words end before the symbol at position `where` */
    RANS_BAD_END        /* words are left, or a state is not 65536 at the end */
} rans_status;

/* One table for each `count / tables` symbols; `frequencies` and `starts` are tables x levels. */
typedef struct {
    const uint16_t *frequencies;
    const uint16_t *starts;
    size_t tables;
    size_t levels;
    size_t lanes;
} rans_tables;

static int rans_usable(const rans_tables *tables, size_t count) {
    return tables->tables >= 1 && tables->levels >= 2 && tables->levels <= 256 && tables->lanes >= 1 &&
           tables->lanes <= RANS_MAX_LANES && count >= 1 && count <= SIZE_MAX / 4 && count % tables->tables == 0;
}

static size_t rans_lanes(const rans_tables *tables, size_t count) {
    return tables->lanes < count ? tables->lanes : count;
}

/* The room that `rans_encode` needs for `count` symbols; no symbol takes more than a word. */
static size_t rans_max_bytes(const rans_tables *tables, size_t count) {
    return 4 * rans_lanes(tables, count) + 2 * count;
}

/* Encode `count` symbols, the last one first, to the end of `room`; the payload begins `*first` bytes into it. */
static rans_status rans_encode(const rans_tables *tables, const uint8_t *symbols, size_t count, uint8_t *room,
                               size_t *first, size_t *where) {
    uint32_t states[RANS_MAX_LANES];
    size_t lanes, lane, position, table, left;
    uint8_t *head;

    *where = 0;
    if (!rans_usable(tables, count)) return RANS_BAD_ARGUMENTS;
    lanes = rans_lanes(tables, count);
    for (lane = 0; lane < lanes; lane++) states[lane] = RANS_START;
    head = room + rans_max_bytes(tables, count);
    lane = (count - 1) % lanes;
    position = count;
    for (table = tables->tables; table-- > 0;) {
        const uint16_t *frequencies = tables->frequencies + table * tables->levels;
        const uint16_t *starts = tables->starts + table * tables->levels;
        for (left = count / tables->tables; left > 0; left--) {
            uint32_t state = states[lane], frequency;
            uint8_t symbol = symbols[--position];
            *where = position;
            if (symbol >= tables->levels) return RANS_BAD_SYMBOL;
            frequency = frequencies[symbol];
            if (frequency == 0) return RANS_BAD_TABLE;
            if (state >= frequency << 16) {
                *--head = (uint8_t)(state >> 8);
                *--head = (uint8_t)state;
                state >>= 16;
            }
            states[lane] = ((state / frequency) << 16) + state % frequency + starts[symbol];
            lane = lane ? lane - 1 : lanes - 1;
        }
    }
    for (lane = lanes; lane-- > 0;) {
        *--head = (uint8_t)(states[lane] >> 24);
        *--head = (uint8_t)(states[lane] >> 16);
        *--head = (uint8_t)(states[lane] >> 8);
        *--head = (uint8_t)states[lane];
    }
    *first = (size_t)(head - room);
    return RANS_OK;
}

/* The last symbol that starts at or below `slot`, or 0; without a branch that depends on the data. */
static size_t rans_find(const uint16_t *starts, size_t levels, uint32_t slot) {
    const uint16_t *base = starts;
    size_t length = levels;
    while (length > 1) {
        size_t half = length / 2;
        base += base[half] <= slot ? half : 0;
        length -= half;
    }
    return (size_t)(base - starts);
}

/* Decode exactly `count` symbols from a payload of `length` bytes. */
static rans_status rans_decode(const rans_tables *tables, const uint8_t *payload, size_t length, uint8_t *symbols,
                               size_t count, size_t *where) {
    uint32_t states[RANS_MAX_LANES];
    size_t lanes, lane, position, table, left;
    const uint8_t *word, *end;

    *where = 0;
    if (!rans_usable(tables, count)) return RANS_BAD_ARGUMENTS;
    lanes = rans_lanes(tables, count);
    if (length < 4 * lanes || length % 2) return RANS_TOO_SHORT;
    for (lane = 0; lane < lanes; lane++) {
        const uint8_t *state = payload + 4 * lane;
        states[lane] = state[0] | (uint32_t)state[1] << 8 | (uint32_t)state[2] << 16 | (uint32_t)state[3] << 24;
        *where = states[lane];
        if (states[lane] < RANS_START) return RANS_BAD_STATE;
    }
    word = payload + 4 * lanes;
    end = payload + length;
    lane = 0;
    position = 0;
    for (table = 0; table < tables->tables; table++) {
        const uint16_t *frequencies = tables->frequencies + table * tables->levels;
        const uint16_t *starts = tables->starts + table * tables->levels;
        for (left = count / tables->tables; left > 0; left--) {
            uint32_t state = states[lane], slot = state & 0xFFFF;
            size_t symbol = rans_find(starts, tables->levels, slot);
            state = frequencies[symbol] * (state >> 16) + slot - starts[symbol];
            if (state < RANS_START) {
                *where = position;
                if (word == end) return RANS_NO_WORD;
                state = state << 16 | word[0] | (uint32_t)word[1] << 8;
                word += 2;
            }
            states[lane] = state;
            symbols[position++] = (uint8_t)symbol;
            lane = lane + 1 == lanes ? 0 : lane + 1;
        }
    }
    if (word != end) return RANS_BAD_END;
    for (lane = 0; lane < lanes; lane++)
        if (states[lane] != RANS_START) return RANS_BAD_END;
    return RANS_OK;
}

#endif
