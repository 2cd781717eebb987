"""
Runs in a subject's environment and measures what it is told to.

    python -m benchmarks.worker '{"kind": "requests", "case": "flask", ...}'

Then one JSON object a line: an order on stdin (`{"variant": "noop", "count": 500}`), what
one unit of it took on stdout (`{"wall": ..., "thread": ..., "process": ...}`). It prints
`{"variants": [...]}` when it is ready, and ends with its stdin.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from typing import Any, Dict


def main() -> None:
    task: Dict[str, Any] = json.loads(sys.argv[1])
    if not task.get("fast", True):
        sys.modules["orjson"] = None  # type: ignore[assignment]  # as if the extra were not installed
    # What a subject prints must not mix with the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(value: object) -> None:
        answers.write(json.dumps(value) + "\n")
        answers.flush()

    kind = task["kind"]
    if kind == "requests":
        from . import request_path

        calls = request_path.CASES[task["case"]](task["subject"], task["ingest"], task["routes"])
    elif kind == "delivery":
        from . import delivery

        calls = delivery.CASES[task["case"]](task)
    else:
        from . import serving

        serving.serve(task, answer)
        return
    answer({"variants": list(calls.variants)})
    for line in sys.stdin:
        order = json.loads(line)
        gc.collect()  # what others left is not this one's
        reading = calls.variants[order["variant"]](order["count"])
        calls.between_rounds()
        answer(reading)
    answers.flush()
    os._exit(0)  # what a subject does at exit is not measured, and may take its time


if __name__ == "__main__":
    main()
