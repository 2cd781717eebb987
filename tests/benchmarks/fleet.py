"""
A fleet of clients and one ingest in virtual time: stampedes, and what steers them.

    python tests/benchmarks/fleet.py            or: nox -s fleet

Prints, for this version and for the policy of the published 0.2.0, how the load at the
ingest compares with the steady load, how long the backlog takes, and what is lost. The
figures of docs/scale.md are from here. How things are modelled: `tests/support/fleet.py`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Sequence

sys.path.insert(0, str(Path(__file__).parents[1]))  # as pytest has it

from support.fleet import POLICIES, Report, simulate
from support.fleet_ingest import LIMITS, MAX_WAIT, POST_WORK, RATE, REFUSAL_WORK, Overload, Scenario

from beaconhq import backoff

#: Longest recovery that is waited for, in virtual seconds.
PATIENCE = 600.0
#: Virtual seconds between two lines of progress.
PROGRESS = 20
#: What happens to the fleet, and what the ingest does with what it has no capacity for.
SCENARIOS: Dict[str, str] = {
    "deploy": "all processes start in the same instant, the ingest is up",
    "outage": "the ingest is down, then answers 503 beyond its capacity",
    "outage-429": "the same, with 429",
    "same": "the same, with 503 and `Retry-After: 10`",
    "random": "the same, with 503 and a `Retry-After` drawn from 1 to 60 s",
    "booked": "the same, with 503 and the second at which there will be room as `Retry-After`",
    "late": "the same, but it refuses nothing: it answers late",
}
_OVERLOADS = {
    "outage": Overload.REFUSE,
    "outage-429": Overload.REFUSE_429,
    "same": Overload.SAME_RETRY_AFTER,
    "random": Overload.RANDOM_RETRY_AFTER,
    "booked": Overload.BOOKED_RETRY_AFTER,
    "late": Overload.QUEUE,
}


class Case(NamedTuple):
    """One run."""

    name: str
    policy: str
    scenario: Scenario
    clients: int
    seed: int
    #: Shortest delay of this version's back-off, in parts of its ceiling.
    shortest: float


def make_cases(arguments: argparse.Namespace) -> List[Case]:
    """Return the runs that the arguments ask for."""
    return [
        Case(name, policy, _scenario(name, arguments), arguments.clients, arguments.seed, arguments.shortest)
        for name in (SCENARIOS if arguments.all else arguments.scenario or ["deploy", "outage"])
        for policy in POLICIES
    ]


def _scenario(name: str, arguments: argparse.Namespace) -> Scenario:
    if name == "deploy":
        return Scenario(start_spread=0, before=0, outage=0, after=30, capacity=arguments.capacity)
    # Started evenly over one interval, also the clients without jitter: what is measured is the recovery.
    return Scenario(
        start_spread=LIMITS.flush_interval,
        before=10,
        outage=arguments.outage,
        after=PATIENCE,
        overload=_OVERLOADS[name],
        capacity=arguments.capacity,
    )


def run(case: Case) -> Report:
    """Run one case; says on stderr how far it is."""
    began = time.monotonic()
    backoff.SHORTEST = case.shortest

    def progress(second: int) -> None:
        if second % PROGRESS == 0:
            took = time.monotonic() - began
            sys.stderr.write(f"{case.name}, {case.policy}: {second} s in {took:.0f} s\n")

    return simulate(case.scenario, case.policy, case.clients, seed=case.seed, progress=progress)


def table(cases: Sequence[Case], reports: Sequence[Report]) -> str:
    """Return the figures as a Markdown table."""
    header = (
        "scenario", "policy", "POSTs/s, peak", "in 100 ms", "events/s, peak", "POSTs/s while down, peak",
        "refused", "timed out", "drained: 50 %", "99 %", "all", "lost", "stored twice", "waiting at the end",
    )  # fmt: skip
    rows: List[Sequence[str]] = [header, tuple("---" for _ in header)]
    rows += [_row(case, report) for case, report in zip(cases, reports)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _row(case: Case, report: Report) -> Sequence[str]:
    return (
        case.name,
        case.policy,
        *(
            f"{ratio:.1f}x"
            for ratio in (
                report.peak_posts,
                report.peak_posts_100_ms,
                report.peak_events,
                report.peak_posts_down,
            )
        ),
        f"{report.refused:,}",
        f"{report.timed_out:,}",
        *map(_seconds, (report.drained_half, report.drained_most, report.drained)),
        f"{report.lost:,} ({report.lost / report.captured:.1%})",
        f"{report.duplicates:,}",
        f"{report.waiting:,}",
    )


def _seconds(value: Optional[float]) -> str:
    return "-" if value is None else f"{value:.0f} s"


def introduction(arguments: argparse.Namespace) -> str:
    """Say what is simulated, in the units of the figures."""
    clients = arguments.clients
    posts = clients / LIMITS.flush_interval
    capacity = arguments.capacity * (posts * POST_WORK + clients * RATE)
    return f"""\
{clients:,} clients, {RATE:g} event/s each; steady: {posts:,.0f} POSTs/s, {clients * RATE:,.0f} events/s.
The ingest is down for {arguments.outage:g} s. It does {capacity:,.0f} units of work a second, \
{arguments.capacity:g}x the steady load:
{POST_WORK:g} for a POST, 1 for an event, {REFUSAL_WORK:g} for a refusal. With {MAX_WAIT:g} s of work \
waiting it refuses more.
Peaks: in parts of the steady load, in the busiest second once the ingest is back. Drained: seconds from
then until it has all that clients captured before. Waiting: what a steady fleet holds, and what did not
come."""


def make_parser() -> argparse.ArgumentParser:
    """Return the command line."""
    lines = "\n".join(f"  {name:<11} {text}" for name, text in SCENARIOS.items())
    parser = argparse.ArgumentParser(
        prog="fleet.py",
        description="Simulate a fleet of clients and one ingest in virtual time.",
        epilog=f"scenarios:\n{lines}\n\nProgress goes to stderr, figures to stdout.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--clients", type=int, default=10_000, help="processes (default: %(default)s)")
    parser.add_argument(
        "--scenario",
        action="append",
        choices=list(SCENARIOS),
        metavar="NAME",
        help="run this one; may be repeated (default: deploy and outage)",
    )
    parser.add_argument("--all", action="store_true", help="run every scenario")
    parser.add_argument(
        "--outage", type=float, default=60, help="seconds for which the ingest is down (default: %(default)s)"
    )
    parser.add_argument(
        "--capacity", type=float, default=1.5, help="capacity, in steady loads (default: %(default)s)"
    )
    parser.add_argument(
        "--shortest",
        type=float,
        default=backoff.SHORTEST,
        help="shortest delay of this version's back-off, in parts of its ceiling (default: %(default)s)",
    )
    parser.add_argument(
        "--seed", type=int, default=1, help="seed of every random number (default: %(default)s)"
    )
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, help="processes to run it on (default: %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    return parser


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the command line; `argv` None means the process's own. Return the exit code."""
    parser = make_parser()
    arguments = parser.parse_args(argv)
    if arguments.clients < 1 or arguments.capacity <= 1 or arguments.outage < 1 or arguments.jobs < 1:
        parser.error("--clients, --outage and --jobs must be 1 or more, --capacity more than 1")
    if not 0 <= arguments.shortest <= 1:
        parser.error("--shortest must be 0 to 1")
    cases = make_cases(arguments)
    if arguments.jobs == 1:
        reports = list(map(run, cases))
    else:
        with ProcessPoolExecutor(arguments.jobs) as pool:
            reports = list(pool.map(run, cases))
    if arguments.json:
        found = [{**case._asdict(), "report": report._asdict()} for case, report in zip(cases, reports)]
        for entry, case in zip(found, cases):
            entry["scenario"] = {**case.scenario._asdict(), "overload": case.scenario.overload.value}
        text = json.dumps(found, indent=2)
    else:
        text = f"{introduction(arguments)}\n\n{table(cases, reports)}"
    sys.stdout.write(f"{text}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
