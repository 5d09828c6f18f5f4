"""Items as public datasets, programs and logs of models write them: what is learned of each, and what never is."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.shaping import A2, ONE, Q2, TWO, A, Q, a, g, h, read_text, read_value, said, u
from theta.corpus.items import Rules
from theta.corpus.shapes.shape import is_message

LISTED = f"{Q}\n\nA. No.\nB. {A}"

READ: list[tuple[str, Any, list[list[Any]]]] = [
    # A question with options: the reply is the text of the right one, whatever names it.
    ("options", {"question": Q, "choices": ["No.", A], "answer": 1}, [[LISTED, A]]),
    ("options", {"question": Q, "choices": ["No.", A], "answer": "B"}, [[LISTED, A]]),
    ("options", {"question": Q, "choices": {"text": ["No.", A], "label": ["A", "B"]}, "answerKey": "B"}, [[LISTED, A]]),
    ("options", {"question": Q, "options": {"A": "No.", "B": A}, "answer": "B"}, [[LISTED, A]]),
    ("options", {"question": Q, "options": ["No.", A], "answer": A}, [[LISTED, A]]),
    (
        "options",
        {"question": Q, "opa": "No.", "opb": A, "opc": "Ten miles.", "cop": 1},
        [[f"{LISTED}\nC. Ten miles.", A]],
    ),
    # What stands beside a question is what it is about, or what was said before it.
    ("about", {"question": Q, "text": "The hill is off.", "answer": A}, [[f"{Q}\n\nThe hill is off.", A]]),
    ("about", {"question": Q, "contexts": ["One.", "Two."], "answer": A}, [[f"{Q}\n\nOne.\n\nTwo.", A]]),
    ("about", {"question": Q, "schema": "TABLE hills (id INT)", "answer": A}, [[f"{Q}\n\nTABLE hills (id INT)", A]]),
    (
        "about",
        {"question": Q, "documents": [{"title": "Hills", "text": "Steep."}], "answer": A},
        [[f"{Q}\n\nHills\nSteep.", A]],
    ),
    ("about", {"instruction": Q, "output": A, "text": f"### Instruction:\n{Q}\n\n### Response:\n{A}"}, [ONE]),
    ("before", {"context": [u(Q), a(A)], "question": Q2, "answer": A2}, [TWO]),
    ("before", {"instruction": Q2, "output": A2, "history": f"User: {Q}\nAssistant: {A}"}, [TWO]),
    ("before", {"prompt": Q2, "response": A2, "previous_messages": [u(Q), a(A)]}, [TWO]),
    ("before", {"chat_history": [u(Q), a(A)], "message": Q2, "text": A2}, [TWO]),
    # The best of several answers.
    ("best", {"question": Q, "answers": [{"text": "No.", "pm_score": 2}, {"text": A, "pm_score": 3}]}, [ONE]),
    ("best", {"question": Q, "answers": [{"text": "No.", "selected": False}, {"text": A, "selected": True}]}, [ONE]),
    ("best", {"title": Q, "selftext": "", "answers": {"text": ["No.", A], "score": [3, 9]}}, [ONE]),
    ("best", {"prompt": Q, "responses": [{"response": "No.", "rank": 2}, {"response": A, "rank": 1}]}, [ONE]),
    ("best", {"question": {"full_text": Q}, "answer_0": "No.", "answer_1": A, "score_0": -1, "score_1": 1}, [ONE]),
    ("best", {"question": Q, "response_j": A, "response_k": "No."}, [ONE]),
    (
        "best",
        {
            "question": {"title": "Distance", "body": Q},
            "answers": [{"body": "No.", "score": 1}, {"body": A, "score": 5}],
        },
        [[f"Distance\n\n{Q}", A]],
    ),
    # Logs of models.
    ("log", {"request": {"messages": [u(Q)]}, "response": {"choices": [{"message": a(A)}]}}, [ONE]),
    ("log", {"body": {"model": "m", "messages": [u(Q), a(A)]}, "custom_id": "r1"}, [ONE]),
    ("log", {"inputs": {"question": Q}, "outputs": {"answer": A}}, [ONE]),
    ("log", {"inputs": {"messages": [u(Q)]}, "outputs": {"generations": [{"message": a(A)}]}}, [ONE]),
    ("log", {"input": [u(Q)], "ideal": A}, [ONE]),
    ("log", {"user_input": Q, "response": A, "retrieved_contexts": ["C."]}, [[f"{Q}\n\nC.", A]]),
    # Thoughts are no part of a reply.
    ("thoughts", {"messages": [u(Q), a(f"<think>It may be.\n</think>\n\n{A}")]}, [ONE]),
    ("thoughts", {"question": Q, "answer": f"<reasoning>Hm.</reasoning>{A}"}, [ONE]),
    ("thoughts", {"messages": [u(Q), {"role": "model", "text": "Hm.", "isThought": True}, a(A)]}, [ONE]),
    ("thoughts", {"question": Q, "answer": "The tag <think> opens it, </think> ends it."},
     [[Q, "The tag <think> opens it, </think> ends it."]]),
    # Marks of other templates at the end of a message.
    ("end marks", {"question": Q, "answer": f"{A}</s>"}, [ONE]),
    ("end marks", {"messages": [u(f"{Q}<|im_end|>"), a(f"{A}<|im_end|>\n")]}, [ONE]),
    ("end marks", {"text": f"{A}<|endoftext|>"}, [[f"T: {A}"]]),
    ("end marks", {"question": Q, "answer": "<s>gone</s>"}, [[Q, "<s>gone</s>"]]),
    # Turns that are numbered instead of listed.
    (
        "numbered",
        {"conversation": {"turn_1": {"user": Q, "assistant": A}, "turn_2": {"user": Q2, "assistant": A2}}},
        [TWO],
    ),
    ("numbered", {"messages": {"0": u(Q), "1": a(A)}}, [ONE]),
    (
        "numbered",
        [{"conversation_id": 1, "turn": 2, **a(A)}, {"conversation_id": 1, "turn": 1, **u(Q)},
         {"conversation_id": 2, "turn": 1, **u(Q2)}, {"conversation_id": 2, "turn": 2, **a(A2)}],
        [ONE, [Q2, A2]],
    ),
    # Speakers that are only told apart take turns.
    ("anonymous", [{"dialog": [{"speaker": "0", "text": Q}, {"speaker": "1", "text": A}]}], [ONE]),
    ("anonymous", {"t1": {"content": [{"message": Q, "agent": "agent_1"}, {"message": A, "agent": "agent_2"}]}}, [ONE]),
    ("anonymous", {"turns": [{"speaker": "Person 1", "text": Q}, {"speaker": "Person 2", "text": A}]}, [ONE]),
    ("flags", {"messages": [{"is_user": True, "mes": Q}, {"is_user": False, "mes": A}]}, [ONE]),
    ("flags", {"messages": [{"text": Q, "isBot": False}, {"text": A, "isBot": True}]}, [ONE]),
    # Names of keys and roles.
    ("names", {"user_message": Q, "bot_message": A}, [ONE]),
    ("names", {"customer_query": Q, "agent_response": A}, [ONE]),
    ("names", {"question_title": "Distance", "question_body": Q, "answer": A}, [[f"Distance\n\n{Q}", A]]),
    ("names", {"prompt": Q, "generated_text": A}, [ONE]),
    ("names", {"questions": Q, "answers": A}, [ONE]),
    ("names", {"article": "A long text.", "highlights": "Short."}, [["A long text.", "Short."]]),
    ("names", {"conversations": [h(Q), {"from": "gpt-3.5-turbo", "value": A}]}, [ONE]),
    ("names", {"messages": [u(Q), {"role": "deepseek-r1", "content": A}]}, [ONE]),
    # Intents.
    ("intents", {"intents": [{"intent": "far", "text": [Q, "How far?"], "responses": [A]}]}, [[[Q, "How far?"], A]]),
    ("intents", {"intents": [{"intent": "far", "examples": [{"text": Q}], "response": A}]}, [ONE]),
    ("intents", {"question": [Q, "How far?"], "answer": A}, [[[Q, "How far?"], A]]),
    ("intents", {"data": {"contexts": ["x"], "questions": {"en": [Q, "How far?"], "fr": [Q2]}, "answers": {"en": [A],
     "fr": [A2]}}}, [[[Q, "How far?"], A], [Q2, A2]]),
    # A task with examples: wrong ones are not learned.
    (
        "task",
        {"Definition": ["Translate."], "Positive Examples": [{"input": "cat", "output": "chat"}],
         "Negative Examples": [{"input": "dog", "output": "chat"}],
         "Instances": [{"input": "dog", "output": ["chien"]}]},
        [["Translate.\n\ncat", "chat"], ["Translate.\n\ndog", "chien"]],
    ),
    # Datasets in the forms of their authors.
    ("datasets", {"context": "C.", "question": Q, "answers": {"text": [A, "Far."], "answer_start": [1, 2]}},
     [[f"{Q}\n\nC.", A]]),
    ("datasets", {"question": {"stem": Q, "choices": [{"text": "No.", "label": "A"}, {"text": A, "label": "B"}]},
                  "answerKey": "B"}, [[LISTED, A]]),
    ("datasets", {"article": "C.", "questions": [Q], "options": [["No.", A]], "answers": ["B"]},
     [[f"{LISTED}\n\nC.", A]]),
    ("datasets", {"history": Q, "human_ref_A": "No.", "human_ref_B": A, "score_A": 1, "score_B": 5}, [ONE]),
    ("datasets", {"context": [u(Q)], "response1": "No.", "response2": A, "overall_preference": 2}, [ONE]),
    ("datasets", {"prompt": json.dumps([Q, Q2]), "response_a": json.dumps(["No.", "No."]),
                  "response_b": json.dumps([A, A2]), "winner_model_a": "0", "winner_model_b": "1", "winner_tie": "0"},
     [TWO]),
    ("datasets", {"personality": ["i walk .", "i ski ."], "utterances": [
        {"candidates": ["No.", A], "history": [Q]}, {"candidates": ["No.", A2], "history": [Q, A, Q2]}]},
     [["S: i walk .\ni ski .", *TWO]]),
    ("datasets", {"dialog": [[0, Q], [1, A], [0, Q2], [1, A2]]}, [TWO]),
    ("datasets", {"original": [["customer", Q], ["agent", A]]}, [ONE]),
    ("datasets", {"message_1": u(Q), "message_2": a(A)}, [ONE]),
    ("datasets", {"message_1": Q, "message_2": A, "topic": "x"}, [ONE]),
    ("datasets", {"user_1": Q, "assistant_1": A, "user_2": Q2, "assistant_2": A2}, [TWO]),
    ("datasets", {"question1": Q, "answer1": A, "question2": Q2, "answer2": A2}, [TWO]),
    ("datasets", {"dialogue": [{"system_transcript": "", "transcript": Q}, {"system_transcript": A, "transcript": Q2}]},
     [ONE]),
    ("datasets", [{"conv_id": 1, "utterance_idx": 1, "speaker_idx": 1, "utterance": "Far_comma_ is it?"},
                  {"conv_id": 1, "utterance_idx": 2, "speaker_idx": 0, "utterance": A}], [["Far, is it?", A]]),
    ("datasets", {"meta_instruction": "Be kind.", "chat": {"turn_1": {"Human": f"<|Human|>: {Q}<eoh>\n",
                  "MOSS": f"<|MOSS|>: {A}<eom>\n"}}}, [["S: Be kind.", *ONE]]),
    ("datasets", {"system": "SYSTEM: Be kind.", "chat": f"USER: {Q}\n\n\nASSISTANT: {A} <|endoftext|>"},
     [["S: Be kind.", *ONE]]),
    ("datasets", {"User 1 persona": "I walk.", "Best Conversation": f"User 1: {Q}\nUser 2: {A}"}, [ONE]),
    ("datasets", {"questionText": Q, "questionTitle": "Distance", "answerText": A}, [[f"Distance\n\n{Q}", A]]),
    ("datasets", {"instruction": Q, "input": "nan", "output": A}, [ONE]),
    ("datasets", {"instruction": Q, "input": "<noinput>", "output": A}, [ONE]),
    ("datasets", {"instruction": Q, "output": A, "prompt": "Below is an instruction that describes a task.\n\n"
                  f"### Instruction:\n{Q}\n\n### Response:"}, [ONE]),
    ("datasets", {"messages": [u(Q), a(f"<|begin_of_thought|>Hm.<|end_of_thought|>\n\n<|begin_of_solution|>{A}"
                                       "<|end_of_solution|>")]}, [ONE]),
    ("datasets", {"prompt": f"{Q}\n\n###\n\n", "completion": f" {A}"}, [ONE]),
    ("datasets", {"问题": Q, "回答": A}, [ONE]),
    ("datasets", {"Frage": Q, "Antwort": A}, [ONE]),
    ("datasets", {"front": Q, "back": A}, [ONE]),
    ("datasets", {"text": "Add two numbers.", "code": "x + y"}, [["Add two numbers.", "x + y"]]),
    # Exports of programs.
    ("programs", {"prompt": Q, "response": A, "context": [1, 2, 3], "done": True}, [ONE]),
    ("programs", {"internal": [[Q, A], [Q2, A2]], "visible": [[Q, A], [Q2, A2]]}, [TWO]),
    ("programs", {"internal": [["<|BEGIN-VISIBLE-CHAT|>", "Hello."], [Q, A]],
                  "visible": [["", "Hello."], [Q, A]]}, [ONE]),
    ("programs", {"messages": [
        {"versions": [{"role": "user", "content": [{"type": "text", "text": "No"}]},
                      {"role": "user", "content": [{"type": "text", "text": Q}]}], "currentlySelected": 1},
        {"versions": [{"role": "assistant", "steps": [
                       {"type": "contentBlock", "content": [{"type": "text", "text": A}]},
                       {"type": "debugInfoBlock", "debugInfo": "x"}]}], "currentlySelected": 0}]}, [ONE]),
    ("programs", [{"user_name": "Ann", "character_name": "Bot", "chat_metadata": {}},
                  {"name": "Bot", "is_user": False, "mes": "Hello."}, {"name": "Ann", "is_user": True, "mes": Q},
                  {"name": "Bot", "is_user": False, "mes": A}], [ONE]),
    ("programs", [{"type": "summary", "summary": "A hill.", "leafUuid": "2"},
                  {"type": "user", "uuid": "1", "parentUuid": None, "message": u(Q)},
                  {"type": "assistant", "uuid": "2", "parentUuid": "1", "message": a(A)}], [ONE]),
    ("programs", {"chat": {"history": {"messages": {"x-1": u(Q), "y-2": a(A)}, "currentId": "y-2"}}}, [ONE]),
    ("programs", {"input": [u(Q)], "output": [{"type": "reasoning", "summary": []},
                  {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": A}]}]}, [ONE]),
    ("programs", {"request": {"contents": [{"role": "user", "parts": [{"text": Q}]}]},
                  "response": {"candidates": [{"content": {"role": "model", "parts": [{"text": A}]}}]}}, [ONE]),
    ("programs", {"text_input": Q, "output": A}, [ONE]),
    ("programs", {"messages": [{"role": "Prompt", "say": Q}, {"role": "Response", "say": A}]}, [ONE]),
    ("programs", {"store": {"u": [{"role": "user", "blocks": [{"block_type": "text", "text": Q}]},
                                  {"role": "assistant", "blocks": [{"block_type": "text", "text": A}]}]}}, [ONE]),
    ("programs", {"@type": "FAQPage", "mainEntity": [
        {"@type": "Question", "name": Q, "acceptedAnswer": {"@type": "Answer", "text": A}}]}, [ONE]),
    ("programs", {"@graph": [{"@type": "FAQPage", "mainEntity": {
        "@type": "Question", "name": "Distance?", "text": Q, "acceptedAnswer": {"@type": "Answer", "text": A}}}]},
     [[f"Distance?\n\n{Q}", A]]),
    ("programs", [{"title": Q, "content": A}], [ONE]),
    ("programs", [json.dumps({"question": Q, "answer": A})], [ONE]),
    ("programs", {"turns": [{"text": Q, "inbound": "True"}, {"text": A, "inbound": "False"}]}, [ONE]),
    # Mending.
    ("mended", {"messages": [u(Q), a(A), {"role": "moderator", "content": "!"}, u(Q2), a(A2)]}, [ONE, [Q2, A2]]),
    ("mended", {"messages": [u(Q), u(Q), a(A)]}, [ONE]),
    ("mended", {"messages": [u(Q), a(True)]}, [[Q, "true"]]),
    ("mended", {"messages": [u(Q), a([{"type": "refusal", "refusal": A}])]}, [ONE]),
    ("mended", {"messages": [u(Q), a(A)], "images": [""], "videos": None}, [ONE]),
    # Lists of words are no chats.
    ("words", {"tags": ["red", "green"], "data": [{"question": Q, "answer": A}]}, [ONE]),
    ("words", {"meta": {"authors": ["Ann B", "Bob C"]}, "data": [{"question": Q, "answer": A}]}, [ONE]),
    ("words", {"c1": [Q, A], "c2": [Q2, A2]}, [ONE, [Q2, A2]]),
    ("texts", {"name": "Poems", "poems": [{"text": "One."}, {"text": "Two."}]}, [["T: One."], ["T: Two."]]),
    ("texts", {"a": {"text": "One."}, "b": {"text": "Two."}}, [["T: One."], ["T: Two."]]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "value", "expected"), READ, ids=[f"{kind}-{n}" for n, (kind, _, _) in enumerate(READ)]
)
def test_what_is_learned(tmp_path: Path, kind: str, value: Any, expected: list[list[Any]]) -> None:
    made = read_value(tmp_path, value)
    assert said(made) == expected
    assert all(each.reason in ("no_conversations", "marked_bad") for each in made.rejects), made.rejects
    if isinstance(value, list) and is_message(value[0]):
        return  # as lines, the messages are one chat
    for entry in value if isinstance(value, list) else [value]:
        line = json.dumps(entry)
        assert said(read_text(tmp_path, f"{line}\n{line}\n", "a.json")) == 2 * expected


NEVER: list[Any] = [
    # A part of something is not a text to learn.
    {"question": Q, "keywords": ["steep hill", "long way"]},
    {"words": ["red", "green", "blue"]},
    {"intents": [{"intent": "far", "examples": [{"text": Q}]}], "dialog_nodes": [{"output": {"text": A}}]},
    {"mainEntity": [{"@type": "Question", "name": Q, "unknown": {"@type": "Answer", "text": A}}]},
    {"title": "Hills", "selftext": Q, "comments": [{"body": "No.", "score": 1}, {"body": A, "score": 7}]},
    {"ticket": {"subject": "Hills", "comments": [{"n": 1, "body": Q}, {"n": 2, "body": A}]}},
    # Nobody says which is right.
    {"question": Q, "choices": ["No.", A]},
    {"question": Q, "choices": ["No.", A], "label": -1},
    {"question": Q, "answer_0": "No.", "answer_1": A, "score_0": 1, "score_1": 1},
    {"history": [Q], "candidates": ["No.", A]},
    {"context": "C.", "question": Q, "answers": {"text": [], "answer_start": []}},
    # Ways to ask without replies.
    {"utterances": [{"text": Q, "intent": "far", "entities": []}, {"text": Q2, "intent": "up", "entities": []}]},
    {"id": "1", "data": [{"text": "Is it ", "userDefined": False}, {"text": "far?"}], "isTemplate": False},
    # Messages of people.
    {"text": Q, "parent_id": "t3_x"},
    {"data": [{"id": "c1", "parent_id": "t3_x", "author": "ann", "body": Q, "created_utc": 1},
              {"id": "c2", "parent_id": "t1_c1", "author": "bob", "body": A, "created_utc": 2}]},
    {"text": Q, "speaker": "Ann"},
    {"data": [{"author_id": "x1", "created_at": "Tue", "text": Q, "tweet_id": 1, "in_response_to_tweet_id": 2},
              {"author_id": "y2", "created_at": "Mon", "text": A, "tweet_id": 2, "in_response_to_tweet_id": None}]},
    {"text": f"[10:00] <Ann> {Q}\n[10:01] <Bob> {A}"},
]  # fmt: skip


@pytest.mark.parametrize("value", NEVER)
def test_what_is_never_learned(tmp_path: Path, value: Any) -> None:
    made = read_value(tmp_path, [value])
    assert not made.kept
    assert made.rejects


TRANSCRIPTS = [
    f"<|im_start|>user<|im_sep|>{Q}<|im_end|><|im_start|>assistant<|im_sep|>{A}<|im_end|>",
    f"You: {Q}\nBot: {A}",
    f"Q1: {Q}\nA1: {A}",
    f"Interviewer: {Q}\nInterviewee: {A}",
    f"Prompt: {Q}\nCompletion: {A}",
    f"[USER] {Q}\n[ASSISTANT] {A}",
    f"<user>{Q}</user><assistant>{A}</assistant>",
    f"User> {Q}\nBot> {A}",
    f"[10:01] User: {Q}\n[10:02] Bot: {A}",
    f"You said:\n{Q}\nChatGPT said:\n{A}",
]


@pytest.mark.parametrize("text", TRANSCRIPTS)
def test_spellings_of_transcripts(tmp_path: Path, text: str) -> None:
    assert said(read_value(tmp_path, [{"text": text}])) == [ONE]


def test_logs_and_profiles_need_to_know_who_is_who(tmp_path: Path) -> None:
    rules = Rules(speakers={"Ann": "user", "Bob": "assistant"})
    assert said(read_value(tmp_path, [{"text": f"[10:00] <Ann> {Q}\n[10:01] <@Bob> {A}"}], rules)) == [ONE]
    profiles = [
        {"type": "message", "user": "U07", "ts": "1", "text": Q, "user_profile": {"real_name": "Ann"}},
        {"type": "message", "user": "U08", "ts": "2", "text": A, "user_profile": {"real_name": "Bob"}},
    ]
    assert said(read_value(tmp_path, profiles, rules)) == [ONE]


@pytest.mark.parametrize(
    ("value", "mark"),
    [
        ({"messages": [u(Q), a("bad", annotation={"rating": -1}), u(Q2), a(A2)]}, "annotation.rating: -1"),
        ({"messages": [u(Q), a("bad", upvotes=-3), u(Q2), a(A2)]}, "upvotes: -3"),
        ({"conversations": [h(Q), g("bad", feedback="thumbs down"), h(Q2), g(A2)]}, "feedback: thumbs down"),
    ],
)
def test_ratings_of_programs(tmp_path: Path, value: Any, mark: str) -> None:
    made = read_value(tmp_path, [value])
    assert made.noted("not_learned") == {mark: 1}
    assert [m.content for each in made.kept for m in each.messages if not m.learned] == ["bad"]


def test_what_was_said_is_named_where_nothing_uses_it(tmp_path: Path) -> None:
    made = read_value(tmp_path, [{"question": Q, "answer": A, "followup": [u(Q2), a(A2)], "notes": [f"{Q2} {A2}"]}])
    assert made.noted("unused_key") == {"followup": 1, "notes": 1}
