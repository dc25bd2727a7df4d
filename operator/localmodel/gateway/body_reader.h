/* What `body_text.c` and `body_json.c` share: a place in a JSON body, and the frame that grows meanwhile. */
#include "body_search.h"

typedef struct {
    Search *to;
    const uint8_t *at, *end, *plain;
    const char *known;
} Reader;

/* Of the next bytes into the frame; 0: there is no room. */
static inline int put(Reader *in, const void *data, int64_t size) {
    Search *to = in->to;
    if (to->frame_bytes + size > MOST_BYTES)
        return 0;
    memcpy(to->frame + to->frame_bytes, data, size);
    to->frame_bytes += size;
    return 1;
}

/* From the quotation mark, to the end of `texts`. It can't be more than it was, so there is room. 0: it is no text, or one that
 * Python must judge. */
int localmodel_read_text(Reader *in, Text *text);
/* As one that is searched; 0: there is no room. */
int localmodel_keep_text(Reader *in, Text *text);
/* One that is not looked at goes into the frame, and is no more in `texts`; 0: there is no room. */
int localmodel_frame_text(Reader *in, const Text *text);
