"""The data sets by name. Light: a set's own module is imported when it is loaded."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

from fedloom.config.trees import fitting
from fedloom.data.containers import FederatedDataset
from fedloom.data.pairs import Pairs
from fedloom.data.tasks import SINGLE_MODALITY, ClientTask, Modality
from fedloom.errors import BadInput, nearest, unknown


@dataclass(frozen=True)
class DatasetInfo:
    """What is known of a data set without reading it.

    classes: C, None where the data decide; layout: what the root folder must hold, '' when nothing is needed;
    loader: 'module:function'; source: where it comes from; streams: the two kinds of its joint samples.
    """

    name: str
    summary: str
    modalities: tuple[ClientTask, ...]
    classes: int | None
    layout: str
    loader: str
    source: str
    streams: tuple[Modality, ...] = ()


_INFOS = (
    DatasetInfo(
        "flora",
        "procedurally drawn flowers in sibling pairs, with captions that say more than the label (default)",
        (*SINGLE_MODALITY, ClientTask.RETRIEVAL),
        10,
        "",
        "fedloom.data.datasets.flora:load",
        "drawn from a seed by this package",
    ),
    DatasetInfo(
        "digits",
        "1797 real handwritten digits of 8 x 8 pixels, enlarged",
        (ClientTask.IMAGE_CLASSIFICATION,),
        10,
        "",
        "fedloom.data.datasets.digits:load",
        "scikit-learn (UCI optical recognition of handwritten digits, test part)",
    ),
    DatasetInfo(
        "flowers102",
        "Oxford Flowers-102 with ten captions a picture",
        SINGLE_MODALITY,
        102,
        "jpg/image_00001.jpg ..., imagelabels.mat, setid.mat, text_c10/class_00001/image_06734.txt ...",
        "fedloom.data.datasets.flowers102:load",
        "https://www.robots.ox.ac.uk/~vgg/data/flowers/102/ (captions: Reed et al. 2016)",
    ),
    DatasetInfo(
        "food101",
        "Food-101 photographs, 750 train and 250 test a dish",
        (ClientTask.IMAGE_CLASSIFICATION,),
        101,
        "images/<class>/<id>.jpg, meta/classes.txt, meta/train.txt and meta/test.txt (or .json)",
        "fedloom.data.datasets.food101:load",
        "https://data.vision.ee.ethz.ch/cvl/datasets_extra/food-101/",
    ),
    DatasetInfo(
        "cifar100",
        "CIFAR-100: 500 train and 100 test pictures of 32 x 32 pixels a class",
        (ClientTask.IMAGE_CLASSIFICATION,),
        100,
        "cifar-100-binary/{train,test}.bin with {fine,coarse}_label_names.txt, or cifar-100-python/{train,test,meta}",
        "fedloom.data.datasets.cifar100:load",
        "https://www.cs.toronto.edu/~kriz/cifar.html",
    ),
    DatasetInfo(
        "upmc_food101",
        "UPMC Food-101: web pictures of the 101 dishes with page titles",
        SINGLE_MODALITY,
        101,
        "images/{train,test}/<class>/<class>_<n>.jpg, texts/{train,test}_titles.csv",
        "fedloom.data.datasets.upmc_food101:load",
        "Wang et al., Recipe recognition with large multimodal food dataset, 2015",
    ),
    DatasetInfo(
        "food101_recipes",
        "Food-101 photographs and, unpaired, recipe texts over 20 dishes",
        SINGLE_MODALITY,
        20,
        "images_{train,test}.parquet, recipes_{train,test}.csv, labels.json",
        "fedloom.data.datasets.food101_recipes:load",
        "Food-101 and github.com/dpapathanasiou/recipes, labels by title",
    ),
    DatasetInfo(
        "ag_news",
        "AG News: 120 000 train and 7600 test news items of four topics",
        (ClientTask.TEXT_CLASSIFICATION,),
        4,
        "train.csv and test.csv (class 1 to 4, title, description) and classes.txt, or AG_NEWS/ with them",
        "fedloom.data.datasets.ag_news:load",
        "http://groups.di.unipi.it/~gulli/AG_corpus_of_news_articles.html (Zhang et al. 2015)",
    ),
    DatasetInfo(
        "duet",
        "things that are heard and seen, one of the two strong and the other weak, as signal-to-noise ratios say",
        (ClientTask.MULTIMODAL_CLASSIFICATION,),
        None,
        "",
        "fedloom.data.datasets.duet:load",
        "synthesised from a seed by this package",
        (Modality.AUDIO, Modality.IMAGE),
    ),
    DatasetInfo(
        "audio_visual_digits",
        "spoken digits, each with a handwritten one of the same class",
        (ClientTask.MULTIMODAL_CLASSIFICATION,),
        10,
        "train.npz and test.npz with image, audio, audio_offsets, label, speaker, take",
        "fedloom.data.datasets.audio_visual_digits:load",
        "Free Spoken Digit Dataset and MNIST, paired",
        (Modality.AUDIO, Modality.IMAGE),
    ),
    DatasetInfo(
        "cremad",
        "CREMA-D: sound and frames of 7442 clips of 91 actors in six acted emotions",
        (ClientTask.MULTIMODAL_CLASSIFICATION,),
        6,
        "AudioWAV/<clip>.wav, Image-01-FPS/<clip>/<number>.jpg or VideoFlash/<clip>.flv, train.csv and test.csv "
        "(rows clip,EMO), processedResults/summaryTable.csv for task='perceived'",
        "fedloom.data.datasets.cremad:load",
        "https://github.com/CheyneyComputerScience/CREMA-D (Cao et al. 2014; lists: OGM-GE)",
        (Modality.AUDIO, Modality.IMAGE),
    ),
    DatasetInfo(
        "ave",
        "AVE: sound and frames of 4143 audio-visual events of 28 categories",
        (ClientTask.MULTIMODAL_CLASSIFICATION,),
        28,
        "Annotations.txt, {train,val,test}Set.txt, and AVE/<VideoID>.mp4, or Image-01-FPS-SE/<VideoID>/<number>.jpg "
        "and Audio-SE/<VideoID>.wav",
        "fedloom.data.datasets.ave:load",
        "https://github.com/YapengTian/AVE-ECCV18 (Tian et al. 2018)",
        (Modality.AUDIO, Modality.IMAGE),
    ),
    DatasetInfo(
        "crisismmd",
        "CrisisMMD v2.0: tweets of seven disasters with a picture each; informative or not, humanitarian, damage",
        (ClientTask.MULTIMODAL_CLASSIFICATION,),
        2,
        "data_image/<event>/<date>/<tweet>_<n>.jpg and "
        "crisismmd_datasplit_all/task_<task>_text_img_{train,dev,test}.tsv, or "
        "crisismmd_datasplit_agreed_label/..._agreed_lab_{train,dev,test}.tsv",
        "fedloom.data.datasets.crisismmd:load",
        "https://crisisnlp.qcri.org/crisismmd (Alam et al. 2018; splits: Ofli et al. 2020)",
        (Modality.IMAGE, Modality.TEXT),
    ),
    DatasetInfo(
        "mixed",
        "one scene of several sets: pictures of one, texts of another, pairs of a third, a public set of pairs",
        (*SINGLE_MODALITY, ClientTask.RETRIEVAL),
        None,
        "",
        "fedloom.data.datasets.mixed:load",
        "the sets named by its options",
    ),
    DatasetInfo(
        "folder",
        "your own data: an image folder or parquet file, and/or CSV files of texts",
        SINGLE_MODALITY,
        None,
        "images/<class>/*.jpg or images_{train,test}.parquet, and/or texts_{train,test}.csv (columns text, "
        "label); or no root and the paths as options",
        "fedloom.data.datasets.folder:load",
        "yours",
    ),
)
DATASETS: dict[str, DatasetInfo] = {info.name: info for info in _INFOS}


@dataclass(frozen=True)
class PairSetInfo:
    """What is known of a set of captioned pictures without reading it; the fields are those of DatasetInfo."""

    name: str
    summary: str
    layout: str
    loader: str
    source: str


_PAIR_INFOS = (
    PairSetInfo(
        "flickr30k",
        "Flickr30k by Karpathy's splits, five captions a picture",
        "dataset_flickr30k.json and flickr30k-images/<id>.jpg",
        "fedloom.data.datasets.flickr:flickr30k",
        "Young et al. 2014; splits: Karpathy and Fei-Fei 2015",
    ),
    PairSetInfo(
        "flickr8k",
        "Flickr8k, five captions a picture",
        "Flicker8k_Dataset/<id>.jpg, Flickr8k.token.txt and Flickr_8k.{train,dev,test}Images.txt, "
        "or {train,val,test}.parquet",
        "fedloom.data.datasets.flickr:flickr8k",
        "Hodosh et al. 2013",
    ),
    PairSetInfo(
        "coco",
        "MS-COCO captions by Karpathy's splits or the official parts",
        "dataset_coco.json, or annotations/captions_{train,val}2017.json, with the pictures' folders, "
        "or {train,val,test}.parquet",
        "fedloom.data.datasets.coco:coco",
        "Chen et al. 2015",
    ),
    PairSetInfo(
        "caption_parquet",
        "your own captioned pictures in parquet files",
        "{train,val,test}.parquet (or shards, or files named by an option) with columns image and captions",
        "fedloom.data.datasets.caption_parquet:load",
        "yours",
    ),
)
PAIR_SETS: dict[str, PairSetInfo] = {info.name: info for info in _PAIR_INFOS}


def load_dataset(name: str, root: str | Path | None = None, **options: Any) -> FederatedDataset:
    """Load a data set by name.

    Args:
        name: a key of DATASETS.
        root: the folder that holds it; None for the embedded ones.
        options: of its loader, such as size, seed, classes or generic_share.

    Raises:
        BadInput: an unknown name or option, a root that is missing or not wanted, or what the loader finds
            wrong.
    """
    load, options = loader_of(name, root, options)
    if "root" not in inspect.signature(load).parameters:
        return load(**options)
    return load(root=root, **options)


def loader_of(
    name: str, root: str | Path | None, options: Mapping[str, Any]
) -> tuple[Callable[..., FederatedDataset], dict[str, Any]]:
    """The loader of that data set, which takes that root, and the options as it takes them; nothing is read.

    Raises:
        BadInput: an unknown name or option, an option of another kind, a root that is missing or not wanted.
    """
    return _loader("data set", DATASETS, name, root, options)


def load_pairs(name: str, root: str | Path | None = None, **options: Any) -> Pairs:
    """Load a set of captioned pictures by name: a key of PAIR_SETS. Otherwise as load_dataset."""
    load, options = _loader("set of pairs", PAIR_SETS, name, root, options)
    found: Pairs = load(root=root, **options)
    return found


def options_of(info: DatasetInfo | PairSetInfo) -> list[str]:
    """The names of the options that a set's loader takes."""
    return sorted(set(inspect.signature(_function(info)).parameters) - {"root"})


