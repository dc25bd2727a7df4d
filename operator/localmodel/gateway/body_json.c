/* Takes JSON bodies apart: the texts that must be searched, and the frame that they stand in.
 *
 * It knows the usual forms only and refuses the rest, which Python does: what is no JSON, the same key twice, numbers that
 * another encoder would write otherwise or that are long, lists of numbers, log-probabilities, JSON in a text, half a
 * surrogate pair.
 */
#include "body_search.h"

enum { DEEPEST = 32, MOST_KEYS = 32, KNOWN_BYTES = 32 };
/* What is looked at: nothing; all; all but what the gateway says of itself, in the first object. */
enum { NOTHING, ALL, ANSWER };

typedef struct {
    Search *to;
    const uint8_t *at, *end, *plain;
    const char *known;
} Reader;

static int value(Reader *in, int looked_at, int depth);

static void skip_blanks(Reader *in) {
    while (in->at < in->end && (*in->at == ' ' || *in->at == '\n' || *in->at == '\t' || *in->at == '\r'))
        in->at++;
}

static int next_is(Reader *in, uint8_t c) {
    skip_blanks(in);
    return in->at < in->end && *in->at == c;
}

static int put(Reader *in, const void *data, int64_t size) {
    Search *to = in->to;
    if (to->frame_bytes + size > MOST_BYTES)
        return 0;
    memcpy(to->frame + to->frame_bytes, data, size);
    to->frame_bytes += size;
    return 1;
}

/* Four hexadecimal digits; -1 if they are none. */
static int32_t hex4(Reader *in) {
    int32_t code = 0;
    if (in->end - in->at < 4)
        return -1;
    for (int i = 0; i < 4; i++) {
        uint8_t c = *in->at++, low = c | 32;
        if (!is_digit(c) && (low < 'a' || low > 'f'))
            return -1;
        code = code << 4 | (is_digit(c) ? c - '0' : low - 'a' + 10);
    }
    return code;
}

/* Behind a backslash. */
static int32_t escaped(Reader *in) {
    static const char from[] = "\"\\/bfnrt", into[] = "\"\\/\b\f\n\r\t";
    if (in->at >= in->end)
        return -1;
    uint8_t c = *in->at++;
    const char *found = c ? strchr(from, c) : 0;
    if (found)
        return into[found - from];
    int32_t code = c == 'u' ? hex4(in) : -1;
    if (code < 0xd800 || code > 0xdfff)
        return code;
    if (code > 0xdbff || in->end - in->at < 6 || in->at[0] != '\\' || in->at[1] != 'u')
        return -1;
    in->at += 2;
    int32_t low = hex4(in);
    return low < 0xdc00 || low > 0xdfff ? -1 : 0x10000 + ((code - 0xd800) << 10) + low - 0xdc00;
}

/* Of more than one byte, in UTF-8. */
static int32_t decoded(Reader *in) {
    uint8_t first = *in->at++;
    int more = first >= 0xf0 ? 3 : first >= 0xe0 ? 2 : 1;
    if (first < 0xc2 || first > 0xf4 || in->end - in->at < more)
        return -1;
    int32_t code = first & (0x3f >> more);
    for (int i = 0; i < more; i++) {
        if ((in->at[0] & 0xc0) != 0x80)
            return -1;
        code = code << 6 | (*in->at++ & 0x3f);
    }
    int32_t least = more == 3 ? 0x10000 : more == 2 ? 0x800 : 0x80;
    return code < least || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff) ? -1 : code;
}

static int write_utf8(uint8_t *into, int32_t code) {
    if (code < 0x80) {
        into[0] = code;
        return 1;
    }
    int more = code >= 0x10000 ? 3 : code >= 0x800 ? 2 : 1;
    into[0] = (0xff00 >> (more + 1) & 0xff) | code >> 6 * more;
    for (int i = 1; i <= more; i++)
        into[i] = 0x80 | (code >> 6 * (more - i) & 0x3f);
    return more + 1;
}

static uint8_t plain_of(const Reader *in, int32_t code) {
    if (code < 0x10000)
        return in->plain[code];
    return code >= 0x1d400 && code < 0x1d800 ? in->plain[code - 0x1d400 + 0x10000] : OTHER;
}

/* ASCII without escapes, which is most of most texts: many characters at once. */
static void read_run(Reader *in) {
    Search *to = in->to;
    const uint8_t *data = in->at;
    int32_t size = 0, most = (int32_t)(in->end - data), bytes = to->text_bytes, *at = to->at + to->char_count;
    while (size < most && data[size] < 0x80 && !needs_escape(data[size]))
        size++;
    memcpy(to->texts + bytes, data, size);
    memcpy(to->plain + to->char_count, data, size);
    for (int32_t i = 0; i < size; i++)
        at[i] = bytes + i;
    in->at += size;
    to->text_bytes += size;
    to->char_count += size;
}

