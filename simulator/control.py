"""A small HTTP port on the loopback: the physical truth, what was on the wire, faults, weather and time."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from aiohttp import web

from simulator.modbus.faults import fault_from
from simulator.modbus.registers import RefusedError, Space

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from simulator.home import SimulatedHome

type _Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class ControlError(Exception):
    """A request that makes no sense; the message says what would."""


class ControlServer:
    """The control port of one home. `start` it, read `port`, `stop` it."""

    def __init__(self, home: SimulatedHome, host: str = "127.0.0.1", port: int = 0) -> None:
        """Prepare; nothing listens yet."""
        self._home = home
        self._host = host
        self.port = port
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen; raises OSError if the address can't be had."""
        application = web.Application(middlewares=[_errors_as_json])
        application.add_routes(
            [
                web.get("/", self._index),
                web.get("/truth", self._truth),
                web.get("/boundaries", self._boundaries),
                web.get("/writes", self._writes),
                web.get("/reads", self._reads),
                web.get("/registers", self._registers),
                web.get("/faults", self._faults),
                web.post("/faults", self._add_fault),
                web.delete("/faults", self._clear_faults),
                web.post("/environment", self._environment),
                web.post("/time", self._time),
                web.post("/stores", self._stores),
            ]
        )
        self._runner = web.AppRunner(application, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._host, self.port)
        try:
            await site.start()
        except OSError:
            await self.stop()
            raise
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Close the port."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _index(self, _request: web.Request) -> web.Response:
        """What there is to ask."""
        return web.json_response(
            {
                "GET /truth": "powers in W, lifetime counters in Wh and J, stores, orders in force",
                "GET /boundaries?since=S": "counters in Wh at the boundaries after a simulated UTC time",
                "GET /writes?since=N": "writes seen on the wire, numbered above N",
                "GET /reads": "the latest reads seen on the wire, and how many there were on each link",
                "GET /registers?link=L&unit=U&function=F&address=A&count=N": "what a read would find now",
                "GET /faults": "the faults that are on, by link",
                "POST /faults": "switch one on: {link, kind, unit?, first?, last?, count?, seconds?, ...}",
                "DELETE /faults?link=L&number=N": "switch one off, or all of a link, or all",
                "POST /environment": "fix {pv_w, load_w}, or let them be with null",
                "POST /time": "{factor} simulated seconds a second; {advance} seconds at once",
                "POST /stores": "set {soc_permille, fuel_mg}",
            }
        )

    async def _truth(self, _request: web.Request) -> web.Response:
        return web.json_response(self._home.truth())

    async def _boundaries(self, request: web.Request) -> web.Response:
        since = _whole(request, "since")
        kept = [asdict(item) for item in self._home.boundaries if item.time_s > since]
        return web.json_response({"boundaries": kept})

    async def _writes(self, request: web.Request) -> web.Response:
        since = _whole(request, "since")
        writes = [seen.as_json() for seen in self._home.log.writes(since)]
        return web.json_response({"last": self._home.log.last_sequence, "writes": writes})

    async def _reads(self, _request: web.Request) -> web.Response:
        log = self._home.log
        return web.json_response(
            {"count": dict(log.read_count), "reads": [asdict(seen) for seen in log.reads]}
        )

    async def _registers(self, request: web.Request) -> web.Response:
        link = request.query.get("link", next(iter(self._home.links)))
        devices = self._home.units_of(link)
        unit = _whole(request, "unit", next(iter(devices)))
        if unit not in devices:
            raise ControlError(f"no unit {unit} on {link}; known: {', '.join(map(str, devices))}")
        function, count = _whole(request, "function", 3), _whole(request, "count", 1)
        address = _whole(request, "address", 0)
        if not 1 <= function <= 4 or not 1 <= count <= 2000 or not 0 <= address <= 65_536 - count:
            raise ControlError("function must be 1 to 4, count 1 to 2000, and the addresses 0 to 65535")
        try:
            data = devices[unit].read(Space(function), address, count)
        except RefusedError as error:
            raise ControlError(f"{error} for address {address}, count {count}") from None
        words = [int.from_bytes(data[place : place + 2]) for place in range(0, len(data), 2)]
        return web.json_response({"link": link, "unit": unit, "address": address, "words": words})

    async def _faults(self, _request: web.Request) -> web.Response:
        return web.json_response(
            {
                name: {str(number): asdict(fault) for number, fault in link.faults.active().items()}
                for name, link in self._home.links.items()
            }
        )

    async def _add_fault(self, request: web.Request) -> web.Response:
        values = await _body(request)
        default = next(iter(self._home.links)) if len(self._home.links) == 1 else ""
        link = str(values.pop("link", default))
        number = self._home.inject(link, fault_from(values))
        return web.json_response({"link": link, "number": number})

    async def _clear_faults(self, request: web.Request) -> web.Response:
        name = request.query.get("link")
        links = list(self._home.links.values()) if name is None else [self._home.link(name)]
        number = _whole(request, "number") or None
        if number is not None and name is None:
            raise ControlError("a number needs its link: DELETE /faults?link=L&number=N")
        return web.json_response({"cleared": sum(link.clear(number) for link in links)})

    async def _environment(self, request: web.Request) -> web.Response:
        values = await _body(request)
        _refuse_unknown(values, ("pv_w", "load_w"))
        for key, value in values.items():
            if value is not None and (not isinstance(value, int) or not 0 <= value <= 1_000_000):
                raise ControlError(f"{key} must be 0 to 1000000 W or null, not {value!r}")
        self._home.set_environment(**values)
        return web.json_response(asdict(self._home.physics.environment))

    async def _time(self, request: web.Request) -> web.Response:
        values = await _body(request)
        _refuse_unknown(values, ("factor", "advance"))
        if "factor" in values:
            self._home.catch_up()
            self._home.clock.factor = _number(values, "factor")
        if "advance" in values:
            seconds = _number(values, "advance")
            if not 0 <= seconds <= 400 * 86_400:
                raise ControlError(f"advance must be 0 to 34560000 s, not {seconds:g}")
            self._home.advance(int(seconds))
        return web.json_response({"time_s": self._home.physics.time_s, "factor": self._home.clock.factor})

    async def _stores(self, request: web.Request) -> web.Response:
        values = await _body(request)
        _refuse_unknown(values, ("soc_permille", "fuel_mg"))
        if "soc_permille" in values:
            self._home.set_state_of_charge(int(_number(values, "soc_permille")))
        if "fuel_mg" in values:
            self._home.refuel(int(_number(values, "fuel_mg")))
        return web.json_response(self._home.truth())


