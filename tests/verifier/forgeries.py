#!/usr/bin/env python3
"""Records in which one rule of the format is broken, or just kept, by somebody who holds the signing
key and computes chain, tree and signatures anew. No damage by chance is like that, so only these show
that a verifier looks at the rule itself.

Usage: forgeries.py RECORDS
Writes JSON Lines `{"name", "sound", "seed", "files": {NAME: BASE64}}`; `sound` is what the document says,
`seed` in hexadecimal that of the key that is trusted.
"""

import copy
import hashlib
import json
import sys

import ed25519
import segment as format
from entry import ITEM_MAX, sha256
from forge import LOG, OTHER, STOP, Forger, encode, encode_point, entry, raw, scalar_product, sealed_start
from forge import Signer, cosigned, signature_line
from tree import Tree

RECORDS = []


def sound(name, forger, key=LOG):
    RECORDS.append((name, True, forger.files, key))


def broken(name, forger, key=LOG):
    RECORDS.append((name, False, forger.files, key))


def around(part):
    """A record in which `part` writes the middle of the first segment."""
    return part(Forger().segment().requests(b"before")).requests(b"behind").checkpoint().seal()


def entries():
    def one(*bodies, **other):
        return around(lambda f: f.flush(entry(f.tree.size, *bodies, **other)))

    for compact in (False, True):
        how = "compact" if compact else "plain"
        sound(f"{how}, no part", one(compact=compact))
        sound(f"{how}, sixteen parts", one(*[b"part"] * 16, compact=compact))
        sound(f"{how}, an empty part", one(b"", compact=compact))
        sound(f"{how}, withheld", one(b"withheld", compact=compact, presence=0))
        sound(f"{how}, unknown kinds", one(b"body", kind=200, part_kind=99, compact=compact))
        sound(f"{how}, ids", one(exchange=bytes([1] * 15), session=bytes([2] * 10), flags=3, compact=compact))
        for stored in (True, False):
            is_stored = "stored" if stored else "not stored"
            forged = one(b"body", presence=2, stored=stored, compact=compact)
            broken(f"{how}, presence 2, {is_stored}", forged)
        broken(f"{how}, seventeen parts", one(*[b"part"] * 17, compact=compact))
        broken(f"{how}, a part row with a byte", one(b"body", zero=1, compact=compact))
        broken(f"{how}, entry version 0", one(b"body", version=0, compact=compact))
        broken(f"{how}, entry version 2", one(b"body", version=2, compact=compact))
        broken(f"{how}, flag 4", one(b"body", flags=4, compact=compact))
        broken(f"{how}, exchange without flag", one(exchange=bytes([1] * 15), compact=compact))
        broken(f"{how}, session without flag", one(session=bytes([1] * 10), compact=compact))
        broken(f"{how}, header length", one(b"body", length=102, compact=compact))
        broken(f"{how}, fewer parts", one(b"body", parts=0, compact=compact))
        broken(f"{how}, sequence again", around(lambda f: f.flush(entry(0, b"body", compact=compact))))
        broken(f"{how}, sequence left out", around(lambda f: f.flush(entry(2, b"body", compact=compact))))
    broken("plain, another part than committed to", one(b"body", salted=b"bodz"))
    broken("compact, another part than the leaf says", one(b"body", salted=b"bodz", compact=True))
    broken("compact in version 1", Forger(1).segment().requests(b"one", compact=True).checkpoint().seal())
    broken("an unknown item", around(lambda f: f.blocks(raw(b"X")).mark()))
    mark = raw(b"M" + bytes(32) + b"E")
    broken("a mark that is no block", around(lambda f: f.blocks(mark).mark()))

    def spanning(forger):
        plain, header = entry(forger.tree.size, b"spans two flushes")
        forger.blocks(raw(plain[:70])).mark().blocks(raw(plain[70:]))
        forger.tree.add(header)
        return forger.mark()

    broken("an entry over two flushes", around(spanning))


