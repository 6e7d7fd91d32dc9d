"""The client: takes an array, and gives a tiny one or a whole one back."""

import numpy as np
from flwr.app import Array, ArrayRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()


@app.query()
def answer(message: Message, context: Context) -> Message:
    """`echo`: every byte inverted, so that no object of the reply is one that the server has; else one byte."""
    payload = message.content["arrays"]["x"].numpy()
    back = np.invert(payload) if message.content["config"]["mode"] == "echo" else payload[:1].copy()
    return Message(RecordDict({"arrays": ArrayRecord({"x": Array(back)})}), reply_to=message)
