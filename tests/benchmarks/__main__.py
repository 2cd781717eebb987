"""
    python -m benchmarks [--quick] [--only NAME ...] [--json FILE] [--environments DIR]

Measures what the SDK costs beside floors and other SDKs, writes the figures as JSON and
prints them as tables with the budgets. Takes about 15 minutes, with --quick about 4, on a
machine that has nothing else to do.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import platform
import random
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Sequence, Tuple

from . import budgets, environments, imports, report, serving
from .plan import ALL, Case, cases
from .stats import summarize

if TYPE_CHECKING:
    from .environments import Environment
    from .workload import Reading

TESTS = Path(__file__).parents[1]
#: Rounds of `--quick`.
QUICK = 5


class WorkerEndedError(Exception):
    """A worker ended before its time."""


class Worker:
    """A process in a subject's environment that does one case."""

    def __init__(self, environment: Environment, subject: str, case: Case, ingest: str) -> None:
        task = {"kind": case.kind, "case": case.name, "subject": subject, "ingest": ingest,
                "routes": case.routes, "fast": case.fast}  # fmt: skip
        self._process = subprocess.Popen(
            [str(environment.python), "-m", "benchmarks.worker", json.dumps(task)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL if "BENCH_DEBUG" not in os.environ else None,
            text=True,
            cwd=TESTS,
        )
        ready = self._answer()
        self.variants: List[str] = ready["variants"]
        self._port: Optional[int] = ready.get("port")

    def measure(self, variant: str, count: int) -> Reading:
        if self._port is not None:
            return serving.load(self._port, count)
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"variant": variant, "count": count}) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> Dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise WorkerEndedError("its process ended; BENCH_DEBUG=1 shows what it said")
        answer: Dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()


def measure(
    case: Case, at_hand: Dict[str, Environment], ingest: str, rounds: int, progress: _Progress
) -> Dict[str, Any]:
    """Run one case: all variants of all subjects, taking turns. A peer that fails is told and left out."""
    draw = random.Random(case.key)
    with ExitStack() as stack:
        turns: List[Tuple[str, str, Worker]] = []

        def leave_out(subject: str, error: WorkerEndedError) -> None:
            if subject in ("beaconhq", "bare"):
                raise error
            progress.say(f"{case.key}: {subject} is not measured: {error}")
            turns[:] = [turn for turn in turns if turn[1] != subject]

        for subject in case.subjects:
            environment = at_hand.get("beaconhq" if subject == "bare" else subject)
            if environment is None:
                continue
            try:
                worker = Worker(environment, subject, case, ingest)
            except WorkerEndedError as error:
                leave_out(subject, error)
                continue
            stack.callback(worker.close)
            turns += [(variant, subject, worker) for variant in worker.variants]
        readings: Dict[str, List[Reading]] = {}
        for number in range(-1, rounds):
            draw.shuffle(turns)
            for variant, subject, worker in tuple(turns):
                try:
                    reading = worker.measure(variant, case.units)
                except WorkerEndedError as error:
                    readings.pop(variant, None)
                    leave_out(subject, error)
                    continue
                if number >= 0:  # the first round warms up
                    readings.setdefault(variant, []).append(reading)
    return summarize(readings, case.reference)


def measure_imports(at_hand: Dict[str, Environment], rounds: int) -> Dict[str, Any]:
    """Measure imports on every Python at hand, and those of the others in their environments."""
    results: Dict[str, Any] = {}
    for version, python in imports.pythons().items():
        taken: Dict[str, List[Reading]] = {name: [] for name in imports.OURS}
        for number in range(-1, rounds):
            for name, statement in imports.OURS.items():
                reading = imports.measure(python, statement)
                if number >= 0:
                    taken[name].append(reading)
        results[f"import/{version}"] = summarize(taken, "bare")
    peers: Dict[str, List[Reading]] = {}
    for _ in range(rounds):
        for subject, statement in imports.STATEMENTS.items():
            if subject in at_hand:
                python_of = at_hand[subject].python
                peers.setdefault(f"{subject} bare", []).append(imports.measure_peer(python_of, "pass"))
                peers.setdefault(subject, []).append(imports.measure_peer(python_of, statement))
    for subject in imports.STATEMENTS:
        if subject in peers:
            pair = {subject: peers[subject], "bare": peers[f"{subject} bare"]}
            results.setdefault("import/peers", {}).update(summarize(pair, "bare"))
    return results


