"""The weights that presets name: where each lies, at which revision, how large, with which digest and licence.

A revision or digest stands here only where public texts state it (`evidence` says which kind of text). Where none does,
the revision is `main`: the first fetch writes down which commit that was, and what it brought. Light: no library.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

MAIN = "main"


@dataclass(frozen=True)
class File:
    """A file of a source.

    path: inside the folder; bytes, sha256: as published, None where not known; url: of a file that lies on no hub.
    """

    path: str
    bytes: int | None = None
    sha256: str | None = None
    url: str | None = None


@dataclass(frozen=True)
class Source:
    """One set of weights.

    kind: `hub`, or `files` at addresses of their own; revision: a commit, or `main`; files: () for a hub repository
    that is not catalogued; bytes: about how many there are to load, None where not known; made_by: who turns the files
    into the folder (a name in `made.MAKERS`), made_bytes: how large that is.
    """

    name: str
    kind: Literal["hub", "files"] = "hub"
    revision: str = MAIN
    files: tuple[File, ...] = ()
    bytes: int | None = None
    licence: str = "not stated here: see its page"
    evidence: str = "not in the catalogue"
    gated: bool = False
    made_by: str | None = None
    made_bytes: int = 0

    @property
    def pinned(self) -> bool:
        """Whether the revision is a commit that a later push cannot move."""
        return self.revision != MAIN


def _named(*paths: str) -> tuple[File, ...]:
    return tuple(File(path) for path in paths)


_PICTURES = _named("config.json", "preprocessor_config.json")
_WORDS = _named("config.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt")
_CODES = _named("config.json", "tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt")
_APACHE = "Apache-2.0"
_STATED = "revision, bytes and sha256 stated alike in several public repositories that pin them"
_GLIDE = "https://openaipublic.blob.core.windows.net/diffusion/dec-2021"
_GLIDE_CODE = "69b530740eb6cef69442d6180579ef5ba9ef063e"
_FID = "pt_inception-2015-12-05-6726825d.pth"

_SOURCES = (
    Source(
        "google/vit-base-patch32-224-in21k",
        files=(
            *_PICTURES,
            File(
                "model.safetensors",
                sha256="82d6433fcb417924480236806bd22e3bc9b21f578df839cae78d79e24db61c1d",
            ),
        ),
        bytes=352_000_000,
        licence=_APACHE,
        evidence="sha256 from the hub's page; no text with a whole commit was found: the first fetch pins it",
    ),
    Source(
        "google/vit-base-patch16-224",
        revision="3f49326eb077187dfe1c2a2bb15fbd74e6ab91e3",
        files=(
            *_PICTURES,
            File(
                "model.safetensors",
                346_293_852,
                "1cea07110a4a47edc51420b2dda6f3b8b58e7256e8f44b4ea6aa9696162ccb5d",
            ),
        ),
        bytes=346_400_000,
        licence=_APACHE,
        evidence="revision from the hub's page and several public repositories that pin it; sha256 from one of these",
    ),
    Source(
        "microsoft/beit-base-patch16-224",
        revision="f02e8f77db4703e3fbd3766e3375a4619c5a4863",
        files=(
            *_PICTURES,
            File(
                "model.safetensors",
                sha256="873a67558f17cdd9d9018eaf308288f6dc72d030af20391df9ccbb7e10be89cc",
            ),
        ),
        bytes=350_000_000,
        licence=_APACHE,
        evidence="revision from the hub's page; revision and sha256 stated by a public repository that pins them",
    ),
    Source(
        "microsoft/resnet-18",
        revision="65a5785d9156231087c481e0c7dd33a5ff6f7e3e",
        files=(
            *_PICTURES,
            File(
                "model.safetensors",
                46_812_324,
                "1cf00ee468998c23d084361b02cffadabacb5074105564c596b8079f77ecb126",
            ),
        ),
        bytes=46_900_000,
        licence=_APACHE,
        evidence=_STATED,
    ),
    Source(
        "google-bert/bert-base-uncased",
        revision="86b5e0934494bd15c9632b12f734a8a67f723594",
        files=(
            *_WORDS,
            File(
                "model.safetensors",
                440_449_768,
                "68d45e234eb4a928074dfd868cead0219ab85354cc53d20e772753c6bb9169d3",
            ),
        ),
        bytes=441_200_000,
        licence=_APACHE,
        evidence=_STATED,
    ),
    Source(
        "distilbert/distilbert-base-uncased",
        revision="12040accade4e8a0f71eabdb258fecc2e7e948be",
        files=(
            *_WORDS,
            File(
                "model.safetensors",
                267_954_768,
                "5e3f1108e3cb34ee048634875d8482665b65ac713291a7e32396fb18f6ff0063",
            ),
        ),
        bytes=268_700_000,
        licence=_APACHE,
        evidence=_STATED,
    ),
    Source(
        "FacebookAI/roberta-base",
        revision="e2da8e2f811d1448a5b465c236feacd80ffbac7b",
        files=(
            *_CODES,
            File(
                "model.safetensors",
                498_818_054,
                "5bde1d28afb363d0103324efeb5afc8b2b397fe5e04beabb9b1ef355255ade81",
            ),
        ),
        bytes=501_600_000,
        licence="MIT",
        evidence=_STATED,
    ),
    Source(
        "Salesforce/blip-image-captioning-base",
        revision="82a37760796d32b1411fe092ab5d4e227313294b",
        files=(
            *_WORDS,
            *_named("preprocessor_config.json", "special_tokens_map.json"),
            # The only weights of this revision for PyTorch; read as weights alone, nothing in it is run.
            File(
                "pytorch_model.bin",
                989_820_849,
                "d6638651a5526cc2ede56f2b5104d6851b0755816d220e5e046870430180c767",
            ),
        ),
        bytes=990_800_000,
        licence="BSD-3-Clause",
        evidence=_STATED,
    ),
    Source(
        "openai/clip-vit-base-patch32",
        revision="3d74acf9a28c67741b2f4f2ea7635f0aaf6f0268",
        files=(
            *_CODES,
            *_named("preprocessor_config.json", "special_tokens_map.json"),
            File(
                "pytorch_model.bin",
                605_247_071,
                "a63082132ba4f97a80bea76823f544493bffa8082296d62d71581a4feff1576f",
            ),
        ),
        bytes=608_900_000,
        licence="its page states none; OpenAI's code of CLIP is MIT",
        evidence=_STATED,
    ),
    Source(
        "stable-diffusion-v1-5/stable-diffusion-v1-5",
        revision="451f4fe16113bff5a5d2269ed5ad43b0592e9a14",
        files=(
            *_named("model_index.json", "scheduler/scheduler_config.json"),
            *_named("tokenizer/merges.txt", "tokenizer/special_tokens_map.json"),
            *_named("tokenizer/tokenizer_config.json", "tokenizer/vocab.json"),
            *_named("text_encoder/config.json", "unet/config.json", "vae/config.json"),
            File(
                "text_encoder/model.safetensors",
                492_265_874,
                "d008943c017f0092921106440254dbbe00b6a285f7883ec8ba160c3faad88334",
            ),
            File(
                "unet/diffusion_pytorch_model.safetensors",
                3_438_167_540,
                "19da7aaa4b880e59d56843f1fcb4dd9b599c28a1d9d9af7c1143057c8ffae9f1",
            ),
            File(
                "vae/diffusion_pytorch_model.safetensors",
                334_643_276,
                "a2b5134f4dbc140d9c11f11cba3233099e00af40f262f136c691fb7d38d2194c",
            ),
        ),
        bytes=4_266_700_000,
        licence="CreativeML Open RAIL-M: with restrictions on use",
        evidence=_STATED,
    ),
    Source(
        "openai/glide",
        kind="files",
        files=(
            File("base.pt", url=f"{_GLIDE}/base.pt"),
            File("upsample.pt", 1_593_693_639, url=f"{_GLIDE}/upsample.pt"),
            File(
                "vocab.bpe.gz",
                213_544,
                "ce239dd5a898827423fee00e3f7ab37de7900f247f2ba360753d860e8a46524d",
                url="https://raw.githubusercontent.com/openai/glide-text2im/"
                f"{_GLIDE_CODE}/glide_text2im/tokenizer/vocab.bpe.gz",
            ),
        ),
        bytes=3_134_300_000,
        licence="MIT",
        evidence="addresses from the release's code at commit 69b5307, whose vocabulary was hashed; bytes of "
        "upsample.pt from a public test; no digest of either checkpoint was found: the first fetch pins them",
        made_by="glide",
        made_bytes=3_134_000_000,
    ),
    Source(
        "fid/inception-v3",
        kind="files",
        files=(
            File(
                _FID,
                95_628_359,
                "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
                url=f"https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/{_FID}",
            ),
        ),
        bytes=95_628_359,
        licence="Apache-2.0, as pytorch-fid's repository is",
        evidence="sha256 stated alike in several public repositories; its first eight digits are in the file's name",
    ),
)
SOURCES = {source.name: source for source in _SOURCES}


def source_of(name: str) -> Source:
    """The catalogue's entry, or a hub repository of which nothing is known."""
    return SOURCES.get(name) or Source(name)
