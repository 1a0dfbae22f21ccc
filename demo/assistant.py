"""One real Home Assistant on the loopback: its configuration directory, its process, its end."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import sys
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).resolve().parent.parent
INTEGRATION = ROOT / "custom_components" / "energy_ledger"

SECONDS_TO_START = 180
SECONDS_TO_STOP = 30
# What Home Assistant ends with when it asks to be started again.
RESTART_EXIT_CODE = 100
_LOG_LINES_KEPT = 400

# Home Assistant takes the address it listens on from here. What stands in YAML it would only try, and after
# five minutes leave again for its default: port 8123 on every interface.
_HTTP_STORE: dict[str, Any] = {
    "cors_allowed_origins": [],
    "login_attempts_threshold": -1,
    "ip_ban_enabled": True,
    "ssl_profile": "modern",
    "use_x_frame_options": True,
    "created_at": "2026-01-01T00:00:00+00:00",
    "error": None,
    "error_message": None,
}

_CONFIGURATION = """\
homeassistant:
  name: {name}
  latitude: {latitude}
  longitude: {longitude}
  elevation: 34
  unit_system: metric
  currency: EUR
  country: DE
  language: {language}
  time_zone: {time_zone}
frontend:
history:
logbook:
energy:
recorder:
  commit_interval: 1
automation: !include automations.yaml
logger:
  default: warning
  logs:
    custom_components.energy_ledger: {log_level}
    # Cameras and voice are not what is shown here.
    haffmpeg: critical
    homeassistant.components.camera: critical
"""


class AssistantError(Exception):
    """A Home Assistant that does not start or answer; the message says which, and the end of its log."""


def free_port() -> int:
    """Return a TCP port of the loopback that is free now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True, slots=True)
class Place:
    """Where a home stands and how its Home Assistant speaks."""

    latitude: float = 52.52
    longitude: float = 13.405
    time_zone: str = "Europe/Berlin"
    language: str = "en"
    log_level: str = "info"


