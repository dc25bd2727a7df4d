/* Which characters of a text are private data: what `emails` and `identifiers` do, for texts that are short.
 *
 * It works on plain characters and reports every stretch, as those do. Where a letter that is neither ASCII nor Asian could
 * belong to an address, or `%40` stands for an @, it judges nothing and leaves the text to them.
 */
#include "identifiers.h"

enum { LEAST_RUN = 7 };

static int is_separator(uint8_t c) { return c == ' ' || c == '.' || c == '(' || c == ')' || c == '-'; }
static int is_x(uint8_t c) { return (c | 32) == 'x'; }

static int add(Search *search, int32_t first, int32_t last, int kind) {
    if (search->span_count == MOST_SPANS)
        return 0;
    search->span[search->span_count++] = (Span){search->at[first], search->at[last], kind, last - first};
    return 1;
}

/* The group of digits that begins at `at`; returns its end. */
static int32_t add_group(const uint8_t *plain, int32_t at, int32_t end, Number *number) {
    int32_t begin = at;
    for (; at < end && is_digit(plain[at]); at++, number->count++)
        if (number->count < MOST_DIGITS)
            number->digit[number->count] = plain[at];
    if (at < end && is_x(plain[at]))
        number->x = 1, number->count++, at++;
    if (number->groups <= MOST_DIGITS)
        number->length[number->groups] = at - begin;
    number->groups++;
    return at;
}

static int32_t next_group(const uint8_t *plain, int32_t at, int32_t end) {
    while (at < end && !is_digit(plain[at]))
        at++;
    return at;
}

static int classify_whole(const uint8_t *plain, int32_t start, int32_t end) {
    Number number = {.plus = plain[start] == '+'};
    for (int32_t at = start; number.count <= MOST_DIGITS && (at = next_group(plain, at, end)) < end;)
        at = add_group(plain, at, end, &number);
    if (number.count > MOST_DIGITS || (number.count < FEWEST && !number.plus))
        return 0;
    return localmodel_classify(&number);
}

static int find_in(Search *search, int32_t start, int32_t end, int kinds) {
    const uint8_t *plain = search->plain;
    int32_t leading = next_group(plain, start, end);
    for (int32_t first = leading; first < end;) {
        Number number = {.plus = first == leading && plain[start] == '+', .fraction = first > start && plain[first - 1] == '.'};
        int32_t group_end = 0;
        for (int32_t at = first; at < end; at = next_group(plain, at, end)) {
            at = add_group(plain, at, end, &number);
            group_end = group_end ? group_end : at;
            if (number.count > MOST_DIGITS)
                break;
            if (number.count < (number.plus ? FEWEST_AFTER_PLUS : FEWEST))
                continue;
            int kind = localmodel_classify(&number) & kinds;
            if (kind && !add(search, first == leading ? start : first, at, kind))
                return 0;
        }
        first = next_group(plain, group_end, end);
    }
    return 1;
}

/* Where a run of digits from `at` ends: at most three separators between two, at least seven digits. */
static int32_t run_end(const uint8_t *plain, int32_t at, int32_t end, int *count) {
    for (*count = 1, at++;; ++*count) {
        int32_t next = at;
        while (next < end && next - at < 3 && is_separator(plain[next]))
            next++;
        if (next >= end || !is_digit(plain[next]))
            return at;
        at = next + 1;
    }
}

static int find_numbers(Search *search, int32_t first, int32_t end, int kinds) {
    const uint8_t *plain = search->plain;
    for (int32_t at = first, last = first; at < end;) {
        if (!is_digit(plain[at])) {
            at++;
            continue;
        }
        int count;
        int32_t start = at, stop = run_end(plain, at, end, &count);
        at = stop;
        if (count < LEAST_RUN)
            continue;
        if (stop < end && is_x(plain[stop]))
            stop++;
        if (start > last && plain[start - 1] == '(')
            start--;
        if (start > last && plain[start - 1] == '+')
            start--;
        else if (start > last + 1 && plain[start - 1] == ' ' && plain[start - 2] == '+')
            start -= 2;
        int whole = classify_whole(plain, start, stop) & kinds;
        if (!(whole ? add(search, start, stop, whole) : find_in(search, start, stop, kinds)))
            return 0;
        at = last = stop;
    }
    return 1;
}

static int is_local(uint8_t c) {
    return is_letter(c) || is_digit(c) || c == '.' || c == '_' || c == '%' || c == '+' || c == '\'' || c == '-';
}

/* Where a domain from `at` ends, `at` if there is none; -1: it can't be judged. */
static int32_t domain_end(const uint8_t *plain, int32_t at, int32_t end) {
    int32_t label = at, found = at;
    for (int32_t next = at;; next++) {
        if (next < end && (is_letter(plain[next]) || is_digit(plain[next]) || plain[next] == '-'))
            continue;
        int32_t letters = label;
        while (letters < next && is_letter(plain[letters]))
            letters++;
        if (label > at && letters - label >= 2)
            found = letters;
        if (next < end && plain[next] == '.' && next > label) {
            label = next + 1;
            continue;
        }
        int odd = next < end ? plain[next] : 0;
        return odd == OTHER || (odd == EAST && found == at) ? -1 : found;
    }
}

static int find_emails(Search *search, int32_t first, int32_t last) {
    const uint8_t *plain = search->plain;
    for (const uint8_t *each = plain + first; (each = memchr(each, '%', plain + last - each)); each++)
        if (plain + last - each > 2 && each[1] == '4' && each[2] == '0')
            return 0;
    int32_t end = first;
    for (const uint8_t *each = plain + first; (each = memchr(each, '@', plain + last - each)); each++) {
        int32_t at = each - plain, start = at;
        while (start > end && is_local(plain[start - 1]))
            start--;
        if (start > end && plain[start - 1] == OTHER)
            return 0;
        if (start == at)
            continue;
        int32_t stop = domain_end(plain, at + 1, last);
        if (stop < 0 || (stop > at + 1 && !add(search, start, stop, EMAIL)))
            return 0;
        end = stop > at + 1 ? stop : end;
    }
    return 1;
}

int localmodel_find_private(Search *search, const Text *text, int kinds) {
    if (kinds & EMAIL && !find_emails(search, text->first, text->last))
        return 0;
    return !(kinds & ~EMAIL) || find_numbers(search, text->first, text->last, kinds & ~EMAIL);
}
