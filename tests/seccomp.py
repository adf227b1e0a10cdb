#!/usr/bin/env python3
"""Runs a command under a seccomp profile in the form that container runtimes read, without one.

Usage: seccomp.py PROFILE [--without CALL]... -- COMMAND ARGUMENT...

`--without` takes a call out of the profile's allowed ones: what a runtime does whose default
profile refuses io_uring. Only what tuning/seccomp.json uses is understood: names, EQ and MASKED_EQ
on the low half of an argument, ALLOW and ERRNO. x86-64 only.
"""

import ctypes
import json
import os
import re
import struct
import sys

PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
# linux/bpf_common.h
LD_W_ABS, JEQ_K, AND_K, RET_K = 0x20, 0x15, 0x54, 0x06
RET_ALLOW, RET_ERRNO, RET_KILL = 0x7FFF0000, 0x00050000, 0x80000000
ARCH_X86_64 = 0xC000003E
# struct seccomp_data: nr, arch, instruction pointer, six arguments of 64 bits
NR_OFFSET, ARCH_OFFSET, ARGS_OFFSET = 0, 4, 16
HEADER = "/usr/include/x86_64-linux-gnu/asm/unistd_64.h"


def numbers():
    with open(HEADER, encoding="ascii") as header:
        found = re.findall(r"^#define __NR_(\w+) (\d+)$", header.read(), re.MULTILINE)
    return {name: int(number) for name, number in found}


def verdict(rule, default_errno):
    if rule["action"] == "SCMP_ACT_ALLOW":
        return RET_ALLOW
    if rule["action"] == "SCMP_ACT_ERRNO":
        return RET_ERRNO | rule.get("errnoRet", default_errno)
    raise SystemExit(f"seccomp.py: action {rule['action']} is not understood")


def program(profile, without):
    known = numbers()
    errno = profile["defaultErrnoRet"]
    code = [(LD_W_ABS, 0, 0, ARCH_OFFSET), (JEQ_K, 1, 0, ARCH_X86_64), (RET_K, 0, 0, RET_KILL)]
    for rule in profile["syscalls"]:
        for name in rule["names"]:
            # A name that this architecture or these headers do not have cannot be called by it.
            if name in without or name not in known:
                continue
            body = []
            for test in rule.get("args", []):
                body.append((LD_W_ABS, 0, 0, ARGS_OFFSET + 8 * test["index"]))
                value = test["value"]
                if test["op"] == "SCMP_CMP_MASKED_EQ":
                    body.append((AND_K, 0, 0, test["value"]))
                    value = test["valueTwo"]
                elif test["op"] != "SCMP_CMP_EQ":
                    raise SystemExit(f"seccomp.py: comparison {test['op']} is not understood")
                body.append((JEQ_K, 0, None, value))
            body.append((RET_K, 0, 0, verdict(rule, errno)))
            # A test that fails jumps over the rest of the rule.
            for at, (operation, yes, no, operand) in enumerate(body):
                if no is None:
                    body[at] = (operation, yes, len(body) - at - 1, operand)
            code.append((LD_W_ABS, 0, 0, NR_OFFSET))
            code.append((JEQ_K, 0, len(body), known[name]))
            code.extend(body)
    code.append((RET_K, 0, 0, RET_ERRNO | errno))
    return b"".join(struct.pack("=HBBI", *one) for one in code), len(code)


def main():
    arguments = sys.argv[1:]
    if "--" not in arguments:
        sys.exit(__doc__)
    split = arguments.index("--")
    options, command = arguments[:split], arguments[split + 1 :]
    without = {options[at + 1] for at, word in enumerate(options) if word == "--without"}
    with open(options[0], encoding="utf-8") as file:
        text, length = program(json.load(file), without)
    libc = ctypes.CDLL(None, use_errno=True)
    keep = ctypes.create_string_buffer(text, len(text))
    # struct sock_fprog: a length of 16 bits, padding, a pointer
    filter_program = ctypes.create_string_buffer(struct.pack("=HxxxxxxQ", length, ctypes.addressof(keep)))
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(
        PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(filter_program), 0, 0
    ):
        sys.exit(f"seccomp.py: prctl: {os.strerror(ctypes.get_errno())}")
    os.execvp(command[0], command)


main()
