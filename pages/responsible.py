"""How to use an audit without doing harm: who may ask, what an answer is worth, and what it is no basis for."""

from __future__ import annotations

import streamlit as st

from mia_core.report.base_rates import count_flagged
from mia_core.ui import frame, prose

PEOPLE = 10_000
SHARES = (0.001, 0.01, 0.05, 0.1, 0.2, 0.5)
FOUND = (0.01, 0.05, 0.1, 0.2, 0.5, 0.8, 0.95)
ALARMS = (0.001, 0.01, 0.05, 0.1)


def base_rates() -> None:
    """How many of the flagged are members, as the reader sets the numbers."""
    columns = st.columns(3, gap="medium")
    names = ("Share of such people who are members", "Members that are found (TPR)", "Others wrongly flagged (FPR)")
    keys, choices, usual = ("share", "found", "alarms"), (SHARES, FOUND, ALARMS), (0.01, 0.05, 0.01)
    chosen = [
        float(
            column.select_slider(
                name, options, value=value, format_func=lambda rate: f"{rate:.1%}", key=key, bind="query-params"
            )
        )
        for column, name, key, options, value in zip(columns, names, keys, choices, usual, strict=True)
    ]
    counted = count_flagged(PEOPLE, *chosen)
    frame.cards(
        "flagged",
        [
            ("Members, flagged", f"{counted.flagged_members:,}", "", ""),
            ("Others, flagged", f"{counted.flagged_others:,}", "", ""),
            ("Of the flagged, members", "–" if counted.share is None else f"{counted.share:.1%}", "", ""),
        ],
    )
    st.caption(
        f"Of {PEOPLE:,} people, {counted.members:,} are members. The share is yours to say: no audit can supply it."
    )


prose.style()
st.title("Responsible use")
st.html(
    '<p class="ms-lead">An audit speaks about people. Its answers can help somebody to their rights, and they can hurt somebody '
    "who never asked. This page says how to tell the two apart. It is no legal advice.</p>"
)
st.subheader("In one minute", divider="gray")
prose.points(
    "Ask about a person only if that person asked, or if you answer for the system and ask for the protection of "
    "those in it.",
    "Check who is asking before you answer. The answer itself is personal data.",
    "Look at the gates first. An audit whose gates failed says nothing about anybody.",
    "A small p-value says that something is unusual. It is not the probability that the person's data were used.",
    "Never decide about a person on the ground of a score.",
    "Delete what you no longer need.",
)
left, right = st.columns(2, gap="large")
with left:
    st.subheader("Who may ask", divider="gray")
    prose.points(
        "The person themselves, about their own data.",
        "Somebody who acts for them and can show it: a lawyer, a parent, an association that was asked to.",
        "Whoever runs the recommender, about all of its users together, to find and mend a leak.",
        "An authority, or a researcher with a legal ground and an ethics vote, within what these allow.",
    )
    prose.text(
        "Curiosity about somebody else is no ground: not an employer's, an insurer's, a partner's, nor a journalist's "
        "about a private person."
    )
with right:
    st.subheader("Check who is asking", divider="gray")
    prose.points(
        "Answer over a channel that you knew before: the account's own address, a signed-in session.",
        "Ask for no more than it takes. A copy of a passport is a new risk; delete it as soon as it has done its work.",
        "A pasted history is no identification: whoever has watched somebody's screen can paste it.",
        "Being in the data of a service can itself be sensitive. “Not in the data set” is an answer about a person, "
        "too.",
        "Note who asked, when, which audit was used and what was answered, and nothing else.",
    )
