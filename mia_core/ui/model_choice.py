"""Where the audited model comes from: a language model, a transformer over items, a classic recommender, or what one served."""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path
from typing import Any

import streamlit as st

from mia_core.data.prompts import PROMPT_STYLES
from mia_core.experiment import Experiment, Recommender, Target, parse_experiment
from mia_core.limits import check_kept
from mia_core.storage.disk import explained
from mia_core.storage.seal import pseudonym_key
from mia_core.ui import forms, frame

SOURCES = {
    "offline": "A small language model, trained here",
    "sequence": "A sequence recommender, trained here",
    "recommender": "A classic recommender, trained here",
    "local": "A model folder on this machine",
    "hub": "A model from the hub",
    "own": "My own fine-tuned model",
    "lists": "Only what it recommended (lists or text)",
}
FAMILIES = {"t5": "T5", "gpt2": "GPT-2", "llama": "LLaMA"}
SEQUENCE_FAMILIES = {
    "sasrec": ("SASRec", "A transformer over items that reads from left to right: each is told from those before it."),
    "xlnet": (
        "XLNet",
        "A transformer over items that learns to fill in hidden ones from what stands before and after (Transformers4Rec).",
    ),
}
STARTS = {"base": "From a base that other people's data trained", "scratch": "From scratch, on the members alone"}
TUNINGS = {"full": "All weights", "lora": "LoRA adapters", "prompt": "Not at all: it serves from its prompt"}
RECOMMENDERS = {
    "latent_factor": (
        "Latent factors",
        "A short vector for every person and every item: what points the person's way is recommended.",
    ),
    "item_based": (
        "Item-based",
        "Items that the same people have are alike: what is most like a history is recommended.",
    ),
    "neural": ("Neural", "Vectors of people and items as well, put together by a small network instead of a product."),
    "popularity": (
        "Popularity",
        "Everybody is recommended what most members have: a control, in which next to nothing can be found.",
    ),
}
MAIN_SETTINGS = {
    "latent_factor": ("factors", "epochs", "learning_rate", "length", "candidates"),
    "item_based": ("neighbours", "length", "candidates"),
    "neural": ("factors", "epochs", "learning_rate", "length", "candidates"),
    "popularity": ("length", "candidates"),
}
"""Of each kind of recommender."""
OTHER_SETTINGS = {
    "latent_factor": ("l2", "negatives", "ridge"),
    "item_based": (),
    "neural": ("l2", "negatives"),
    "popularity": (),
}
LABELS = {"length": "Length of a list", "candidates": "Randomise over", "l2": "L2"}
LONGEST_HISTORY = 99_999
SEQUENCE: dict[str, Any] = {
    "base": {"family": "sasrec", "width": 64, "layers": 2},
    "target": {"training": {"epochs": 10, "learning_rate": 1e-3, "batch_size": 64}},
}
"""A transformer over items that two cores train in minutes."""
CLASSIC: dict[str, Any] = {
    "split": {"public_share": 0.5, "known_share": 0.1},
    "target": {"source": "recommender"},
}
"""Half of the users are third parties: a quarter trains the auditor's own recommender or stays out of it, a quarter
teaches how items go together. The attacks learn there, so that few users of the target need to be known."""


def defaults(source: str) -> Experiment:
    """What the form of such a model starts with."""
    return parse_experiment({"sequence": SEQUENCE, "recommender": CLASSIC}.get(source, {}))


