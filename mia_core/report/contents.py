"""The contents of an audit's report: what each section says, from the finished audit alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from mia_core import __version__
from mia_core.attacks.contract import NO_EVIDENCE
from mia_core.defenses.catalogue import DEFENSES
from mia_core.report.document import (
    Block,
    Code,
    Document,
    Facts,
    Notice,
    Paragraph,
    Points,
    Section,
    Table,
    inert,
)
from mia_core.report.findings import findings, title_of
from mia_core.report.finished import Annex, Finished
from mia_core.report.glossary import glossary
from mia_core.report.wording import (
    GATE_WORDS,
    ROLE_WORDS,
    claims_of,
    format_p,
    headline,
    interaction_sentences,
    minute,
    use_of,
)
from mia_core.toml import as_toml
from mia_core.types import Role

ANNEX_ROWS = 2_000
"""Users in the annex of a document; the tables of the package hold all."""
ALWAYS = ("question", "gates", "results", "limits")
"""Sections that no report is without."""
ACCESS_WORDS = {
    "labels only": "the recommended lists or texts alone",
    "logits": "how likely the target finds each answer",
    "white box": "the inside of the target as well",
}
METHODS = (
    ("Interval of the AUC", "DeLong on the logit scale; DeLong, DeLong, Clarke-Pearson 1988, Biometrics 44(3)"),
    (
        "Intervals of rates",
        "Clopper and Pearson 1934, Biometrika 26(4); for TPR at a fixed FPR binomial ranks of the held-out users, and Jeffreys "
        "limits of the members passed there",
    ),
    ("p-values", "conformal, against calibration users; Bates, Candès, Lei, Romano, Sesia 2023, arXiv 2104.08279"),
    ("Naming users", "Benjamini and Hochberg 1995, J. R. Stat. Soc. B 57(1)"),
)


def compose(finished: Finished, annex: Annex = "none", left_out: Sequence[str] = ()) -> Document:
    """The report of a finished audit.

    Args:
        annex: whether every user is listed, and by what name.
        left_out: names of sections (see `SECTIONS`) to do without; those in `ALWAYS` are kept.
    """
    result = finished.result
    kept = {name for name in SECTIONS if name in ALWAYS or name not in left_out} - {"annex"}
    chosen = [name for name in SECTIONS if (annex != "none" if name == "annex" else name in kept)]
    sections = []
    for name in chosen:
        title, write = SECTIONS[name]
        blocks = _annex(finished, annex) if name == "annex" else write(finished)
        if blocks:
            sections.append(Section(name, result.unit.say(title), tuple(blocks)))
    failed = [gate for gate in result.gates if not gate.passed]
    passed = f"Valid: all {len(result.gates)} gates passed" if result.gates else "No gate was tried"
    return Document(
        title=inert(result.name),
        subtitle="Membership audit of a recommender",
        stamp=f"INVALID: {len(failed)} of {len(result.gates)} gates failed" if failed else passed,
        valid=result.valid,
        created=result.created,
        key=result.key,
        opening=tuple(_opening(finished)),
        sections=tuple(sections),
    )


def _opening(finished: Finished) -> list[Block]:
    result = finished.result
    blocks: list[Block] = []
    if result.valid:
        blocks.append(Paragraph(headline(result), "lead"))
    else:
        blocks.append(Notice("This audit is INVALID", headline(result), failed=True))
    if result.promise_broken:
        blocks.append(
            Notice("A promise is refuted", "The promise of private training is refuted: see the claims.", failed=True)
        )
    blocks.append(
        Facts(
            (
                ("Audit", result.key[:16]),
                ("Run", f"{minute(result.created)} UTC"),
                (result.unit.many.capitalize(), f"{sum(result.roles.values()):,}"),
                ("Lead attack", title_of(result, result.lead)),
            )
        )
    )
    if result.notes:
        blocks.append(Notice("Please note", "\n".join(inert(note, 2_000) for note in result.notes)))
    return blocks


def _question(finished: Finished) -> list[Block]:
    result = finished.result
    use, say = use_of(result), result.unit.say
    asked = f"Can it be told from the behaviour of this recommender whose data {use.does}, and whose did not?"
    if use.does.startswith(("stand", "were")):
        asked = (
            f"Can it be told from the behaviour of this recommender whose data {use.does}, and whose {use.does_not}?"
        )
    answered = (
        "The audit asks the recommender about members and about comparable held-out users, and lets attacks guess who is who. "
        "What is guessed better than by chance shows in its behaviour; the figures say how well, and how surely. One user is "
        "one observation throughout."
    )
    return [Paragraph(asked, "lead"), Paragraph(use.meaning), Paragraph(say(answered))]


def _design(finished: Finished) -> list[Block]:
    result, say = finished.result, finished.result.unit.say
    config, data = result.config, result.data
    rows = [
        ("Data", _data_words(config)),
        (
            "Size",
            f"{data.get('users', 0):,} {result.unit.many}, {data.get('items', 0):,} items, "
            f"{data.get('interactions', 0):,} interactions",
        ),
        ("Target", _target_words(config)),
    ]
    defended = [DEFENSES[name].title for name in config.get("defense", {}).get("names", []) if name in DEFENSES]
    if defended:
        rows.append(("Defences", f"{', '.join(defended)}. The attacks know of them."))
    prompt = config.get("prompt", {})
    if prompt and config.get("target", {}).get("source") != "recommender":
        rows.append(
            (
                "Asked by",
                say(
                    f"at most {prompt.get('windows')} {'window' if prompt.get('windows') == 1 else 'windows'} per user, each of "
                    f"{prompt.get('history')} items and the next one; "
                    f"style “{prompt.get('style', '').replace('_', ' ')}”"
                ),
            )
        )
    rows.append(("Split", say(_split_words(finished))))
    ran = [attack for attack in result.attacks if not attack.skipped]
    seen = {
        access: [attack for attack in ran if attack.access == access] for access in dict.fromkeys(a.access for a in ran)
    }
    skipped = [attack for attack in result.attacks if attack.skipped]
    return [
        Facts(tuple((name, inert(value, 600)) for name, value in rows)),
        Table(
            say("How the users were split"),
            ("Role", result.unit.many.capitalize(), "What for"),
            tuple(
                (role.replace("_", " ").replace("held out", "held-out"), f"{count:,}", say(ROLE_WORDS[Role(role)]))
                for role, count in result.roles.items()
            ),
        ),
        Table(
            "What the attacks saw",
            ("Access", "Attacks", "They see"),
            tuple((access, f"{len(attacks)}", ACCESS_WORDS.get(access, access)) for access, attacks in seen.items()),
        ),
        *([Points(tuple(f"Did not run: {a.title}, which {a.skipped}." for a in skipped))] if skipped else []),
    ]


def _data_words(config: dict[str, Any]) -> str:
    data = config.get("data", {})
    if data.get("source") == "built-in":
        return f"built-in, invented by this program (seed {config.get('seed')})"
    return Path(data.get("path") or "").name or data.get("format") or str(data.get("source", ""))


def _target_words(config: dict[str, Any]) -> str:
    target, base = config.get("target", {}), config.get("base", {})
    source = target.get("source")
    if source == "lists":
        return "a deployed recommender, known by what it recommended alone"
    if source == "recommender":
        kind = config.get("recommender", {}).get("kind", "").replace("_", "-")
        return f"a {kind} recommender, trained for this audit"
    family = {"t5": "T5", "gpt2": "GPT-2", "llama": "LLaMA", "xlnet": "XLNet4Rec", "sasrec": "SASRec"}.get(
        base.get("family", ""), base.get("family", "")
    )
    if source == "own":
        return f"a model that was brought along ({family})"
    if target.get("serving") == "prompt":
        return f"a {family} model that answers from examples in its prompt; nothing was trained on them"
    how = "low-rank adapters" if target.get("tuning") == "lora" else "all weights"
    epochs = target.get("training", {}).get("epochs")
    size = f"width {base.get('width')}, {base.get('layers')} layers"
    begun = "built anew and trained" if target.get("start") == "scratch" else "fine-tuned"
    return f"{family}, {begun} for this audit ({how}, at most {epochs} epochs; {size})"


def _split_words(finished: Finished) -> str:
    drawn = finished.split["split"].get("drawn", "")
    if finished.result.brought:
        return "lists of members and held-out users, given by the auditor"
    return f"{drawn or 'by lot'}; seed {finished.result.config.get('seed')}, drawn before anything was trained"


def _gates(finished: Finished) -> list[Block]:
    result, say = finished.result, finished.result.unit.say
    if not result.gates:
        return [Paragraph("This audit is of before there were gates: nothing checked the audit itself.")]
    blocks: list[Block] = [
        Paragraph(
            "What must hold before any figure is believed. Together the gates refuse a sound audit at most 1 time in 100."
        )
    ]
    for gate in result.gates:
        p = "" if gate.p_value is None else f" p = {format_p(gate.p_value)}, {gate.n:,} {result.unit.many}."
        told = f"{gate.sentence}{p if 'p =' not in gate.sentence else ''}"
        told += "" if gate.passed else f"\nWhat to do: {gate.way_out}"
        outcome = "passed" if gate.passed else "FAILED"
        title = say(GATE_WORDS.get(gate.name, gate.name))
        blocks.append(
            Notice(f"{title} {outcome.capitalize() if gate.passed else outcome}.", told, failed=not gate.passed)
        )
    return blocks


def _usefulness(finished: Finished) -> list[Block]:
    result = finished.result
    if not result.quality:
        return [Paragraph("How well the recommender recommends was not measured in this audit.")]
    first = result.quality[0]
    blocks: list[Block] = [
        Table(
            f"Ranking the true next item of {first.n:,} held-out {result.unit.many} against sampled others",
            ("Recommender", "HR@10", "NDCG@10", "Likes AUC"),
            tuple(
                (
                    q.recommender,
                    f"{q.hit_rate_at_10:.3f}\n{q.hit_rate_low:.3f}–{q.hit_rate_high:.3f}",
                    f"{q.ndcg_at_10:.3f}\n{q.ndcg_low:.3f}–{q.ndcg_high:.3f}",
                    "–"
                    if q.likes_auc is None
                    else f"{q.likes_auc:.3f}\n{q.likes_low or 0:.3f}–{q.likes_high or 0:.3f}",
                )
                for q in result.quality
            ),
        )
    ]
    if result.agreement:
        blocks.append(
            Table(
                "How far the references answer like the target, per answer token that they never met",
                ("Reference", "KL (nats)", "Same first choice"),
                tuple((a.reference, f"{a.kl:.3f}", f"{a.top1:.0%}") for a in result.agreement),
            )
        )
    return blocks


def _claims(finished: Finished) -> list[Block]:
    result = finished.result
    claims = claims_of(result)
    blocks: list[Block] = []
    if claims:
        blocks.append(Facts(tuple((f"{claim.label}: {claim.value}", claim.sentence) for claim in claims), wide=True))
    if result.interactions and result.valid:
        blocks.append(Points(tuple(interaction_sentences(result))))
    return blocks


def _done_about_it(finished: Finished) -> list[Block]:
    if not finished.follow_ups:
        return []
    kinds = {"defenses": "Defences that were tried", "forgetting": "What it has forgotten"}
    blocks: list[Block] = []
    for one in finished.follow_ups:
        told = "\n".join(inert(sentence, 2_000) for sentence in one.sentences)
        blocks.append(Notice(f"{kinds.get(one.kind, one.kind)}: {inert(one.name)}", told))
    return blocks


def _limits_of_it(finished: Finished) -> list[Block]:
    result, say = finished.result, finished.result.unit.say
    use = use_of(result)
    told = [
        "Where nothing was detected, that does not show that nothing is there: another attack, or more users, may still find "
        "something. The limits of each interval say what the data leave open.",
        "What was found holds for this recommender, these data and these attacks. A recommender that was trained otherwise, or "
        "on other people, must be audited itself.",
        f"It is evidence about behaviour. It does not say how anybody's data came to be {use.place}, nor whether they were "
        "allowed to.",
        "Precision counts as many members as the audit has. Where members are rarer, more of those who are called members are "
        "not.",
        "Intervals say how far the choice of users moves a figure; another training moves it, too.",
        "The highest of many attacks is a little too high by chance. The lead was named before the run and counts.",
    ]
    skipped = sum(bool(attack.skipped) for attack in result.attacks)
    if skipped:
        told.append(f"{skipped} attacks did not run; what they would have found is not known.")
    if any(attack.status in NO_EVIDENCE for attack in result.attacks):
        told.append("Attacks that are marked as confounded or as leaking on purpose are no evidence about anybody.")
    return [Points(tuple(say(sentence) for sentence in told))]


def _glossary(finished: Finished) -> list[Block]:
    return [Facts(tuple(glossary(finished.result.unit).items()), wide=True)]


def _references(finished: Finished) -> list[Block]:
    result = finished.result
    return [
        Table(
            "The attacks that ran",
            ("Attack", "What it looks at", "Source"),
            tuple((a.title, result.unit.say(a.summary), a.source) for a in result.attacks if not a.skipped),
            words=3,
            widths=(0.24, 0.42, 0.34),
        ),
        Table(
            "How figures are computed",
            ("Figure", "Source"),
            tuple((result.unit.say(figure), result.unit.say(told)) for figure, told in METHODS),
            words=2,
            widths=(0.24, 0.76),
        ),
    ]


def _keys(finished: Finished) -> list[Block]:
    result = finished.result
    seconds = sum(stage.seconds for stage in result.stages)
    rows = [
        ("Audit", result.key),
        ("Data", str(result.data.get("key", "not recorded"))),
        ("Split manifest (SHA-256)", finished.split["sha256"]),
        ("Seed", str(result.config.get("seed"))),
        ("Run", f"{result.created}, {seconds:,.0f} s of computing on {result.device}"),
        ("Versions", ", ".join(f"{name} {version}" for name, version in result.versions.items())),
        ("Report made by", f"MemberScope {__version__}"),
    ]
    blocks: list[Block] = [
        Paragraph(
            "A key is computed from everything that went in, every setting included: the same key means the same audit."
        ),
        Facts(tuple((name, inert(value, 400)) for name, value in rows)),
        Code(as_toml(result.config), "Every setting of the audit, as config.toml", columns=3),
    ]
    if result.artifacts:
        blocks.append(Code("\n".join(result.artifacts), "Keys of everything that the audit rests on"))
    return blocks


def _annex(finished: Finished, annex: Annex) -> list[Block]:
    result, say = finished.result, finished.result.unit.say
    lead = result.lead
    score = f"score.{lead}"
    wanted = {
        "windows": "windows",
        score: "score",
        f"p.{lead}": "p-value",
        f"p_stratum.{lead}": f"p, like {result.unit.many}",
        "named": "named",
    }
    there = {name: title for name, title in wanted.items() if name in finished.columns("users")}
    users = finished.table("users", "user", "role", *there).filter(pl.col("role") != Role.PUBLIC)
    if score in there:
        users = users.sort(score, "user", descending=[True, False], nulls_last=True)
    name = finished.naming(annex)
    rows = tuple(
        (
            inert(name(row["user"]), 60),
            row["role"].replace("_", " ").replace("held out", "held-out"),
            *(_plain(column, row[column]) for column in there),
        )
        for row in users.head(ANNEX_ROWS).iter_rows(named=True)
    )
    kind = result.unit.one.capitalize() if annex == "ids" else f"Pseudonym of a {result.unit.one}"
    told = [
        "Every user but the public ones, the most member-like by the lead attack first. Scores of known users are by attacks "
        "that were not fitted on them; they have no p-value. “–” means that there is none."
    ]
    if annex == "pseudonyms":
        told.append("A pseudonym can be traced back only with the key in the home folder of this audit.")
    if users.height > ANNEX_ROWS:
        told.append(
            f"These are the first {ANNEX_ROWS:,} of {users.height:,} users; the tables of the package hold all of them."
        )
    columns = (kind, "Role", *there.values())
    return [Paragraph(say(" ".join(told))), Table(say("Every user"), columns, rows, words=2)]


def _plain(column: str, value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if column.startswith(("p.", "p_stratum.")):
        return format_p(value)
    return f"{value:.4f}" if isinstance(value, float) else f"{value:,}"


SECTIONS: dict[str, tuple[str, Callable[[Finished], list[Block]]]] = {
    "question": ("The question", _question),
    "design": ("How it was asked", _design),
    "gates": ("Gates: can the audit be believed?", _gates),
    "results": ("What was found", findings),
    "claims": ("What may be said of many people at once", _claims),
    "usefulness": ("Does the recommender recommend?", _usefulness),
    "follow_ups": ("What was done about it", _done_about_it),
    "limits": ("What this does not show", _limits_of_it),
    "glossary": ("Words", _glossary),
    "references": ("Methods and sources", _references),
    "keys": ("Versions, keys and settings", _keys),
    "annex": ("Annex: every user", lambda finished: _annex(finished, "pseudonyms")),
}
"""Name: (title, what it says), in the order of the report."""
