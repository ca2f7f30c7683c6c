"""The saga on Temporal: a workflow of five activities, its worker and its client in one process.

``--tuned`` leaves out the sandbox of workflows, polls with more pollers, and lets the server hand
out tasks with its answers (eager start). ``--local`` takes local activities for steps as well: the
server hears of them only when the workflow next waits, so that a crash makes them again.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.worker import PollerBehaviorSimpleMaximum, UnsandboxedWorkflowRunner, Worker

with workflow.unsafe.imports_passed_through():
    import grpc
    from google.protobuf.wrappers_pb2 import StringValue

    from benchmarks.sagas.contract import STEPS, TEXT, EchoStub, check
    from benchmarks.sagas.worker import Run, work

QUEUE = "five-echoes"
ATTEMPT = timedelta(seconds=10)
POLLERS = 20


class Activities:
    """The steps."""

    def __init__(self, stub: EchoStub) -> None:
        self._stub = stub

    @activity.defn
    async def say(self, text: str) -> str:
        """Call the echo."""
        return (await self._stub.Echo(StringValue(value=text), timeout=10)).value

    @activity.defn
    async def take_back(self, text: str) -> None:
        """Call its undo."""
        await self._stub.TakeBack(StringValue(value=text), timeout=10)


@workflow.defn
class FiveEchoes:
    """Five calls, each of which could be taken back."""

    @workflow.run
    async def run(self, text: str, local: bool) -> str:
        """Make them."""
        step: Any = (
            workflow.execute_local_activity_method if local else workflow.execute_activity_method
        )
        made: list[str] = []
        try:
            for _ in range(STEPS):
                made.append(await step(Activities.say, text, start_to_close_timeout=ATTEMPT))
                check(made[-1])
        except Exception:
            for one in reversed(made):
                await step(Activities.take_back, one, start_to_close_timeout=ATTEMPT)
            raise
        return made[-1]


@asynccontextmanager
async def temporal(echo: str, server: str, tuned: bool, local: bool) -> AsyncIterator[Run]:
    """A worker and a client of the *server*."""
    client = await Client.connect(server)
    names = itertools.count()
    queue = f"{QUEUE}-{tuned}-{local}"  # the workers of one queue would share the work
    options: dict[str, Any] = {}
    if tuned:
        pollers = PollerBehaviorSimpleMaximum(POLLERS)
        options = {
            "workflow_runner": UnsandboxedWorkflowRunner(),
            "workflow_task_poller_behavior": pollers,
            "activity_task_poller_behavior": pollers,
        }
    async with grpc.aio.insecure_channel(echo) as channel:
        steps = Activities(EchoStub(channel))
        activities = [steps.say, steps.take_back]
        async with Worker(
            client, task_queue=queue, workflows=[FiveEchoes], activities=activities, **options
        ):

            async def run() -> None:
                name = f"{queue}-{next(names)}"
                said = await client.execute_workflow(
                    FiveEchoes.run,
                    args=[TEXT, local],
                    id=name,
                    task_queue=queue,
                    request_eager_start=tuned,
                )
                check(said)

            yield run


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--echo", required=True)
    parser.add_argument("--server", required=True)
    parser.add_argument("--tuned", action="store_true")
    parser.add_argument("--local", action="store_true")
    options = parser.parse_args()
    work(temporal(options.echo, options.server, options.tuned, options.local))
