"""All methods by name, with paper and what crosses the wire. Light: imports no method."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class MethodEntry:
    """A line of `fedloom methods`."""

    item: str  # module:attribute
    summary: str
    paper: str
    modalities: str
    down: str
    up: str
    fixed: Mapping[str, Any] = field(default_factory=dict)  # settings that this name stands for
    preset: str = ""  # the scene it is for, taken where nothing is said of data and clients; "": the usual one
    training: Mapping[str, Any] = field(default_factory=dict)  # of clients: what it is defined on


_FEDMMKT = "FedMMKT, arXiv 2510.12254"
_FEDAFD = "FedAFD, arXiv 2603.04890, as a baseline"
_NOTHING = "nothing"

CATALOGUE: Mapping[str, MethodEntry] = {
    "fedmmkt": MethodEntry(
        "fedloom.methods.fedmmkt:METHOD",
        "clients' fused representations and voted labels tune the generator and re-train the clients",
        _FEDMMKT,
        "image, text",
        "synthetic samples; voted labels, fused representations",
        "representations, labels, entropies",
    ),
    "u-fedmmkt": MethodEntry(
        "fedloom.methods.fedmmkt:METHOD",
        "FedMMKT with clients of one modality; an augmented view takes the other modality's place",
        _FEDMMKT,
        "image or text",
        "synthetic samples; voted labels, fused representations",
        "two representations, labels, entropies",
        {"variant": "u"},
    ),
    "l-fedmmkt": MethodEntry(
        "fedloom.methods.fedmmkt:METHOD",
        "FedMMKT on logits: the lightest on the wire",
        _FEDMMKT,
        "image, text",
        "synthetic samples; labels",
        "logits",
        {"variant": "l"},
    ),
    "fedloom": MethodEntry(
        "fedloom.methods.fedloom:METHOD",
        "FedMMKT's loop by posteriors: annotators of unknown reliability, answers of a few bytes",
        "ours",
        "image, text",
        "synthetic samples; probable classes",
        "probable classes",
    ),
    "fedmmkt-pate": MethodEntry(
        "fedloom.methods.fedmmkt_pate:METHOD",
        "FedMMKT on labels alone, voted with noise under a privacy budget (Confident-GNMax)",
        "PATE, arXiv 1802.08908, within FedMMKT",
        "image, text",
        "synthetic samples; labels",
        "votes (settings.secure: their noisy sum alone)",
    ),
    "standalone": MethodEntry(
        "fedloom.methods.alone:STANDALONE",
        "each client trains on its own data only",
        _FEDMMKT,
        "image, text, pair, joint",
        _NOTHING,
        _NOTHING,
    ),
    "self-finetune": MethodEntry(
        "fedloom.methods.alone:SELF_FINETUNE",
        "the generator is tuned on its own pictures, without clients (settings.data, settings.labels)",
        _FEDMMKT,
        "server only",
        _NOTHING,
        _NOTHING,
    ),
    "oracle-vote": MethodEntry(
        "fedloom.methods.oracle_vote:METHOD",
        "FedMMKT with true labels in place of the vote: an upper bound, no federation could run it",
        _FEDMMKT,
        "image, text",
        "synthetic samples; true labels, fused representations",
        "representations, labels, entropies",
    ),
    "centralised": MethodEntry(
        "fedloom.methods.alone:CENTRALISED",
        "the generator is tuned on the clients' pooled real pictures: an upper bound, not federated",
        _FEDMMKT,
        "server only",
        _NOTHING,
        _NOTHING,
    ),
    "fedmd": MethodEntry(
        "fedloom.methods.fedmd:METHOD",
        "clients fit the mean of everybody's scores on shared samples",
        "FedMD, arXiv 1910.03581",
        "image, text",
        "shared samples; mean scores",
        "scores",
    ),
    "fedgems": MethodEntry(
        "fedloom.methods.fedgems:METHOD",
        "classifiers on the server learn from the clients that are right, and teach them all",
        "FedGEMS, arXiv 2110.11027",
        "image, text",
        "shared samples; the server's scores, labels",
        "scores of the samples that the server gets wrong",
    ),
    "fed-et": MethodEntry(
        "fedloom.methods.fedet:METHOD",
        "scores weighed by their variance; those who disagree are heard too",
        "Fed-ET, arXiv 2204.12703",
        "image, text",
        "shared samples; labels, scores of who disagrees",
        "scores",
    ),
    "fedmekt": MethodEntry(
        "fedloom.methods.fedmekt:METHOD",
        "clients draw their representations of shared samples towards the mean",
        "FedMEKT, arXiv 2307.13214",
        "image, text",
        "shared samples; mean representations",
        "representations, labels",
    ),
    "creamfl": MethodEntry(
        "fedloom.methods.creamfl:METHOD",
        "contrast between and within modalities; clients weighed by contrast",
        "CreamFL, arXiv 2302.08888",
        "image, text",
        "shared samples; global representations of both modalities",
        "representations, labels",
    ),
    "fedavg": MethodEntry(
        "fedloom.methods.fedavg:METHOD",
        "clients of one architecture share the mean of their parameters",
        "FedAvg, arXiv 1602.05629",
        "image, text, pair, joint",
        "mean parameters",
        "parameters",
        {"mu": 0.0},
    ),
    "fedprox": MethodEntry(
        "fedloom.methods.fedprox:METHOD",
        "FedAvg, with clients held near the average",
        "FedProx, arXiv 1812.06127",
        "image, text, pair, joint",
        "mean parameters",
        "parameters",
    ),
    "lora-fl": MethodEntry(
        "fedloom.methods.lorafl:METHOD",
        "one frozen model of both modalities at every client; the mean of low-rank factors",
        "FedMMKT, arXiv 2510.12254, Table VII",
        "image, text",
        "mean LoRA factors",
        "LoRA factors",
    ),
    "bias-fl": MethodEntry(
        "fedloom.methods.biasfl:METHOD",
        "one frozen model of both modalities at every client; the mean of biases",
        "FedMMKT, arXiv 2510.12254, Table VII",
        "image, text",
        "mean biases",
        "biases",
    ),
    "feddat": MethodEntry(
        "fedloom.methods.feddat:METHOD",
        "one frozen model of both modalities; a private and a shared adapter teach one another",
        "FedDAT, arXiv 2308.12305",
        "image, text",
        "mean shared adapters",
        "shared adapters",
    ),
    "disentafl": MethodEntry(
        "fedloom.methods.disentafl:METHOD",
        "gated adapters, each averaged among those it concerns: all clients, those of a modality, none",
        "DisentAFL, AAAI 2024",
        "image, text",
        "mean adapters of the types a client shares",
        "adapters of the types it shares",
    ),
    "fedmbridge": MethodEntry(
        "fedloom.methods.fedmbridge:METHOD",
        "a hypernetwork on the server makes each client's adapters from its architecture",
        "FedMBridge, ICML 2024",
        "image, text",
        "generated adapters",
        "architecture, once; adapters",
    ),
    "fedafd": MethodEntry(
        "fedloom.methods.fedafd:METHOD",
        "clients align with a server's encoders against discriminators and fuse with them; similarity weighs clients",
        "FedAFD, arXiv 2603.04890",
        "image, text, pair",
        "public pairs; the server's representations and encoders",
        "representations",
        preset="fedafd",
    ),
    "fedafd-oracle": MethodEntry(
        "fedloom.methods.fedafd_oracle:METHOD",
        "FedAFD whose server is taught by a model of all clients' pairs: an upper bound, no federation could run it",
        "FedAFD, arXiv 2603.04890",
        "image, text, pair",
        "public pairs; the server's representations and encoders",
        "representations",
        preset="fedafd",
    ),
    "fedcmi": MethodEntry(
        "fedloom.methods.fedcmi:METHOD",
        "the weak kind of data learns from the shared model's dominant kind, through a projector of its own",
        "FedCMI, arXiv 2401.00894",
        "joint",
        "mean parameters of the streams that a client has",
        "parameters of the streams that it has; how sure it is by either",
        preset="fedcmi",
    ),
    "scaffold": MethodEntry(
        "fedloom.methods.scaffold:METHOD",
        "FedAvg whose clients correct their drift by control variates",
        "SCAFFOLD, arXiv 1910.06378",
        "image, text, joint",
        "mean parameters; the server's control variates",
        "parameters; changes of control variates",
        preset="fedcmi",
        training={"optimizer": "sgd", "rate": 0.02},
    ),
    "fedproto": MethodEntry(
        "fedloom.methods.fedproto:METHOD",
        "clients are drawn towards everybody's class prototypes",
        "FedProto, arXiv 2105.00243",
        "image, text, joint",
        "mean prototypes (settings.parameters: mean parameters too)",
        "prototypes of classes, how many samples each",
    ),
    "ogm-ge": MethodEntry(
        "fedloom.methods.ogm_ge:METHOD",
        "FedAvg in which the dominant kind of data's gradients are damped, and noise is added",
        "OGM-GE, arXiv 2203.15332, within FedAvg",
        "joint",
        "mean parameters of the streams that a client has",
        "parameters of the streams that it has",
        preset="fedcmi",
        training={"optimizer": "sgd", "rate": 0.02},
    ),
    "pmr": MethodEntry(
        "fedloom.methods.pmr:METHOD",
        "FedAvg in which prototypes hurry the slow kind of data, and hold back the other at first",
        "PMR, arXiv 2211.07089, within FedAvg",
        "joint",
        "mean parameters of the streams that a client has",
        "parameters of the streams that it has",
        preset="fedcmi",
    ),
    "fedmsplit": MethodEntry(
        "fedloom.methods.fedmsplit:METHOD",
        "each client's streams are averaged with those that have moved alike",
        "FedMSplit, KDD 2022",
        "joint",
        "a client's own mix of each stream that it has",
        "parameters of the streams that it has",
        preset="fedcmi",
    ),
    "r-standalone": MethodEntry(
        "fedloom.methods.retrieval_baselines:R_STANDALONE",
        "each client trains on its own data only, and so does the server on its public pairs",
        _FEDAFD,
        "image, text, pair",
        _NOTHING,
        _NOTHING,
        preset="fedafd",
    ),
    "r-fedmd": MethodEntry(
        "fedloom.methods.retrieval_baselines:R_FEDMD",
        "FedMD on representations: clients are drawn towards everybody's mean",
        _FEDAFD,
        "image, text, pair",
        "public pairs; mean representations",
        "representations",
        preset="fedafd",
    ),
    "r-fedgems": MethodEntry(
        "fedloom.methods.retrieval_baselines:R_FEDGEMS",
        "FedGEMS on representations: the server believes those that are right where it is wrong",
        _FEDAFD,
        "image, text, pair",
        "public pairs; the server's representations",
        "representations",
        preset="fedafd",
    ),
    "r-fed-et": MethodEntry(
        "fedloom.methods.retrieval_baselines:R_FEDET",
        "Fed-ET on representations: clients weighed by the variance of their scores",
        _FEDAFD,
        "image, text, pair",
        "public pairs; the server's representations",
        "representations",
        preset="fedafd",
    ),
    "r-creamfl": MethodEntry(
        "fedloom.methods.retrieval_baselines:R_CREAMFL",
        "CreamFL with clients of any task: contrast between and within modalities, at clients and server",
        _FEDAFD,
        "image, text, pair",
        "public pairs; the server's representations",
        "representations",
        preset="fedafd",
    ),
}
