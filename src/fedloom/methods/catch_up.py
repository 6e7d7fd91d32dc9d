"""Lessons that clients have missed: kept by the server, and taught to those that come, or come back.

A lesson of a round is what was shown, and what was to be learned of it. The server keeps those of as many rounds as a
client's pool holds; one that takes part again is sent those it has missed, the oldest first, before the round begins,
and takes a round's steps on each. Ours: the papers know no newcomers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from fedloom.federation.base import Federation
from fedloom.federation.codec import encode
from fedloom.federation.messages import Count, Empty, sendable
from fedloom.federation.messages import Tensor as Wire
from fedloom.methods.state import Kept, Stateful
from fedloom.tasks import ClientTask


@dataclass(frozen=True)
class MissedRound:
    """Down: what was shown in an earlier round, whose lesson follows: pictures, texts, or neither of a set it holds."""

    at: Count
    images: Annotated[NDArray[Any], Wire("uint8", ("S", "H", "W", 3))] | None = None
    texts: tuple[str, ...] | None = None


def recalling(settings: Any) -> dict[str, tuple[Any, Any]]:
    """The verb of a missed round, where `catch_up` is set: nothing comes back."""
    return {"recall": (MissedRound, Empty)} if settings.catch_up else {}


@dataclass(frozen=True)
class Lesson:
    """Of one round: its samples, and for each task the message that its clients learned from, as it was sent."""

    round: int
    images: NDArray[np.uint8]
    texts: tuple[str, ...]
    taught: dict[str, NDArray[np.uint8]]

    def shown(self, task: str, held: bool) -> MissedRound:
        """To a client of that task. held: it holds the samples."""
        if held:
            return MissedRound(self.round)
        images = task == ClientTask.IMAGE_CLASSIFICATION
        return MissedRound(self.round, self.images if images else None, None if images else sendable(self.texts))


class CatchUp(Stateful):
    """The lessons of the last `rounds` rounds, and which of them each client has been taught.

    Args:
        verb: by which clients learn.
        public: whether the samples are a public set, the same in every round.
    """

    lessons: Kept[deque[Lesson]]
    taught: Kept[dict[str, int]]  # client -> the last round whose lesson it was sent

    def __init__(self, rounds: int, verb: str, public: bool) -> None:
        self.lessons, self.taught = deque(maxlen=rounds), {}
        self.verb, self.public = verb, public

    def keep(
        self, t: int, images: Any, texts: Collection[str], taught: Mapping[str, Any], clients: Collection[str]
    ) -> None:
        """The lesson of round t, by task, which `clients` have been sent already."""
        parts = {task: np.frombuffer(encode(message), np.uint8) for task, message in taught.items()}
        if parts:
            self.lessons.append(Lesson(t, images, tuple(texts), parts))
            self.taught |= dict.fromkeys(clients, t)

    def revise(self, federation: Federation, corrected: Mapping[int, Callable[[Any], Any]]) -> None:
        """Messages of the lessons of those rounds as they are to be from now on."""
        for lesson in self.lessons:
            if lesson.round in corrected:
                for task, payload in lesson.taught.items():
                    message = federation.contract.receive(self.verb, payload.tobytes(), "down")[0]
                    lesson.taught[task] = np.frombuffer(encode(corrected[lesson.round](message)), np.uint8)

    def teach(self, federation: Federation, holders: set[str], out: Collection[str], timeout: float | None) -> int:
        """What those that take part have missed; how many lessons that was.

        A client whose answer is late has had its lesson; one that failed is sent it again in the next round.

        Args:
            holders: clients that hold the public set; newcomers are sent it, and join them.
            out: clients that are left out.
        """
        sent = 0
        for lesson in self.lessons:
            task_of = {k: str(federation.modality(k)) for k in federation.clients if k not in out}
            behind = [k for k in task_of if self.taught.get(k, 0) < lesson.round and task_of[k] in lesson.taught]
            if not behind:
                continue
            shown = {k: lesson.shown(task_of[k], self.public and k in holders) for k in behind}
            ready = [r.client for r in federation.ask("recall", shown, timeout=timeout) if r.ok]
            holders |= set(ready) if self.public else set()
            read = {
                task: federation.contract.receive(self.verb, payload.tobytes(), "down")[0]
                for task, payload in lesson.taught.items()
            }
            replies = federation.ask(self.verb, {k: read[task_of[k]] for k in ready}, timeout=timeout)
            done = [r.client for r in replies if r.ok or r.error == "timeout"]
            self.taught |= dict.fromkeys(done, lesson.round)
            sent += len(done)
        return sent
