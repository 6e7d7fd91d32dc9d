"""What stands where nobody has said it: data and clients that fit the method, and one another.

Works on configuration trees, before they are validated. Whatever is said stays; each thing that is filled in is told
in one line. Light: imports no method.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pydantic import Field

from fedloom.config.base import Frozen
from fedloom.config.preset_files import preset_tree
from fedloom.config.trees import merged, validate
from fedloom.errors import BadInput
from fedloom.registry import DATASETS, METHODS
from fedloom.tasks import CLIENT_TASKS, SINGLE_MODALITY, ClientTask, Modality, client_word

Tree = dict[str, Any]

Say = Callable[[str], None]

METHOD, DATA = "fedmmkt", "flora"
# Where the usual method has no part for what a data set holds, and none is named.
INSTEAD: Mapping[tuple[ClientTask, ...], str] = {
    (ClientTask.MULTIMODAL_CLASSIFICATION,): "fedcmi",
    (ClientTask.TEXT_CLASSIFICATION,): "fedavg",
    (ClientTask.RETRIEVAL,): "fedafd",
}
# The presets that clients of these kinds are taken from where there are no others.
SCENES: Mapping[ClientTask, str] = {ClientTask.MULTIMODAL_CLASSIFICATION: "fedcmi", ClientTask.RETRIEVAL: "fedafd"}


class Defaults(Frozen):
    """What a preset puts in the place of the defaults (its key `defaults`); unlike its other keys it says nothing.

    options: of data sets, by name; under `any` those of all sets whose reader has them. scenes: options in the
    place of a preset's own, by preset, where its scene is taken. clients: groups by modality.
    """

    options: dict[str, dict[str, Any]] = Field(default_factory=dict)
    scenes: dict[str, dict[str, Any]] = Field(default_factory=dict)
    clients: dict[ClientTask, list[dict[str, Any]]] = Field(default_factory=dict)


def silent(line: str) -> None:
    """Tells nobody."""


def fill_in(given: Mapping[str, Any], say: Say = silent, methods: Sequence[str] = ()) -> Tree:
    """The tree `given`, with data and clients that fit where it says nothing of them.

    Args:
        given: a configuration tree; its key `defaults` is a `Defaults`.
        say: told, in a line each, what was filled in.
        methods: that are all to run on it; default the one that the tree names.

    Raises:
        BadInput: the data have nothing that the methods take, or no scene fits all of them.
    """
    tree: Tree = merged({}, given)
    own: Defaults = validate(Defaults, given.get("defaults") or {}, "defaults")
    tree.pop("defaults", None)
    if not _well_formed(tree):
        return tree  # validation says what is wrong
    names = list(dict.fromkeys(methods or [tree.get("method", METHOD)]))
    if not all(map(METHODS.has, names)):
        return tree
    if not said_where(tree):
        tree = merged(_scene(names, own, say), tree)
    elif not _said_data(tree) and (preset := _alone(names)):
        tree = merged({"data": _place(preset)}, tree)
        say(f"{names[0]}: data set {_data_name(tree)} (preset {preset})")
    data = tree.get("data") or {}
    have = held(data.get("name", DATA), data)
    if not methods and "method" not in tree and have in INSTEAD:
        names = [INSTEAD[have]]
        tree["method"] = names[0]
        say(f"{_data_name(tree)} has {_words(have)} alone, for which {METHOD} has no part: method {names[0]}")
    tree = merged(_optimizer(names, tree, say), tree)
    tree = _with_options(tree, own)
    return _with_clients(tree, own, names, have, say)


def said_where(tree: Mapping[str, Any]) -> bool:
    """Whether a tree says which data there are, or which clients."""
    return _said_data(tree) or any(m in (tree.get("clients") or {}) for m in CLIENT_TASKS)


def _said_data(tree: Mapping[str, Any]) -> bool:
    data = tree.get("data") or {}
    return data.get("name") is not None or data.get("root") is not None


def held(name: str, data: Mapping[str, Any]) -> tuple[ClientTask, ...]:
    """The modalities of a data set, as far as they are known without reading it."""
    declared = _declared(name)
    if declared is None:
        return SINGLE_MODALITY  # refused later, with the nearest name
    found: tuple[ClientTask, ...] = declared.tasks_of(data.get("root"), data.get("options") or {})
    return found


def _declared(name: str) -> Any:
    """The `Dataset` of that name; None: there is none, or it is a set of captioned pictures."""
    declared = DATASETS.find(name) if DATASETS.has(name) else None
    return None if declared is None or declared.captioned else declared


def _well_formed(tree: Mapping[str, Any]) -> bool:
    data, clients = tree.get("data") or {}, tree.get("clients") or {}
    if not (isinstance(data, Mapping) and isinstance(clients, Mapping)):
        return False
    words = (tree.get("method"), data.get("name"), data.get("root"))
    return isinstance(data.get("options") or {}, Mapping) and all(isinstance(w, str | None) for w in words)


def _data_name(tree: Mapping[str, Any]) -> str:
    return str((tree.get("data") or {}).get("name", DATA))


def _words(modalities: Sequence[ClientTask]) -> str:
    return " and ".join(m.spec.samples for m in modalities)


# ------------------------------------------------------------------------------------------------ a scene by method


def takes(name: str) -> tuple[ClientTask, ...]:
    """The modalities that a method's clients may have; of a method without clients all of them."""
    words = str(METHODS.about(name).modalities).replace(" or ", ", ").split(", ")
    return tuple(m for m in CLIENT_TASKS if m in words) or CLIENT_TASKS


