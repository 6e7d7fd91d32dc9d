"""A Flower Grid whose nodes live in this process: drives our adapter with neither a SuperLink nor Ray.

Messages pass through Flower's own serialisation (deflated to objects and inflated again), so what a record can't carry
fails here too.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable
from typing import Any

from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents
from flwr.supercore.task_identity import TaskIdentity  # internal: no Message can be built before it is set


class InProcessGrid(Grid):
    """`nodes`: node id -> (ClientApp, node configuration). `offline` nodes are not listed; `silent` ones never answer.

    `tamper(node, reply)` may change what a node answers. `objects` counts the distinct objects that were pushed.
    """

    def __init__(self, nodes: dict[int, tuple[ClientApp, dict[str, Any]]]) -> None:
        TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 1
        self.nodes = nodes
        self.contexts = {
            node: Context(run_id=1, node_id=node, node_config=config, state=RecordDict(), run_config={})
            for node, (_, config) in nodes.items()
        }
        self.offline: set[int] = set()
        self.silent: set[int] = set()
        self.tamper: Callable[[int, Message], Message] = lambda node, reply: reply
        self.pushed_bytes = 0
        self.pushed: list[Message] = []
        self._box: dict[str, Message] = {}

    def set_run(self, run: Any) -> None:
        raise NotImplementedError

    @property
    def run(self) -> Any:
        raise NotImplementedError

    def create_message(self, *args: Any, **kwargs: Any) -> Message:
        raise NotImplementedError

    def get_node_ids(self) -> Iterable[int]:
        return [node for node in self.nodes if node not in self.offline]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        ids, objects = [], {}
        for message in messages:
            name = uuid.uuid4().hex
            message.metadata.__dict__["_message_id"] = name  # Flower's own grids do the same
            own = {key: value.deflate() for key, value in get_all_nested_objects(message).items()}
            objects |= own
            self.pushed.append(message)
            ids.append(name)
            node = message.metadata.dst_node_id
            if node in self.offline:
                self._box[name] = Message(Error(code=5, reason="node unavailable"), reply_to=message)
            elif node not in self.silent:
                inside = inflate_object_from_contents(message.object_id, own)
                inside.metadata.__dict__["_message_id"] = name
                self._box[name] = self.tamper(node, self._answer(node, inside))
        self.pushed_bytes += sum(map(len, objects.values()))
        return ids

    def _answer(self, node: int, message: Message) -> Message:
        app, _ = self.nodes[node]
        TaskIdentity.node_id = node
        try:
            return app(message, self.contexts[node])
        except Exception as error:  # noqa: BLE001 - as Flower does
            return Message(Error(code=2, reason=f"{type(error)}:{error}"), reply_to=message)
        finally:
            TaskIdentity.node_id = 1

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        return [self._box.pop(name) for name in list(message_ids) if name in self._box]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        raise NotImplementedError
