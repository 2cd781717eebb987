from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import List

import pytest

from beaconhq import __version__, cli


def run(*command: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": "80", "NO_COLOR": "1"}
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)


def exit_code(*arguments: str) -> object:
    with pytest.raises(SystemExit) as exited:
        cli.main(arguments)
    return exited.value.code


class TestHelp:
    def test_version(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert exit_code("--version") == 0
        assert capsys.readouterr().out == f"beaconhq {__version__}\n"

    def test_help_names_every_command(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert exit_code("--help") == 0
        shown = capsys.readouterr().out
        for command in cli.COMMANDS:
            assert re.search(rf"^    {command.name} +{re.escape(command.help)}$", shown, re.MULTILINE)

    @pytest.mark.parametrize("command", [command.name for command in cli.COMMANDS])
    def test_each_command_explains_itself_with_examples(
        self, command: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert exit_code(command, "--help") == 0
        assert f"examples:\n  beaconhq {command}" in capsys.readouterr().out

    def test_the_documented_port_is_the_default(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert exit_code("local", "--help") == 0
        shown = capsys.readouterr().out
        assert "(default: 8787)" in " ".join(shown.split())
        assert "http://127.0.0.1:8787" in shown
        assert cli.make_parser().parse_args(["local"]).port == 8787


class TestUsage:
    @pytest.mark.parametrize(
        ("arguments", "reason"),
        [
            ([], "the following arguments are required: COMMAND"),
            (["nosuch"], "invalid choice: 'nosuch'"),
            (["local", "--port", "65536"], "argument --port: must be 0 to 65535"),
            (["local", "--port", "http"], "argument --port: must be 0 to 65535"),
            (["local", "--port", "-1"], "argument --port: must be 0 to 65535"),
            (["local", "--key", ""], "argument --key: must be printable ASCII without spaces, and not empty"),
            (["demo", "--requests", "0"], "argument --requests: must be 1 to 100000"),
            (["demo", "--requests", "100001"], "argument --requests: must be 1 to 100000"),
            (["demo", "--requests", "many"], "argument --requests: must be 1 to 100000"),
            (["doctor", "--timeout", "0"], "argument --timeout: must be a number of seconds above 0"),
            (["doctor", "--timeout", "nan"], "argument --timeout: must be a number of seconds above 0"),
            (["doctor", "--timeout", "soon"], "argument --timeout: must be a number of seconds above 0"),
            (["doctor", "--app", "a:b", "--django", "c"], "not allowed with argument --app"),
        ],
    )
    def test_wrong_use_is_exit_code_2_and_a_reason(
        self, arguments: List[str], reason: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert exit_code(*arguments) == 2
        assert reason in capsys.readouterr().err

    @pytest.mark.parametrize("key", ["hush hush", "hush\n", "h\u00fcsh", "hush\x1b"])
    def test_a_key_that_no_header_carries_is_refused_and_not_shown(
        self, key: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert exit_code("local", "--key", key) == 2
        written = capsys.readouterr()
        assert "sh" not in written.err.partition("error:")[2].replace("must", "")
        assert written.out == ""

    def test_what_is_given_arrives(self) -> None:
        given = ["local", "--host", "::1", "--port", "0", "--db", "x.db", "--key", "k"]
        parsed = cli.make_parser().parse_args(given)
        assert (parsed.host, parsed.port, parsed.db, parsed.key) == ("::1", 0, Path("x.db"), "k")
        parsed = cli.make_parser().parse_args(["demo", "--requests", "7", "--keep"])
        assert (parsed.requests, parsed.keep) == (7, True)

    def test_ctrl_c_before_there_is_anything_to_stop(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def interrupted(arguments: object) -> int:
            raise KeyboardInterrupt

        command = cli.COMMANDS[0]._replace(run=interrupted)
        monkeypatch.setattr(cli, "COMMANDS", (command,))
        assert cli.main([command.name]) == 130


@pytest.mark.process
class TestProcess:
    def test_python_m_is_the_same_command(self) -> None:
        done = run(sys.executable, "-m", "beaconhq", "--help")
        assert done.returncode == 0
        assert done.stdout.startswith("usage: beaconhq ")
        assert done.stdout == run(str(Path(sys.executable).parent / "beaconhq"), "--help").stdout

    def test_the_command_line_alone_loads_no_extra(self) -> None:
        """`beaconhq doctor` runs in production images, and `--help` is for everybody."""
        script = "import sys, beaconhq.cli as cli; cli.make_parser().format_help(); print(*sys.modules)"
        done = run(sys.executable, "-c", script)
        assert done.returncode == 0, done.stderr
        loaded = {name.partition(".")[0] for name in done.stdout.split()}
        assert not loaded & {
            "rich",
            "uvicorn",
            "starlette",
            "fastapi",
            "httpx",
            "anyio",
            "asyncio",
            "sqlite3",
        }

    @pytest.mark.parametrize(
        ("command", "missing"),
        [
            ("local", "rich"),
            ("local", "uvicorn"),
            ("local", "starlette"),
            ("demo", "rich"),
            ("demo", "uvicorn"),
            ("demo", "starlette"),
            ("demo", "fastapi"),
        ],
    )
    def test_without_the_extra_it_says_what_to_install(self, command: str, missing: str) -> None:
        script = (
            f"import sys; sys.modules[{missing!r}] = None; from beaconhq.cli import main; sys.exit(main())"
        )
        done = run(sys.executable, "-c", script, command)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == f'beaconhq {command} needs the extra "local": pip install "beaconhq[local]"\n'

    def test_a_broken_installation_is_not_blamed_on_the_extra(self) -> None:
        script = (
            "import sys; sys.modules['beaconhq.local.store'] = None; from beaconhq.cli import main; main()"
        )
        done = run(sys.executable, "-c", script, "local", "--host", "0.0.0.0")
        assert done.returncode == 1
        assert "ModuleNotFoundError" in done.stderr
        assert "extra" not in done.stderr
