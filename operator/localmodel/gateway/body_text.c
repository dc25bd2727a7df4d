/* Reads the texts of a JSON body: escapes and UTF-8, into `texts` and into one plain character each.
 *
 * It refuses what is no text, half a surrogate pair and the character 0, which Python must judge.
 */
#include "body_reader.h"

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

int localmodel_read_text(Reader *in, Text *text) {
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

int localmodel_keep_text(Reader *in, Text *text) {
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

int localmodel_frame_text(Reader *in, const Text *text) {
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
