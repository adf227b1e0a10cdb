#!/usr/bin/env python3
"""Writes edges.json: Ed25519 signatures at the edges of the curve, with the verdict a strict check gives.

Keys and first halves of signatures are taken from all points of small order in all their encodings, and
from a point of prime order with each point of small order added to it; the classes are those of C2SP/CCTV
ed25519 (low order, low order component, non-canonical encoding, residue that only the cofactor removes,
challenge computed over the canonical encoding). Every signature satisfies the equation with the cofactor.
Then second halves beyond the order of the group, and plain signatures that are spoilt.

The arithmetic is that of RFC 8032 section 6, on integers; nothing of the program under test is used.
Strict means: the second half is below the order, key and first half are canonical and not of small order,
and the equation holds without the cofactor. Run: python3 make.py > edges.json
"""

import hashlib
import json

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
ROOT_OF_MINUS_1 = pow(2, (P - 1) // 4, P)


def recover_x(y, sign):
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P != 0:
        x = x * ROOT_OF_MINUS_1 % P
    if (x * x - square) % P != 0:
        return None
    return P - x if (x & 1) != sign and x != 0 else x


def add(first, second):
    (x1, y1), (x2, y2) = first, second
    product = D * x1 * x2 * y1 * y2 % P
    return ((x1 * y2 + x2 * y1) * pow(1 + product, P - 2, P) % P,
            (y1 * y2 + x1 * x2) * pow(1 - product, P - 2, P) % P)


ZERO = (0, 1)


def times(scalar, point):
    result = ZERO
    while scalar:
        if scalar & 1:
            result = add(result, point)
        point = add(point, point)
        scalar >>= 1
    return result


def encode(point):
    x, y = point
    return (y | (x & 1) << 255).to_bytes(32, "little")


BASE = (recover_x(4 * pow(5, P - 2, P) % P, 0), 4 * pow(5, P - 2, P) % P)
# A point of order eight: what the prime factor leaves of some point.
y = 2
while True:
    x = recover_x(y, 0)
    if x is not None and times(4 * L, (x, y)) != ZERO:
        EIGHTH = times(L, (x, y))
        break
    y += 1
SMALL = [times(index, EIGHTH) for index in range(8)]
assert len(set(SMALL)) == 8


def encodings(point):
    """All encodings that decode to the point: the canonical one first."""
    x, y = point
    found = [encode(point)]
    for value in (y, y + P):
        for sign in (0, 1):
            bits = value | sign << 255
            if value >= 2**255 or (x != 0 and sign != (x & 1)):
                continue
            text = bits.to_bytes(32, "little")
            if text not in found:
                found.append(text)
    return found


def challenge(first, key, message):
    return int.from_bytes(hashlib.sha512(first + key + message).digest(), "little") % L


def dlog8(point):
    """Which point of small order is left of this one."""
    return SMALL.index(times(L * pow(L, -1, 8), point))


def case(key, key_point, first, first_point, second, message, flags):
    k = challenge(first, key, message)
    holds = times(second, BASE) == add(first_point, times(k, key_point))
    strict = (second < L and holds and encode(key_point) == key and encode(first_point) == first
              and times(8, key_point) != ZERO and times(8, first_point) != ZERO)
    return {"key": key.hex(), "sig": first.hex() + second.to_bytes(32, "little").hex(),
            "msg": message.decode(), "flags": flags, "strict": strict}


def main():
    secret, nonce = 0x1234567890abcdef1234567890abcdef1234567890abcdef % L, 0xfedcba9876543210 ** 3 % L
    prime_key, prime_first = times(secret, BASE), times(nonce, BASE)
    keys = [(encoding, point, 0) for point in SMALL for encoding in encodings(point)]
    firsts = list(keys)
    assert len(keys) == 14
    for small in SMALL:
        point = add(prime_key, small)
        keys.append((encode(point), point, secret))
        point = add(prime_first, small)
        firsts.append((encode(point), point, nonce))
    cases = []
    for key, key_point, key_scalar in keys:
        for first, first_point, first_scalar in firsts:
            key_small, first_small = dlog8(key_point), dlog8(first_point)
            canonical = [(key, first, [])]
            if encode(key_point) != key or encode(first_point) != first:
                canonical.append((encode(key_point), encode(first_point), ["reencoded_k"]))
            for key_hashed, first_hashed, extra in canonical:
                wanted = {False, True}
                for number in range(64):
                    message = b"edge %d" % number
                    k = challenge(first_hashed, key_hashed, message)
                    residue = (first_small + k * key_small) % 8 != 0
                    if residue not in wanted:
                        continue
                    wanted.discard(residue)
                    flags = list(extra)
                    for letter, point, text in (("A", key_point, key), ("R", first_point, first)):
                        if times(8, point) == ZERO:
                            flags.append("low_order_" + letter)
                        if dlog8(point) != 0:
                            flags.append("low_order_component_" + letter)
                        if encode(point) != text:
                            flags.append("non_canonical_" + letter)
                    if residue:
                        flags.append("low_order_residue")
                    second = (first_scalar + k * key_scalar) % L
                    cases.append(case(key, key_point, first, first_point, second, message, flags))
    key, first = encode(prime_key), encode(prime_first)
    for number in range(8):
        message = b"plain %d" % number
        second = (nonce + challenge(first, key, message) * secret) % L
        whole = case(key, prime_key, first, prime_first, second, message, [])
        cases.append(whole)
        cases.append(case(key, prime_key, first, prime_first, second + L, message, ["large_S"]))
        cases.append(case(key, prime_key, first, prime_first, (second + 1) % L, message, ["other_S"]))
        cases.append(dict(whole, msg=whole["msg"] + "x", flags=["other_msg"], strict=False))
    print("[")
    print(",\n".join(json.dumps(one, separators=(",", ":")) for one in cases))
    print("]")


main()
