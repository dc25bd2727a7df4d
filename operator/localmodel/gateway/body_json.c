/* Takes JSON bodies apart: the texts that must be searched, and the frame that they stand in.
 *
 * It knows the usual forms only and refuses the rest, which Python does: what is no JSON, the same key twice, numbers that
 * another encoder would write otherwise or that are long, lists of numbers, log-probabilities, JSON in a text, half a
 * surrogate pair.
 */
#include "body_reader.h"

enum { DEEPEST = 32, MOST_KEYS = 32, KNOWN_BYTES = 32 };
/* What is looked at: nothing; all; all but what the gateway says of itself, in the first object. */
enum { NOTHING, ALL, ANSWER };

static int value(Reader *in, int looked_at, int depth);

static void skip_blanks(Reader *in) {
    while (in->at < in->end && (*in->at == ' ' || *in->at == '\n' || *in->at == '\t' || *in->at == '\r'))
        in->at++;
}

static int next_is(Reader *in, uint8_t c) {
    skip_blanks(in);
    return in->at < in->end && *in->at == c;
}

static int text_value(Reader *in, int looked_at) {
    Text text = {0};
    if (!localmodel_read_text(in, &text))
        return 0;
    if (looked_at == NOTHING)
        return localmodel_frame_text(in, &text);
    uint8_t first = text.end > text.start ? in->to->texts[text.start] : 0;
    return first != '{' && first != '[' && localmodel_keep_text(in, &text);
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
        if (!next_is(in, '"') || !localmodel_read_text(in, &key))
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
            if (!localmodel_frame_text(in, &key))
                return 0;
        } else {
            int64_t size = key.end - key.start;
            for (int i = 0; i < key_count; i++)
                if (keys[i].end - keys[i].start == size && !memcmp(to->texts + keys[i].start, to->texts + key.start, size))
                    return 0;
            if (key_count == MOST_KEYS || !localmodel_keep_text(in, &key))
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
