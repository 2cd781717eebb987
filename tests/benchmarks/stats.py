"""Medians, quartiles and paired differences of readings."""

from __future__ import annotations

from statistics import quantiles
from typing import TYPE_CHECKING, Dict, List, Mapping, Sequence

if TYPE_CHECKING:
    from .workload import Reading

#: First quartile, median, third quartile.
Quartiles = List[float]
#: By metric, such as "thread".
Summary = Dict[str, Quartiles]


def quartiles(values: Sequence[float]) -> Quartiles:
    """Return the three quartiles; of one value, three times that."""
    found = quantiles(values, n=4, method="inclusive") if len(values) > 1 else [values[0]] * 3
    return [round(value, 1) for value in found]


def summarize(readings: Mapping[str, Sequence[Reading]], reference: str) -> Dict[str, Dict[str, Summary]]:
    """
    Summarize the readings of each variant: as they are, and `added` to the reference's.

    The n-th readings of two variants are of the same round, so what they differ in is
    taken per round: what slows a whole round down drops out.
    """
    base = readings.get(reference)
    summaries: Dict[str, Dict[str, Summary]] = {}
    for variant, taken in readings.items():
        metrics = list(taken[0])
        summaries[variant] = {"value": {m: quartiles([one[m] for one in taken]) for m in metrics}}
        if base is not None and variant != reference:
            summaries[variant]["added"] = {
                m: quartiles([one[m] - other[m] for one, other in zip(taken, base)]) for m in metrics
            }
    return summaries
