"""
The `beaconhq` command.

Owns the arguments, help texts and exit codes: 0 done, 1 failed, 2 used wrongly. It does no work itself and
loads, beyond the standard library, nothing before a subcommand runs: what runs in production images must not
need the extra `local`. A new subcommand is one more `Command` in `COMMANDS`.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import sys
from pathlib import Path
from typing import Callable, Iterator, NamedTuple, Optional, Sequence

from beaconhq import __version__

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8787
DEFAULT_KEEP_EVENTS = 500_000
DEFAULT_KEEP_HOURS = 168
DEFAULT_REQUESTS = 600
MAX_REQUESTS = 100_000
DEFAULT_TIMEOUT = 10.0
MAX_SECONDS = 3600
DEFAULT_PATIENCE = 30.0

_INTERRUPTED = 130  # 128 + SIGINT, as a shell reports it


class Command(NamedTuple):
    """One subcommand; `run` returns the exit code."""

    name: str
    help: str
    description: str
    epilog: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]


class _MissingExtraError(Exception):
    """A subcommand needs an extra that is not installed."""


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the command line; `argv` None means the process's own. Return the exit code."""
    arguments = make_parser().parse_args(argv)
    try:
        code: int = arguments.run(arguments)
    except _MissingExtraError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except KeyboardInterrupt:
        return _INTERRUPTED
    return code


def make_parser() -> argparse.ArgumentParser:
    """Build the parser with every subcommand of `COMMANDS`."""
    parser = argparse.ArgumentParser(
        prog="beaconhq",
        description="Telemetry for Python web APIs: what runs beside the SDK.",
        epilog="""\
no events?        beaconhq doctor
no account?       beaconhq local, then start your app as it says
just looking?     beaconhq demo

`beaconhq COMMAND --help` explains one command, with examples.
""",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"beaconhq {__version__}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in COMMANDS:
        subparser = subparsers.add_parser(
            command.name,
            help=command.help,
            description=command.description,
            epilog=command.epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_arguments(subparser)
        subparser.set_defaults(run=command.run)
    return parser


@contextlib.contextmanager
def _extra(extra: str, command: str) -> Iterator[None]:
    """Turn a package that is missing while a subcommand's module is imported into one line on what to do."""
    try:
        yield
    except ModuleNotFoundError as error:
        # A module of ours that is missing is a broken installation, which no extra repairs.
        if error.name is not None and error.name.partition(".")[0] == "beaconhq":
            raise
        raise _MissingExtraError(
            f'beaconhq {command} needs the extra "{extra}": pip install "beaconhq[{extra}]"'
        ) from None


def _port(text: str) -> int:
    if not re.fullmatch("[0-9]{1,5}", text) or int(text) > 65535:
        raise argparse.ArgumentTypeError("must be 0 to 65535")
    return int(text)


def _key(text: str) -> str:
    # What an HTTP header carries; the reason does not repeat the key.
    if not re.fullmatch("[!-~]+", text):
        raise argparse.ArgumentTypeError("must be printable ASCII without spaces, and not empty")
    return text


def _requests(text: str) -> int:
    if not re.fullmatch("[0-9]{1,6}", text) or not 1 <= int(text) <= MAX_REQUESTS:
        raise argparse.ArgumentTypeError(f"must be 1 to {MAX_REQUESTS}")
    return int(text)


def _at_least_one(text: str) -> int:
    if not re.fullmatch("[0-9]{1,9}", text) or int(text) < 1:
        raise argparse.ArgumentTypeError("must be a whole number, 1 or more")
    return int(text)


def _add_local_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--host", default=DEFAULT_HOST, help="address to listen on (default: %(default)s, this machine only)"
    )
    parser.add_argument(
        "--port",
        type=_port,
        default=DEFAULT_PORT,
        help="port to listen on, 0 for a free one (default: %(default)s)",
    )
    parser.add_argument(
        "--db", type=Path, metavar="FILE", help="SQLite file to keep the events in (default: a temporary one)"
    )
    parser.add_argument(
        "--key",
        type=_key,
        help="accept only this key, for ingest and page (default: any); required beyond loopback",
    )
    parser.add_argument(
        "--keep-events",
        type=_at_least_one,
        default=DEFAULT_KEEP_EVENTS,
        metavar="N",
        help="how many events to keep, the latest ones (default: %(default)s)",
    )
    parser.add_argument(
        "--keep-hours",
        type=_at_least_one,
        default=DEFAULT_KEEP_HOURS,
        metavar="N",
        help="how long to keep an event after it arrived (default: %(default)s, a week)",
    )
    parser.add_argument(
        "--app",
        metavar="MODULE:ATTR",
        help="your app, as for uvicorn: the page shows which of its routes nobody called",
    )


def _run_local(arguments: argparse.Namespace) -> int:
    with _extra("local", "local"):
        from beaconhq.local.ingest import run
        from beaconhq.local.store import Retention
    return run(
        host=arguments.host,
        port=arguments.port,
        db=arguments.db,
        key=arguments.key,
        retention=Retention(arguments.keep_events, arguments.keep_hours),
        app=arguments.app,
    )


def _add_demo_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--requests",
        type=_requests,
        default=DEFAULT_REQUESTS,
        metavar="N",
        help="how many requests to send (default: %(default)s)",
    )
    parser.add_argument(
        "--keep", action="store_true", help="stay up after them, with a little traffic, until Ctrl-C"
    )


def _run_demo(arguments: argparse.Namespace) -> int:
    with _extra("local", "demo"):
        from beaconhq.local.demo import run
    return run(requests=arguments.requests, keep=arguments.keep)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= MAX_SECONDS:
        raise argparse.ArgumentTypeError(f"must be a number of seconds above 0, at most {MAX_SECONDS}")
    return seconds