def list_length(items: int) -> int:
    """How long a list is where nobody says: a hundred items, or about a sixth of a small catalogue."""
    return max(5, min(Recommender().length, items // 60 * 10))


def choose_source(unit: str) -> str:
    """Where the model comes from; data of sessions begin with what is made for them."""
    sources = list(SOURCES)
    first = sources.index("sequence") if unit == "session" else 0
    return str(
        st.selectbox(
            "Where the model comes from", sources, index=first, format_func=SOURCES.__getitem__, key="model_source"
        )
    )


def choose_model(source: str, summary: dict[str, Any]) -> dict[str, Any]:
    """What the choice of a model settles of a config: the sections prompt, base, target, and those of a recommender.

    Args:
        summary: of the data.
    """
    if source == "sequence":
        return sequence_model()
    if source == "recommender":
        return classic_recommender(int(summary["items"]))
    if source == "own":
        return own_model(summary)
    if source == "lists":
        return only_lists(summary)
    return language_model(source, summary)


def language_model(source: str, summary: dict[str, Any]) -> dict[str, Any]:
    """A language model that this audit fine-tunes, or shows the members in its prompt."""
    base: dict[str, Any] = {"source": source}
    target: dict[str, Any] = {}
    if source == "offline":
        family = st.segmented_control(
            "Family", list(FAMILIES), default="t5", format_func=FAMILIES.__getitem__, key="family"
        )
        base["family"] = family or "t5"
    elif source == "local":
        base["path"] = st.text_input(
            "Model folder",
            key="base_path",
            help="As saved by save_pretrained: config.json, model.safetensors, tokenizer.",
        )
    else:
        left, right = st.columns(2)
        base["hub_id"] = left.text_input(
            "Hub id",
            placeholder="google-t5/t5-small",
            key="hub_id",
            help="Needs a network. Safetensors only; no code of the model is run.",
        )
        base["revision"] = right.text_input(
            "Revision", key="revision", help="A commit, tag or branch; empty: the newest."
        )
    prompt = {"style": choose_style(summary)}
    tuning = (
        st.segmented_control("Fine-tune", list(TUNINGS), default="full", format_func=TUNINGS.__getitem__, key="tuning")
        or "full"
    )
    if tuning == "prompt":
        target["serving"] = "prompt"
        st.info(
            "The recommender answers from a few examples in its prompt, and a member's own window is one of them. Attacks that "
            "ask what training left behind cannot run on it; the group “Served from a prompt” is made for it."
        )
    else:
        target["tuning"] = tuning
        target["training"] = {"epochs": _epochs("Epochs of fine-tuning", 30, Target().training.epochs, "epochs")}
    return {"prompt": prompt, "base": base, "target": target}


def choose_style(summary: dict[str, Any], *, whole: bool = False) -> str:
    """How a language model is asked.

    Args:
        whole: whether what is audited may also read histories as they are, without words.
    """
    fitting = [
        n for n, s in PROMPT_STYLES.items() if (whole or not s.whole) and (summary["ratings"] or not s.needs_ratings)
    ]
    style = (
        st.segmented_control(
            "Question put to the model",
            fitting,
            default=fitting[0],
            format_func=lambda n: PROMPT_STYLES[n].title,
            key="style",
        )
        or fitting[0]
    )
    st.caption(PROMPT_STYLES[style].summary)
    return style


def sequence_model() -> dict[str, Any]:
    """A transformer whose tokens are items."""
    families = list(SEQUENCE_FAMILIES)
    family = (
        st.segmented_control(
            "Family",
            families,
            default=families[0],
            format_func=lambda name: SEQUENCE_FAMILIES[name][0],
            key="sequence_family",
        )
        or families[0]
    )
    st.caption(SEQUENCE_FAMILIES[family][1])
    start = (
        st.segmented_control("Trained", list(STARTS), default="base", format_func=STARTS.__getitem__, key="start")
        or "base"
    )
    if start == "scratch":
        st.caption(
            "As in published experiments. Trained for long, it knows its members' histories by heart: more epochs, more to find."
        )
    usual = SEQUENCE["target"]["training"]["epochs"]
    training = {"epochs": _epochs("Epochs of training", 100, usual, "sequence_epochs")}
    return {"base": {"family": family}, "target": {"start": start, "training": training}}


def _epochs(label: str, most: int, usual: int, key: str) -> int:
    return st.slider(label, 1, most, usual, key=key, help="More epochs, more memory of the members.")


def classic_recommender(items: int) -> dict[str, Any]:
    """A recommender that learns from whole histories and serves lists, and the auditor's own one."""
    kinds = list(RECOMMENDERS)
    kind = (
        st.segmented_control(
            "Kind", kinds, default=kinds[0], format_func=lambda name: RECOMMENDERS[name][0], key="recommender_kind"
        )
        or kinds[0]
    )
    st.caption(RECOMMENDERS[kind][1])
    start = Recommender.model_validate({"kind": kind, "length": list_length(items)})
    # Another length to start with is another widget, which does not keep what stood there before.
    labels = {name: LABELS.get(name, name.replace("_", " ").capitalize()) for name in MAIN_SETTINGS[kind]}
    entered = forms.section_form(start, f"recommender.{start.length}", labels=labels).model_dump()
    others = ["same", *(name for name in kinds if name != kind)]
    left, right = st.columns([1, 2], vertical_alignment="bottom", gap="medium")
    own = left.selectbox(
        "The auditor's own recommender",
        others,
        format_func=lambda name: "Of the same kind" if name == "same" else RECOMMENDERS[name][0],
        key="shadow_kind",
    )
    right.caption(
        "Attacks learn on a recommender that the auditor trains, whose members are known. Who does not know what kind the "
        "audited one is has to guess: choose another to see what a wrong guess costs."
    )
    st.caption(
        ":material/groups: Half of the users are third parties here (All other settings, Split): a quarter of all trains the "
        "auditor's own recommender or stays out of it, another quarter teaches how items go together."
    )
    shadow = {"kind": "same"} if own == "same" else {**entered, "kind": own}
    return {"base": {}, "target": {"source": "recommender"}, "recommender": entered, "shadow": shadow}


def other_recommender_settings(entered: dict[str, Any], shadow: dict[str, Any]) -> dict[str, Any]:
    """The sections recommender and shadow with the settings that matter less; an own one of another kind is set alike."""
    kind = entered["kind"]
    if not OTHER_SETTINGS[kind]:
        st.caption("This kind of recommender has no other settings.")
        return {"recommender": entered, "shadow": shadow}
    labels = {name: LABELS.get(name, name.capitalize()) for name in OTHER_SETTINGS[kind]}
    # What was entered above is an error there already where it does not fit.
    others = forms.section_form(Recommender(), "recommender.other", labels=labels).model_dump(include=set(labels))
    return {
        "recommender": {**entered, **others},
        "shadow": shadow if shadow["kind"] == "same" else {**shadow, **others},
    }


def lists_of_sequences(items: int) -> dict[str, Any]:
    """How a transformer over items serves its lists, for the attacks that look at lists."""
    length = list_length(items)
    labels = {name: LABELS[name] for name in MAIN_SETTINGS["popularity"]}
    return forms.section_form(Recommender(length=length), f"sequence.recommender.{length}", labels=labels).model_dump()


def own_model(summary: dict[str, Any]) -> dict[str, Any]:
    """A target that is brought along, with the lists of users whose membership is known."""
    st.markdown(
        "Bring the fine-tuned folder (or a LoRA adapter with its base), users you know were trained on, users you know were not, "
        "and the users to judge. The data set above must hold the interactions of all of them."
    )
    prompt = {"style": choose_style(summary)}
    left, right = st.columns(2)
    target: dict[str, Any] = {
        "source": "own",
        "path": left.text_input("Folder of the fine-tuned model or adapter", key="own_path"),
    }
    target["no_base"] = right.checkbox(
        "The model before fine-tuning is not to be had",
        key="no_base",
        help="Attacks that need it are switched off, with the reason.",
    )
    base = {
        "source": "local",
        "path": "" if target["no_base"] else right.text_input("Folder of the base model", key="own_base"),
    }
    target |= known_lists()
    return {"prompt": prompt, "base": base, "target": target}


def only_lists(summary: dict[str, Any]) -> dict[str, Any]:
    """A deployed system of which there is nothing but what it recommended."""
    st.markdown(
        "One recommendation a row: user, rank, and item, title or written text. A column question (history, no_history) may also "
        "hold what is recommended to nobody in particular. Everybody who is on none of the three lists below is a third party."
    )
    prompt: dict[str, Any] = {"style": choose_style(summary, whole=True)}
    if PROMPT_STYLES[prompt["style"]].whole:
        prompt |= {"history": LONGEST_HISTORY, "windows": 1}
    target: dict[str, Any] = {"source": "lists"}
    file = st.file_uploader(
        "What was recommended (CSV, TSV, Parquet or JSON lines)",
        type=["csv", "tsv", "txt", "parquet", "jsonl", "ndjson"],
        key="served_lists",
    )
    if file is not None:
        target["lists"] = str(_kept_list("served", file.getvalue(), Path(file.name).suffix))
    target |= known_lists()
    return {"prompt": prompt, "base": {"source": "offline"}, "target": target}


def known_lists() -> dict[str, str]:
    """Who is known, who is to be judged, and whether the two can be compared."""
    kept: dict[str, str] = {}
    for column, (name, label) in zip(
        st.columns(3),
        {"members": "Known members", "held_out": "Known held-out users", "judged": "Users to judge"}.items(),
        strict=True,
    ):
        file = column.file_uploader(f"{label} (one id a line)", type=["txt", "csv"], key=f"own_{name}")
        if file is not None:
            kept[name] = str(_kept_list(name, file.getvalue()))
    exchangeable = st.checkbox(
        "The users to judge, were they not members, would be like the held-out users I list: drawn from the same people, in "
        "the same way, at the same time.",
        key="exchangeable",
    )
    if not exchangeable:
        st.info("Without this the p-values do not hold: they compare each judged person with the held-out users.")
    return kept


def _kept_list(name: str, content: bytes, suffix: str = ".txt") -> Path:
    """The list in a private file that the background job can read; the same list is the same file.

    Raises:
        LimitReached: with it, what is kept takes too much room.
        StoreError: the disk is full, or cannot be written.
    """
    store = frame.store()
    # Keyed: the path stands in configs, and of a list of one person a mere hash would tell who it is.
    digest = hmac.new(pseudonym_key(store.home), content, hashlib.sha256).hexdigest()[:32]
    path = store.home / "lists" / f"{name}-{digest}{suffix}"
    with explained(store.home):
        # One that somebody was erased from, or that is half written, is shorter than what is handed in.
        if path.is_file() and path.stat().st_size == len(content):
            path.touch()
        else:
            check_kept(store.size + len(content))
            path.parent.mkdir(mode=0o700, exist_ok=True)
            path.write_bytes(content)
    return path
