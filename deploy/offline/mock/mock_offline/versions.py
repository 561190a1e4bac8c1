"""rpm's order of versions, and whether a provided version meets a wanted one."""

import functools
import re

LESS, GREATER, EQUAL = 2, 4, 8

_PART = re.compile(r"[0-9]+|[a-zA-Z]+|~|\^")
_SIGNS = {"LT": LESS, "GT": GREATER, "EQ": EQUAL, "LE": LESS | EQUAL, "GE": GREATER | EQUAL}


def flags_of(name):
    """The comparison bits of a flag name of repository metadata."""
    return _SIGNS.get(name or "", 0)


def split_evr(text):
    """'1:2.0-3' as (epoch, version, release); what is missing is None."""
    epoch, colon, rest = text.partition(":")
    if not colon:
        epoch, rest = None, text
    version, dash, release = rest.rpartition("-")
    if not dash:
        version, release = rest, None
    return epoch, version, release


def compare_evr(left, right):
    """-1, 0 or 1. A release is compared only where both sides have one."""
    order = _compare(int(left[0] or 0), int(right[0] or 0)) or compare_text(left[1], right[1])
    if order or left[2] is None or right[2] is None:
        return order
    return compare_text(left[2], right[2])


evr_key = functools.cmp_to_key(compare_evr)


def compare_text(left, right):
    """rpmvercmp: digits beat letters, '~' sorts before the end, '^' after it."""
    if left == right:
        return 0
    ours, theirs = _PART.findall(left or ""), _PART.findall(right or "")
    for index in range(max(len(ours), len(theirs))):
        one = ours[index] if index < len(ours) else ""
        two = theirs[index] if index < len(theirs) else ""
        order = _compare_part(one, two)
        if order:
            return order
    return 0


def satisfies(provided, wanted):
    """Whether a provide (flags, evr) meets a requirement (flags, evr)."""
    provided_flags, provided_evr = provided
    wanted_flags, wanted_evr = wanted
    if not wanted_flags:
        return True
    if not provided_flags:
        return False  # as dnf has it: a provide without a version meets no wanted version
    order = compare_evr(split_evr(provided_evr), split_evr(wanted_evr))
    if order < 0:
        return bool(provided_flags & GREATER or wanted_flags & LESS)
    if order > 0:
        return bool(provided_flags & LESS or wanted_flags & GREATER)
    return bool(provided_flags & wanted_flags)


def describe(name, flags, evr):
    """'foo >= 2' as dnf writes it."""
    sign = ("<" if flags & LESS else "") + (">" if flags & GREATER else "") + ("=" if flags & EQUAL else "")
    return f"{name} {sign} {evr}" if sign else name


def _compare(left, right):
    return (left > right) - (left < right)


def _compare_part(one, two):
    if one == two:
        return 0
    for sign, when_left in (("~", -1), ("^", 1)):
        if sign in (one, two):
            # A caret loses against any further part and wins against the end.
            if sign == "^" and one and two:
                when_left = -1
            return when_left if one == sign else -when_left
    if not one or not two:
        return 1 if one else -1
    if one.isdigit() and two.isdigit():
        return _compare(int(one), int(two))
    if one.isdigit() or two.isdigit():
        return 1 if one.isdigit() else -1
    return _compare(one, two)