def _add_doctor_arguments(parser: argparse.ArgumentParser) -> None:
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--app",
        metavar="MODULE:ATTR",
        help="examine the client of this app; also a BeaconClient, or a factory: main:create_app()",
    )
    source.add_argument(
        "--django",
        nargs="?",
        const="",
        metavar="MODULE",
        help="examine BEACON_CLIENT of Django's settings (default: DJANGO_SETTINGS_MODULE, if that is set)",
    )
    parser.add_argument(
        "--send", action="store_true", help="post one event with the key, under the route /beaconhq-doctor"
    )
    parser.add_argument(
        "--timeout",
        type=_seconds,
        default=DEFAULT_TIMEOUT,
        metavar="SECONDS",
        help="most time for importing the app, and for the network (default: %(default)g, each)",
    )
    parser.add_argument("--json", action="store_true", help="print the report as JSON")


def _run_doctor(arguments: argparse.Namespace) -> int:
    from beaconhq.doctor.command import run

    return run(
        app=arguments.app,
        django=arguments.django,
        send=arguments.send,
        timeout=arguments.timeout,
        as_json=arguments.json,
    )


def _add_spool_arguments(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, dest="spool_command")
    status = commands.add_parser("status", help="say what lies in a spool folder")
    status.add_argument("--json", action="store_true", help="print it as JSON")
    drain = commands.add_parser(
        "drain",
        help="deliver what lies there",
        description="""\
Deliver what processes that are gone left in a spool folder, oldest first. The key is read from
BEACON_INGEST_KEY, the URL from BEACON_INGEST_URL: those under which the events were spooled.
Ctrl-C stops it; the same command goes on.
""",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    drain.add_argument("--retry-refused", action="store_true", help="also what the ingest refused before")
    drain.add_argument(
        "--patience",
        type=_seconds,
        default=DEFAULT_PATIENCE,
        metavar="SECONDS",
        help="give up after that long without progress (default: %(default)g)",
    )
    for each in (status, drain):
        each.add_argument(
            "folder",
            type=Path,
            nargs="?",
            metavar="FOLDER",
            default=os.environ.get("BEACON_SPOOL") or None,
            help="the spool folder (default: $BEACON_SPOOL)",
        )


def _run_spool(arguments: argparse.Namespace) -> int:
    from beaconhq.spool import command

    if arguments.folder is None:
        sys.stderr.write("beaconhq spool: name the folder, or set BEACON_SPOOL\n")
        return 2
    if arguments.spool_command == "status":
        return command.run_status(arguments.folder, as_json=arguments.json)
    key = os.environ.get("BEACON_INGEST_KEY", "")
    if not key:
        sys.stderr.write(
            "beaconhq spool: set BEACON_INGEST_KEY to the key under which the events were spooled\n"
        )
        return 2
    return command.run_drain(
        arguments.folder,
        key,
        os.environ.get("BEACON_INGEST_URL"),
        retry_refused=arguments.retry_refused,
        patience=arguments.patience,
    )


COMMANDS = (
    Command(
        name="local",
        help="run a local ingest and watch the events arrive",
        description="""\
Run an ingest on this machine: it checks every event as the hosted one does, answers
as it would, keeps the events in SQLite and shows them live, in the terminal and on a
page for the browser. Ctrl-C stops it.
""",
        epilog="""\
examples:
  beaconhq local
  beaconhq local --port 0 --db events.db
  beaconhq local --app main:app
  beaconhq local --host 0.0.0.0 --key a-secret-of-yours

then start an app with BEACON_INGEST_URL=http://127.0.0.1:8787 BEACON_INGEST_KEY=dev
""",
        add_arguments=_add_local_arguments,
        run=_run_local,
    ),
    Command(
        name="demo",
        help="see it work: a sample app, real traffic, a local ingest",
        description="""\
Start a local ingest and a sample FastAPI app with the SDK, send it requests over
loopback, and show what the ingest stored. Takes about 10 seconds, needs no account
and no network. Exits with 0 only when everything that was captured was stored.
""",
        epilog="""\
examples:
  beaconhq demo
  beaconhq demo --requests 5000
  beaconhq demo --keep
""",
        add_arguments=_add_demo_arguments,
        run=_run_demo,
    ),
    Command(
        name="doctor",
        help="find out why no events arrive: key, URL, DNS, TLS, proxy",
        description="""\
Read the configuration as an app would, go the way to the ingest step by step, and say
what is wrong and what to do about it. Without --app or --django it examines what
BeaconClient.from_env() makes of BEACON_INGEST_KEY, BEACON_INGEST_URL, BEACON_ENABLED.

It sends nothing but a GET without the key, unless --send is given: only a POST can tell
whether the key is right. It never prints the key, and needs no extra.
""",
        epilog="""\
examples:
  beaconhq doctor
  beaconhq doctor --send
  beaconhq doctor --app main:app
  beaconhq doctor --django mysite.settings --json

exit code: 0 no fault, 1 a fault, 2 used wrongly
""",
        add_arguments=_add_doctor_arguments,
        run=_run_doctor,
    ),
    Command(
        name="spool",
        help="look into a spool folder, or deliver what lies there",
        description="""\
A spool folder holds the events that could not be delivered before their process ended. The
next process with that folder delivers them by itself; these commands look, or do it by hand.
""",
        epilog="""\
examples:
  beaconhq spool status /var/lib/myapp/spool
  BEACON_INGEST_KEY=... beaconhq spool drain /var/lib/myapp/spool
""",
        add_arguments=_add_spool_arguments,
        run=_run_spool,
    ),
)
