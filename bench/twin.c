/*
 * The yardstick of the core: the same lists in C, and nothing else.
 *
 * Buddy lists, fallback with page-block types, and one CPU's pageset by the rules of docs/model.md,
 * over the same 16-byte page records. No watermarks, no counters, no owner or sequence, no locks, no
 * checks of what is freed, no notification. `twin_replay` makes the requests of a trace as
 * `allocator.replay` does, from the same words, and ends with the same lists.
 */
#include <stdint.h>

enum {
    ORDERS = 11,
    TYPES = 6,
    PAGESET_TYPES = 3,
    PAGESET_ORDERS = 4,
    PAGESET_LISTS = PAGESET_ORDERS * PAGESET_TYPES + 2,
    FACTOR_MAX = 5,
    BLOCK_ORDER = 9,
    BLOCK_PAGES = 1 << BLOCK_ORDER,
    UNMOVABLE = 0,
    MOVABLE = 1,
    RECLAIMABLE = 2,
    ORDER_MASK = 0xf,
    KIND_MASK = 0x70,
    FREE = 0x10,
    IN_PAGESET = 0x20,
    TAKEN = 0x30,
    TYPE_SHIFT = 8,
    ON_LRU = 0x1000,
    NO_PAGE = -1,
    GFP_MOVABLE = 1 << 11,
};

struct page {
    int32_t next;
    int32_t previous;
    int32_t state;
    int32_t spare;
};

struct zone {
    struct page *pages;
    int8_t *block_types;
    int32_t *taken;
    int64_t end_pfn;
    int64_t free_lists;
    int64_t pageset_lists;
    int64_t batch;
    int64_t high;
    int64_t free_pages;
    int64_t blocks[ORDERS];
    int64_t pageset_pages;
    int64_t free_factor;
};

_Static_assert(sizeof(struct page) == 16, "a page record is 16 bytes");

/* Lists: a head is a page record too. */

static inline void list_insert(struct page *pages, int32_t previous, int32_t next, int32_t pfn)
{
    pages[pfn].next = next;
    pages[pfn].previous = previous;
    pages[previous].next = pfn;
    pages[next].previous = pfn;
}

static inline void list_remove(struct page *pages, int32_t pfn)
{
    int32_t next = pages[pfn].next, previous = pages[pfn].previous;

    pages[previous].next = next;
    pages[next].previous = previous;
}

static inline int32_t head_of(const struct zone *zone, int order, int type)
{
    return zone->free_lists + order * TYPES + type;
}

static inline void put_head(struct zone *zone, int32_t pfn, int order, int type)
{
    int32_t head = head_of(zone, order, type);

    list_insert(zone->pages, head, zone->pages[head].next, pfn);
    zone->pages[pfn].state = FREE | order | type << TYPE_SHIFT;
    zone->blocks[order]++;
}

static inline void put_tail(struct zone *zone, int32_t pfn, int order, int type)
{
    int32_t head = head_of(zone, order, type);

    list_insert(zone->pages, zone->pages[head].previous, head, pfn);
    zone->pages[pfn].state = FREE | order | type << TYPE_SHIFT;
    zone->blocks[order]++;
}

static inline void take_off(struct zone *zone, int32_t pfn, int order)
{
    list_remove(zone->pages, pfn);
    zone->pages[pfn].state = 0;
    zone->blocks[order]--;
}

/* Buddy lists. */

static inline int is_buddy(const struct zone *zone, int64_t pfn, int order)
{
    return pfn < zone->end_pfn
        && (zone->pages[pfn].state & (KIND_MASK | ORDER_MASK)) == (FREE | order);
}

static void free_block(struct zone *zone, int32_t pfn, int order, int type)
{
    zone->free_pages += 1 << order;
    while (order < ORDERS - 1 && is_buddy(zone, pfn ^ (1 << order), order)) {
        int32_t buddy = pfn ^ (1 << order);

        take_off(zone, buddy, order);
        pfn &= buddy;
        order++;
    }
    if (order < BLOCK_ORDER && is_buddy(zone, (pfn & ~(1 << order)) ^ (2 << order), order + 1))
        put_tail(zone, pfn, order, type);
    else
        put_head(zone, pfn, order, type);
}