/* From the quotation mark, to the end of `texts`. It can't be more than it was, so there is room. */
static int read_text(Reader *in, Text *text) {
    Search *to = in->to;
    text->start = to->text_bytes;
    text->first = to->char_count;
    for (in->at++; read_run(in), in->at < in->end && *in->at != '"';) {
        if (*in->at < 0x20)
            return 0;
        int32_t code = *in->at == '\\' ? in->at++, escaped(in) : decoded(in);
        if (code <= 0)
            return 0;
        to->at[to->char_count] = to->text_bytes;
        uint8_t plain = code < 0x80 ? code : plain_of(in, code);
        to->has_odd |= code >= 0x80 && plain < 0x80;
        to->plain[to->char_count++] = plain;
        to->text_bytes += write_utf8(to->texts + to->text_bytes, code);
    }
    if (in->at++ >= in->end)
        return 0;
    text->end = to->text_bytes;
    text->last = to->char_count;
    return 1;
}

static int keep_text(Reader *in, Text *text) {
    Search *to = in->to;
    if (to->text_count == MOST_TEXTS || !put(in, "\"", 1))
        return 0;
    text->cut = to->frame_bytes;
    to->at[to->char_count] = to->text_bytes;
    to->plain[to->char_count++] = 0;
    memcpy(to->texts + to->text_bytes, "\n\0\n", 3);
    to->text_bytes += 3;
    to->text[to->text_count++] = *text;
    return put(in, "\"", 1);
}

/* A text that is not looked at goes into the frame. */
static int frame_text(Reader *in, const Text *text) {
    Search *to = in->to;
    const uint8_t *end = to->texts + text->end;
    uint8_t escapes[6];
    if (!put(in, "\"", 1))
        return 0;
    for (const uint8_t *at = to->texts + text->start; at < end;) {
        const uint8_t *run = run_of(at, end);
        if (!put(in, at, run - at) || (run < end && !put(in, escapes, escape(*run, escapes))))
            return 0;
        at = run + 1;
    }
    to->text_bytes = text->start;
    to->char_count = text->first;
    return put(in, "\"", 1);
}

static int text_value(Reader *in, int looked_at) {
    Text text = {0};
    if (!read_text(in, &text))
        return 0;
    if (looked_at == NOTHING)
        return frame_text(in, &text);
    uint8_t first = text.end > text.start ? in->to->texts[text.start] : 0;
    return first != '{' && first != '[' && keep_text(in, &text);
}

/* At most six digits and as many behind a point, as every encoder writes them; of what is not looked at, any. */
static int number(Reader *in, int looked_at) {
    const uint8_t *start = in->at, *digits = start + (*start == '-'), *at = digits;
    while (at < in->end && is_digit(*at))
        at++;
    int64_t whole = at - digits, behind = 0, zeros = 0;
    if (at < in->end && *at == '.') {
        const uint8_t *point = at++;
        while (at < in->end && is_digit(*at))
            zeros += zeros == at - point - 1 && *at == '0', at++;
        behind = at - point - 1;
        if (!behind || (at[-1] == '0' && behind > 1) || (*digits == '0' && zeros > 2))
            return 0;
    }
    if (!whole || (whole > 1 && *digits == '0') || (*start == '-' && *digits == '0' && !behind))
        return 0;
    if (at < in->end && (*at | 32) == 'e')
        return 0;
    if ((looked_at != NOTHING && whole > 6) || whole > 15 || behind > 6)
        return 0;
    in->at = at;
    return put(in, start, at - start);
}

static int word(Reader *in, const char *expected) {
    int64_t size = strlen(expected);
    if (in->end - in->at < size || memcmp(in->at, expected, size))
        return 0;
    in->at += size;
    return put(in, expected, size);
}

static int list(Reader *in, int looked_at, int depth) {
    in->at++;
    if (!put(in, "[", 1))
        return 0;
    if (next_is(in, ']'))
        return in->at++, put(in, "]", 1);
    if (looked_at != NOTHING && in->at < in->end && (is_digit(*in->at) || *in->at == '-'))
        return 0;
    for (;; in->at++) {
        if (!value(in, looked_at, depth + 1))
            return 0;
        if (next_is(in, ']'))
            return in->at++, put(in, "]", 1);
        if (!next_is(in, ',') || !put(in, ",", 1))
            return 0;
    }
}

/* The place of a key among those known; -1 if it is none of them. */
static int known_key(const Reader *in, const Text *key) {
    int32_t size = key->end - key->start;
    const uint8_t *text = in->to->texts + key->start;
    for (int i = 0; in->known[i * KNOWN_BYTES]; i++) {
        const char *each = in->known + i * KNOWN_BYTES;
        if (each[1] == size && each[2] == text[0] && !memcmp(each + 2, text, size))
            return i;
    }
    return -1;
}