st.subheader("What a result is no basis for", divider="gray")
prose.points(
    "Decisions about a person: refusing, dismissing, pricing, suspecting.",
    "Statements about what somebody watched, read or bought. The audit judges a history that is already in your hands.",
    "The statement that a law was broken or kept. Use of data can be lawful, and a model can leak what it was "
    "lawfully given.",
    "The statement that a model gives nothing away. These attacks found what they found; another may find more.",
    "Finding out who stands behind a pseudonym, or joining people across services.",
    "Lists of “exposed” people that are passed on. Who is on such a list is exposed by the list.",
)
st.subheader("How to read an answer", divider="gray")
prose.facts(
    {
        "p-value": "If this person had not been trained on, how often would somebody comparable look at least so much "
        "like a member? Small means unusual. It says nothing about how likely membership was to begin with.",
        "Prior": "How likely membership was before anybody looked: the share of such people whose data were used, as "
        "far as you know. Two readers with different priors are right to end with different beliefs.",
        "Base rate": "Where few are members, most of the flagged are not, even if false alarms are rare. Count it out "
        "below.",
        "Many questions": "Who looks up a hundred people finds one with p ≤ 0.01 by chance. For lists there is a page "
        "of its own, which counts that in.",
        "Interval": "The range that the data allow. Where it holds chance, nothing was found, and nothing was ruled "
        "out above it.",
        "Comparable": "Everything rests on the person being like the held-out people, were they not a member: same "
        "service, same time, same kind of history. If that is doubtful, so is the p-value.",
    }
)
with st.container(border=True):
    st.markdown("**Count it out**")
    base_rates()
st.subheader("When a person asks", divider="gray")
prose.steps(
    {
        "Make sure that it is they": "Over a channel you knew before. If in doubt, ask again before you look.",
        "Look at the audit first": "Its gates, whom it was made on and when. An audit of another model, or of last "
        "year's, does not answer for this one.",
        "Look them up once": "With the score that leads the report, named before. Do not try attack after attack "
        "until one speaks.",
        "Answer in words that hold": "What was asked, what was found, how sure, and what it does not show. The letter "
        "on the Lookup page says it in four languages.",
        "Offer what can be done": "Correction, deletion from the data, training without them, and a check afterwards "
        "that it has worked.",
        "Keep the note, delete the rest": "The answer and its date. Not the pasted history, not the passport.",
    }
)
st.subheader("Words that hold, and words to avoid", divider="gray")
prose.pairs(
    ("Say", "Rather than"),
    [
        (
            "The model's behaviour on your history is more member-like than on 99 of 100 comparable people.",
            "Your data were used, with 99% probability.",
        ),
        (
            "This audit did not detect that your data were used. A small effect would not have been seen.",
            "Your data were not used.",
        ),
        ("At one false alarm in a hundred, one member in five was recognised.", "The attack is 80% accurate."),
        ("You are part of the data that this audit was built on, so it cannot judge you.", "We have nothing on you."),
        ("These checks found no sign of a leak larger than …", "The model is safe."),
        ("The recorded split says that your data trained the audited copy.", "The audit found you out."),
    ],
)
left, right = st.columns(2, gap="large")
with left:
    st.subheader("Purpose", divider="gray")
    prose.text(
        "Write down what an audit is for before it is run, and use it for that. Data that were brought here to find a "
        "leak must not train another model, score customers or advertise.",
        "Take no more than it needs: ids may be replaced by numbers before they are uploaded, titles that tell who "
        "somebody is may be left out, and a share of the users is often enough.",
    )
with right:
    st.subheader("How long to keep it", divider="gray")
    prose.facts(
        {
            "Uploaded tables": "Until the audit is done. Saved data sets are deleted on the Data page, with every "
            "audit of them.",
            "Audits": "As long as the model is in use and the question can come back.",
            "Pasted histories": "They are erased from the job list once they have been scored.",
            "Reports": "As other records of data protection. Leave the annex of users out, or pseudonymised, when one "
            "leaves the house.",
            "Models": "Models that were trained here have learned from people: they go with the audit that they "
            "belong to.",
        }
    )
st.subheader("Where to go on", divider="gray")
with st.container(horizontal=True):
    frame.link("lookup", "Look one person up", ":material/person_search:")
    frame.link("list", "Judge a list of people", ":material/groups:")
    frame.link("methods", "How each figure is worked out", ":material/menu_book:", kind="figure")
    frame.link("forgetting", "Check that a model has forgotten", ":material/ink_eraser:")
