"""Speak to a Home Assistant as its own web interface does: forms by REST, the rest by WebSocket."""

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, NoReturn

import aiohttp

from ledger_core.errors import LedgerError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

SECONDS_TO_WAIT = 120
_LONGEST_MESSAGE = 32 * 1024 * 1024


class RestError(Exception):
    """Home Assistant refused or did not answer; the message holds what was asked and what it said."""


class Api:
    """A logged-in connection to one Home Assistant.

    Make it with `onboard` or `log_in`, close it with `close` or use it as an async context manager. Every
    method raises RestError for a refusal.
    """

    def __init__(self, url: str, session: aiohttp.ClientSession, refresh_token: str) -> None:
        """Take a session that is closed with this object, and the login's refresh token."""
        self.url = url
        self._session = session
        self._refresh_token = refresh_token
        self._access_token = ""
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._reader: asyncio.Task[None] | None = None
        self._number = 0
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._streams: dict[int, asyncio.Queue[Any]] = {}

    async def __aenter__(self) -> Api:
        """Give this connection."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close."""
        await self.close()

    # --- logging in ---------------------------------------------------------------------------------------

    @classmethod
    async def onboard(cls, url: str, *, name: str, user: str, password: str, language: str = "en") -> Api:
        """Make the first user of a new Home Assistant, and log in as it."""
        session = _new_session()
        try:
            await _until_onboarding(session, url)
            answer = await _json(
                session.post(
                    f"{url}/api/onboarding/users",
                    json={
                        "name": name,
                        "username": user,
                        "password": password,
                        "client_id": f"{url}/",
                        "language": language,
                    },
                )
            )
            return await cls._with_code(url, session, answer["auth_code"])
        except BaseException:
            await session.close()
            raise

    @classmethod
    async def log_in(cls, url: str, *, user: str, password: str) -> Api:
        """Log in with a user's name and password."""
        session = _new_session()
        try:
            flow = await _json(
                session.post(
                    f"{url}/auth/login_flow",
                    json={
                        "client_id": f"{url}/",
                        "handler": ["homeassistant", None],
                        "redirect_uri": f"{url}/",
                    },
                )
            )
            answer = await _json(
                session.post(
                    f"{url}/auth/login_flow/{flow['flow_id']}",
                    json={"username": user, "password": password, "client_id": f"{url}/"},
                )
            )
            code = answer.get("result")
            if code is None:
                _refuse(f"{url}: the login as {user} was refused: {answer.get('errors')}")
            return await cls._with_code(url, session, code)
        except BaseException:
            await session.close()
            raise

    @classmethod
    async def _with_code(cls, url: str, session: aiohttp.ClientSession, code: str) -> Api:
        form = {"grant_type": "authorization_code", "code": code, "client_id": f"{url}/"}
        tokens = await _json(session.post(f"{url}/auth/token", data=form))
        api = cls(url, session, tokens["refresh_token"])
        api._access_token = tokens["access_token"]
        return api

    async def close(self) -> None:
        """Close the connection; the login stays valid."""
        await self._drop_socket()
        await self._session.close()

    async def _renew(self) -> None:
        form = {
            "grant_type": "refresh_token",
            "refresh_token": self._refresh_token,
            "client_id": f"{self.url}/",
        }
        tokens = await _json(self._session.post(f"{self.url}/auth/token", data=form))
        self._access_token = tokens["access_token"]

    # --- REST ---------------------------------------------------------------------------------------------

    async def request(self, method: str, path: str, body: Any = None) -> Any:
        """Return the JSON answer of a path below the address, such as "/api/states"."""
        for attempt in (1, 2):
            headers = {"Authorization": f"Bearer {self._access_token}"}
            async with self._session.request(
                method, f"{self.url}{path}", json=body, headers=headers
            ) as answer:
                if answer.status == 401 and attempt == 1:
                    await self._renew()
                    continue
                return await _content(answer, f"{method} {path}")
        raise RestError(f"{method} {path}: not authorized")  # pragma: no cover  # the second answer returns

    async def states(self) -> dict[str, dict[str, Any]]:
        """Return every state by entity id."""
        return {state["entity_id"]: state for state in await self.request("GET", "/api/states")}

    async def state(self, entity_id: str) -> str:
        """Return one entity's state."""
        return str((await self.request("GET", f"/api/states/{entity_id}"))["state"])

    async def call(
        self, domain: str, service: str, data: Mapping[str, Any] | None = None, *, answer: bool = False
    ) -> Any:
        """Perform an action; with `answer` return the data it responds with."""
        suffix = "?return_response" if answer else ""
        result = await self.request("POST", f"/api/services/{domain}/{service}{suffix}", dict(data or {}))
        return result["service_response"] if answer else None

    # --- forms --------------------------------------------------------------------------------------------

    async def start_flow(self, handler: str) -> Flow:
        """Start adding an integration."""
        return await self._flow("/api/config/config_entries/flow", {"handler": handler})

    async def start_subentry_flow(self, entry_id: str, kind: str) -> Flow:
        """Start adding a subentry of a kind to an entry."""
        return await self._flow("/api/config/config_entries/subentries/flow", {"handler": [entry_id, kind]})

    async def start_options_flow(self, entry_id: str) -> Flow:
        """Start an entry's options."""
        return await self._flow("/api/config/config_entries/options/flow", {"handler": entry_id})

    async def _flow(self, path: str, body: Mapping[str, Any]) -> Flow:
        return Flow(self, path, await self.request("POST", path, body))

    async def entries(self, domain: str) -> list[dict[str, Any]]:
        """Return the entries of an integration."""
        return list(await self.request("GET", f"/api/config/config_entries/entry?domain={domain}"))

    # --- WebSocket ----------------------------------------------------------------------------------------

    async def command(self, kind: str, **fields: Any) -> Any:
        """Send a WebSocket command; return its result."""
        return (await self._send(kind, fields))[1]

    async def _send(
        self, kind: str, fields: Mapping[str, Any], stream: asyncio.Queue[Any] | None = None
    ) -> tuple[int, Any]:
        socket = await self._connected()
        self._number += 1
        number = self._number
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._answers[number] = future
        if stream is not None:
            self._streams[number] = stream
        try:
            await socket.send_json({"id": number, "type": kind, **fields})
            async with asyncio.timeout(60):
                return number, await future
        except (TimeoutError, ConnectionError) as error:
            raise RestError(f"{kind}: no answer ({error})") from None
        finally:
            self._answers.pop(number, None)

    @contextlib.asynccontextmanager
    async def events(self, kind: str, **fields: Any) -> AsyncIterator[asyncio.Queue[Any]]:
        """Subscribe by a command such as "subscribe_events"; gives a queue of its events."""
        queue: asyncio.Queue[Any] = asyncio.Queue(10_000)
        number, _ = await self._send(kind, fields, queue)
        try:
            yield queue
        finally:
            self._streams.pop(number, None)
            with contextlib.suppress(RestError):
                await self.command("unsubscribe_events", subscription=number)

    async def _connected(self) -> aiohttp.ClientWebSocketResponse:
        if self._socket is not None and not self._socket.closed:
            return self._socket
        await self._drop_socket()
        await self._renew()
        try:
            socket = await self._session.ws_connect(
                f"{self.url}/api/websocket", max_msg_size=_LONGEST_MESSAGE
            )
            await socket.receive_json()
            await socket.send_json({"type": "auth", "access_token": self._access_token})
            greeting = await socket.receive_json()
        except (aiohttp.ClientError, TypeError) as error:
            raise RestError(f"{self.url}: no WebSocket: {error}") from None
        if greeting["type"] != "auth_ok":
            raise RestError(f"{self.url}: the WebSocket refused the login: {greeting}")
        self._socket = socket
        self._reader = asyncio.create_task(self._read(socket), name=f"read {self.url}")
        return socket

    async def _read(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        async for message in socket:
            if message.type is not aiohttp.WSMsgType.TEXT:
                break
            content = message.json()
            number = content.get("id")
            if content["type"] == "event" and number in self._streams:
                with contextlib.suppress(asyncio.QueueFull):
                    self._streams[number].put_nowait(content["event"])
            elif content["type"] == "result" and (future := self._answers.get(number)) and not future.done():
                if content["success"]:
                    future.set_result(content["result"])
                else:
                    error = content["error"]
                    future.set_exception(RestError(f"{error.get('code')}: {error.get('message')}"))
        for future in self._answers.values():
            if not future.done():
                future.set_exception(RestError(f"{self.url}: the WebSocket closed"))

    async def _drop_socket(self) -> None:
        if self._socket is not None:
            await self._socket.close()
            self._socket = None
        if self._reader is not None:
            await self._reader
            self._reader = None

    async def wait_running(self) -> None:
        """Wait until Home Assistant has set up everything; raises RestError after two minutes."""

        async def running() -> bool:
            return bool((await self.command("get_config"))["state"] == "RUNNING")

        await wait_for(running, f"{self.url} to be running")


class Flow:
    """A form of Home Assistant: `step` is what it shows now, `send` fills it in."""

    def __init__(self, api: Api, path: str, step: dict[str, Any]) -> None:
        """Take the flow's path and its first step."""
        self._api = api
        self._path = path
        self.step = step

    @property
    def step_id(self) -> str:
        """The name of the form or menu that is shown, or the flow's end ("create_entry", "abort")."""
        return str(self.step.get("step_id") or self.step["type"])

    async def send(self, values: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Send the form's values; return the next step, once the flow has stopped working.

        Raises RestError for an error that the form shows.
        """
        self.step = await self._api.request(
            "POST", f"{self._path}/{self.step['flow_id']}", dict(values or {})
        )
        if self.step.get("errors"):
            details = self.step.get("description_placeholders") or ""
            _refuse(f"the form {self.step_id} refused {values}: {self.step['errors']} {details}")
        await self.settle()
        return self.step

    async def choose(self, option: str) -> dict[str, Any]:
        """Choose from a menu."""
        if option not in (self.step.get("menu_options") or ()):
            raise RestError(f"{self.step_id} offers {self.step.get('menu_options')}, not {option}")
        return await self.send({"next_step_id": option})

    async def settle(self) -> None:
        """Wait while the flow shows its progress."""

        async def settled() -> bool:
            if self.step["type"] not in ("progress", "progress_done"):
                return True
            self.step = await self._api.request("GET", f"{self._path}/{self.step['flow_id']}")
            return self.step["type"] not in ("progress", "progress_done")

        await wait_for(settled, f"the form {self.step_id} to go on")

    def ended(self, kind: str = "create_entry") -> dict[str, Any]:
        """Return the end that is expected; raises RestError when the flow is elsewhere."""
        if self.step["type"] != kind:
            raise RestError(f"the form should have ended with {kind}, and shows {self.step}")
        return self.step

    def fields(self) -> dict[str, dict[str, Any]]:
        """Return the shown form's fields by name, sections flattened."""
        found: dict[str, dict[str, Any]] = {}
        for item in self.step.get("data_schema") or ():
            found[item["name"]] = item
            for inner in item.get("schema") or ():
                found[inner["name"]] = inner
        return found


async def wait_for(
    condition: Callable[[], Awaitable[bool]], what: str, seconds: float = SECONDS_TO_WAIT
) -> None:
    """Wait until a condition holds, asked a few times a second; raises RestError, with the last refusal."""
    last = ""
    try:
        async with asyncio.timeout(seconds):
            while True:
                try:
                    if await condition():
                        return
                except (RestError, LedgerError, aiohttp.ClientError, OSError, LookupError) as error:
                    last = f" (last: {error})"
                await asyncio.sleep(0.2)
    except TimeoutError:
        raise RestError(f"waited {seconds:g} s for {what}{last}") from None


def _refuse(message: str) -> NoReturn:
    raise RestError(message)


def _new_session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60))


async def _until_onboarding(session: aiohttp.ClientSession, url: str) -> None:
    async def offered() -> bool:
        async with session.get(f"{url}/api/onboarding") as answer:
            return answer.status == 200

    await wait_for(offered, f"{url} to offer onboarding")


async def _json(request: Any) -> Any:
    async with request as answer:
        return await _content(answer, f"{answer.method} {answer.url.path}")


async def _content(answer: aiohttp.ClientResponse, what: str) -> Any:
    text = await answer.text()
    if answer.status >= 400:
        raise RestError(f"{what}: {answer.status} {text[:500]}")
    return await answer.json(content_type=None) if text else None
