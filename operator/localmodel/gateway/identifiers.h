/* A number that may be private data: what `private_data.c` gathers from a text, and `identifiers.c` classifies. */
#include "body_search.h"

enum { FEWEST = 10, FEWEST_AFTER_PLUS = 7, FEWEST_OF_CARDS = 13, MOST_DIGITS = 19 };

/* Digits without separators, and the lengths of their groups. `count` may be more than there is room for; so may `x` be set,
 * behind the last digit, which then counts as one. */
typedef struct {
    uint8_t digit[MOST_DIGITS + 1];
    int32_t length[MOST_DIGITS + 1];
    int32_t count, groups;
    int x, plus, fraction;
} Number;

/* The kind of a number of at most MOST_DIGITS, 0: none. */
int localmodel_classify(const Number *number);
