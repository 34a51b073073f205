"""Findings, gathered in order and counted, and how they are printed."""

from __future__ import annotations

import json
from typing import Any, Dict, List, Optional

from . import errors

# So many findings are kept with their text; more are counted. A journal of noise must not fill memory.
KEPT = 200

# The gravest class decides the exit code, in this order.
GRAVITY = [
    errors.DAMAGED, errors.TRUNCATED, errors.CANNOT_OPEN, errors.NEEDS_KEY, errors.NOT_FOUND, errors.UNANCHORED
]


class Report:
    """What was found, and what was counted on the way."""

    def __init__(self) -> None:
        self.findings: List[Dict[str, Any]] = []
        self.more = 0
        self.notes: List[str] = []
        self.facts: Dict[str, Any] = {}
        self.codes = {code: 0 for code in GRAVITY}

    def finding(self, code: int, kind: str, text: str, seq: Optional[int] = None) -> None:
        """Records one finding under the exit code of its class."""
        self.codes[code] += 1
        if len(self.findings) >= KEPT:
            self.more += 1
            return
        self.findings.append({"kind": kind, "seq": seq, "text": text, "exit": code})

    def damaged(self, kind: str, text: str, seq: Optional[int] = None) -> None:
        """A finding that means: bytes are not as they were written."""
        self.finding(errors.DAMAGED, kind, text, seq)

    def note(self, text: str) -> None:
        """Something worth saying that is no fault."""
        if len(self.notes) < KEPT:
            self.notes.append(text)

    def exit_code(self) -> int:
        """The gravest finding's exit code, 0 without any."""
        for code in GRAVITY:
            if self.codes[code]:
                return code
        return errors.OK

    def as_json(self) -> str:
        """One object with stable fields."""
        code = self.exit_code()
        return json.dumps(
            {
                "ok": code == errors.OK,
                "exit": code,
                **self.facts,
                "findings": self._gravest_first(),
                "more_findings": self.more,
                "notes": self.notes,
            },
            sort_keys=True,
        )

    def as_text(self) -> str:
        """For people: facts, notes, findings, and one closing sentence."""
        lines = [f"{name.replace('_', ' ')}: {_plain(value)}" for name, value in self.facts.items()]
        lines += [f"note: {text}" for text in self.notes]
        lines += [f"FOUND {found['kind']}: {found['text']}" for found in self._gravest_first()]
        if self.more:
            lines.append(f"and {self.more} more findings")
        lines.append(self._closing())
        return "\n".join(_printable(line) for line in lines)

    def _gravest_first(self) -> List[Dict[str, Any]]:
        return sorted(self.findings, key=lambda found: GRAVITY.index(found["exit"]))

    def _closing(self) -> str:
        if self.exit_code() == errors.OK:
            return "whole, and anchored from outside"
        if self.exit_code() == errors.UNANCHORED:
            return "whole as far as it goes, and NOT anchored to its end"
        return f"NOT whole: {len(self.findings) + self.more} finding(s)"


def _printable(line: str) -> str:
    """A line whose names cannot steer a terminal."""
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in line)


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_plain(inner)}" for name, inner in value.items())
    if value is None:
        return "not known"
    return str(value)