static int32_t take_smallest(struct zone *zone, int order, int type)
{
    for (int current = order; current < ORDERS; current++) {
        int32_t head = head_of(zone, current, type), pfn = zone->pages[head].next;

        if (pfn == head)
            continue;
        take_off(zone, pfn, current);
        while (current > order) {
            current--;
            put_head(zone, pfn + (1 << current), current, type);
        }
        return pfn;
    }
    return NO_PAGE;
}

/* Fallback. */

static const int8_t FALLBACKS[PAGESET_TYPES][2] = {
    [UNMOVABLE] = { RECLAIMABLE, MOVABLE },
    [MOVABLE] = { RECLAIMABLE, UNMOVABLE },
    [RECLAIMABLE] = { UNMOVABLE, MOVABLE },
};

static int fallback_of(const struct zone *zone, int order, int type)
{
    for (int choice = 0; choice < 2; choice++) {
        int other = FALLBACKS[type][choice];
        int32_t head = head_of(zone, order, other);

        if (zone->pages[head].next != head)
            return other;
    }
    return NO_PAGE;
}

static void move_block(struct zone *zone, int32_t pfn, int order, int type)
{
    int32_t head = head_of(zone, order, type);

    list_remove(zone->pages, pfn);
    list_insert(zone->pages, zone->pages[head].previous, head, pfn);
    zone->pages[pfn].state = FREE | order | type << TYPE_SHIFT;
}

static void claim(struct zone *zone, int32_t pfn, int order, int type, int whole)
{
    int old_type = zone->block_types[pfn >> BLOCK_ORDER];
    int free = 0, movable = 0, alike = 0;

    if (order >= BLOCK_ORDER) {
        for (int block = 0; block < 1 << (order - BLOCK_ORDER); block++)
            zone->block_types[(pfn >> BLOCK_ORDER) + block] = type;
        move_block(zone, pfn, order, type);
        return;
    }
    if (!whole) {
        move_block(zone, pfn, order, type);
        return;
    }
    int32_t first = pfn & ~(BLOCK_PAGES - 1);
    for (int32_t page = first; page < first + BLOCK_PAGES;) {
        int32_t state = zone->pages[page].state;
        int pages = 1 << (state & ORDER_MASK);

        if ((state & KIND_MASK) == FREE) {
            move_block(zone, page, state & ORDER_MASK, type);
            free += pages;
        } else if ((state & KIND_MASK) == TAKEN && state & ON_LRU) {
            movable += pages;
        }
        page += pages;
    }
    if (type == MOVABLE)
        alike = movable;
    else if (old_type == MOVABLE)
        alike = BLOCK_PAGES - free - movable;
    if (free + alike >= BLOCK_PAGES / 2)
        zone->block_types[pfn >> BLOCK_ORDER] = type;
}

static int bring_over(struct zone *zone, int order, int type)
{
    for (int current = ORDERS - 1; current >= order; current--) {
        int other = fallback_of(zone, current, type);
        int whole = current >= BLOCK_ORDER / 2 || type != MOVABLE;

        if (other == NO_PAGE)
            continue;
        if (!whole && current > order) {
            for (current = order; (other = fallback_of(zone, current, type)) == NO_PAGE; current++)
                ;
            whole = 0;
        }
        claim(zone, zone->pages[head_of(zone, current, other)].next, current, type, whole);
        return 1;
    }
    return 0;
}

static int32_t take_block(struct zone *zone, int order, int type)
{
    int32_t pfn = take_smallest(zone, order, type);

    while (pfn == NO_PAGE && bring_over(zone, order, type))
        pfn = take_smallest(zone, order, type);
    return pfn;
}

/* The pageset. */

static inline int in_pageset(int order)
{
    return order < PAGESET_ORDERS || order == BLOCK_ORDER;
}

static inline int list_of(int order, int type)
{
    if (order == BLOCK_ORDER)
        return PAGESET_ORDERS * PAGESET_TYPES + (type == MOVABLE);
    return order * PAGESET_TYPES + type;
}

static void refill(struct zone *zone, int32_t head, int order, int type)
{
    int64_t wanted = zone->batch;

    if (wanted > 1)
        wanted = wanted >> order > 2 ? wanted >> order : 2;
    for (int64_t taken = 0; taken < wanted; taken++) {
        int32_t pfn = take_block(zone, order, type);

        if (pfn == NO_PAGE)
            return;
        zone->pages[pfn].state = IN_PAGESET | order | type << TYPE_SHIFT;
        list_insert(zone->pages, zone->pages[head].previous, head, pfn);
        zone->free_pages -= 1 << order;
        zone->pageset_pages += 1 << order;
    }
}

