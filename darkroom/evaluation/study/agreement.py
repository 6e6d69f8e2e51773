"""Whether people agree: Krippendorff's alpha of answers as names, 1 for always, 0 for no more than by chance."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence

__all__ = ["alpha"]


def alpha(answers: Mapping[Hashable, Sequence[Hashable]] | Iterable[Sequence[Hashable]]) -> float:
    """Of the answers given to each question; questions with one answer say nothing. NaN where all are alike or none is.

    Krippendorff, Computing Krippendorff's Alpha-Reliability (2011), nominal data with missing values.
    """
    units = [u for u in (answers.values() if isinstance(answers, Mapping) else answers) if len(u) > 1]
    total = Counter(answer for unit in units for answer in unit)
    n = sum(total.values())
    observed = sum((len(u) ** 2 - sum(c * c for c in Counter(u).values())) / (len(u) - 1) for u in units)
    by_chance = (n * n - sum(c * c for c in total.values())) / (n - 1) if n > 1 else 0
    return 1 - observed / by_chance if by_chance else float("nan")
