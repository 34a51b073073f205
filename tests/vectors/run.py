#!/usr/bin/env python3
"""Asks tools/verify.py for its verdict on every home in VERDICTS. Exit code 1 where one is another.

A line of VERDICTS: home, expected exit code, kinds of all findings in order without repetition (`-` for none),
and arguments; names in them after `@` are files here, and `@KEY` is the public key of the forged notes.
Every home in the folders `damaged` and `forged` must be named at least once.
"""

import contextlib
import io
import json
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "..", "tools"))

import verify  # noqa: E402


def argument(word, key):
    if word == "@KEY":
        return key
    return os.path.join(HERE, word[1:]) if word.startswith("@") else word


def judge(home, words, key):
    """Exit code and kinds of findings, from the program's own entry; what it raises is a failure of its own."""
    asked = ["--json", *(argument(word, key) for word in words), os.path.join(HERE, home)]
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        code = verify.main(asked)
    found = json.loads(said.getvalue())["findings"]
    return code, ",".join(dict.fromkeys(finding["kind"] for finding in found)) or "-"


def main():
    with open(os.path.join(HERE, "forged", "notes", "key"), encoding="ascii") as file:
        key = file.read().strip()
    with open(os.path.join(HERE, "VERDICTS"), encoding="ascii") as file:
        rows = [line.split() for line in file if line.strip() and not line.startswith("#")]
    wrong, named = [], set()
    for home, code, kinds, *words in rows:
        named.add(home)
        said = judge(home, words, key)
        if said != (int(code), kinds):
            wrong.append(f"{home} {' '.join(words)}: {said[0]} {said[1]}, expected {code} {kinds}")
    for folder, inside in (("damaged", "home"), ("forged", ".")):
        for name in sorted(os.listdir(os.path.join(HERE, folder))):
            home = os.path.normpath(os.path.join(folder, name, inside))
            if name != "notes" and home not in named:
                wrong.append(f"{home}: no line of VERDICTS names it")
    print("\n".join(wrong) or f"{len(rows)} verdicts, all as they should be")
    return 1 if wrong or len(rows) < 60 else 0


if __name__ == "__main__":
    sys.exit(main())