def one_kind(name: str) -> bool:
    """Whether all its clients must have the same modality."""
    return " or " in METHODS.about(name).modalities


def _alone(names: Sequence[str]) -> str:
    """The preset of methods that cannot run on the usual data set; "" where they can."""
    serves = all(set(SINGLE_MODALITY) & set(takes(name)) for name in names)
    return "" if serves else next((p for name in names if (p := METHODS.about(name).preset)), "")


def _place(preset: str) -> Tree:
    return {k: v for k, v in preset_tree(preset)["data"].items() if k in ("name", "options")}


def _scene(names: Sequence[str], own: Defaults, say: Say) -> Tree:
    """The preset of the first method that has one on which all of them run; nothing where the usual scene serves."""
    presets = list(dict.fromkeys(p for name in names if (p := METHODS.about(name).preset)))
    for preset in presets:
        tree = preset_tree(preset)
        groups = {m: tree["clients"][m] for m in CLIENT_TASKS if tree["clients"].get(m)}
        if not all(set(groups) <= set(takes(name)) for name in names):
            continue
        tree = {k: v for k, v in tree.items() if k != "method"}
        if len(names) > 1:
            tree["settings"] = _shared_settings(tree.get("settings") or {}, names)
        if own != Defaults():
            tree, groups = _sized(tree, groups, own, preset)
            for name in names:
                tree["clients"] |= METHODS.about(name).training
        counts = [f"{sum(g.get('count', 1) for g in groups[m])} {client_word(m)}" for m in groups]
        who = names[0] if len(names) == 1 else f"{len(names)} methods"
        say(f"{who}: data set {_data_name(tree)} and {', '.join(counts)} clients (preset {preset})")
        return tree
    common = set(takes(names[0])).intersection(*map(takes, names[1:]), SINGLE_MODALITY)
    if not common:
        needs = [f"{name} takes {_words(takes(name))}" for name in names]
        raise BadInput(f"no scene fits all methods: {'; '.join(needs)}. Leave some out, or name data and clients")
    if presets:
        say(f"{len(names)} methods: data set {DATA}, which all of them run on, not the presets {', '.join(presets)}")
    return {"data": {"name": DATA}} if len(names) > 1 else {}


def _shared_settings(settings: Mapping[str, Any], names: Sequence[str]) -> Tree:
    """Those of the settings that all these methods have."""
    known = [METHODS.find(name).settings.model_fields for name in names]
    return {key: value for key, value in settings.items() if all(key in fields for fields in known)}


def _sized(
    tree: Tree, groups: Mapping[ClientTask, Any], own: Defaults, preset: str
) -> tuple[Tree, dict[ClientTask, Any]]:
    """Of a scene only where it is and who is in it, in the sizes of another preset's defaults."""
    data = {k: v for k, v in tree["data"].items() if k in ("name", "options")}  # pace and split are not its affair
    data["options"] = {**data.get("options", {}), **own.scenes.get(preset, {})}
    sized = {m: own.clients.get(m, groups[m]) for m in groups}
    clients = {m: sized.get(m, []) for m in CLIENT_TASKS}
    return {"data": data, "clients": clients}, sized


