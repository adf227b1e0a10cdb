#!/usr/bin/env python3
"""Writes proofs.json: proofs about small trees, whole and spoilt, with the verdict each must get.

The trees are those of the Certificate Transparency reference code: eight leaves, published inputs. The
ways of spoiling are the usual ones of transparency logs (sizes and indexes moved, roots swapped, hashes
changed, missing, added). Verdicts come from the recursive definitions of RFC 6962 section 2.1.1 and
2.1.2, read backwards: the proof is consumed from its end while the recursion unfolds, and the roots that
come out are compared. The program under test checks by the iterative algorithms of RFC 9162, so the two
share neither code nor method. Run: python3 make.py > proofs.json
"""

import base64
import hashlib
import json

LEAVES = [bytes.fromhex(text) for text in (
    "", "00", "10", "2021", "3031", "40414243", "5051525354555657",
    "606162636465666768696a6b6c6d6e6f")]


def leaf_hash(data):
    return hashlib.sha256(b"\0" + data).digest()


def node_hash(left, right):
    return hashlib.sha256(b"\1" + left + right).digest()


def split(size):
    half = 1
    while half * 2 < size:
        half *= 2
    return half


def tree_hash(leaves):
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaf_hash(leaves[0])
    half = split(len(leaves))
    return node_hash(tree_hash(leaves[:half]), tree_hash(leaves[half:]))


def path(index, leaves):
    if len(leaves) == 1:
        return []
    half = split(len(leaves))
    if index < half:
        return path(index, leaves[:half]) + [tree_hash(leaves[half:])]
    return path(index - half, leaves[half:]) + [tree_hash(leaves[:half])]


def subproof(old, leaves, whole):
    if old == len(leaves):
        return [] if whole else [tree_hash(leaves)]
    half = split(len(leaves))
    if old <= half:
        return subproof(old, leaves[:half], whole) + [tree_hash(leaves[half:])]
    return subproof(old - half, leaves[half:], False) + [tree_hash(leaves[:half])]


class Bad(Exception):
    pass


def root_of_path(index, size, leaf, proof):
    """The root that PATH(index, D[size]) = proof leads to."""
    if size == 1:
        if proof:
            raise Bad
        return leaf
    if not proof:
        raise Bad
    half = split(size)
    if index < half:
        return node_hash(root_of_path(index, half, leaf, proof[:-1]), proof[-1])
    return node_hash(proof[-1], root_of_path(index - half, size - half, leaf, proof[:-1]))


def roots_of_subproof(old, size, whole, old_root, proof):
    """The roots (old, new) that SUBPROOF(old, D[size], whole) = proof leads to."""
    if old == size:
        if whole:
            if proof:
                raise Bad
            return old_root, old_root
        if len(proof) != 1:
            raise Bad
        return proof[0], proof[0]
    if not proof:
        raise Bad
    half = split(size)
    if old <= half:
        first, second = roots_of_subproof(old, half, whole, old_root, proof[:-1])
        return first, node_hash(second, proof[-1])
    first, second = roots_of_subproof(old - half, size - half, False, old_root, proof[:-1])
    return node_hash(proof[-1], first), node_hash(proof[-1], second)


def included(case):
    index, size = case["index"], case["size"]
    if not 0 <= index < size:
        return False
    try:
        return root_of_path(index, size, case["leaf"], case["proof"]) == case["root"]
    except Bad:
        return False


def consistent(case):
    old, new, proof = case["old_size"], case["new_size"], case["proof"]
    if old > new:
        return False
    if old == 0:
        return not proof and (new > 0 or case["old_root"] == case["new_root"])
    try:
        first, second = roots_of_subproof(old, new, True, case["old_root"], proof)
    except Bad:
        return False
    return first == case["old_root"] and second == case["new_root"]


def spoil(case, sizes, roots):
    """The case itself and everything that can be wrong with it."""
    def but(what, **changed):
        return what, dict(case, **changed)

    yield but("as it is")
    proof, garbage = case["proof"], hashlib.sha256(b"garbage").digest()
    for name in sizes:
        size = case[name]
        for what, value in (("- 1", size - 1), ("+ 1", size + 1), ("xor 2", size ^ 2),
                            ("* 2", size * 2), ("/ 2", size // 2)):
            if value >= 0 and value != size:
                yield but(f"{name} {what}", **{name: value})
    for name in roots:
        yield but(f"{name} is that of nothing", **{name: tree_hash([])})
        yield but(f"{name} is another", **{name: garbage})
        yield but(f"{name} in front of the proof", proof=[case[name]] + proof)
        yield but(f"{name} behind the proof", proof=proof + [case[name]])
    if len(roots) == 2:
        yield but("roots swapped", **{roots[0]: case[roots[1]], roots[1]: case[roots[0]]})
    yield but("garbage in front of the proof", proof=[garbage] + proof)
    yield but("garbage behind the proof", proof=proof + [garbage])
    if proof:
        yield but("no proof", proof=[])
        yield but("proof cut", proof=proof[:-1])
        yield but("proof without its first hash", proof=proof[1:])
        yield but("first hash twice", proof=[proof[0]] + proof)
        yield but("proof backwards", proof=proof[::-1])
        for place, digest in enumerate(proof):
            changed = bytes([digest[0] ^ 8]) + digest[1:]
            yield but(f"bit of hash {place}", proof=proof[:place] + [changed] + proof[place + 1:])
    if "leaf" in case:
        yield but("another leaf", leaf=garbage)


def text(value):
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, list):
        return [text(item) for item in value]
    return value


def main():
    cases = []
    for index, size in ((0, 1), (0, 2), (1, 3), (2, 3), (1, 5), (4, 5), (3, 7), (6, 7), (0, 8), (5, 8)):
        leaves = LEAVES[:size]
        case = {"index": index, "size": size, "leaf": leaf_hash(leaves[index]),
                "root": tree_hash(leaves), "proof": path(index, leaves)}
        for what, spoilt in spoil(case, ("index", "size"), ("root",)):
            cases.append(dict(kind="inclusion", what=what, valid=included(spoilt), **spoilt))
    for old, new in ((0, 5), (1, 1), (1, 3), (1, 8), (2, 5), (3, 5), (4, 7), (4, 8), (6, 7), (6, 8), (7, 8),
                     (8, 8)):
        leaves = LEAVES[:new]
        case = {"old_size": old, "new_size": new, "old_root": tree_hash(leaves[:old]),
                "new_root": tree_hash(leaves), "proof": subproof(old, leaves, True) if old else []}
        for what, spoilt in spoil(case, ("old_size", "new_size"), ("old_root", "new_root")):
            cases.append(dict(kind="consistency", what=what, valid=consistent(spoilt), **spoilt))
    print("[")
    print(",\n".join(json.dumps({key: text(value) for key, value in case.items()},
                                separators=(",", ":")) for case in cases))
    print("]")


main()
