#!/usr/bin/env python3
"""Makes agreed.jsonl: schemas, values, and whether one fits the other, as the validators of the MCP SDKs say.

Usage: make.py COUNT > agreed.jsonl, with a Python that has `jsonschema`; NODE names the node and NODE_PATH
the packages of an SDK (ajv, ajv-formats). Both must agree on all but formats, which only ajv looks at.
tests/sdk/setup.sh installs both.
"""

import json
import os
import random
import subprocess
import sys

from jsonschema import Draft202012Validator

AJV = """
const Ajv = require('ajv/dist/2020').default, formats = require('ajv-formats').default;
const ajv = new Ajv({ strict: false, validateFormats: true, addUsedSchema: false });
formats(ajv);
for (const line of require('fs').readFileSync(0, 'utf8').trim().split('\\n')) {
  const { schema, value } = JSON.parse(line);
  console.log(ajv.compile(schema)(value));
}
"""
NAMES = ["a", "b", "c", "x1", "long-name"]
TEXTS = ["", "a", "ab", "x1", "é", "[rule]***", "2026-11-23", "abcabc", "jo@example.com", "Passw0rd"]
TYPES = ["null", "boolean", "number", "integer", "string", "array", "object"]
PATTERNS = ["^a", "b$", "^[a-z]+$", r"\d", "^.{2}$", "(ab|c)+", r"^(?!\.)(?!.*\.\.)[^@]+@[a-z.]+$", r"^(?=.*[A-Z])(?=.*\d).{4,}$"]
FORMATS = {
    "date-time": ["2026-11-23T04:05:06Z", "2024-02-29T23:59:59+01:30", "2026-11-23", "2025-02-29T00:00:00Z",
                  "2026-11-23T24:00:00Z", "2026-11-23T04:05:06", "[x]*****************"],
    "date": ["2026-11-23", "2026-11-31", "2026-13-01", "26-11-23", "**********"],
    "time": ["04:05:06Z", "04:05:06.1+02:00", "04:05Z", "04:05:06", "********"],
    "duration": ["P1D", "PT5M", "P1Y2M3DT4H5M6S", "P2W", "P", "PT", "1D", "P1S", "PT1D"],
    "email": ["jo@example.com", "a.b+c@x-y.example", "jo", "@x", "jo@", "[email]*@x.example", "a..b@x", "[email:01234567]"],
    "hostname": ["example.com", "a-b.c1", "-a.b", "a_b", "a..b", "[host]**"],
    "ipv4": ["127.0.0.1", "255.255.255.255", "256.0.0.1", "1.2.3", "[ipv4]***"],
    "ipv6": ["::1", "2001:db8::1", "::ffff:1.2.3.4", "1", ":::", "12345::", "[ipv6]"],
    "uri": ["https://example.com/a?b#c", "urn:x:y", "http://[::1]:80/", "mailto:jo@example.com", "https://u:p@h/%20",
            "/a", "https://x/[masked:x]", "https://x/ y", "https://git.example.com/[github-token:01234567]**"],
    "uri-reference": ["/a", "a/b?c", "#x", "//h/p", "[masked:x]", "a b", "\\x"],
    "uri-template": ["https://x/{a}", "x", "[x]", "{a", "a}", "a b"],
    "uuid": ["123e4567-e89b-12d3-a456-426614174000", "123e4567e89b12d3a456426614174000", "[uuid]******************************"],
    "json-pointer": ["", "/a/~0b/~1", "/", "a", "/~2", "/~"],
    "relative-json-pointer": ["0", "1/a", "2#", "", "/a", "01/a", "-1"],
    "regex": ["^a+$", "(", "[a"],
    "byte": ["aGk=", "[x]*"],
}


def value(depth):
    kind = random.randrange(6 if depth == 0 else 9)
    if kind < 2:
        return [None, random.random() < 0.5][kind]
    if kind < 4:
        return random.randrange(-2, 4) if kind == 2 else random.randrange(12) / 2
    if kind < 6:
        return random.choice(TEXTS)
    if kind == 6:
        return [value(depth - 1) for _ in range(random.randrange(4))]
    return {random.choice(NAMES): value(depth - 1) for _ in range(random.randrange(4))}


def schemas(depth):
    return [schema(depth - 1) for _ in range(random.randrange(1, 3))]


def some_names():
    return sorted(set(random.choices(NAMES, k=random.randrange(1, 3))))


def schema(depth):
    if depth == 0:
        return random.random() < 0.8
    n = random.randrange(4)
    keywords = [
        lambda: {"type": random.choice(TYPES)}, lambda: {"type": random.choice(TYPES)}, lambda: {"type": random.sample(TYPES, 2)},
        lambda: {"enum": [{"never": 1}, value(1), value(0)][:2]}, lambda: {"const": value(1)},
        lambda: {"minimum": n}, lambda: {"maximum": n + 0.5}, lambda: {"exclusiveMinimum": n}, lambda: {"exclusiveMaximum": n},
        lambda: {"multipleOf": 1 + n}, lambda: {"minLength": n}, lambda: {"maxLength": n}, lambda: {"pattern": random.choice(PATTERNS)},
        lambda: {"minItems": n}, lambda: {"maxItems": n}, lambda: {"uniqueItems": True}, lambda: {"items": schema(depth - 1)},
        lambda: {"prefixItems": schemas(depth)}, lambda: {"contains": schema(depth - 1)},
        lambda: {"contains": schema(depth - 1), "minContains": n, "maxContains": n + 1},
        lambda: {"minProperties": n}, lambda: {"maxProperties": n}, lambda: {"required": some_names()},
        lambda: {"properties": {name: schema(depth - 1) for name in some_names()}},
        lambda: {"properties": {name: schema(depth - 1) for name in some_names()}},
        lambda: {"patternProperties": {"^[ab]": schema(depth - 1)}}, lambda: {"additionalProperties": schema(depth - 1)},
        lambda: {"propertyNames": {"maxLength": n}}, lambda: {"dependentRequired": {random.choice(NAMES): some_names()}},
        lambda: {"dependentSchemas": {random.choice(NAMES): schema(depth - 1)}},
        lambda: {"allOf": schemas(depth)}, lambda: {"anyOf": schemas(depth)}, lambda: {"oneOf": schemas(depth)},
        lambda: {"not": schema(depth - 1)}, lambda: {"if": schema(depth - 1), "then": schema(depth - 1), "else": schema(depth - 1)},
        lambda: {"$defs": {"d": schema(depth - 1)}, "allOf": [{"$ref": "#/$defs/d"}]} if depth == 3 else {"minimum": n},
    ]
    made = {}
    for _ in range(random.randrange(1, 5)):
        made |= random.choice(keywords)()
    return made


def main():
    random.seed(20261123)
    lines = [{"schema": schema(3), "value": value(3)} for _ in range(int(sys.argv[1]))]
    formats = [{"schema": {"format": name}, "value": text} for name, texts in FORMATS.items() for text in texts]
    sent = "\n".join(json.dumps(line) for line in lines + formats)
    said = subprocess.run([os.environ["NODE"], "-e", AJV], input=sent, capture_output=True, text=True, check=True)
    for line, word in zip(lines + formats, said.stdout.split(), strict=True):
        line["fits"] = word == "true"
        if "format" not in line["schema"]:
            assert Draft202012Validator(line["schema"]).is_valid(line["value"]) == line["fits"], line
        print(json.dumps(line, ensure_ascii=False, separators=(",", ":")))


main()
