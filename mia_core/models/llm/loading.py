"""Where language models come from: built offline, a local folder, the hub, or a base with a LoRA adapter."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from safetensors import safe_open
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)
from transformers.utils import logging as transformers_logging

from mia_core.errors import ModelError
from mia_core.models.llm.families import FAMILIES, LONGEST_SEQUENCE, Family
from mia_core.models.llm.language_model import LanguageModel
from mia_core.seeds import derive_seed

if TYPE_CHECKING:
    from mia_core.experiment import Base, Lora

# Progress is shown by the audit, stage by stage.
transformers_logging.disable_progress_bar()
transformers_logging.set_verbosity_error()

HUB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}(/[A-Za-z0-9][A-Za-z0-9._-]{0,95})?")
REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,199}")


def train_tokenizer(titles: Sequence[str], literals: Sequence[str], vocabulary: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer trained on the spot; it can write any text, also titles it never met.

    Merges run across the words of a title, so that a popular title becomes one or two tokens: prompts are about half
    as long as with merges inside words, and training twice as fast.

    Args:
        titles: one entry per interaction, so that frequent titles are merged first.
        literals: the fixed text of the prompts (template parts, separator); never merged with titles.
        vocabulary: size, at least 300.
    """
    tokenizer = Tokenizer(models.BPE())
    longest_first = sorted({literal for literal in literals if literal}, key=len, reverse=True)
    # An answer follows its prompt after a space, which would else make " Title" and "Title" different tokens.
    pieces: list[pre_tokenizers.PreTokenizer] = [pre_tokenizers.Split(Regex("^ (?=.)"), "removed")]
    if longest_first:
        pattern = Regex("|".join(_escaped(literal) for literal in longest_first))
        pieces.append(pre_tokenizers.Split(pattern, "isolated"))
    pieces.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(pieces)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=["<pad>", "</s>", "<unk>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    # The space in front is the one that is removed: a literal's own stays.
    fixed = [f" {literal}" for literal in literals] * (1 + len(titles) // 10)
    tokenizer.train_from_iterator([*titles, *fixed], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",  # noqa: S106 - a token of text
        eos_token="</s>",  # noqa: S106
        unk_token="<unk>",  # noqa: S106
        model_max_length=LONGEST_SEQUENCE,
    )


def build_offline(config: Base, tokenizer: PreTrainedTokenizerBase, seed: int, device: torch.device) -> LanguageModel:
    """A small model of the family with seeded random weights. Pre-training is a stage of its own."""
    family = FAMILIES[config.family]
    # Sizes in eights suit the matrix units of GPUs.
    vocabulary = -(-len(tokenizer) // 8) * 8
    torch.manual_seed(derive_seed(seed, "weights", config.family))
    auto = AutoModelForSeq2SeqLM if family.encoder_decoder else AutoModelForCausalLM
    network = auto.from_config(family.offline(config.width, config.layers, vocabulary, config.dropout))
    return LanguageModel(_on(network, device), tokenizer, family)


def save_model(model: LanguageModel, folder: Path) -> None:
    """Weights as safetensors (for LoRA: the adapter's alone) and the tokenizer."""
    model.network.save_pretrained(str(folder))
    model.tokenizer.save_pretrained(folder)


def load_local(folder: Path, device: torch.device, *, field: str = "base.path") -> LanguageModel:
    """A full model from a folder in the hub's layout. Nothing in it is executed or unpickled.

    Raises:
        ModelError: no such folder, no weights or not all of them, pickled weights, code of its own, or a family not supported.
    """
    family = _check_folder(folder, field)
    auto: Any = AutoModelForSeq2SeqLM if family.encoder_decoder else AutoModelForCausalLM
    try:
        network, told = auto.from_pretrained(
            folder,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            dtype=torch.float32,
            output_loading_info=True,
        )
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except Exception as error:
        # What the libraries raise of a damaged file is of any kind.
        raise ModelError(
            f"{field}: the model in {folder.name!r} does not load ({type(error).__name__}); "
            "check that config.json, model.safetensors and the tokenizer files are complete and of one model"
        ) from error
    _check_whole(told["missing_keys"], folder, field)
    if tokenizer.eos_token_id is None:
        raise ModelError(f"{field}: the tokenizer in {folder.name!r} has no end token; add eos_token to its files")
    return LanguageModel(_on(network, device), tokenizer, family)


def fetch_from_hub(hub_id: str, revision: str) -> tuple[Path, str]:
    """Downloads a model from the hub and returns its folder and the commit it resolved to.

    Raises:
        ModelError: the id is malformed, or the hub does not answer or does not have it.
    """
    if not HUB_ID.fullmatch(hub_id) or ".." in hub_id or "--" in hub_id:
        raise ModelError(
            f"base.hub_id is {hub_id!r}; it must be NAME or OWNER/NAME in letters, digits, '.', '_' and '-', "
            "such as google-t5/t5-small"
        )
    if revision and (not REVISION.fullmatch(revision) or ".." in revision):
        raise ModelError(f"base.revision is {revision!r}; it must be a commit, tag or branch name, or empty")
    from huggingface_hub import snapshot_download

    wanted = ["*.safetensors", "*.safetensors.index.json", "*.json", "*.model", "*.txt"]
    try:
        folder = Path(snapshot_download(hub_id, revision=revision or None, allow_patterns=wanted))
    except Exception as error:
        raise ModelError(
            f"base.hub_id is {hub_id!r}: it could not be fetched ({type(error).__name__}); check the id, the revision "
            "and the network, or download the model elsewhere and give its folder with base.source = 'local'"
        ) from error
    return folder, folder.name


def add_lora(model: LanguageModel, config: Lora, seed: int) -> LanguageModel:
    """The model with trainable low-rank adapters on all linear layers but the output; everything else is frozen."""
    torch.manual_seed(derive_seed(seed, "lora"))
    settings = LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,  # type: ignore[arg-type]  # peft divides it by the rank
        lora_dropout=config.dropout,
        target_modules="all-linear",
        task_type="SEQ_2_SEQ_LM" if model.family.encoder_decoder else "CAUSAL_LM",
    )
    return LanguageModel(get_peft_model(model.plain_network, settings), model.tokenizer, model.family)


def load_adapter(
    base: LanguageModel, folder: Path, *, field: str = "target.path", trainable: bool = False
) -> LanguageModel:
    """A base with the LoRA adapter of a folder, switched on.

    Raises:
        ModelError: the folder holds no safetensors adapter, or one of another model.
    """
    if not (folder / "adapter_model.safetensors").is_file():
        raise ModelError(
            f"{field}: {folder.name!r} has no adapter_model.safetensors; save the adapter with peft's save_pretrained "
            "(pickled .bin adapters are not opened)"
        )
    try:
        network = PeftModel.from_pretrained(base.plain_network, folder, is_trainable=trainable, use_safetensors=True)
    except Exception as error:
        # What the libraries raise of a damaged file is of any kind.
        raise ModelError(
            f"{field}: the adapter in {folder.name!r} does not fit the base model ({type(error).__name__}); "
            "give the base it was trained on"
        ) from error
    with safe_open(folder / "adapter_model.safetensors", framework="pt") as weights:
        _check_whole(set(get_peft_model_state_dict(network)) - set(weights.keys()), folder, field)
    return LanguageModel(_on(network, base.device), base.tokenizer, base.family)


def save_merged(base: LanguageModel, adapters: Sequence[Path], weight: float, folder: Path) -> None:
    """Keeps one LoRA adapter whose change of the base is the weighted sum of several adapters' changes."""
    # peft takes names apart at dots and numbers: "0" would be a layer of the network.
    names = [f"shard_{k}" for k in range(len(adapters))]
    network = PeftModel.from_pretrained(base.plain_network, adapters[0], adapter_name=names[0], use_safetensors=True)
    for name, adapter in zip(names[1:], adapters[1:], strict=True):
        network.load_adapter(adapter, adapter_name=name, use_safetensors=True)
    network.add_weighted_adapter(names, [weight] * len(names), "merged", combination_type="cat")
    network.save_pretrained(str(folder), selected_adapters=["merged"])
    for path in (folder / "merged").iterdir():
        shutil.move(path, folder / path.name)
    (folder / "merged").rmdir()


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds a LoRA adapter instead of a whole model."""
    return (folder / "adapter_config.json").is_file()


def _on(network: Any, device: torch.device) -> Any:
    return network.to(device).eval()


def _escaped(literal: str) -> str:
    return "".join(char if char.isalnum() or char.isspace() else f"\\{char}" for char in literal)


def _check_whole(missing: Collection[str], folder: Path, field: str) -> None:
    # The libraries would put random numbers in their place and go on.
    if missing:
        raise ModelError(
            f"{field}: {len(missing)} weights are missing in {folder.name!r}, the first is {min(missing)[:80]!r}; save the whole "
            "model again, or give the config.json that belongs to it"
        )


def _check_folder(folder: Path, field: str) -> Family:
    if not os.path.isdir(folder):
        raise ModelError(f"{field} is {folder.name[:80]!r}; there is no such folder; name one that holds config.json")
    config = _read_config(folder, field)
    if "auto_map" in config:
        raise ModelError(
            f"{field}: {folder.name!r} brings code of its own (auto_map), which is never run; use a plain model"
        )
    if not any(folder.glob("*.safetensors")):
        pickled = any(folder.glob("*.bin")) or any(folder.glob("*.pt"))
        found = "only pickled weights, which are never opened" if pickled else "no weights"
        raise ModelError(
            f"{field}: {folder.name!r} has {found}; save the model with save_pretrained (model.safetensors)"
        )
    family = FAMILIES.get(str(config.get("model_type")))
    if family is None:
        known = ", ".join(FAMILIES)
        raise ModelError(f"{field}: model_type is {config.get('model_type')!r}; it must be one of {known}")
    return family


def _read_config(folder: Path, field: str) -> dict[str, Any]:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(
            f"{field}: {folder.name!r} has no config.json; name a folder saved with save_pretrained"
        ) from None
    except (ValueError, OSError):
        raise ModelError(
            f"{field}: config.json in {folder.name!r} is not readable JSON; save the model again"
        ) from None
    if not isinstance(config, dict):
        raise ModelError(f"{field}: config.json in {folder.name!r} is not a JSON object; save the model again")
    return config