def reader_of(name: str) -> Callable[..., Any]:
    """The loader of a data set or set of pairs that is there."""
    return _function(DATASETS.get(name) or PAIR_SETS[name])


def _function(info: DatasetInfo | PairSetInfo) -> Callable[..., Any]:
    module, _, function = info.loader.partition(":")
    load: Callable[..., Any] = getattr(importlib.import_module(module), function)
    return load


def _loader(
    kind: str,
    infos: Mapping[str, DatasetInfo] | Mapping[str, PairSetInfo],
    name: str,
    root: str | Path | None,
    options: Mapping[str, Any],
) -> tuple[Callable[..., Any], dict[str, Any]]:
    if name not in infos:
        raise unknown(kind, name, infos)
    info = infos[name]
    load, allowed = _function(info), options_of(info)
    for option in options:
        if option not in allowed:
            raise BadInput(
                f"{kind} {name!r} has no option {option!r}.{nearest(option, allowed)} Allowed: {', '.join(allowed)}."
            )
    kinds = get_type_hints(load)
    options = {option: fitting(kinds[option], value, f"data.options.{option}") for option, value in options.items()}
    parameters = inspect.signature(load).parameters
    if "root" not in parameters:
        if root is not None:
            raise BadInput(f"{kind} {name!r} is embedded and reads no folder, but root={str(root)!r} is given")
    elif root is None and parameters["root"].default is inspect.Parameter.empty:
        raise BadInput(f"{kind} {name!r} needs root, a folder that holds: {info.layout}")
    return load, options