def describe_machine() -> Dict[str, str]:
    """Say what the figures were measured on."""
    model = platform.processor()
    info = Path("/proc/cpuinfo")
    if info.exists():
        named = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        model = named[0].partition(":")[2].strip() if named else model
    return {
        "cpu": model or platform.machine(),
        "cores": str(os.cpu_count()),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "date": dt.datetime.now(dt.timezone.utc).date().isoformat(),
    }


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the command line; returns 1 where a budget is not met."""
    parser = _make_parser()
    options = parser.parse_args(argv)
    plan = [case for case in cases() if _is_wanted(case.key, options.only)]
    if not plan and not _is_wanted("import", options.only):
        parser.error(f"nothing is called {' or '.join(options.only)}; there are: {_names()}")
    progress = _Progress()
    subjects = {subject for case in plan for subject in case.subjects} - {"bare"} | {"beaconhq"}
    if _is_wanted("import", options.only):
        subjects |= set(ALL)
    at_hand, failed = _make_environments(sorted(subjects), options.environments, progress)
    results: Dict[str, Any] = {
        "machine": describe_machine(),
        "quick": options.quick,
        "versions": {name: environment.versions() for name, environment in at_hand.items()},
        "not_installed": failed,
        "cases": {},
    }
    sink = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.sink"], stdout=subprocess.PIPE, text=True, cwd=TESTS
    )
    with sink:
        try:
            assert sink.stdout is not None
            ingest = f"http://127.0.0.1:{int(sink.stdout.readline())}"
            for number, case in enumerate(plan, 1):
                rounds = min(case.rounds, QUICK) if options.quick else case.rounds
                progress.say(f"{number}/{len(plan)} {case.key} ({rounds} rounds)")
                results["cases"][case.key] = measure(case, at_hand, ingest, rounds, progress)
            if _is_wanted("import", options.only):
                progress.say("imports")
                results["cases"].update(measure_imports(at_hand, QUICK if options.quick else 15))
        finally:
            sink.terminate()
    rows = budgets.check(results)
    if options.json is not None:
        options.json.write_text(json.dumps({**results, "budgets": rows}, indent=1) + "\n")
        progress.say(f"wrote {options.json}")
    sys.stdout.write(report.tables({**results, "budgets": rows}))
    return 0 if all(row["met"] for row in rows) else 1


def _make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="What the SDK costs, beside floors and other SDKs, measured in one run.",
        epilog="Exit status: 0 where every budget that was measured is met, else 1.",
    )
    parser.add_argument("--quick", action="store_true", help=f"{QUICK} rounds of each case: for a first look")
    parser.add_argument(
        "--only", nargs="+", default=[], metavar="NAME", help=f"only cases whose name begins so: {_names()}"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    parser.add_argument(
        "--environments",
        type=Path,
        default=Path(".nox") / "bench-environments",
        metavar="DIR",
        help="where the subjects' virtual environments are kept (default: %(default)s)",
    )
    return parser


def _names() -> str:
    return ", ".join(dict.fromkeys([*(case.name for case in cases()), "import"]))


def _is_wanted(key: str, only: Sequence[str]) -> bool:
    return not only or any(key.startswith(prefix) for prefix in only)


def _make_environments(
    subjects: Sequence[str], directory: Path, progress: _Progress
) -> tuple[Dict[str, Environment], Dict[str, str]]:
    made: Dict[str, Environment] = {}
    failed: Dict[str, str] = {}
    for subject in subjects:
        progress.say(f"environment of {subject}")
        environment = environments.make(subject, directory.resolve())
        if environment.failure is None:
            made[subject] = environment
        else:
            failed[subject] = environment.failure
            progress.say(f"{subject} cannot be installed: {environment.failure}")
    if "beaconhq" in failed:
        raise SystemExit("beaconhq itself cannot be installed")
    return made, failed


class _Progress:
    """Lines on stderr, with the seconds since the start."""

    def __init__(self) -> None:
        self._begun = time.monotonic()

    def say(self, text: str) -> None:
        sys.stderr.write(f"[{time.monotonic() - self._begun:5.0f} s] {text}\n")
        sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
