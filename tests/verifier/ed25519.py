"""Ed25519 signatures (RFC 8032 §5.1), verified strictly and with nothing but integers.

Strictly: points and scalars in their only canonical encoding, neither the key nor R of small order,
and the equation without the cofactor. About two milliseconds a signature.
"""

import hashlib

P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
ROOT_OF_MINUS_1 = pow(2, (P - 1) // 4, P)
# Extended coordinates: x = X/Z, y = Y/Z, x·y = T/Z.
NEUTRAL = (0, 1, 1, 0)


def add(p, q):
    a = (p[1] - p[0]) * (q[1] - q[0]) % P
    b = (p[1] + p[0]) * (q[1] + q[0]) % P
    c = 2 * p[3] * q[3] * D % P
    d = 2 * p[2] * q[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return (e * f % P, g * h % P, f * g % P, e * h % P)


def double(p):
    a = p[0] * p[0] % P
    b = p[1] * p[1] % P
    c = 2 * p[2] * p[2]
    h = a + b
    e = h - (p[0] + p[1]) * (p[0] + p[1]) % P
    g = a - b
    f = c + g
    return (e * f % P, g * h % P, f * g % P, e * h % P)


def is_same(p, q):
    return (p[0] * q[2] - q[0] * p[2]) % P == 0 and (p[1] * q[2] - q[1] * p[2]) % P == 0


def has_small_order(p):
    return is_same(double(double(double(p))), NEUTRAL)


def decode(encoded):
    """The point of 32 bytes, or None when this is not the canonical encoding of one."""
    number = int.from_bytes(encoded, "little")
    sign, y = number >> 255, number & (2**255 - 1)
    if y >= P:
        return None
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * ROOT_OF_MINUS_1 % P
    if (x * x - square) % P or (x == 0 and sign):
        return None
    if x & 1 != sign:
        x = P - x
    return (x, y, 1, x * y % P)


_BASE_Y = 4 * pow(5, P - 2, P) % P
BASE = decode(_BASE_Y.to_bytes(32, "little"))


def decode_key(encoded):
    """The point of a public key that may be trusted, else None."""
    point = decode(encoded) if len(encoded) == 32 else None
    return None if point is None or has_small_order(point) else point


def verify(key, signature, message):
    """Whether 64 bytes are a signature by the key (32 bytes) of the message."""
    if len(signature) != 64:
        return False
    a, r = decode_key(key), decode_key(signature[:32])
    s = int.from_bytes(signature[32:], "little")
    if a is None or r is None or s >= ORDER:
        return False
    h = int.from_bytes(hashlib.sha512(signature[:32] + key + message).digest(), "little") % ORDER
    # [s]B - [h]A, both products in one pass over the bits.
    minus_a = (P - a[0], a[1], 1, P - a[3])
    table = (None, BASE, minus_a, add(BASE, minus_a))
    sum_ = NEUTRAL
    for bit in range(252, -1, -1):
        sum_ = double(sum_)
        chosen = (s >> bit & 1) | (h >> bit & 1) << 1
        if chosen:
            sum_ = add(sum_, table[chosen])
    return is_same(sum_, r)
