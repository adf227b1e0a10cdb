"""Reads JSON texts with CPython's json and says what stands at some places.

One line of hexadecimal digits for each text on stdin, one line of PLACE=VALUE on stdout; "!" where the
text cannot be read. The places are the arguments. VALUE is s and the string in UTF-8, in hexadecimal
digits; n and the integer, for the place "id"; else one letter for the kind.
"""

import json
import sys

places = [place.split("/") for place in sys.argv[1:]]


def at(value, place):
    for step in place:
        if isinstance(value, dict) and step in value:
            value = value[step]
        elif isinstance(value, list) and step.isdigit() and int(step) < len(value):
            value = value[int(step)]
        else:
            return None
    return (value,)


def said(value, place):
    if isinstance(value, str):
        return "s" + value.encode("utf-8", "surrogatepass").hex()
    if isinstance(value, bool) or value is None:
        return "l"
    if isinstance(value, int) and place == ["id"]:
        return "n" + str(value)
    if isinstance(value, (int, float)):
        return "x"
    return "{" if isinstance(value, dict) else "["


for line in sys.stdin:
    try:
        value = json.loads(bytes.fromhex(line))
    except ValueError as error:
        print("!", error)
        continue
    found = ((place, at(value, place)) for place in places)
    print(" ".join("/".join(p) + "=" + said(v[0], p) for p, v in found if v is not None))