def _optimizer(names: Sequence[str], tree: Mapping[str, Any], say: Say) -> Tree:
    """The clients' optimiser that a method is defined on, where none is said."""
    needs = [(name, dict(need)) for name in names if (need := METHODS.about(name).training)]
    if not needs or "optimizer" in (tree.get("clients") or {}):
        return {}
    name, need = needs[0]
    say(f"{name} is defined on plain gradients: clients.optimizer = {need['optimizer']}")
    return {"clients": need}


# ------------------------------------------------------------------------------------------- options, clients by data


def _with_options(tree: Tree, own: Defaults) -> Tree:
    """The tree with the options that a preset's defaults have for its data set."""
    name = _data_name(tree)
    wanted = own.options.get(name)
    if wanted is None and "any" in own.options and (declared := _declared(name)) is not None:
        wanted = {key: value for key, value in own.options["any"].items() if key in declared.options}
    return merged({"data": {"options": dict(wanted)}}, tree) if wanted else tree


def _with_clients(tree: Tree, own: Defaults, names: Sequence[str], have: Sequence[ClientTask], say: Say) -> Tree:
    """The tree with groups of clients for what the data have and all methods take, where it says nothing of them."""
    said = {m: v for m in CLIENT_TASKS if (v := (tree.get("clients") or {}).get(m)) is not None}
    common = [m for m in CLIENT_TASKS if m in have and all(m in takes(name) for name in names)]
    usual: list[ClientTask] = [m for m in SINGLE_MODALITY if m in common and said.get(m) != []]
    if any(map(one_kind, names)):
        named = [m for m in usual if said.get(m)]
        usual = (named or usual)[:1]
    filled: Tree = {m: own.clients[m] for m in usual if m not in said and m in own.clients}
    for m in SINGLE_MODALITY:
        if m not in usual and m not in said:
            filled[m] = []
    if not usual and not any(said.values()):
        filled |= _scene_clients(tree, own, names, have, common, say)
    elif dropped := [m for m in CLIENT_TASKS if filled.get(m) == [] and not any(said.values())]:
        why = f"{_data_name(tree)} has no {dropped[0].spec.samples}" if dropped[0] not in have else _why(names)
        say(f"{why}: no {dropped[0].spec.clients}")
    training = filled.pop("training", {})
    return merged(merged({"clients": training}, tree), {"clients": filled}) if filled else tree


def _why(names: Sequence[str]) -> str:
    return f"{', '.join(name for name in names if one_kind(name)) or names[0]} is for clients of one kind"


def _scene_clients(
    tree: Tree,
    own: Defaults,
    names: Sequence[str],
    have: Sequence[ClientTask],
    common: Sequence[ClientTask],
    say: Say,
) -> Tree:
    """Multimodal or image-text clients, with the training that their preset has. Raises BadInput for neither."""
    data = _data_name(tree)
    found = next((m for m in common if m in SCENES), None)
    if found is None and common:
        return {}  # they are taken away, and validation says so
    if found is None:
        fitting = [d.name for n in DATASETS.usable() if (d := _declared(n)) and set(d.tasks) & set(takes(names[0]))]
        others = [
            name for name in METHODS.usable() if METHODS.about(name).up != "nothing" and set(have) & set(takes(name))
        ]
        more = ", ...: see `fedloom methods`" if len(others) > 9 else ""
        raise BadInput(
            f"{names[0]} takes {_words(takes(names[0]))}, {data} has {_words(have) or 'nothing'}: allowed are --data "
            f"{', '.join(fitting)}; or --method {', '.join(others[:9])}{more}"
        )
    scene = preset_tree(SCENES[found])["clients"]
    groups = [dict(group) for group in own.clients.get(found, scene[found])]
    kinds = _declared(data).modalities
    if found == ClientTask.MULTIMODAL_CLASSIFICATION and kinds != (Modality.AUDIO, Modality.IMAGE):
        model = {Modality.AUDIO: "audio-resnet", Modality.IMAGE: "resnet", Modality.TEXT: "bert"}
        for group in groups:
            group["arch"] = "+".join(model[kind] for kind in kinds)
    count = sum(group.get("count", 1) for group in groups)
    say(f"{data} has {_words((found,))}: {count} {found.spec.clients}, {groups[0]['arch']} (preset {SCENES[found]})")
    training = {k: v for k, v in scene.items() if k not in CLIENT_TASKS}
    return {found: groups, "training": {} if own.clients else training}
