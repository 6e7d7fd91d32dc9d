"""The clients' models: network, head, adapters, preprocessing. Light: what is named is imported where it is used."""

# arch -> its `ClientModelSpec`. The order is that of lists and messages. Other packages add theirs by entry points.
BUILT_IN: dict[str, str] = {
    "vit": "fedloom.models.clients.vit:VIT",
    "beit": "fedloom.models.clients.vit:BEIT",
    "resnet": "fedloom.models.clients.resnet:RESNET",
    "frozen-mobilenet": "fedloom.models.clients.frozen_mobilenet:SPEC",
    "efficientnet-lite": "fedloom.models.clients.lite:SPEC",
    "deit": "fedloom.models.clients.vit:DEIT",
    "swin": "fedloom.models.clients.swin:SPEC",
    "convnext": "fedloom.models.clients.resnet:CONVNEXT",
    "auto-image": "fedloom.models.clients.auto:IMAGE",
    "bert": "fedloom.models.clients.bert:BERT",
    "distilbert": "fedloom.models.clients.bert:DISTILBERT",
    "roberta": "fedloom.models.clients.bert:ROBERTA",
    "gru": "fedloom.models.clients.gru:SPEC",
    "albert": "fedloom.models.clients.bert:ALBERT",
    "auto-text": "fedloom.models.clients.auto:TEXT",
    "audio-resnet": "fedloom.models.clients.resnet:AUDIO_RESNET",
}