@dataclass(slots=True)
class Assistant:
    """A real Home Assistant: `prepare` its configuration, `start` it until it answers, `stop` it.

    `python` is the interpreter that runs it; `extra_environment` is added to its environment. When Home
    Assistant asks to be restarted, it is started again, as its usual supervisors do.
    """

    name: str
    config_dir: Path
    port: int
    python: str = sys.executable
    place: Place = field(default_factory=Place)
    extra_environment: Mapping[str, str] = field(default_factory=dict)
    log: deque[str] = field(default_factory=lambda: deque(maxlen=_LOG_LINES_KEPT), init=False)
    _process: asyncio.subprocess.Process | None = field(default=None, init=False)
    _watcher: asyncio.Task[None] | None = field(default=None, init=False)
    _stopping: bool = field(default=False, init=False)

    @property
    def url(self) -> str:
        """The address of its web interface."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def log_path(self) -> Path:
        """The file with all that it and its children wrote."""
        return self.config_dir / "demo.log"

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    def prepare(self, *, link_integration: bool = True, onboarded: bool = False) -> None:
        """Write the configuration directory; an existing one is kept as it is.

        `link_integration` puts this checkout's integration into custom_components. `onboarded` leaves only
        the making of the first user to be done: the other steps would fetch weather and radio stations from
        outside.
        """
        storage = self.config_dir / ".storage"
        storage.mkdir(parents=True, exist_ok=True)
        place = self.place
        values = {
            "name": json.dumps(self.name),
            "latitude": place.latitude,
            "longitude": place.longitude,
            "time_zone": place.time_zone,
            "language": place.language,
            "log_level": place.log_level,
        }
        self._write_new(self.config_dir / "configuration.yaml", _CONFIGURATION.format(**values))
        self._write_new(self.config_dir / "automations.yaml", "[]\n")
        http = {**_HTTP_STORE, "server_host": ["127.0.0.1"], "server_port": self.port}
        stored = {"stable": http, "pending": None, "yaml_migration_done": True}
        self._write_new(storage / "http", _store("http", 2, 2, stored))
        if onboarded:
            done = {"done": ["core_config", "analytics", "integration"]}
            self._write_new(storage / "onboarding", _store("onboarding", 4, 1, done))
        if link_integration:
            place_of_link = self.config_dir / "custom_components" / "energy_ledger"
            place_of_link.parent.mkdir(exist_ok=True)
            if not place_of_link.exists():
                place_of_link.symlink_to(INTEGRATION, target_is_directory=True)

    @staticmethod
    def _write_new(path: Path, text: str) -> None:
        if not path.exists():
            path.write_text(text, encoding="utf-8")

    async def start(self) -> None:
        """Start it and wait until its web interface answers; raises AssistantError."""
        self._stopping = False
        await self._spawn()
        self._watcher = asyncio.create_task(self._watch(), name=f"watch {self.name}")
        await self.wait_ready()

    async def _spawn(self) -> None:
        environment = {**os.environ, "UV_OFFLINE": "1", "PYTHONUNBUFFERED": "1", **self.extra_environment}
        self._process = await asyncio.create_subprocess_exec(
            self.python,
            "-P",
            str(Path(__file__).with_name("guarded.py")),
            "--config",
            str(self.config_dir),
            "--skip-pip",
            "--log-no-color",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            # Ctrl-C is ours to answer: the whole terminal group would get it at once, in no order.
            start_new_session=True,
            cwd=self.config_dir,
            env=environment,
        )

    async def _watch(self) -> None:
        """Keep what it writes; start it again when it asks for that."""
        while True:
            process = self._process
            assert process is not None  # noqa: S101  # start spawned it
            assert process.stdout is not None  # noqa: S101
            with self.log_path.open("ab") as file:
                while line := await _read_line(process.stdout):
                    file.write(line)
                    file.flush()
                    self.log.append(line.decode(errors="replace").rstrip())
            if await process.wait() != RESTART_EXIT_CODE or self._stopping:
                return
            await self._spawn()

    async def wait_ready(self) -> None:
        """Wait until its web interface answers; raises AssistantError when it ends or takes too long."""
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
            try:
                async with asyncio.timeout(SECONDS_TO_START):
                    while not await self._answers(session):
                        if self._watcher is not None and self._watcher.done():
                            raise AssistantError(self._complaint("ended before it answered"))
                        await asyncio.sleep(0.1)
            except TimeoutError:
                raise AssistantError(self._complaint(f"did not answer within {SECONDS_TO_START} s")) from None

    async def _answers(self, session: aiohttp.ClientSession) -> bool:
        try:
            async with session.get(f"{self.url}/manifest.json") as answer:
                return answer.status == 200
        except aiohttp.ClientError, TimeoutError:
            return False

    def _complaint(self, what: str) -> str:
        tail = "\n".join(list(self.log)[-15:])
        return f"{self.name}: Home Assistant {what}; its log is {self.log_path} and ends with\n{tail}"

    async def stop(self) -> None:
        """Ask it to stop, then make it; nothing of it runs afterwards."""
        self._stopping = True
        process = self._process
        if process is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
            try:
                async with asyncio.timeout(SECONDS_TO_STOP):
                    await process.wait()
            except TimeoutError:
                await self.kill()
        if self._watcher is not None:
            await self._watcher
            self._watcher = None
        self._process = None

    async def kill(self) -> None:
        """End it by SIGKILL, as a power cut would; `start` may follow."""
        self._stopping = True
        process = self._process
        if process is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        if self._watcher is not None:
            await self._watcher
            self._watcher = None

    def remove(self) -> None:
        """Delete the configuration directory with all that is in it."""
        shutil.rmtree(self.config_dir, ignore_errors=True)


async def _read_line(stream: asyncio.StreamReader) -> bytes:
    """Return the next line with its end, or the first part of one that is too long; empty at the end."""
    try:
        return await stream.readuntil(b"\n")
    except asyncio.IncompleteReadError as error:
        return error.partial
    except asyncio.LimitOverrunError as error:
        return await stream.read(error.consumed or 1)


def _store(key: str, version: int, minor_version: int, data: Mapping[str, Any]) -> str:
    """Return a file of Home Assistant's storage."""
    whole = {"version": version, "minor_version": minor_version, "key": key, "data": data}
    return json.dumps(whole, indent=2)
