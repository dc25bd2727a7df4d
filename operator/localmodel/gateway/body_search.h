/* What the C of the request log's search shares; `body_search.py` says what it is for.
 *
 * A body is JSON in UTF-8. Its texts are laid one behind the other, and a second time as one plain character each, at which
 * private data is looked for; one beyond ASCII that is written as one of ASCII there is odd. What is left of the body,
 * without blanks, is its frame: texts are put back where they were cut out.
 */
#include <stdint.h>
#include <string.h>

enum { MOST_BYTES = 1 << 17, MOST_BODIES = 128, MOST_TEXTS = 1 << 14, MOST_SPANS = 1 << 14 };
/* In the order of their names. */
enum { BANK_CARD = 1, EMAIL = 2, ID_CARD = 4, PHONE = 8, REDACTED = 16 };
/* Plain characters beyond ASCII: one that is no letter of Europe's, and one that may be. */
enum { EAST = 0x80, OTHER = 0x81 };

/* Bytes of `texts`, what they are, and how many characters. */
typedef struct {
    int32_t start, end, kind, size;
} Span;

/* Its place in the frame; its bytes in `texts`; its characters in `plain`. */
typedef struct {
    int32_t cut, start, end, first, last, is_key;
} Text;

/* Where its texts and its frame end. */
typedef struct {
    int32_t text_end, frame_end, served;
} Body;

typedef struct {
    uint8_t texts[MOST_BYTES + 3 * MOST_TEXTS];
    int32_t body_count, text_count, span_count, text_bytes, frame_bytes, char_count, has_odd;
    Body body[MOST_BODIES];
    Text text[MOST_TEXTS];
    Span span[MOST_SPANS];
    int32_t at[MOST_BYTES + 1], plain_at[MOST_BYTES + 1];
    uint8_t plain[MOST_BYTES];
    uint8_t frame[MOST_BYTES];
} Search;

/* Adds what is found in a text to `span`. 0: there is something that it can't judge, or too much. */
int localmodel_find_private(Search *search, const Text *text, int kinds);

static inline int is_digit(uint8_t c) { return c >= '0' && c <= '9'; }
static inline int is_letter(uint8_t c) { return (c | 32) >= 'a' && (c | 32) <= 'z'; }

static inline int needs_escape(uint8_t c) { return c < 0x20 || c == '"' || c == '\\'; }

/* Of one byte in a JSON text; returns how many it became. */
static inline int escape(uint8_t c, uint8_t *into) {
    static const char short_form[] = "btn\0fr", hex[] = "0123456789abcdef";
    into[0] = '\\';
    into[1] = c == '"' || c == '\\' ? c : c >= 8 && c <= 13 && short_form[c - 8] ? (uint8_t)short_form[c - 8] : 'u';
    if (into[1] != 'u')
        return 2;
    memcpy(into + 2, "00", 2);
    into[4] = hex[c >> 4];
    into[5] = hex[c & 15];
    return 6;
}

/* Up to `end`, or to what needs an escape. */
static inline const uint8_t *run_of(const uint8_t *data, const uint8_t *end) {
    while (data < end && !needs_escape(*data))
        data++;
    return data;
}
