"""A program that starts children which are killed in the middle of their work on a store.

It imports everything once and forks for every job, so that a hundred kills take seconds. Jobs come as lines
of JSON on standard input; for each a line of JSON goes to standard output: which stages and steps the child
went through before it ended, and how it ended.
"""

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ledger_core.chain import chain as chain_module
from ledger_core.chain.chain import Chain
from ledger_core.chain.rebuild import rebuild
from ledger_core.chain.store import pruning, transaction
from ledger_core.chain.store.blockfile import BlockFile
from ledger_core.chain.store.opening import open_store
from ledger_core.records.block import Block, decode_header
from tests.core.chains import LATER, verifier

NOW = 1_900_000_000

type Hook = Callable[[str], None]
type Job = dict[str, Any]


def blocks_of(job: Job) -> list[Block]:
    return list(BlockFile(Path(job["blocks"])).blocks())


def feed(job: Job, hook: Hook, step: Callable[[], None]) -> None:
    """Give the chain of a store further blocks, one commit each."""
    genesis = BlockFile(Path(job["blocks"])).genesis
    store = open_store(Path(job["directory"]), genesis, on_stage=hook)
    chain = Chain.open(store, verifier())
    for block in blocks_of(job)[job["first"] : job["last"]]:
        chain.add_block(block, LATER)
        step()
    store.close()
    step()


def sync(job: Job, hook: Hook, step: Callable[[], None]) -> None:
    """Give the chain of a store many blocks in one commit; `loose`: leave them unpacked."""
    store = open_store(Path(job["directory"]), BlockFile(Path(job["blocks"])).genesis, on_stage=hook)
    transaction.LOOSE_BLOCKS = 1
    store.pack_later = job.get("loose", False)
    store.set_durable(durable=False)
    final = store.final()[0]
    blocks = [block for block in blocks_of(job) if decode_header(block.header).height > final]
    Chain.open(store, verifier()).add_blocks(blocks, LATER)
    store.close()
    step()


def pack(job: Job, hook: Hook, step: Callable[[], None]) -> None:
    """Pack what was left loose."""
    store = open_store(Path(job["directory"]), on_stage=hook)
    while store.pack_some():
        step()
    store.close()
    step()


def prune(job: Job, hook: Hook, step: Callable[[], None]) -> None:
    pruning._SEGMENTS_AT_ONCE = 2  # type: ignore[misc]
    store = open_store(Path(job["directory"]), on_stage=hook)
    store.prune(job["before"])
    store.compact()
    store.close()
    step()


def install(job: Job, hook: Hook, step: Callable[[], None]) -> None:
    """Begin a store at a snapshot that another one has."""
    with open_store(Path(job["source"]), writable=False) as source:
        info = source.snapshots()[0]
        interval = source.genesis.parameters.checkpoint_interval
        final = info.height + 1
        headers = source.sealed_headers(1, final - interval)
        blocks = [
            block for height in range(final - interval, final) if (block := source.block_at(height + 1))
        ]
        data = source.snapshot(info.hash)
        genesis = source.genesis
    store = open_store(Path(job["directory"]), genesis, on_stage=hook)
    store.install(headers, blocks, (info, data))
    store.close()
    step()


def remake(job: Job, hook: Hook, step: Callable[[], None]) -> None:
    rebuild(Path(job["directory"]), verifier(), NOW, on_stage=hook)
    step()


def reopen(job: Job, hook: Hook, step: Callable[[], None]) -> None:
    """Start as a node does."""
    store = open_store(Path(job["directory"]), on_stage=hook)
    Chain.open(store, verifier())
    hook("started")
    store.close()
    step()


JOBS: dict[str, Callable[[Job, Hook, Callable[[], None]], None]] = {
    "feed": feed,
    "sync": sync,
    "pack": pack,
    "prune": prune,
    "install": install,
    "rebuild": remake,
    "reopen": reopen,
}


def run_child(job: Job, output: int) -> None:
    stages = 0

    def hook(name: str) -> None:
        nonlocal stages
        stages += 1
        os.write(output, f"stage {name}\n".encode())
        if stages == job.get("kill_at"):
            os.kill(os.getpid(), signal.SIGKILL)

    chain_module.SNAPSHOT_EVERY = 1

    def step() -> None:
        os.write(output, b"step\n")

    JOBS[job["job"]](job, hook, step)


def run(job: Job) -> dict[str, Any]:
    receiving, sending = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.close(receiving)
            run_child(job, sending)
            code = 0
        except BaseException as error:  # noqa: BLE001 - reported to the test
            os.write(sending, f"error {error!r}\n".encode())
        finally:
            os._exit(code)
    os.close(sending)
    if "kill_after_s" in job:
        time.sleep(job["kill_after_s"])
        os.kill(child, signal.SIGKILL)
    with os.fdopen(receiving) as lines:
        words = [line.rstrip("\n").split(" ", 1) for line in lines]
    _, status = os.waitpid(child, 0)
    return {
        "stages": [word[1] for word in words if word[0] == "stage"],
        "steps": sum(word[0] == "step" for word in words),
        "error": next((word[1] for word in words if word[0] == "error"), None),
        "killed": os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL,
    }


def main() -> None:
    for line in sys.stdin:
        sys.stdout.write(json.dumps(run(json.loads(line))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
