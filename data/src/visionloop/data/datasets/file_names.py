"""What file names give away: fields that vary like a setting, groups behind a shared prefix."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import PurePosixPath

from visionloop.data.datasets.oddity import Facts, Oddity

__all__ = ["find_name_fields", "find_shared_prefixes"]

MIN_SHARE = 0.8
"""Of the files that a pattern of names must cover."""
MAX_SETTINGS = 12
NEAR = 100
"""Numbers closer than this are taken to be of one view."""
SPARSE = 10
"""Mean distance of the groups' numbers above which they are identities and not counters."""


def find_name_fields(facts: Sequence[Facts]) -> list[Oddity]:
    """A number in the names that takes few values while another runs: exposure, camera, view."""
    rows = _numbers_of_pattern(facts)
    if len(rows) < 20:
        return []
    found: list[Oddity] = []
    for slot, word in enumerate(_words(rows[0][0])):
        counts = Counter(numbers[slot] for _, numbers in rows)
        values = {value for value, count in counts.items() if count >= 0.01 * len(rows)}
        usual = sum(counts[value] for value in values)
        if not 2 <= len(values) <= MAX_SETTINGS or usual < 0.98 * len(rows) or len(counts) < 2:
            continue
        if len(rows[0][1]) < 2:
            continue
        views = _views_of(rows, slot)
        name = f"'{word}'" if word else f"number {slot + 1}"
        reason = (
            f"the field {name} of the file names takes {len(values)} values "
            f"({min(values)} to {max(values)}): {_say_views(views)}"
        )
        # Files of the largest views come first: they are what a page shows.
        views.sort(key=len, reverse=True)
        found.append(
            Oddity("setting_in_name", tuple(file for view in views for file in view), reason)
        )
    return found


def find_shared_prefixes(facts: Sequence[Facts]) -> list[Oddity]:
    """Official splits that cut through groups whose names begin alike."""
    rows = [(re.findall(r"\d+", PurePosixPath(row.file).stem), row) for row in facts]
    ids = [(digits[0], row) for digits, row in rows if len(digits) == 1]
    lengths = {len(digits) for digits, _ in ids}
    has_both = {row.split for _, row in ids} >= {"train", "test"}
    if len(ids) < MIN_SHARE * len(facts) or len(lengths) != 1 or not has_both:
        return []
    for length in range(3, max(lengths)):
        groups: dict[str, list[Facts]] = defaultdict(list)
        for digits, row in ids:
            groups[digits[:length]].append(row)
        if not _are_identities(list(groups), len(ids)):
            continue
        crossing = {
            prefix
            for prefix, members in groups.items()
            if {row.split for row in members} >= {"train", "test"}
        }
        # A longer prefix of the same groups says the same more exactly.
        longer = {digits[: length + 1] for digits, _ in ids}
        if not crossing or (length + 1 < max(lengths) and len(longer) == len(groups)):
            continue
        test = [row for _, row in ids if row.split == "test"]
        shared = [row for digits, row in ids if row.split == "test" and digits[:length] in crossing]
        reason = (
            f"{len(shared)} of {len(test)} official test pictures ({len(shared) / len(test):.0%}) "
            f"share the first {length} digits of their name with training pictures "
            f"({len(crossing)} of {len(groups)} groups: {', '.join(sorted(crossing)[:8])})"
        )
        return [Oddity("shared_prefix", tuple(row.file for row in shared), reason)]
    return []


def _are_identities(prefixes: list[str], count: int) -> bool:
    """Few, far apart: 00041, 12000, 50600 are identities; 000, 001, 002 are a counter."""
    numbers = sorted(int(prefix) for prefix in prefixes)
    if not 3 <= len(numbers) <= count / 5:
        return False
    return (numbers[-1] - numbers[0]) / len(numbers) > SPARSE


def _numbers_of_pattern(facts: Sequence[Facts]) -> list[tuple[str, list[int]]]:
    """Files of the most common pattern of names, with the numbers in them."""
    by_pattern: dict[str, list[tuple[str, list[int]]]] = defaultdict(list)
    for row in facts:
        stem = PurePosixPath(row.file).stem
        numbers = [int(one) for one in re.findall(r"\d+", stem)]
        by_pattern[re.sub(r"\d+", "#", stem)].append((row.file, numbers))
    most = max(by_pattern.values(), key=len, default=[])
    return most if len(most) >= MIN_SHARE * len(facts) else []


def _words(file: str) -> list[str]:
    """The word before each number of a file's stem."""
    return re.findall(r"([A-Za-z]*)[\W_]*\d+", PurePosixPath(file).stem)


def _views_of(rows: list[tuple[str, list[int]]], slot: int) -> list[list[str]]:
    """Files whose other numbers are neighbours and whose settings differ: perhaps one view."""
    other = next(place for place in range(len(rows[0][1])) if place != slot)
    views: list[list[str]] = []
    settings: set[int] = set()
    last = 0
    for number, value, file in sorted((ns[other], ns[slot], file) for file, ns in rows):
        if not views or number - last >= NEAR or value in settings:
            views.append([])
            settings = set()
        views[-1].append(file)
        settings.add(value)
        last = number
    return views


def _say_views(views: list[list[str]]) -> str:
    sizes = Counter(len(view) for view in views)
    size, count = max(sizes.items(), key=lambda pair: (pair[0] > 1) * pair[0] * pair[1])
    if size < 2:
        return "settings of one kind, such as a camera or an exposure"
    return (
        f"{count} times, {size} neighbouring numbers have {size} different values, like one view "
        f"at {size} settings; a random split would put a view on both sides"
    )
