"""One saga as it is being run: what is known of it, and what of that is not yet committed."""

from __future__ import annotations

from dataclasses import dataclass, field

from google.protobuf.message import Message
from grpc import StatusCode

from ..call import NEVER, Call
from ..dial import Remote
from ..errors import CircuitOpenError, MeshError
from ..layers.backoff import Backoff
from ..metadata import UNDO_OF, VOID
from ..runtime.clock import Runtime
from ..runtime.logs import log
from ..runtime.metrics import SagaMetrics
from .journal import Journal
from .records import SagaRow, StepRow
from .v1 import saga_pb2 as pb

#: A saga that waits to ask again looks this often whether it was cancelled or lost its lease.
HEED_S = 5.0

#: Answers that blame the system, not the request: somebody has to mend it, then it goes on.
MISCONFIGURED = (
    StatusCode.UNIMPLEMENTED,
    StatusCode.UNAUTHENTICATED,
    StatusCode.PERMISSION_DENIED,
)


@dataclass
class Progress:
    """How far one saga is, and the means to get it further.

    `expires` is its deadline on the monotonic clock: the one on the wall may be set.
    """

    row: SagaRow
    journal: Journal
    runtime: Runtime
    backoff: Backoff
    metrics: SagaMetrics
    expires: float
    unsaved: dict[tuple[int, int], StepRow] = field(default_factory=dict)

    def learn(self, *steps: StepRow) -> None:
        """Note what is to be written with the next commit."""
        for step in steps:
            self.unsaved[step.place] = step

    async def save(self, *steps: StepRow, heed: bool = False, pivot: bool = False) -> None:
        """Commit what became known, and *steps*, together."""
        late = self.runtime.clock.monotonic() >= self.expires
        learnt, self.unsaved = self.unsaved, {}
        try:
            writing = {**learnt, **{step.place: step for step in steps}}.values()
            await self.journal.save(self.row, writing, heed=heed, late=late, pivot=pivot)
        except BaseException:
            self.unsaved = {**learnt, **self.unsaved}
            raise

    async def rest(self, state: pb.Saga.State.ValueType) -> None:
        """Commit that the saga has come to its end, or needs an operator."""
        self.row.state = state
        await self.save()
        self.metrics.rested.labels(self.row.name, pb.Saga.State.Name(state)).inc()
        if state == pb.Saga.PARKED:
            error = self.row.error()
            log.error(
                "saga parked: an operator must decide",
                saga_id=self.row.saga_id,
                saga=self.row.name,
                step=self.row.failed_step,
                reason=error.reason if error else "",
            )

    def give_up(self, step: StepRow, error: MeshError) -> None:
        """Note that *step* was asked in vain, and will not be asked again."""
        step.note_failure(error, self.runtime.clock.wall(), undo=False)
        self.learn(step)

    async def pause(
        self, tries: int, step: StepRow, error: MeshError, *, undo: bool = False
    ) -> None:
        """Wait until *step* may be asked again; commit that it was asked in vain.

        A long wait, for a breaker, is made in pieces: whoever cancels need not wait as long.
        """
        delay_s = self.backoff.delay_s(tries, self.runtime.random)
        if isinstance(error, CircuitOpenError):
            delay_s += max(0.0, error.retry_after_s or 0.0)
        step.note_failure(error, self.runtime.clock.wall(), undo=undo)
        method = step.undo_method[1:] if undo else step.full_name
        facts = {"saga_id": self.row.saga_id, "step": method, "reason": error.reason}
        if error.status in MISCONFIGURED:
            self.metrics.misconfigured.labels(method, error.reason).inc()
            log.error("the system is misconfigured: a saga cannot go on", tries=tries, **facts)
        else:
            log.info("saga waits to ask again", tries=tries, **facts)
        while delay_s > 0:
            await self.runtime.clock.sleep(min(delay_s, HEED_S))
            delay_s -= HEED_S
            await self.save(step, heed=not undo)


def step_call(remote: Remote, request: Message, key: str, *, void: bool = False) -> Call:
    """Return the call of a step; with *void* one that keeps its key from ever taking effect."""
    metadata = {VOID: "1"} if void else {}
    return Call(remote.method, request, deadline=NEVER, metadata=metadata, key=key)


def undo_call(remote: Remote, request: Message, key: str, do: str) -> Call:
    """Return the call that undoes *do*: the path of a method and a key, with a space between."""
    return Call(remote.method, request, deadline=NEVER, metadata={UNDO_OF: do}, key=key)