/* Known keys are of KNOWN_BYTES: what they are, how long, and themselves. */
enum { OF_OTHERS = 'k', OURS = 'o', OURS_ONLY = 's', LOG_PROBABILITIES = 'l' };

static int object(Reader *in, int looked_at, int depth) {
    Search *to = in->to;
    uint64_t seen = 0;
    Text keys[MOST_KEYS];
    int key_count = 0;
    in->at++;
    if (!put(in, "{", 1))
        return 0;
    if (next_is(in, '}'))
        return in->at++, put(in, "}", 1);
    for (;; in->at++) {
        Text key = {.is_key = 1};
        if (!next_is(in, '"') || !read_text(in, &key))
            return 0;
        int place = known_key(in, &key);
        char kind = place < 0 ? 0 : in->known[place * KNOWN_BYTES];
        if (kind == OURS_ONLY && looked_at != ANSWER)
            kind = 0;
        if (kind) {
            if (seen >> place & 1)
                return 0;
            seen |= (uint64_t)1 << place;
        } else if (looked_at == ANSWER)
            return 0;
        if (kind || looked_at == NOTHING) {
            if (!frame_text(in, &key))
                return 0;
        } else {
            int64_t size = key.end - key.start;
            for (int i = 0; i < key_count; i++)
                if (keys[i].end - keys[i].start == size && !memcmp(to->texts + keys[i].start, to->texts + key.start, size))
                    return 0;
            if (key_count == MOST_KEYS || !keep_text(in, &key))
                return 0;
            keys[key_count++] = key;
        }
        if (!next_is(in, ':') || !put(in, ":", 1))
            return 0;
        in->at++;
        if (kind == LOG_PROBABILITIES && (next_is(in, '{') || next_is(in, '[')))
            return 0;
        int below = looked_at != ANSWER ? looked_at : kind == OURS || kind == OURS_ONLY ? NOTHING : ALL;
        if (!value(in, below, depth + 1))
            return 0;
        if (next_is(in, '}'))
            return in->at++, put(in, "}", 1);
        if (!next_is(in, ',') || !put(in, ",", 1))
            return 0;
    }
}

static int value(Reader *in, int looked_at, int depth) {
    skip_blanks(in);
    if (in->at >= in->end || depth > DEEPEST)
        return 0;
    switch (*in->at) {
    case '{':
        return object(in, looked_at, depth);
    case '[':
        return list(in, looked_at, depth);
    case '"':
        return text_value(in, looked_at);
    case 't':
        return word(in, "true");
    case 'f':
        return word(in, "false");
    case 'n':
        return word(in, "null");
    default:
        return number(in, looked_at);
    }
}

/* bodies: `count` of them, one behind the other, at most MOST_BYTES in all; ends [count]; ours [count]: it is an answer that
 * the gateway composed; plain [0x10400]: the plain character of each beyond ASCII; known: the keys that are not looked at,
 * see above. Fills `texts` and returns how many bytes that is. */
int64_t localmodel_take_apart(
    Search *search, const uint8_t *bodies, const int32_t *ends, const uint8_t *ours, int64_t count, const uint8_t *plain,
    const char *known) {
    search->body_count = search->text_count = search->span_count = 0;
    search->text_bytes = search->frame_bytes = search->char_count = search->has_odd = 0;
    int32_t start = 0;
    for (int64_t i = 0; i < count; i++) {
        int32_t text_count = search->text_count, text_bytes = search->text_bytes;
        int32_t frame_bytes = search->frame_bytes, char_count = search->char_count;
        Reader in = {search, bodies + start, bodies + ends[i], plain, known};
        int looked_at = ours[i] ? ANSWER : ALL, served = !ours[i] || next_is(&in, '{');
        served = served && value(&in, looked_at, 0);
        skip_blanks(&in);
        if (!served || in.at < in.end) {
            served = 0;
            search->text_count = text_count, search->text_bytes = text_bytes;
            search->frame_bytes = frame_bytes, search->char_count = char_count;
        }
        search->body[search->body_count++] = (Body){search->text_count, search->frame_bytes, served};
        start = ends[i];
    }
    return search->text_bytes;
}

/* The texts with plain characters for odd ones, for own patterns; returns how many bytes that is, 0 if there is nothing odd.
 * `into` has room for as many as there are in `texts`. */
int64_t localmodel_write_plain(Search *search, uint8_t *into) {
    int64_t size = 0;
    if (!search->has_odd)
        return 0;
    search->at[search->char_count] = search->text_bytes;
    for (int32_t i = 0; i < search->char_count; i++) {
        int32_t start = search->at[i], bytes = search->at[i + 1] - start;
        search->plain_at[i] = (int32_t)size;
        if (search->texts[start] >= 0x80 && search->plain[i] < 0x80) {
            into[size++] = search->plain[i];
            continue;
        }
        memcpy(into + size, search->texts + start, bytes);
        size += bytes;
    }
    search->plain_at[search->char_count] = (int32_t)size;
    return size;
}
