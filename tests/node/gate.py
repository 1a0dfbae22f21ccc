"""The way to a port on loopback, which a test can shut, or let pass a number of bytes."""

import asyncio


class Gate:
    """The way from one node to another's port: open, or shut, which breaks what is under way."""

    def __init__(self, target: int) -> None:
        self._target = target
        self.passed = 0
        """Bytes that came from the target."""
        self._allowed: int | None = None
        self._more = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._links: set[asyncio.Task[None]] = set()
        self.is_open = True
        self.port = 0

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._pass_through, "127.0.0.1", 0)
        self.port = int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        self.shut()
        if self._server is not None:
            self._server.close()
        await asyncio.gather(*self._links, return_exceptions=True)

    def shut(self) -> None:
        """Break every link, and refuse new ones."""
        self.is_open = False
        for link in self._links:
            link.cancel()

    def open(self) -> None:
        self.is_open = True

    def allow(self, more: int | None) -> None:
        """Let so many further bytes of the target pass, then none; None: all."""
        self._allowed = None if more is None else self.passed + more
        self._more.set()

    async def _pass_back(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(4096):
            while self._allowed is not None and self.passed + len(data) > self._allowed:
                self._more.clear()
                await self._more.wait()
            self.passed += len(data)
            writer.write(data)
            await writer.drain()

    async def _pass_through(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._links.add(task)
        writers = [writer]
        try:
            if not self.is_open:
                return
            to_reader, to_writer = await asyncio.open_connection("127.0.0.1", self._target)
            writers.append(to_writer)
            flows = [
                asyncio.ensure_future(_pump(reader, to_writer)),
                asyncio.ensure_future(self._pass_back(to_reader, writer)),
            ]
            try:
                await asyncio.wait(flows, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for flow in flows:
                    flow.cancel()
                await asyncio.gather(*flows, return_exceptions=True)
        except OSError, asyncio.CancelledError:
            pass
        finally:
            self._links.discard(task)
            for each in writers:
                each.transport.abort()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()
