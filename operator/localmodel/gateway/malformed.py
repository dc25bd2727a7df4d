"""What the parser disliked, as an answer: too long a URL, too large a head, another HTTP, or none.

Pure. The limits are those that the parser is made with.
"""

import re

from aiohttp import http_exceptions

from localmodel.gateway import errors

HEAD_LIMIT = 32 * 1024
URL_LIMIT = 8 * 1024
_REASON = re.compile(r"400, message:\n  (?:Bad status line:\n    )?([A-Z][A-Za-z ,'`/-]+)(?:[.:]|$)")
"""The parser's own words. What follows them is the client's, and is not repeated."""


def malformed(error: BaseException) -> errors.ApiError:
    if isinstance(error, http_exceptions.LineTooLong):
        if error.args[1] == URL_LIMIT:
            return errors.too_large(414, "URL", URL_LIMIT)
        return errors.too_large(431, "request head", HEAD_LIMIT)
    text = str(error)
    if "too many" in text.lower():
        return errors.too_large(431, "request head", HEAD_LIMIT)
    if "Invalid HTTP version" in text or "Pause on PRI" in text:
        return errors.http_not_implemented(505, "This version of HTTP is not spoken here.")
    if "Request has invalid `Transfer-Encoding`" in text:
        return errors.http_not_implemented(501, "This transfer encoding is not understood.")
    reason = _REASON.match(text)
    why = f": {reason[1].strip()}" if reason else ""
    return errors.bad_request(f"This is not a valid HTTP/1.1 request{why}. Correct the client, or the proxy before this server.")