@web.middleware
async def _errors_as_json(request: web.Request, handler: _Handler) -> web.StreamResponse:
    """Answer 400 with one clear line for what can't be done, and for unknown paths what there is."""
    try:
        return await handler(request)
    except (ControlError, ValueError, LookupError) as error:
        message = error.args[0] if error.args else str(error)
        return web.json_response({"error": str(message)}, status=400)
    except web.HTTPException as error:
        return web.json_response({"error": f"{error.reason}; GET / lists what there is"}, status=error.status)


async def _body(request: web.Request) -> dict[str, Any]:
    try:
        values = await request.json()
    except ValueError:
        raise ControlError("the body must be a JSON object") from None
    if not isinstance(values, dict):
        raise ControlError("the body must be a JSON object")
    return values


def _refuse_unknown(values: dict[str, Any], known: tuple[str, ...]) -> None:
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise ControlError(f"unknown: {', '.join(unknown)}; known: {', '.join(known)}")


def _number(values: dict[str, Any], key: str) -> float:
    value = values[key]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ControlError(f"{key} must be a number, not {value!r}")
    return float(value)


def _whole(request: web.Request, key: str, default: int = 0) -> int:
    text = request.query.get(key, str(default))
    if not text.lstrip("-").isdecimal():
        raise ControlError(f"{key} must be a whole number, not {text!r}")
    return int(text)
