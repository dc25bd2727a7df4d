/* Which numbers are identity cards, phones and bank cards: the rules of `identifiers.py`.
 *
 * It knows digits and the lengths of their groups only; where they stand in a text is `private_data.c`'s.
 */
#include "identifiers.h"

static int two(const uint8_t *digit) { return (digit[0] - '0') * 10 + digit[1] - '0'; }
static int begins(const uint8_t *digit, const char *with) { return !memcmp(digit, with, strlen(with)); }

static int is_day(const uint8_t *month) {
    return two(month) >= 1 && two(month) <= 12 && two(month + 2) >= 1 && two(month + 2) <= 31;
}

static int is_province(const uint8_t *digit) {
    static const char all[] = "111213141521222331323334353637414243444546505152535461626364657181828391";
    for (const char *each = all; *each; each += 2)
        if (!memcmp(digit, each, 2))
            return 1;
    return 0;
}

/* `count` digits, or one less and an X. */
static int is_id_card(const Number *number) {
    static const uint8_t weights[] = {7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2};
    const uint8_t *digit = number->digit;
    if (number->count == 15)
        return !number->x && is_province(digit) && is_day(digit + 8);
    if (number->count != 18 || two(digit + 6) < 18 || two(digit + 6) > 21 || !is_day(digit + 10))
        return 0;
    int sum = 0;
    for (int i = 0; i < 17; i++)
        sum += (digit[i] - '0') * weights[i];
    return is_province(digit) || "10X98765432"[sum % 11] == (number->x ? 'X' : digit[17]);
}

static int is_mobile(const uint8_t *digit, int count) {
    int more = count - 11;
    if (more < 0 || more > 4 || !begins(digit, (const char *[]){"", "0", "86", "086", "0086"}[more]))
        return 0;
    return digit[more] == '1' && digit[more + 1] >= '3';
}

static int is_landline(const uint8_t *digit, int count) {
    static const char *const prefixes[] = {"", "86", "0086"};
    for (int i = 0; i < 3; i++) {
        int more = 2 * i, left = count - more;
        const uint8_t *area = digit + more + 1;
        if (left < 11 || left > 12 || !begins(digit, prefixes[i]) || area[-1] != '0')
            continue;
        if (left == 11 && ((area[0] == '1' && area[1] == '0') || area[0] == '2'))
            return 1;
        if (area[0] >= '3')
            return 1;
    }
    return 0;
}

static int is_north_american(const Number *number, int count) {
    const uint8_t *digit = number->digit + (count == 11);
    if (number->groups < 3 || number->groups > 4)
        return 0;
    const int32_t *last = number->length + number->groups - 3;
    if (last[0] != 3 || last[1] != 3 || last[2] != 4)
        return 0;
    return (count == 10 || (count == 11 && number->digit[0] == '1')) && digit[0] >= '2' && digit[3] >= '2';
}

static int is_phone(const Number *number, int count) {
    const uint8_t *digit = number->digit;
    if (is_mobile(digit, count) || (number->plus && count >= 7 && count <= 15 && digit[0] != '0'))
        return 1;
    if (!number->fraction && is_landline(digit, count))
        return 1;
    if (!number->fraction && count >= 10 && count <= 16 && begins(digit, "00") && digit[2] != '0')
        return 1;
    return is_north_american(number, count);
}

static int is_bank_card(const uint8_t *digit, int count) {
    int sum = 0;
    if (count < FEWEST_OF_CARDS || digit[0] == '0')
        return 0;
    for (int i = 0; i < count; i++) {
        int each = digit[count - 1 - i] - '0', twice = 2 * each;
        sum += i % 2 ? twice / 10 + twice % 10 : each;
    }
    return sum % 10 == 0;
}

int localmodel_classify(const Number *number) {
    int count = number->count - number->x;
    if (number->count >= FEWEST_OF_CARDS && is_id_card(number))
        return ID_CARD;
    if (is_phone(number, count))
        return PHONE;
    return is_bank_card(number->digit, count) ? BANK_CARD : 0;
}
