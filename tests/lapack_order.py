"""Which LAPACK calls of a compiled program may run side by side.

On a CPU of two cores two batched calls that do not wait for each other can hold both
threads and wait for ever (jax 0.10). Order is read off the compiled program, so that a
test of it cannot pass by luck.
"""

from __future__ import annotations

import re

import jax

INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?([\w.\-]+) = (.*)$")
COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.\-]+) .*\{$")
CALLED = re.compile(
    r"(?:body|condition|calls|to_apply|true_computation|false_computation)=%?([\w.\-]+)"
)
BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")


def unordered_lapack_calls(fn, *args) -> list[tuple[str, str]]:
    """Pairs of LAPACK calls, of one computation, neither of which needs the other."""
    text = jax.jit(fn).lower(*args).compile().as_text()
    return unordered_calls(text)


def unordered_calls(text: str) -> list[tuple[str, str]]:
    """The same for the text of a compiled program."""
    computations = _computations(text)
    holds: dict[str, bool] = {}

    def holds_calls(name: str) -> bool:
        if name not in holds:
            holds[name] = False
            lines = computations.get(name, {}).values()
            holds[name] = any(is_call(line) for line in lines)
        return holds[name]

    def is_call(line: str) -> bool:
        if 'custom_call_target="lapack' in line:
            return True
        called = CALLED.findall(line)
        for branches in BRANCHES.findall(line):
            called += [name.strip().lstrip("%") for name in branches.split(",")]
        return any(holds_calls(name) for name in called)

    pairs = []
    for lines in computations.values():
        before: dict[str, set[str]] = {}
        calls: list[str] = []
        for name, line in lines.items():
            operands = [
                one for one in re.findall(r"%([\w.\-]+)", line) if one in before
            ]
            before[name] = set(operands).union(*(before[one] for one in operands))
            if is_call(line):
                pairs += [(one, name) for one in calls if one not in before[name]]
                calls.append(name)
    return pairs


def _computations(text: str) -> dict[str, dict[str, str]]:
    """Instructions by name, in order, of every computation."""
    found: dict[str, dict[str, str]] = {}
    current = None
    for line in text.splitlines():
        start, instruction = COMPUTATION.match(line), INSTRUCTION.match(line)
        if start and not line.startswith(" "):
            current = found.setdefault(start[1], {})
        elif instruction and current is not None:
            current[instruction[1]] = instruction[2]
    return found