static int32_t pageset_take(struct zone *zone, int order, int type)
{
    int32_t head = zone->pageset_lists + list_of(order, type), pfn;

    zone->free_factor >>= 1;
    if (zone->pages[head].next == head)
        refill(zone, head, order, type);
    pfn = zone->pages[head].next;
    if (pfn == head)
        return NO_PAGE;
    list_remove(zone->pages, pfn);
    zone->pageset_pages -= 1 << order;
    return pfn;
}

static void drain(struct zone *zone, int64_t pages, int index)
{
    while (pages > 0) {
        int32_t head = zone->pageset_lists + index, pfn;
        int order = index >= PAGESET_ORDERS * PAGESET_TYPES ? BLOCK_ORDER : index / PAGESET_TYPES;

        while (pages > 0 && (pfn = zone->pages[head].previous) != head) {
            int type = zone->pages[pfn].state >> TYPE_SHIFT & 7;

            list_remove(zone->pages, pfn);
            zone->pages[pfn].state = 0;
            pages -= 1 << order;
            zone->pageset_pages -= 1 << order;
            free_block(zone, pfn, order, type);
        }
        index = index + 1 == PAGESET_LISTS ? 0 : index + 1;
    }
}

static void pageset_give(struct zone *zone, int32_t pfn, int order, int type)
{
    int index = list_of(order, type);
    int32_t head = zone->pageset_lists + index;
    int64_t pages, most;

    zone->pages[pfn].state = IN_PAGESET | order | type << TYPE_SHIFT;
    list_insert(zone->pages, head, zone->pages[head].next, pfn);
    zone->pageset_pages += 1 << order;
    if (zone->free_factor && order > 0 && order < PAGESET_ORDERS) {
        drain(zone, zone->pageset_pages, index);
        return;
    }
    if (zone->pageset_pages < zone->high)
        return;
    pages = 1;
    if (zone->high >= zone->batch) {
        most = zone->high - zone->batch;
        pages = zone->batch << zone->free_factor;
        if (pages < most && zone->free_factor < FACTOR_MAX)
            zone->free_factor++;
        pages = pages < zone->batch ? zone->batch : pages;
        pages = pages < most ? pages : most;
    }
    drain(zone, pages < zone->pageset_pages ? pages : zone->pageset_pages, index);
}

/* Requests. */

static int32_t take(struct zone *zone, int order, int type, int64_t gfp)
{
    int32_t pfn = NO_PAGE;

    if (in_pageset(order))
        pfn = pageset_take(zone, order, type);
    if (pfn == NO_PAGE) {
        pfn = take_block(zone, order, type);
        if (pfn == NO_PAGE)
            return NO_PAGE;
        zone->free_pages -= 1 << order;
    }
    zone->pages[pfn].state = TAKEN | order | type << TYPE_SHIFT | (gfp & GFP_MOVABLE ? ON_LRU : 0);
    return pfn;
}

static void give(struct zone *zone, int32_t pfn)
{
    int order = zone->pages[pfn].state & ORDER_MASK;
    int type = zone->block_types[pfn >> BLOCK_ORDER];

    if (in_pageset(order)) {
        pageset_give(zone, pfn, order, type < PAGESET_TYPES ? type : MOVABLE);
        return;
    }
    zone->pages[pfn].state = 0;
    free_block(zone, pfn, order, type);
}

/*
 * Requests are pairs of words: the time, unused here, and what `replay_word.pack_request` made.
 * Returns how many got nothing.
 */
int64_t twin_replay(struct zone *zone, const int64_t *requests, int64_t count)
{
    int64_t failed = 0;

    for (int64_t number = 0; number < count; number++) {
        int64_t word = requests[2 * number + 1];
        int32_t *taken = &zone->taken[word >> 9 & 0xffffffff];

        if ((word & 3) == 0) {
            *taken = take(zone, word >> 2 & 0xf, word >> 6 & 7, word >> 41);
            failed += *taken == NO_PAGE;
        } else if (*taken != NO_PAGE) {
            give(zone, *taken);
            *taken = NO_PAGE;
        }
    }
    return failed;
}
