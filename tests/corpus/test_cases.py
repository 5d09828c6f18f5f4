"""Small files of every kind that people have, and what becomes of each: files in, conversations and rejects out.

A case is named by its kind; each kind has several files, because one of them proves little.
"""

import gzip
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.shaping import A2, ONE, Q2, TWO, A, Q, S, a, g, h, read_all, read_text, read_value, said, u
from theta.corpus.items import Rules
from theta.corpus.shapes.shape import is_message

SHAPES: list[tuple[str, Any, list[list[Any]]]] = [
    # A context, an input or a passage beside a question follows it.
    ("context", {"context": "TABLE boats (id INT)", "question": Q, "answer": A}, [[f"{Q}\n\nTABLE boats (id INT)", A]]),
    ("context", {"question": Q, "input": "On foot.", "output": A}, [[f"{Q}\n\nOn foot.", A]]),
    ("context", {"prompt": Q, "passage": "The path is steep.", "response": A}, [[f"{Q}\n\nThe path is steep.", A]]),
    (
        "context",
        {"instruction": "Answer.", "question": Q, "context": "C.", "answer": A},
        [[f"Answer.\n\n{Q}\n\nC.", A]],
    ),
    ("context", {"document": "D.", "query": Q, "answer": A}, [[f"{Q}\n\nD.", A]]),
    ("context", {"context": "C.", "messages": [u(Q), a(A)]}, [[f"{Q}\n\nC.", A]]),
    ("context", {"prompt": f"C.\n\n{Q}", "question": Q, "context": "C.", "answer": A}, [[f"C.\n\n{Q}", A]]),
    # A history is what was said before.
    ("history", {"instruction": Q2, "input": "", "output": A2, "history": [[Q, A]]}, [TWO]),
    ("history", {"question": Q2, "answer": A2, "history": [{"question": Q, "answer": A}]}, [TWO]),
    ("history", {"prompt": Q2, "response": A2, "history": [u(Q), a(A)]}, [TWO]),
    ("history", {"query": Q2, "response": A2, "chat_history": [Q, A]}, [TWO]),
    ("history", {"prompt": Q2, "response": A2, "history": []}, [[Q2, A2]]),
    # A transcript in a text becomes turns.
    ("transcript", {"text": f"### Human: {Q}### Assistant: {A}"}, [ONE]),
    ("transcript", {"text": f"### Human:\n{Q}\n\n### Assistant:\n{A}\n### Human: {Q2}\n### Assistant: {A2}"}, [TWO]),
    (
        "transcript",
        {
            "text": "<|im_start|>system\nBe kind.<|im_end|>\n"
            f"<|im_start|>user\n{Q}<|im_end|>\n<|im_start|>assistant\n{A}<|im_end|>"
        },
        [["S: Be kind.", *ONE]],
    ),
    ("transcript", {"text": f"<s>[INST] {Q} [/INST] {A} </s><s>[INST] {Q2} [/INST] {A2} </s>"}, [TWO]),
    ("transcript", {"text": f"[INST] <<SYS>>\nBe kind.\n<</SYS>>\n\n{Q} [/INST] {A}"}, [["S: Be kind.", *ONE]]),
    (
        "transcript",
        {
            "text": f"<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n{Q}<|eot_id|>"
            f"<|start_header_id|>assistant<|end_header_id|>\n\n{A}<|eot_id|>"
        },
        [ONE],
    ),
    ("transcript", {"text": f"User: {Q}\nBot: {A}\nUser: {Q2}\nBot: {A2}"}, [TWO]),
    ("transcript", {"text": f"**User:** {Q}\n\n**Assistant:** {A}"}, [ONE]),
    (
        "transcript",
        {"text": f"<bos><start_of_turn>user\n{Q}<end_of_turn>\n<start_of_turn>model\n{A}<end_of_turn>"},
        [ONE],
    ),
    ("transcript", {"text": f"<|user|>\n{Q}</s>\n<|assistant|>\n{A}</s>"}, [ONE]),
    (
        "transcript",
        {"text": f"A chat with an assistant. USER: {Q} ASSISTANT: {A}</s>"},
        [["S: A chat with an assistant.", *ONE]],
    ),
    ("transcript", {"text": f"\n\nHuman: {Q}\n\nAssistant: {A}"}, [ONE]),
    ("transcript", {"text": f"Q: {Q}\nA: {A}"}, [ONE]),
    (
        "transcript",
        {
            "text": "Below is an instruction that describes a task.\n\n### Instruction:\nTranslate."
            f"\n\n### Input:\nchat\n\n### Response:\n{A}"
        },
        [["Translate.\n\nchat", A]],
    ),
    ("transcript", {"text": f"GPT4 Correct User: {Q}<|end_of_turn|>GPT4 Correct Assistant: {A}<|end_of_turn|>"}, [ONE]),
    ("transcript", [f"Human: {Q}\nAI: {A}"], [ONE]),
    ("transcript", {"prompt": f"Human: {Q}\n\nAssistant:", "completion": f" {A}"}, [ONE]),
    (
        "not a transcript",
        {"text": "We asked User: a friend.\nIt went well."},
        [["T: We asked User: a friend.\nIt went well."]],
    ),
    (
        "not a transcript",
        {"text": "Note: the road is closed.\nSee: the map."},
        [["T: Note: the road is closed.\nSee: the map."]],
    ),
    (
        "not a transcript",
        {"text": "# Guide\n\nHow to write `### Human:` marks."},
        [["T: # Guide\n\nHow to write `### Human:` marks."]],
    ),
    # Messages that name what they reply to.
    (
        "threads",
        [
            {"message_id": "1", "parent_id": None, "text": Q, "role": "prompter"},
            {"message_id": "2", "parent_id": "1", "text": A, "role": "assistant"},
        ],
        [ONE],
    ),
    (
        "threads",
        {
            "message_tree_id": "1",
            "prompt": {
                "text": Q,
                "role": "prompter",
                "replies": [
                    {"text": "Worse.", "role": "assistant", "rank": 1, "replies": []},
                    {
                        "text": A,
                        "role": "assistant",
                        "rank": 0,
                        "replies": [
                            {
                                "text": Q2,
                                "role": "prompter",
                                "replies": [{"text": A2, "role": "assistant", "replies": []}],
                            }
                        ],
                    },
                ],
            },
        },
        [TWO, [Q, "Worse."]],
    ),
    (
        "threads",
        {
            "messages": [
                {"id": 1, "role": "user", "content": Q},
                {"id": 2, "parent": 1, "role": "assistant", "content": A},
            ]
        },
        [ONE],
    ),
    (
        "threads",
        [
            {"conversation_id": 1, **u(Q)},
            {"conversation_id": 2, **u(Q2)},
            {"conversation_id": 1, **a(A)},
            {"conversation_id": 2, **a(A2)},
        ],
        [ONE, [Q2, A2]],
    ),
    (
        "threads",
        [
            {"type": "user", "uuid": "1", "parentUuid": None, "message": u(Q)},
            {"type": "assistant", "uuid": "2", "parentUuid": "1", "message": a([{"type": "text", "text": A}])},
        ],
        [ONE],
    ),
    # The chosen one of two replies is learned.
    ("preference", {"prompt": Q, "chosen": A, "rejected": "No."}, [ONE]),
    ("preference", {"conversations": [h(Q)], "chosen": g(A), "rejected": g("No.")}, [ONE]),
    ("preference", {"conversations": [h(Q), g(A), h(Q2)], "chosen": g(A2), "rejected": g("No.")}, [TWO]),
    ("preference", {"chosen": [u(Q), a(A)], "rejected": [u(Q), a("No.")]}, [ONE]),
    ("preference", {"prompt": [S, u(Q)], "chosen": [a(A)], "rejected": [a("No.")]}, [["S: Be kind.", *ONE]]),
    ("preference", {"prompt": Q, "chosen": [u(Q), a(A)], "rejected": [u(Q), a("No.")]}, [ONE]),
    (
        "preference",
        {"chosen": f"\n\nHuman: {Q}\n\nAssistant: {A}", "rejected": f"\n\nHuman: {Q}\n\nAssistant: No."},
        [ONE],
    ),
    (
        "preference",
        {"input": {"messages": [u(Q)]}, "preferred_output": [a(A)], "non_preferred_output": [a("No.")]},
        [ONE],
    ),
    ("preference", {"conversation_a": [u(Q), a("No.")], "conversation_b": [u(Q), a(A)], "winner": "model_b"}, [ONE]),
    ("preference", {"question": Q, "response_a": A, "response_b": "No.", "winner": "a"}, [ONE]),
    # A list of messages is a chat wherever it stands.
    ("lists of messages", [[u(Q), a(A)], [u(Q2), a(A2)]], [ONE, [Q2, A2]]),
    ("lists of messages", [[h(Q), g(A)]], [ONE]),
    ("lists of messages", [u(Q), a(A)], [ONE]),
    ("lists of messages", [h(Q), g(A), h(Q2), g(A2)], [TWO]),
    ("lists of messages", [{"speaker": "user", "text": Q}, {"speaker": "bot", "text": A}], [ONE]),
    ("lists of messages", [S, u(Q), a(A)], [["S: Be kind.", *ONE]]),
    ("lists of messages", {"messages": json.dumps([u(Q), a(A)])}, [ONE]),
    ("lists of messages", {"messages": [], "conversations": [h(Q), g(A)]}, [ONE]),
    ("lists of messages", [{"items": [h(Q), g(A)]}], [ONE]),
    ("lists of messages", {"id": 1, "thread": [{"User": Q}, {"Bot": A}]}, [ONE]),
    (
        "lists of messages",
        {"contents": [{"role": "user", "parts": [{"text": Q}]}, {"role": "model", "parts": [{"text": A}]}]},
        [ONE],
    ),
    ("lists of messages", {"messages": [u(Q)], "choices": [{"index": 0, "message": a(A)}]}, [ONE]),
    ("lists of messages", {"prompt": [u(Q)], "completion": [a(A)]}, [ONE]),
    (
        "lists of messages",
        {"messages": [u(Q), a(A)], "tools": [{"type": "function"}], "parallel_tool_calls": False},
        [ONE],
    ),
    # Exchanges of one conversation.
    ("exchanges", {"exchanges": [u(Q), a(A), u(Q2), a(A2)]}, [TWO]),
    ("exchanges", {"exchanges": [{"question": Q, "answer": A}, {"question": Q2, "answer": A2}]}, [TWO]),
    ("exchanges", {"conversation": [{"input": Q, "output": A}, {"input": Q2, "output": A2}]}, [TWO]),
    ("exchanges", {"dialogue": [{"user": Q, "assistant": A}, {"user": Q2, "assistant": A2}]}, [TWO]),
    ("exchanges", {"turns": [[Q, A], [Q2, A2]]}, [TWO]),
    ("exchanges", {"turns": TWO}, [TWO]),
    ("exchanges", {"dialog": TWO, "act": [1, 2, 1, 2]}, [TWO]),
    ("exchanges", {"id": "7", "data": ONE}, [ONE]),
    ("exchanges", {"question_id": 8, "turns": [Q, Q2], "reference": [A, A2]}, [TWO]),
    (
        "exchanges",
        {"dialogue_id": "1", "turns": [{"speaker": "USER", "utterance": Q}, {"speaker": "SYSTEM", "utterance": A}]},
        [ONE],
    ),
    ("exchanges", {"PMUL1.json": {"log": [{"text": Q, "metadata": {}}, {"text": A, "metadata": {}}]}}, [ONE]),
    # Files that are arranged otherwise.
    ("by id", {"1": {"question": Q, "answer": A}, "2": {"question": Q2, "answer": A2}}, [ONE, [Q2, A2]]),
    ("by id", {"c1": [u(Q), a(A)], "c2": [u(Q2), a(A2)]}, [ONE, [Q2, A2]]),
    ("by id", {"c1": {"messages": [u(Q), a(A)]}}, [ONE]),
    ("by id", {Q: A, Q2: A2}, [ONE, [Q2, A2]]),
    ("columns", {"question": [Q, Q2], "answer": [A, A2]}, [ONE, [Q2, A2]]),
    ("columns", {"question": {"0": Q, "1": Q2}, "answer": {"0": A, "1": A2}}, [ONE, [Q2, A2]]),
    ("columns", {"columns": ["question", "answer"], "index": [0, 1], "data": [[Q, A], [Q2, A2]]}, [ONE, [Q2, A2]]),
    (
        "columns",
        {"instruction": ["Sum up.", Q2], "input": ["All.", ""], "output": [A, A2]},
        [["Sum up.\n\nAll.", A], [Q2, A2]],
    ),
    ("columns", {"id": [1, 2], "messages": [[u(Q), a(A)], [u(Q2), a(A2)]]}, [ONE, [Q2, A2]]),
    (
        "columns",
        {
            "features": [{"name": "question"}],
            "rows": [{"row_idx": 0, "row": {"question": Q, "answer": A}, "truncated_cells": []}],
        },
        [ONE],
    ),
    ("columns", {"prompt": {"a": Q, "b": Q2}, "completion": {"a": A, "b": A2}}, [ONE, [Q2, A2]]),
    (
        "columns",
        {"schema": {"fields": [{"name": "question"}]}, "data": [{"index": 0, "question": Q, "answer": A}]},
        [ONE],
    ),
    ("several lists", {"meta": [{"n": 1}], "data": {"1": {"question": Q, "answer": A}}}, [ONE]),
    ("several lists", {"domains": [{"question": Q, "answer": A}], "relations": [{"from": "a", "to": "b"}]}, [ONE]),
    (
        "several lists",
        {"train": [{"question": Q, "answer": A}], "test": [{"question": Q2, "answer": A2}]},
        [ONE, [Q2, A2]],
    ),
    ("several lists", {"version": "1", "faq": [{"q": Q, "a": A}], "chats": [[u(Q2), a(A2)]]}, [ONE, [Q2, A2]]),
    (
        "several lists",
        {"conversations": [{"question": Q, "answer": A}, {"question": Q2, "answer": A2}]},
        [ONE, [Q2, A2]],
    ),
    # Questions with several wordings or answers.
    ("intents", {"intents": [{"tag": "far", "patterns": [Q, "How far?"], "responses": [A]}]}, [[[Q, "How far?"], A]]),
    (
        "intents",
        {"nlu": [{"intent": "far", "examples": f"- {Q}\n- How far?"}], "responses": {"utter_far": [{"text": A}]}},
        [[[Q, "How far?"], A]],
    ),
    (
        "intents",
        {
            "displayName": "far",
            "trainingPhrases": [{"parts": [{"text": "Is it "}, {"text": "far?"}]}],
            "messages": [{"text": {"text": [A]}}],
        },
        [ONE],
    ),
    ("intents", {"questions": [Q, "How far?"], "answer": A}, [[[Q, "How far?"], A]]),
    ("answers", {"question": Q, "answers": [{"text": "No."}, {"text": A, "is_accepted": True}]}, [ONE]),
    ("answers", {"question": Q, "answers": [{"body": "No.", "score": 1}, {"body": A, "score": 12}]}, [ONE]),
    ("answers", {"title": "Distance", "body": Q, "accepted_answer": {"body": A}}, [[f"Distance\n\n{Q}", A]]),
    (
        "answers",
        {"question": Q, "answers": {"text": [A, A], "answer_start": [3, 3]}, "context": "C."},
        [[f"{Q}\n\nC.", A]],
    ),
    (
        "answers",
        {"data": [{"paragraphs": [{"context": "C.", "qas": [{"question": Q, "answers": [{"text": A}]}]}]}]},
        [[f"{Q}\n\nC.", A]],
    ),
    (
        "answers",
        {
            "story": "A tale.",
            "questions": [{"input_text": Q}, {"input_text": Q2}],
            "answers": [{"input_text": A}, {"input_text": A2}],
        },
        [[f"{Q}\n\nA tale.", A, Q2, A2]],
    ),
    (
        "answers",
        {
            "instruction": "Translate.",
            "instances": [{"input": "cat", "output": "chat"}, {"input": "dog", "output": "chien"}],
        },
        [["Translate.\n\ncat", "chat"], ["Translate.\n\ndog", "chien"]],
    ),
    # Names of roles and keys.
    ("names", {"conversation": [{"role": "human", "content": Q}, {"role": "ai", "content": A}]}, [ONE]),
    ("names", {"conversations": [{"from": "user", "value": Q}, {"from": "chatgpt", "value": A}]}, [ONE]),
    ("names", {"messages": [{"role": "Human:", "content": Q}, {"role": "Assistant:", "content": A}]}, [ONE]),
    ("names", {"messages": [{"type": "human", "data": {"content": Q}}, {"type": "ai", "data": {"content": A}}]}, [ONE]),
    (
        "names",
        {
            "messages": [
                {
                    "lc": 1,
                    "id": ["langchain", "schema", "messages", "HumanMessage"],
                    "type": "constructor",
                    "kwargs": {"content": Q},
                },
                {
                    "lc": 1,
                    "id": ["langchain", "schema", "messages", "AIMessage"],
                    "type": "constructor",
                    "kwargs": {"content": A},
                },
            ]
        },
        [ONE],
    ),
    ("names", {"inputs": Q, "targets": A}, [ONE]),
    ("names", {"conversations": ONE, "source": "x"}, [ONE]),
    ("names", {"query": Q, "response": A, "rejected_response": "No, it is not."}, [ONE]),
    ("names", {"q": Q, "a": A}, [ONE]),
    ("names", {"human": Q, "bot": A}, [ONE]),
    ("names", {"User": Q, "Assistant": A, "System": "Be kind."}, [["S: Be kind.", *ONE]]),
    ("names", {"input_text": Q, "output_text": A}, [ONE]),
    ("names", {"systemPrompt": "Be kind.", "userMessage": Q, "assistantMessage": A}, [["S: Be kind.", *ONE]]),
    (
        "names",
        {
            "dialog": [
                {"sender": "p1", "sender_class": "Human", "text": Q},
                {"sender": "p2", "sender_class": "Bot", "text": A},
            ]
        },
        [ONE],
    ),
    # Content in parts.
    (
        "parts",
        {"messages": [u(["Is it", "far?"]), a([{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": A}])]},
        [["Is it\nfar?", A]],
    ),
    ("parts", {"messages": [u([{"type": "text", "value": Q}]), a([{"type": "text", "value": A}])]}, [ONE]),
    (
        "parts",
        {"system": [{"text": "Be kind."}], "messages": [u([{"text": Q}]), a([{"text": A}])]},
        [["S: Be kind.", *ONE]],
    ),
    ("parts", {"messages": [u({"content_type": "text", "parts": [Q]}), a({"text": A})]}, [ONE]),
    ("parts", {"messages": [u([{"type": "input_text", "text": Q}]), a([{"type": "output_text", "text": A}])]}, [ONE]),
    ("not text", {"question": Q, "answer": True}, [[Q, "true"]]),
    ("not text", {"question": Q, "answer": {"miles": 1, "steep": None}}, [[Q, '{"miles": 1, "steep": null}']]),
    # Mending.
    ("assistant first", {"conversations": [g("Welcome!"), h(Q), g(A)]}, [ONE]),
    ("assistant first", {"messages": [S, a("Hello, ask me."), u(Q), a(A), u(Q2), a(A2)]}, [["S: Be kind.", *TWO]]),
    ("assistant first", {"messages": [a("Welcome!"), a("Ask."), u(Q), a(A)]}, [ONE]),
    ("same role twice", {"messages": [u("hello"), u("is it far"), a(A)]}, [["hello\nis it far", A]]),
    ("same role twice", {"messages": [u(Q), a("A"), a("mile."), a("Yes.")]}, [[Q, "A\nmile.\nYes."]]),
    ("same role twice", {"messages": [u(Q), u(""), u("on foot"), a(A)]}, [[f"{Q}\non foot", A]]),
    ("empty turn", {"messages": [u(Q), a(A), u(Q2), a("")]}, [ONE]),
    ("empty turn", {"messages": [u(Q), a(A), u("B?"), a(None), u(Q2), a(A2)]}, [ONE, [Q2, A2]]),
    ("empty turn", {"messages": [u(""), a("Hi"), u(Q2), a(A2)]}, [[Q2, A2]]),
    (
        "empty turn",
        {"messages": [S, u(Q), a(A), u("x"), a("\u200b"), u(Q2), a(A2)]},
        [["S: Be kind.", *ONE], ["S: Be kind.", Q2, A2]],
    ),
    ("unanswered", {"messages": [u(Q), a(A), u("And?")]}, [ONE]),
    (
        "later system",
        {"messages": [S, u(Q), a(A), {"role": "system", "content": "Be brief."}, u(Q2), a(A2)]},
        [["S: Be kind.", *ONE], ["S: Be brief.", Q2, A2]],
    ),
    ("later system", {"system": "Be kind.", "messages": [S, u(Q), a(A)]}, [["S: Be kind.", *ONE]]),
    ("later system", {"system": "Be brief.", "messages": [S, u(Q), a(A)]}, [["S: Be brief.\n\nBe kind.", *ONE]]),
    (
        "tools",
        {
            "messages": [
                u("How warm?"),
                a(None, tool_calls=[{"id": "1"}]),
                {"role": "tool", "content": "21"},
                a("21."),
                u(Q),
                a(A),
            ]
        },
        [ONE],
    ),
    (
        "tools",
        {
            "messages": [
                u(Q),
                a(A),
                u("How warm?"),
                a("", function_call={"name": "t"}),
                {"role": "function", "content": "21"},
            ]
        },
        [ONE],
    ),
    (
        "tools",
        {
            "conversations": [
                h(Q),
                g(A),
                h("x"),
                {"from": "function_call", "value": "{}"},
                {"from": "observation", "value": "1"},
                g("y"),
            ]
        },
        [ONE],
    ),
    ("tools", {"messages": [u(Q), a(A, tool_calls=[])]}, [ONE]),
    (
        "tools",
        {
            "messages": [
                u("x"),
                a([{"type": "tool_use", "name": "t"}]),
                u([{"type": "tool_result", "content": "1"}]),
                a("y"),
                u(Q),
                a(A),
            ]
        },
        [ONE],
    ),
    # Exports that name the assistant.
    (
        "export",
        {
            "title": "t",
            "current_node": "c",
            "mapping": {
                "r": {"message": None, "parent": None, "children": ["a"]},
                "a": {
                    "message": {"author": {"role": "user"}, "content": {"content_type": "text", "parts": [Q]}},
                    "parent": "r",
                    "children": ["b", "c"],
                },
                "b": {
                    "message": {"author": {"role": "assistant"}, "content": {"content_type": "text", "parts": ["No."]}},
                    "parent": "a",
                    "children": [],
                },
                "c": {
                    "message": {"author": {"role": "assistant"}, "content": {"content_type": "text", "parts": [A]}},
                    "parent": "a",
                    "children": [],
                },
            },
        },
        [ONE],
    ),
    (
        "export",
        {
            "uuid": "1",
            "name": "n",
            "chat_messages": [{"sender": "human", "text": Q}, {"sender": "assistant", "text": A}],
        },
        [ONE],
    ),
    (
        "export",
        {
            "chat_messages": [
                {"sender": "human", "text": "", "content": [{"type": "text", "text": Q}], "created_at": "2024-01-01"},
                {"sender": "assistant", "text": A, "content": [], "created_at": "2024-01-02"},
            ]
        },
        [ONE],
    ),
    # Texts.
    ("text", {"text": "One whole book.", "entities": [{"start": 0}]}, [["T: One whole book."]]),
    ("text", {"text": "page1\fpage2", "url": "a"}, [["T: page1\npage2"]]),
]


@pytest.mark.parametrize(
    ("kind", "value", "expected"), SHAPES, ids=[f"{kind}-{n}" for n, (kind, _, _) in enumerate(SHAPES)]
)
def test_every_shape_is_read(tmp_path: Path, kind: str, value: Any, expected: list[list[Any]]) -> None:
    made = read_value(tmp_path, value)
    assert said(made) == expected
    assert all(each.reason in ("no_conversations",) for each in made.rejects), made.rejects


@pytest.mark.parametrize(
    ("kind", "value", "expected"), SHAPES, ids=[f"{kind}-{n}" for n, (kind, _, _) in enumerate(SHAPES)]
)
def test_a_file_means_the_same_with_one_line_and_with_two(
    tmp_path: Path, kind: str, value: Any, expected: list[list[Any]]
) -> None:
    if isinstance(value, list) and is_message(value[0]):
        pytest.skip("each line is a message, so the lines are one chat")
    line = json.dumps(value)
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    assert said(read_text(tmp_path / "one", f"{line}\n", "a.jsonl")) == expected
    assert said(read_text(tmp_path / "two", f"{line}\n{line}\n", "a.jsonl")) == expected * 2


MASKED: list[tuple[Any, list[str]]] = [
    ({"messages": [u(Q), a("no idea", weight=0), u(Q2), a(A2, weight=1)]}, ["no idea"]),
    ({"messages": [u(Q), a("no idea", weight=0.0), u(Q2), a(A2)]}, ["no idea"]),
    ({"conversations": [h(Q), g("no idea", train=False), h(Q2), g(A2, train=True)]}, ["no idea"]),
    ({"messages": [u(Q), a("no idea", trainable=False), u(Q2), a(A2)]}, ["no idea"]),
    ({"messages": [u(Q), a("no idea", loss_weight=0.0), u(Q2), a(A2, loss_weight=1.0)]}, ["no idea"]),
    ({"messages": [u(Q), a("no idea"), u(Q2), a(A2)], "loss_mask": [0, 0, 0, 1]}, ["no idea"]),
    ({"messages": [u(Q), a("no idea"), u(Q2), a(A2)], "loss_mask": [0, 1]}, ["no idea"]),
    ({"messages": [u(Q), a("no idea"), u(Q2), a(A2)], "weights": [1, 0, 1, 1]}, ["no idea"]),
    ({"messages": [u(Q), a("no idea", rating="bad"), u(Q2), a(A2, rating="good")]}, ["no idea"]),
    ({"messages": [u(Q), a("no idea", mask=True), u(Q2), a(A2, mask=False)]}, ["no idea"]),
    (
        {"exchanges": [{"question": Q, "answer": "no idea", "label": False}, {"question": Q2, "answer": A2}]},
        ["no idea"],
    ),
    ({"messages": [u(Q), a(A, weight=1), u(Q2), a(A2, train=True)]}, []),
]


@pytest.mark.parametrize(("value", "expected"), MASKED)
def test_marked_replies_are_context(tmp_path: Path, value: Any, expected: list[str]) -> None:
    made = read_value(tmp_path, [value])
    assert [m.content for each in made.kept for m in each.messages if not m.learned] == expected
    assert [len(each.messages) for each in made.kept] == [4]
    assert not made.rejects


REJECTED: list[tuple[Any, str]] = [
    ({"prompt": Q, "completion": A, "label": False}, "marked_bad"),
    ({"messages": [u(Q), a(A)], "label": False}, "marked_bad"),
    ({"question": Q, "answer": A, "rating": "bad"}, "marked_bad"),
    ({"question": Q, "answer": A, "rating": -1}, "marked_bad"),
    ({"question": Q, "answer": A, "feedback": "thumbs_down"}, "marked_bad"),
    ({"question": Q, "answer": A, "feedback": {"rating": "thumbsDown"}}, "marked_bad"),
    ({"question": Q, "answer": A, "approved": False}, "marked_bad"),
    ({"question": Q, "answer": A, "is_bad": True}, "marked_bad"),
    ({"prompt": Q, "completion": A, "label": "0"}, "marked_bad"),
    ({"question": Q, "answer": A, "weight": 0}, "marked_not_to_learn"),
    ({"messages": [u(Q), a(A, weight=0)]}, "marked_not_to_learn"),
    ({"messages": [u(Q), a(A)], "loss_mask": [1, 0, 1]}, "mark_does_not_fit"),
    ({"messages": [u("<image>What is it?"), a("A dog.")], "images": ["a.png"]}, "needs_image"),
    (
        {"messages": [u([{"type": "image_url", "image_url": {"url": "a"}}, {"type": "text", "text": Q}]), a(A)]},
        "needs_image",
    ),
    ({"question": "<image>\nWhat is it?", "answer": "A dog."}, "needs_image"),
    ({"question": "What is it?", "answer": "A dog.", "image": "a.png"}, "needs_image"),
    ({"messages": [u("What is it?"), a("A dog.")], "videos": ["a.mp4"]}, "needs_image"),
    ({"messages": [u(Q), a(None, tool_calls=[{"id": "1"}])]}, "tool_call"),
    (
        {
            "conversations": [
                h(Q),
                {"from": "function_call", "value": "{}"},
                {"from": "observation", "value": "1"},
                g(A),
            ]
        },
        "tool_call",
    ),
    ({"question": Q, "answer": "\u200b"}, "empty_reply"),
    ({"question": Q, "answer": "\u00ad\ufeff"}, "empty_reply"),
    ({"question": Q, "answer": "\u2066\u3164"}, "empty_reply"),
    ({"question": " \u200b ", "answer": A}, "empty_question"),
    ({"text": "\u2060\u200d"}, "empty_text"),
    ({"text": "hi all", "user": "U1", "type": "message"}, "unknown_speakers"),
    ({"text": "hi", "sender": "Ann"}, "unknown_speakers"),
    ({"a": {"message_id": "1", "text": Q, "role": "prompter"}}, "message_without_its_chat"),
    ({"messages": [{"role": "narrator", "content": Q}, {"role": "bing2", "content": A}]}, "unknown_role"),
    ({"question_id": 8, "turns": [Q, Q2]}, "no_assistant_message"),
    ({"messages": [u(Q)]}, "no_assistant_message"),
    ({"messages": [S, a(A)]}, "no_user_message"),
    ({"text": "a", "label": "positive"}, "unknown_shape"),
    ({"title": "a", "n": 1}, "unknown_shape"),
    ({"question": Q, "Question ": Q2, "answer": A}, "key_twice"),
    ("just a text", "not_an_object"),
    (7, "not_an_object"),
    ({}, "unknown_shape"),
    ({"question": "n", "answer": float("inf")}, "empty_reply"),
]


@pytest.mark.parametrize(("value", "reason"), REJECTED)
def test_every_reason_to_reject(tmp_path: Path, value: Any, reason: str) -> None:
    made = read_value(tmp_path, [value])
    assert not made.kept
    assert [each.reason for each in made.rejects] == [reason]


NOTED: list[tuple[Any, str, dict[str, int]]] = [
    ({"instrution": "Translate to French", "input": "cat", "output": "chat"}, "unused_key", {"instrution": 1}),
    ({"qestion": "Add", "prompt": "2 3", "answer": "5"}, "unused_key", {"qestion": 1}),
    ({"question": Q, "answer": A, "explanation": "Because the map says so."}, "unused_key", {"explanation": 1}),
    ({"text": "A page.", "summary": "A very short page."}, "unused_key", {"summary": 1}),
    ({"question": Q, "answer": A, "url": "https://example.org/a b", "id": "7", "date": "1 May 2020"}, "unused_key", {}),
    ({"prompt": Q, "messages": [u(Q), a(A)]}, "unused_key", {}),
    ({"prompt": Q, "chosen": A, "rejected": "No, never."}, "chosen", {"preferred reply": 1}),
    ({"question": Q, "answers": ["No.", A]}, "chosen", {"one of several answers": 1}),
    ({"conversations": [g("Welcome!"), h(Q), g(A)]}, "mended", {"opening reply left out": 1}),
    ({"messages": [u("a"), u("b"), a(A)]}, "mended", {"messages of one side joined": 1}),
    ({"messages": [u(Q), a(A), u(Q2)]}, "mended", {"unanswered question left out": 1}),
    ({"messages": [u(Q), a(A), u("x"), a(""), u(Q2), a(A2)]}, "mended", {"exchange left out (empty_reply)": 1}),
    ({"messages": [u(Q), a(A), u("x"), a(None, tool_calls=[1])]}, "mended", {"exchange left out (tool_call)": 1}),
    (
        {"messages": [u(Q), a([{"type": "thinking", "thinking": "x"}, {"type": "text", "text": A}])]},
        "mended",
        {"thinking left out": 1},
    ),
    ({"messages": [u(Q), a(A)]}, "mended", {}),
    ({"messages": [u(Q), a("x", weight=0), u(Q2), a(A2)]}, "not_learned", {"weight: 0": 1}),
    ({"messages": [u(Q), a(A)]}, "shape", {"messages": 1}),
    ({"text": f"User: {Q}\nBot: {A}"}, "shape", {"transcript": 1}),
]


@pytest.mark.parametrize(("value", "kind", "expected"), NOTED)
def test_what_is_done_is_noted(tmp_path: Path, value: Any, kind: str, expected: dict[str, int]) -> None:
    assert read_value(tmp_path, [value]).noted(kind) == expected


CHATS: list[Any] = [
    {
        "name": "Bob",
        "type": "personal_chat",
        "messages": [
            {"id": 1, "type": "service", "actor": "Ann", "action": "joined", "text": ""},
            {"id": 2, "type": "message", "from": "Ann", "text": ["Is it ", {"type": "bold", "text": "far?"}]},
            {"id": 3, "type": "message", "from": "Bob", "text": A},
        ],
    },
    {
        "guild": {"name": "g"},
        "messages": [
            {"id": "1", "type": "Default", "content": Q, "author": {"name": "Ann", "isBot": False}},
            {"id": "2", "type": "Default", "content": A, "author": {"name": "Bob", "isBot": False}},
        ],
    },
    [
        {"type": "message", "user": "Ann", "text": Q, "ts": "1.1"},
        {"type": "message", "user": "Bob", "text": A, "ts": "1.2"},
        {"type": "message", "subtype": "channel_join", "user": "Eve", "text": "Eve has joined", "ts": "1.3"},
    ],
    {
        "participants": [{"name": "Ann"}, {"name": "Bob"}],
        "messages": [
            {"sender_name": "Bob", "timestamp_ms": 200, "content": A},
            {"sender_name": "Ann", "timestamp_ms": 100, "content": Q},
        ],
    },
    [{"text": f"[12/31/23, 10:00:00] Ann: {Q}\n[12/31/23, 10:01:00] Bob: {A}"}],
    [{"text": f"31.12.23, 10:00 - Messages are encrypted.\n31.12.23, 10:00 - Ann: {Q}\n31.12.23, 10:01 - Bob: {A}"}],
    {
        "value": [
            {"from": {"user": {"displayName": "Ann"}}, "body": {"contentType": "text", "content": Q}},
            {"from": {"user": {"displayName": "Bob"}}, "body": {"contentType": "text", "content": A}},
        ]
    },
    {"chats": {"list": [{"name": "x", "messages": [{"from": "Ann", "text": Q}, {"from": "Bob", "text": A}]}]}},
    {"dialogue": [{"speaker": "Ann", "text": Q}, {"speaker": "Bob", "text": A}]},
]
SPEAKERS = Rules(speakers={"Ann": "user", "Bob": "assistant"})


@pytest.mark.parametrize("value", CHATS)
def test_exported_chats_need_to_know_who_is_who(tmp_path: Path, value: Any) -> None:
    assert said(read_value(tmp_path, value, SPEAKERS)) == [ONE]
    unknown = read_value(tmp_path, value)
    assert not unknown.kept
    assert [each.reason for each in unknown.rejects] == ["unknown_speakers"]
    assert "Ann (1), Bob (1)" in unknown.rejects[0].detail
    assert "data.speakers" in unknown.rejects[0].detail
    assert {"Ann", "Bob"} <= set(unknown.noted("speaker"))


def test_settings_name_other_keys_roles_and_who_begins(tmp_path: Path) -> None:
    rules = Rules({"Frage": "question", "antwort": "answer"}, {"bing2": "assistant"}, {}, "assistant")
    assert said(read_value(tmp_path, {"frage": Q, "antwort": A}, rules)) == [ONE]
    assert said(read_value(tmp_path, {"conversations": [h(Q), {"from": "bing2", "value": A}]}, rules)) == [ONE]
    assert said(read_value(tmp_path, {"turns": ["Welcome!", *ONE]}, rules)) == [ONE]


FILES: list[tuple[str, str, list[list[Any]]]] = [
    ("a.ndjson", '{"question": "Q", "answer": "A"}\n', [["Q", "A"]]),
    ("a.csv", 'question,answer\n"Q, or not","A\nB"\n', [["Q, or not", "A\nB"]]),
    ("a.tsv", "instruction\tinput\toutput\nDo.\tit\tDone.\n", [["Do.\n\nit", "Done."]]),
    (
        "a.csv",
        'id,messages\n1,"[{""role"": ""user"", ""content"": ""Q""}, {""role"": ""assistant"", ""content"": ""A""}]"\n',
        [["Q", "A"]],
    ),
    ("a.json", '{\n"question": "Q", "answer": "A"}\n\n{\n"question": "R",\n"answer": "B"}', [["Q", "A"], ["R", "B"]]),
    ("a.jsonl", '{"question": "Q", "answer": "A"}\ufeff{"question": "R", "answer": "B"}\n', [["Q", "A"], ["R", "B"]]),
    ("a.json", '[{"question": "Q", "answer": "A"}]\n[{"question": "R", "answer": "B"}]', [["Q", "A"], ["R", "B"]]),
    (
        "a.json",
        '[{"question": "Price?", "answer": 1.10}, {"question": "Big?", "answer": 1e5}]',
        [["Price?", "1.10"], ["Big?", "1e5"]],
    ),
    ("a.json", '[{"question": "Q", "answer": {"x": 1.10}}]', [["Q", '{"x": 1.10}']]),
    ("a.txt", "Just a text.\n\nOf two paragraphs.", [["T: Just a text.\n\nOf two paragraphs."]]),
    ("a.txt", "User: Q\nBot: A\n", [["Q", "A"]]),
    ("a.jsonl", '{"role": "user", "content": "Q"}\n{"role": "assistant", "content": "A"}\n', [["Q", "A"]]),
]


@pytest.mark.parametrize(("name", "text", "expected"), FILES)
def test_files_of_every_format(tmp_path: Path, name: str, text: str, expected: Sequence[Sequence[str]]) -> None:
    assert said(read_text(tmp_path, text, name)) == expected


def test_a_compressed_file_is_read_as_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b'{"question": "Q", "answer": "A"}\n'))
    assert said(read_all(tmp_path)) == [["Q", "A"]]


@pytest.mark.parametrize(
    "text",
    [
        '[{"question": "Q1", "answer": "A1", "question": "Q2"}]',
        '[{"question": "Q1", "Question": "Q2", "answer": "A1"}]',
        '{"data": [{"question": "Q1", "answer": "A1", "answer": "A2"}]}',
        '{"messages": [{"role": "user", "content": "Q", "content": "R"}, {"role": "assistant", "content": "A"}]}',
        '[[{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A", "role": "user"}]]',
    ],
)
def test_a_key_that_stands_twice_is_never_resolved(tmp_path: Path, text: str) -> None:
    made = read_text(tmp_path, text)
    assert not made.kept
    assert {each.reason for each in made.rejects} == {"key_twice"}


def test_numbers_too_large_to_mean_anything_are_rejected(tmp_path: Path) -> None:
    made = read_text(tmp_path, '[{"question": "n", "answer": 1e999}, {"question": "m", "answer": NaN}]')
    assert [each.reason for each in made.rejects] == ["number_too_large", "empty_reply"]


def test_every_part_of_a_file_has_a_source_of_its_own(tmp_path: Path) -> None:
    pair = {"question": Q, "answer": A}
    made = read_value(tmp_path, {"data": [pair, {"text": "x", "label": 1}, pair], "more": {"k": pair}})
    assert [each.source.rpartition("#")[2] for each in made.kept] == ["1.data.1", "1.data.3", "1.more.k"]
    assert [each.source.rpartition("#")[2] for each in made.rejects] == ["1.data.2"]


def test_a_reply_that_branches_share_is_learned_once(tmp_path: Path) -> None:
    tree = {
        "role": "user",
        "text": Q,
        "replies": [
            {
                "role": "assistant",
                "text": A,
                "replies": [
                    {"role": "user", "text": Q2, "replies": [{"role": "assistant", "text": A2, "replies": []}]},
                    {
                        "role": "user",
                        "text": "Downhill?",
                        "replies": [{"role": "assistant", "text": "No.", "replies": []}],
                    },
                ],
            }
        ],
    }
    made = read_value(tmp_path, [{"prompt": tree}])
    learned = [m.content for each in made.kept for m in each.messages if m.role == "assistant" and m.learned]
    assert learned == [A, A2, "No."]


PAGE = (Path(__file__).resolve().parents[2] / "docs/data.md").read_text(encoding="utf-8")
SHOWN = [text for text in re.findall(r"(?m)^\| `([{\[].*?[}\]])` \|", PAGE) if "..." not in text]


@pytest.mark.parametrize("text", SHOWN)
def test_the_examples_of_the_page_are_read(tmp_path: Path, text: str) -> None:
    made = read_text(tmp_path, text)
    assert made.kept
    assert not made.rejects


def test_the_page_names_every_reason() -> None:
    folder = Path(__file__).resolve().parents[2] / "theta/corpus/shapes"
    code = "".join(path.read_text(encoding="utf-8") for path in folder.glob("*.py"))
    reasons = set(re.findall(r"UnusableError\(\s*\"(\w+)\"", code)) | {"empty_question", "no_user_message"}
    assert len(reasons) > 10
    assert all(f"`{reason}`" in PAGE for reason in reasons), {r for r in reasons if f"`{r}`" not in PAGE}