def blocks():
    def cut(*at, kind=raw, body=b"cut into blocks", ends=()):
        def write(forger):
            plain, header = entry(forger.tree.size, body)
            places = [0, *at, len(plain)]
            pieces = [kind(plain[a:b]) for a, b in zip(places, places[1:])]
            forger.tree.add(header)
            return forger.blocks(*pieces, *ends).mark()

        return around(write)

    lookalike = b"M" + bytes(range(32))
    at = len(entry(0, lookalike)[0]) - 33
    sound("an entry in many blocks", cut(1, 2, 70))
    sound("an empty data block", cut(5, 5))
    sound("a data block that looks like a mark", cut(at, body=lookalike))
    sound("a data block that looks like a mark, more behind", cut(at, at + 33, body=lookalike + b"more"))
    def run(size):
        """An entry of `size` bytes of the plain stream, its body in run-length blocks."""
        body = size - len(entry(1, b"")[0])

        def write(forger):
            plain, header = entry(1, b"A" * body)
            forger.tree.add(header)
            lengths = [format.BLOCK_MAX] * (body // format.BLOCK_MAX) + [body % format.BLOCK_MAX]
            runs = [(length << 3 | 2).to_bytes(3, "little") + b"A" for length in lengths if length]
            return forger.blocks(raw(plain[:-body]), *runs).mark()

        return around(write)

    sound("a run-length block", run(200))
    sound("an entry as large as they get", run(ITEM_MAX))
    broken("an entry larger than they get", run(ITEM_MAX + 1))
    broken("a reserved block", cut(ends=((1 << 3 | 6).to_bytes(3, "little") + b"A",)))
    broken("a block larger than the maximum", around(lambda f: f.requests(bytes(140_000))))
    broken("a last data block", around(lambda f: f.blocks(raw(b"", last=True)).mark()))
    broken("a frame end behind no mark", around(lambda f: f.blocks(raw(b"")).frame_end()))
    broken("a frame end with a byte", around(lambda f: f.frame_end(raw(b"E", last=True))))
    broken("a run-length frame end", around(lambda f: f.frame_end(bytes.fromhex("030000") + b"E")))
    broken("a frame of nothing", around(lambda f: f.frame_end().blocks().frame_end()))
    sound("two flushes in a frame", around(lambda f: f.requests(b"more")))
    sound("a frame behind a frame", around(lambda f: f.frame_end()))
    broken("a flush of nothing", around(lambda f: f.flush()))
    broken("a mark of another chain", around(lambda f: f.mark(chain=bytes(32))))
    for name, head in [
        ("a content checksum", "28b52ffd0440"),
        ("a larger window", "28b52ffd0048"),
        ("a smaller window", "28b52ffd0038"),
        ("a content size", "28b52ffd40400000"),
        ("a dictionary id", "28b52ffd014000"),
        ("a single segment", "28b52ffd2001"),
    ]:
        broken(f"a frame head with {name}", around(
            lambda f: f.frame_end().flush(entry(f.tree.size, b"in it"), head=bytes.fromhex(head))
        ))
    for magic in (0x184D2A4F, 0x184D2A50, 0x184D2A54, 0x184D2A5F):
        broken(f"a frame {magic:#x}", around(lambda f: f.frame(b"payload", magic)))
    broken("a checkpoint in an open frame", around(lambda f: open_checkpoint(f)))


def open_checkpoint(forger):
    forger.open = False
    return forger.checkpoint()


def checkpoints():
    def one(**other):
        return around(lambda f: f.checkpoint(**other))

    sound("two checkpoints in a row", one(lines=signature_line))
    sound("a checkpoint behind the header", Forger().segment().checkpoint().requests(b"a").checkpoint().seal())
    sound("time may go back", one(time="1999-12-31T23:59:59.000000000Z"))
    for name, fields in {
        "another origin": {"origin": "log.examplf"},
        "a larger size": {"size": 2},
        "a size with a zero before": {"size": "01"},
        "a size with a sign": {"size": "+1"},
        "another root": {"root": encode(bytes(32))},
        "a root of 31 bytes": {"root": encode(bytes(31))},
        "another segment": {"segment": 1},
        "another offset": {"offset": 400},
        "another chain": {"chain": encode(bytes(32))},
        "a chain of 33 bytes": {"chain": encode(bytes(33))},
        "eight digits of time": {"time": "2026-11-18T11:06:40.00000000Z"},
        "an offset of time": {"time": "2026-11-18T11:06:40.000000007+00:00"},
        "month 13": {"time": "2026-13-18T11:06:40.000000007Z"},
        "day 30 of February": {"time": "2026-02-30T11:06:40.000000007Z"},
        "hour 24": {"time": "2026-11-18T24:00:00.000000000Z"},
        "second 60": {"time": "2026-12-31T23:59:60.000000000Z"},
        "year 0": {"time": "0000-11-18T11:06:40.000000007Z"},
        "a small z": {"time": "2026-11-18T11:06:40.000000007z"},
        "a space in the time": {"time": "2026-11-18 11:06:40.000000007Z"},
    }.items():
        broken(f"a checkpoint with {name}", one(**fields))
    for name, change in {
        "a line more": lambda text: text + "more\n",
        "a line less": lambda text: text[: text.index("time")],
        "an empty line": lambda text: text + "\n",
        "sealed in the middle": lambda text: text + "sealed\n",
        "a carriage return": lambda text: text.replace("\n", "\r\n"),
        "two spaces in the chain": lambda text: text.replace("chain ", "chain  "),
        "a tab": lambda text: text.replace("time ", "time\t"),
        "a root without padding": lambda text: text.replace("=\nchain", "\nchain"),
    }.items():
        broken(f"a checkpoint with {name}", one(change=change))

    def trailing(text):
        root = text.split("\n")[2]
        alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
        last = alphabet[alphabet.index(root[-2]) | 1]
        return text.replace(root, root[:-2] + last + "=")

    broken("a checkpoint with trailing bits in the root", one(change=trailing))

    def larger_scalar(text):
        signature = LOG.sign(text.encode())
        s = int.from_bytes(signature[32:], "little") + ed25519.ORDER
        return signature_line(text, signature=signature[:32] + s.to_bytes(32, "little"))

    def small_r(text):
        # With R the neutral point, s = h·a fits the equation.
        encoded = encode_point(ed25519.NEUTRAL)
        hashed = hashlib.sha512(encoded + LOG.key.public + text.encode()).digest()
        s = int.from_bytes(hashed, "little") * LOG.scalar % ed25519.ORDER
        return signature_line(text, signature=encoded + s.to_bytes(32, "little"))

    def cofactor(text):
        # R with a part of order 8: fits only the equation times the cofactor.
        r = 12345
        point = scalar_product(r, ed25519.BASE)
        encoded = encode_point(ed25519.add(point, of_order_8()))
        hashed = hashlib.sha512(encoded + LOG.key.public + text.encode()).digest()
        s = (r + int.from_bytes(hashed, "little") * LOG.scalar) % ed25519.ORDER
        return signature_line(text, signature=encoded + s.to_bytes(32, "little"))

    for name, lines in {
        "another key": lambda text: signature_line(text, OTHER),
        "another key under this hash": lambda text: signature_line(text, OTHER, key_hash=LOG.key.hash),
        "this key under another hash": lambda text: signature_line(text, key_hash=OTHER.key.hash),
        "another name": lambda text: signature_line(text, name="log.examplf"),
        "another text": lambda text: signature_line(text + "x"),
        "no signature": lambda text: "",
        "two signatures": lambda text: signature_line(text) * 2,
        "a foreign signature too": lambda text: signature_line(text) + signature_line(text, OTHER, "w.example"),
        "a scalar over the order": larger_scalar,
        "R of small order": small_r,
        "a signature of the cofactored equation only": cofactor,
        "a signature of 63 bytes": lambda text: signature_line(text, signature=LOG.sign(text.encode())[:63]),
        "a signature of 65 bytes": lambda text: signature_line(text, signature=LOG.sign(text.encode()) + b"a"),
        "a hyphen": lambda text: signature_line(text).replace("\u2014", "-"),
        "two spaces": lambda text: signature_line(text).replace(" log", "  log"),
        "no last newline": lambda text: signature_line(text)[:-1],
        "text behind it": lambda text: signature_line(text) + "more\n",
        "an empty line behind it": lambda text: signature_line(text) + "\n",
        "no padding": lambda text: signature_line(text).replace("=", ""),
    }.items():
        broken(f"a checkpoint signed with {name}", one(lines=lines))
    broken("a checkpoint that is not UTF-8", one(note=lambda note: note + "\udcff"))


def cosignatures():
    def one(version=2, **other):
        begun = Forger(version).segment().requests(b"one").checkpoint().requests(b"two").frame_end()
        return begun.cosignature(**other)

    def whole(forger):
        return forger.checkpoint().requests(b"behind").checkpoint().seal()

    sound("a cosignature", whole(one()))
    sound("two cosignatures", whole(one().cosignature()))
    sound("a cosignature before the index", one().seal())
    sound("a cosignature behind the header", sealed_start().segment().cosignature().checkpoint().seal())
    sound("a cosignature by two witnesses", whole(one(lines=cosigned(sealed_start().notes[0]) * 2)))
    broken("a cosignature in version 1", whole(one(version=1)))
    broken("a cosignature of no witness", whole(one(lines="")))
    broken("a cosignature that is no line", whole(one(lines="witness\n")))
    broken("a cosignature and no checkpoint", one().requests(b"behind").checkpoint().seal())
    broken("a cosignature at the end", one().keep())
    broken("a cosignature before an unknown frame", whole(one().frame(b"", 0x184D2A54)))
    long = cosigned(sealed_start().notes[0])
    broken("a cosignature over 8 KiB", whole(one(lines=long * (8192 // len(long)))))
    forged = sealed_start()
    forged.signer = OTHER
    other = Forger().segment().requests(b"eno").checkpoint().notes[-1]
    broken("a cosignature of another checkpoint", whole(one(note=other, lines=cosigned(other))))
    # The very one that would stand here: its chain covers what stands before it, so it cannot follow.
    other = one().checkpoint().notes[-1]
    broken("a cosignature before its checkpoint", whole(one(note=other, lines=cosigned(other))))
    begun = sealed_start().segment().requests(b"three").checkpoint().seal()
    for number, note in enumerate(list(begun.notes)):
        follows = copy.deepcopy(begun).segment().requests(b"four").checkpoint().frame_end()
        follows.cosignature(note=note, lines=cosigned(note)).checkpoint().seal()
        sound(f"a cosignature of checkpoint {number} of the segments before", follows)
    follows = copy.deepcopy(begun).segment().cosignature(note=other, lines=cosigned(other)).checkpoint()
    broken("a cosignature behind the header, of another checkpoint", follows.seal())
    first = Forger(1).segment().requests(b"one").checkpoint().seal()
    first.version = 2
    sound("a cosignature of a checkpoint of version 1", first.segment().cosignature().checkpoint().seal())
    broken("a cosignature of what another key signed", whole(one(note=forged.checkpoint().notes[-1])))


def rotations():
    def rotated(first=1, **other):
        return sealed_start().segment().rotation(LOG, OTHER, first=first, **other).checkpoint().seal()

    sound("a rotated key, the old one trusted", rotated())
    sound("a rotated key, the new one trusted", rotated(), key=OTHER)
    broken("a rotated key, a third one trusted", rotated(), key=third())
    twice = rotated().segment().rotation(LOG, OTHER).checkpoint().seal()
    sound("a rotation said again", twice)
    chain = rotated().segment().rotation(OTHER, third()).checkpoint().seal()
    for key in (LOG, OTHER, third()):
        sound(f"two rotations, {key.key.hash.hex()} trusted", chain, key=key)
    broken("a rotation at another size", rotated(size=1))
    broken("a rotation at another root", rotated(root=encode(bytes(32))))
    broken("a rotation of another name", rotated(name="log.examplf"))
    broken("a rotation with another statement", rotated(statement="stenograph key rotation v1\n"))
    broken("a rotation that the old key did not sign", rotated(old_signature=encode(bytes(64))))
    broken("a rotation that the new key did not sign", rotated(new_signature=encode(bytes(64))))
    broken("a rotation behind no start", rotated(first=3))
    unknown = sealed_start(1).segment().rotation(LOG, OTHER)
    unknown.signer = LOG
    sound("the kind of a rotation in version 1", unknown.checkpoint().seal())
    obeyed = sealed_start(1).segment().rotation(LOG, OTHER).checkpoint().seal()
    broken("the kind of a rotation in version 1, obeyed", obeyed)
    late = sealed_start().segment().requests(b"first").rotation(LOG, OTHER)
    broken("a rotation in the second flush", late.checkpoint().seal())
    unused = sealed_start().segment().rotation(LOG, OTHER)
    unused.signer = LOG
    broken("a rotation and the old key signs on", unused.checkpoint().seal())
    stranger = sealed_start().segment().rotation(third(), OTHER)
    broken("a rotation from a third key", stranger.checkpoint().seal())


def third():
    return Signer(LOG.key.name, bytes([10] * 32))


def of_order_8():
    """A point of order 8: the rest of some point when the large subgroup's part is taken away."""
    y = 2
    while True:
        point = ed25519.decode(y.to_bytes(32, "little"))
        if point:
            rest = scalar_product(ed25519.ORDER, point)
            if not ed25519.is_same(ed25519.double(ed25519.double(rest)), ed25519.NEUTRAL):
                return rest
        y += 1


def seals():
    def begin():
        return Forger().segment().requests(b"one")

    for name, index in {
        "an array": "[1]",
        "no JSON": "{version:1}",
        "version 2": '{"version":2}',
        "version 1.0": '{"version":1.0}',
        "version 1 and another": '{"version":1,"version":2}',
        "no version": "{}",
        "a version that is a text": '{"version":"1"}',
        "a version that is true": '{"version":true}',
        "text behind it": '{"version":1} x',
        "nothing": "",
        "bytes that are not UTF-8": '{"version":1,"a":"\udcff"}',
        "a byte order mark": '\ufeff{"version":1}',
        "not a number": '{"version":1,"a":NaN}',
    }.items():
        broken(f"an index of {name}", begin().seal(index=index))
    sound("an index of another version and 1", begin().seal(index='{"version":2,"version":1}'))
    head, foot = '{"version":1,"a":"', '"}'
    for length, judge in (format.PAYLOAD_MAX, sound), (format.PAYLOAD_MAX + 1, broken):
        text = head + "a" * (length - len(head) - len(foot)) + foot
        judge(f"an index of {length} bytes", begin().seal(index=text))
    sound("an index of more", begin().seal(index=' {"version": 1, "more": [{"a": null}]}\n'))
    broken("an index and no seal behind it", begin().index().keep())
    broken("an index and a checkpoint that seals nothing", begin().index().checkpoint().keep())
    broken("an index and entries behind it", begin().index().requests(b"two").checkpoint().seal())
    broken("two indexes", begin().index().seal())
    broken("a seal without an index", begin().checkpoint(sealed=True).keep(format.SEALED))
    broken("entries behind the seal", begin().index().checkpoint(sealed=True).requests(b"two").keep())
    broken("a checkpoint behind the seal", begin().index().checkpoint(sealed=True).checkpoint().keep())
    broken("a byte behind the seal", begin().index().checkpoint(sealed=True).keep(residue=b"\0"))
    sound("a stop entry", begin().stop().seal())
    sound("a segment of a header and a seal", Forger().segment().seal())
    sound("a segment of a header", Forger().segment().keep())


def joins():
    def second(**other):
        return sealed_start().segment(**other).requests(b"three").checkpoint().seal()

    sound("two segments", second())
    sound("a created time that goes back", second(created=0))
    for version in (1, 2):
        sound(f"version {version} behind 2", second(version=version))
        sound(f"version {version} behind 1", sealed_start(1).segment(version=version).requests(b"a").seal())
    for name, other in {
        "another magic": {"magic": b"STENOSEH"},
        "version 0": {"version": 0},
        "version 3": {"version": 3},
        "no previous segment": {"end": format.NONE},
        "an unknown end": {"end": 4},
        "a damaged end": {"end": format.DAMAGED},
        "an empty origin": {"origin": b""},
        "another origin": {"origin": b"log.examplf"},
        "an origin that is not UTF-8": {"origin": b"log.exampl\xff"},
        "an origin one shorter": {"origin_length": 10},
        "number 2": {"number": 2},
        "a larger tree": {"size": 6},
        "a smaller tree": {"size": 1},
        "other peaks": {"peaks": [bytes(32)]},
        "another count of peaks": {"peak_count": 2},
        "a byte that should be zero": {"zero": 1},
        "another chain before": {"chain": bytes(32)},
        "another chain_0": {"chain_0": bytes(32)},
        "a digest of nothing": {"digest": bytes([1] * 32)},
        "a digest of no bytes": {"digest": sha256(b"")},
        "a residue that is not there": {"residue": 1},
        "less kept": {"kept": 200},
        "bytes behind the peaks": {"behind_peaks": b"more"},
        "the magic number of a checkpoint": {"frame": format.CHECKPOINT},
    }.items():
        broken(f"a second header with {name}", second(**other))
    for size, peaks in (0, []), (2, [bytes(32)]), (3, [bytes(32), bytes(32)]):
        begun = sealed_start()
        begun.tree = Tree(size, peaks)
        broken(f"another tree of {size} entries", begun.segment().requests(b"a").checkpoint().seal())
    for name, other in {
        "a sealed file before": {"end": format.SEALED},
        "a torn file before": {"end": format.TORN},
        "a kept length": {"kept": 1},
        "a residue": {"residue": 1},
        "a digest": {"digest": bytes([1] * 32)},
        "a chain before": {"chain": bytes([1] * 32)},
        "number 1": {"number": 1},
        "a tree": {"size": 1, "peaks": [bytes(32)]},
    }.items():
        broken(f"a first header with {name}", Forger().segment(**other).requests(b"a").checkpoint().seal())

    def torn(to=None, behind=b"", checkpoint=False, **other):
        begun = Forger().segment().requests(b"one")
        if checkpoint:
            begun.checkpoint()
        return begun.keep(format.TORN, to, behind).segment(**other).requests(b"two").seal()

    header = Forger().segment().chain_at
    sound("torn, nothing behind", torn())
    sound("torn, a residue", torn(behind=b"residue"))
    sound("torn, a residue of zeros", torn(behind=bytes(700)))
    sound("torn behind a checkpoint", torn(behind=b"PM*\x18", checkpoint=True))
    broken("torn, another digest", torn(behind=b"residue", digest=sha256(b"residuf")))
    broken("torn, no digest", torn(behind=b"residue", digest=bytes(32)))
    broken("torn, a shorter residue told", torn(behind=b"residue", residue=6))
    broken("torn, called sealed", torn(end=format.SEALED))
    broken("torn, called damaged", torn(behind=b"residue", end=format.DAMAGED))
    broken("torn, kept to no point", torn(to=header + 6))
    broken("torn, kept into the header", torn(to=header - 1))
    broken("torn, more kept than there is", torn(kept=5000))

    def earlier(tail):
        begun = Forger().segment().requests(b"one")
        kept, size, peaks = len(begun.file), begun.tree.size, list(begun.tree.peaks)
        chain, chain_at = begun.chain, begun.chain_at
        begun = tail(begun)
        file = begun.frame_end().file if begun.open else begun.file
        begun.tree, begun.chain, begun.chain_at = Tree(size, peaks), chain, chain_at
        begun.file = file
        return begun.keep(format.TORN, kept).segment().requests(b"two").seal()

    sound("torn before a whole flush", earlier(lambda f: f.requests(b"given up")))
    sound("torn before a checkpoint", earlier(lambda f: f.checkpoint()))
    sound("torn before the seal", earlier(lambda f: f.index().checkpoint(sealed=True)))
    called_torn = sealed_start()
    called_torn.end = format.TORN
    broken("sealed, called torn", called_torn.segment().requests(b"a").seal())


def main():
    for part in (entries, blocks, checkpoints, cosignatures, seals, joins, rotations):
        part()
    with open(sys.argv[1], "w", encoding="utf-8") as out:
        for name, sound_, files, signer in RECORDS:
            encoded = {file: encode(content) for file, content in files.items()}
            print(json.dumps({"name": name, "sound": sound_, "seed": signer.seed.hex(), "files": encoded}), file=out)


if __name__ == "__main__":
    main()
