/* Puts bodies together again, with what was found in their texts replaced: what `redact` does for one text. */
#include <stdlib.h>

#include "body_search.h"

/* By place; of the same place, by the kinds' names. */
static int compare(const void *left, const void *right) {
    const Span *one = left, *other = right;
    if (one->start != other->start)
        return one->start - other->start;
    return one->end != other->end ? one->end - other->end : one->kind - other->kind;
}

/* Overlapping spans as one, with the kind of the longest; returns how many are left. */
static int32_t unite(Span *span, int32_t count) {
    int32_t united = 0, longest = 0;
    for (int32_t i = 0; i < count; i++) {
        Span each = span[i];
        if (!united || each.start >= span[united - 1].end) {
            span[united++] = each;
            longest = each.size;
            continue;
        }
        Span *last = &span[united - 1];
        last->end = each.end > last->end ? each.end : last->end;
        if (each.size > longest) {
            last->kind = each.kind;
            longest = each.size;
        }
    }
    return united;
}

typedef struct {
    uint8_t *at, *end;
} Output;

static int write_out(Output *out, const void *data, int64_t size) {
    if (out->end - out->at < size)
        return 0;
    memcpy(out->at, data, size);
    out->at += size;
    return 1;
}

static int write_escaped(Output *out, const uint8_t *data, const uint8_t *end) {
    for (;;) {
        const uint8_t *run = run_of(data, end);
        if (!write_out(out, data, run - data) || out->end - out->at < 6)
            return 0;
        if (run == end)
            return 1;
        out->at += escape(*run, out->at);
        data = run + 1;
    }
}

static int write_kind(Output *out, int kind) {
    const char *name = kind == EMAIL ? "[Email]" : kind == PHONE ? "[Phone]" : kind == ID_CARD ? "[IDCard]" : "[Redacted]";
    if (kind == BANK_CARD)
        name = "[BankCard]";
    return write_out(out, name, strlen(name));
}

/* The text with its spans replaced; `from` is the first of them, of `count`. Returns the one behind the last, or -1. */
static int32_t write_text(Output *out, const Search *search, const Text *text, int32_t from, int32_t count) {
    int32_t at = text->start;
    for (; from < count && search->span[from].start < text->end; from++) {
        const Span *span = &search->span[from];
        if (!write_escaped(out, search->texts + at, search->texts + span->start) || !write_kind(out, span->kind))
            return -1;
        at = span->end;
    }
    return write_escaped(out, search->texts + at, search->texts + text->end) ? from : -1;
}

/* Every span must lie in one text: what reaches over its end was found in two. */
static int are_inside(const Search *search) {
    int32_t at = 0;
    for (int32_t i = 0; i < search->text_count; i++) {
        const Text *text = &search->text[i];
        for (; at < search->span_count && search->span[at].start < text->end; at++)
            if (search->span[at].start < text->start || search->span[at].end > text->end)
                return 0;
    }
    return at == search->span_count;
}

/* The character that has this byte, of characters that begin `at` these; the next one, if this is only its end. */
static int32_t char_at(const int32_t *at, int32_t count, int32_t byte, int is_end) {
    int32_t low = 0, high = count;
    while (low < high) {
        int32_t middle = (low + high) / 2;
        if (at[middle] < byte)
            low = middle + 1;
        else
            high = middle;
    }
    return at[low] > byte && !is_end ? low - 1 : low;
}

/* own [count]: start and end of each, in bytes of what begins `at` these for each character. */
static int add_own(Search *search, const int32_t *own, int64_t count, const int32_t *at) {
    int32_t chars = search->char_count;
    if (count > MOST_SPANS - search->span_count)
        return 0;
    for (int64_t i = 0; i < count; i++, own += 2) {
        if (own[0] < 0 || own[1] <= own[0] || own[1] > at[chars])
            return 0;
        int32_t first = char_at(at, chars, own[0], 0), last = char_at(at, chars, own[1], 1);
        search->span[search->span_count++] = (Span){search->at[first], search->at[last], REDACTED, last - first};
    }
    return 1;
}

/* own [own_count]: bytes of `texts` where own patterns matched; odd [odd_count]: those of the plain texts; kinds: what else
 * is looked for. Writes those bodies that were served, one behind the other; ends [bodies], of each, is set to -1 for those
 * that were not, or that Python must judge. Returns 0: none can be told. */
int64_t localmodel_put_together(
    Search *search, const int32_t *own, int64_t own_count, const int32_t *odd, int64_t odd_count, int64_t kinds, uint8_t *output,
    int64_t capacity, int32_t *ends) {
    search->at[search->char_count] = search->text_bytes;
    if (!add_own(search, own, own_count, search->at) || !add_own(search, odd, odd_count, search->plain_at))
        return 0;
    int32_t number = 0;
    for (int32_t i = 0; i < search->body_count; i++) {
        Body *body = &search->body[i];
        for (; number < body->text_end; number++)
            if (!localmodel_find_private(search, &search->text[number], (int)kinds))
                body->served = 0;
    }
    qsort(search->span, search->span_count, sizeof(Span), compare);
    if (!are_inside(search))
        return 0;
    int32_t count = unite(search->span, search->span_count), span = 0, frame = 0;
    Output out = {output, output + capacity};
    number = 0;
    for (int32_t i = 0; i < search->body_count; i++) {
        Body *body = &search->body[i];
        uint8_t *start = out.at;
        for (; number < body->text_end; number++) {
            const Text *text = &search->text[number];
            int32_t before = span;
            if (!write_out(&out, search->frame + frame, text->cut - frame))
                return 0;
            frame = text->cut;
            if ((span = write_text(&out, search, text, span, count)) < 0)
                return 0;
            if (text->is_key && span > before)
                body->served = 0;
        }
        if (!write_out(&out, search->frame + frame, body->frame_end - frame))
            return 0;
        frame = body->frame_end;
        if (!body->served)
            out.at = start;
        ends[i] = body->served ? out.at - output : -1;
    }
    return 1;
}

int64_t localmodel_search_size(void) { return sizeof(Search); }
