"""The recipes of docs/how-to, in real workers and processes: the code is that of the pages."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Dict, List, Tuple

import pytest
from local.processes import Running, run, running

from .pages import DOCS, Page

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import Ingest

pytestmark = pytest.mark.process


def write_recipe(page: str, module: str, folder: Path) -> None:
    """
    Write the block of a page whose first line names the module.

    Its client gets a cadence that is out of reach: what arrives was sent by the recipe.
    """
    first = f"# {module}.py\n"
    (block,) = [block for block in Page(DOCS / "how-to" / page).blocks if block.source.startswith(first)]
    assert block.source.count("BeaconClient.from_env()") == 1
    source = block.source.replace("from_env()", "from_env(flush_interval=600)")
    (folder / f"{module}.py").write_text(source, "utf-8")


def environment_of(ingest: Ingest, folder: Path) -> Dict[str, str]:
    # The frameworks warn of their own.
    return {**ingest.environment, "PYTHONPATH": str(folder), "PYTHONWARNINGS": ""}


# -- Celery -----------------------------------------------------------------------------

CELERY_CONFIG = """
broker_url = "filesystem://"
broker_transport_options = {
    "data_folder_in": "BROKER", "data_folder_out": "BROKER", "control_folder": "BROKER/control"
}
broker_connection_retry_on_startup = True
"""
ADD = """
import tasks
for number in range(6):
    tasks.add.delay(number, None if number == 3 else 1)
"""


@pytest.mark.parametrize("options", [(), ("--max-tasks-per-child=1",)], ids=["long-lived", "one-task-each"])
def test_a_celery_worker_reports_each_task_once(
    ingest: Ingest, tmp_path: Path, options: Tuple[str, ...]
) -> None:
    write_recipe("celery.md", "tasks", tmp_path)
    broker = tmp_path / "broker"
    broker.mkdir()
    (tmp_path / "celeryconfig.py").write_text(CELERY_CONFIG.replace("BROKER", str(broker)), "utf-8")
    environment = environment_of(ingest, tmp_path)
    asked = run("-c", ADD, **environment)
    assert asked.returncode == 0, asked.stderr
    worker = ("-m", "celery", "-A", "tasks", "worker", "--pool=prefork", "--concurrency=2", "--loglevel=INFO")
    with running(*worker, *options, **environment) as process:
        for _ in range(6):
            process.wait_for(r"Task tasks\.add\[.*\] (succeeded|raised)")
        assert ingest.events() == [] or options
        assert process.stop(signal.SIGTERM) == 0
    arrived = ingest.events()
    assert len({event.path for event in arrived}) == len(arrived) == 6
    assert {event.route for event in arrived} == {"tasks.add"}
    (error,) = [event.error for event in arrived if event.status == 500]
    assert error is not None
    assert error.startswith("TypeError: unsupported operand")


# -- RQ ---------------------------------------------------------------------------------

REDIS = """
import fakeredis
from fakeredis.model import ClientInfo
as_bytes = ClientInfo.as_bytes
# It shows an address as a tuple, with a blank in which redis-py sees the next field.
ClientInfo.as_bytes = lambda self: as_bytes(self).replace(b"', ", b"',")
server = fakeredis.TcpFakeServer(("127.0.0.1", 0), server_type="redis")
print("redis on port", server.server_address[1], flush=True)
server.serve_forever()
"""
ENQUEUE = """
import sys, jobs, redis, rq
queue = rq.Queue(connection=redis.Redis(port=int(sys.argv[1])))
for number in range(4):
    queue.enqueue(jobs.divide, 12, number)
"""


def test_an_rq_worker_reports_each_job_once(ingest: Ingest, tmp_path: Path) -> None:
    """The work-horse, forked for each job, leaves by `os._exit`."""
    write_recipe("rq.md", "jobs", tmp_path)
    environment = environment_of(ingest, tmp_path)
    with running("-c", REDIS, **environment) as redis:
        port = redis.wait_for(r"redis on port (\d+)")[1]
        asked = run("-c", ENQUEUE, port, **environment)
        assert asked.returncode == 0, asked.stderr
        worker = ("-m", "rq.cli", "worker", "--burst", f"--url=redis://127.0.0.1:{port}")
        with running(*worker, "--worker-class=jobs.BeaconWorker", **environment) as process:
            assert process.finish() == 0, "".join(process.output)
        output = "".join(process.output)
    assert [(event.route, event.status, event.error) for event in ingest.events()] == [
        ("jobs.divide", 500, "ZeroDivisionError: division by zero"),
        *[("jobs.divide", 200, None)] * 3,
    ], output
    assert len({event.path for event in ingest.events()}) == 4


# -- AWS Lambda -------------------------------------------------------------------------

RUNTIME = """
import sys, types, handler
for number, _ in enumerate(sys.stdin):
    context = types.SimpleNamespace(function_name="thumbnails", aws_request_id=f"request-{number}",
                                    get_remaining_time_in_millis=lambda: 30_000)
    try:
        print("answer", handler.handler({"size": 7 if number != 1 else "x"}, context), flush=True)
    except Exception as exc:
        print("failed", type(exc).__name__, flush=True)
"""


def test_a_lambda_handler_has_delivered_when_the_runtime_freezes_it(ingest: Ingest, tmp_path: Path) -> None:
    write_recipe("lambda.md", "handler", tmp_path)
    environment = environment_of(ingest, tmp_path)
    with running("-c", RUNTIME, **environment) as process:
        for number, answer in enumerate(["answer 49", "failed TypeError", "answer 49"]):
            invoke(process)
            process.wait_for(answer)
            process.process.send_signal(signal.SIGSTOP)
            assert [event.path for event in ingest.events()] == paths(number + 1)
            process.process.send_signal(signal.SIGCONT)
        # As the runtime does in the end: without a word.
        assert process.stop(signal.SIGKILL) == -signal.SIGKILL
    assert [event.status for event in ingest.events()] == [200, 500, 200]


def invoke(process: Running) -> None:
    assert process.process.stdin is not None
    process.process.stdin.write("\n")
    process.process.stdin.flush()


def paths(count: int) -> List[str]:
    return [f"/thumbnails/request-{number}" for number in range(count)]
