"""A text that is a question and its answer, or a chat, with the names of both sides in front of lines, in any language.

    Frage: Was ist DNS?          问：什么是DNS？          Input: 2 + 2
    Antwort: Ein Verzeichnis.    答：域名系统。           Output: 4

Names in other languages, and names that are used for much else, count as a pair alone, and only where both take turns
from the first line to the end. The names of chat programs, which mean something alone, are in `transcripts`.
"""

import re

from theta.corpus.shapes.fields import TurnRole, canonical

_QUESTIONS = """
    Q/A Question/Answer Question/Response Query/Response Ques/Ans Frage/Antwort F/A Question/Réponse Q/R
    Pregunta/Respuesta P/R Domanda/Risposta D/R Pergunta/Resposta Vraag/Antwoord V/A Fråga/Svar Spørgsmål/Svar
    Spørsmål/Svar Kysymys/Vastaus Pytanie/Odpowiedź Otázka/Odpověď Otázka/Odpoveď Kérdés/Válasz Întrebare/Răspuns
    Въпрос/Отговор Вопрос/Ответ В/О Питання/Відповідь Запитання/Відповідь Pitanje/Odgovor Vprašanje/Odgovor
    Ερώτηση/Απάντηση Soru/Cevap Soru/Yanıt S/C Pertanyaan/Jawaban Soalan/Jawapan Câu_hỏi/Trả_lời Hỏi/Đáp
    Tanong/Sagot Swali/Jibu 问/答 問/答 问题/回答 问题/答案 問題/回答 問題/答案 提问/回答 質問/回答 質問/答え
    질문/답변 질문/대답 질문/답 문/답 คำถาม/คำตอบ
    ถาม/ตอบ प्रश्न/उत्तर सवाल/जवाब প্রশ্ন/উত্তর سؤال/جواب السؤال/الجواب سؤال/إجابة السؤال/الإجابة س/ج پرسش/پاسخ
    سوال/جواب שאלה/תשובה
"""
"""Names of a question and of its answer."""
_SPEAKERS = """
    User/Assistant Human/Assistant User/Bot Prompt/Response Input/Output Nutzer/Assistent Benutzer/Assistent
    Kunde/Berater Kundin/Beraterin Utilisateur/Assistant Client/Conseiller Usuario/Asistente Cliente/Agente
    Utente/Assistente Usuário/Assistente Gebruiker/Assistent Użytkownik/Asystent Пользователь/Ассистент
    Kullanıcı/Asistan Người_dùng/Trợ_lý 用户/助手 用戶/助手 ユーザー/アシスタント
    사용자/어시스턴트 المستخدم/المساعد משתמש/עוזר
"""
"""Who asks and who answers."""


def _sides(pairs: str) -> set[tuple[str, ...]]:
    return {tuple(pair.replace("_", " ").casefold().split("/")) for pair in pairs.split()}


_ASKING = _sides(_QUESTIONS)
ASKING_NAMES = tuple(sorted((canonical(one), canonical(other)) for one, other in _ASKING if len(one) > 1))
"""The same as names of columns."""
_SIDES = _ASKING | _sides(_SPEAKERS)
_NAMES = "|".join(sorted({re.escape(name) for pair in _SIDES for name in pair}, key=lambda name: (-len(name), name)))
_LINE = re.compile(
    rf"^[ \t]*(?:\*\*|__|>[ \t]*|#{{1,4}}[ \t]*)?({_NAMES})"
    r"(?:[ \t]?\d{1,3}[.)]?)?(?:\*\*|__)?[ \t]?[:：](?:\*\*|__)?"
    r"|^[ \t]*(?:\*\*)?(?-i:([QA]))\d{0,3}[.)](?:\*\*)?(?=[ \t])",
    re.IGNORECASE | re.MULTILINE,
)
_HEAD_CHARACTERS = 40
_QUESTION_MARKS = ("?", "？", "؟")


def may_begin(text: str) -> bool:
    """Whether a text begins with one of the names."""
    head = text[:_HEAD_CHARACTERS]
    return (":" in head or "：" in head or head[:1] in ("Q", "*")) and _LINE.match(text) is not None


def turns_in_pair(text: str) -> list[tuple[TurnRole, str]] | None:
    """Return who says what in a text in which both names of a pair take turns; None if they do not."""
    said = _said_by(text, _SIDES)
    roles: tuple[TurnRole, TurnRole] = ("user", "assistant")
    return [(roles[at % 2], text) for at, text in enumerate(said)] if said else None


def pairs_of(text: str) -> list[tuple[str, str]] | None:
    """Return the questions of a text with their answers, if such names stand in front of them; None if not."""
    said = _said_by(text, _ASKING)
    return list(zip(said[::2], said[1::2], strict=True)) if said else None


def _said_by(text: str, sides: set[tuple[str, ...]]) -> list[str] | None:
    """What the two of one of the pairs say in turn."""
    text = text.strip()
    if not may_begin(text):
        return None
    marks = list(_LINE.finditer(text))
    names = [(mark[1] or mark[2]).casefold() for mark in marks]
    pair = tuple(names[:2])
    if pair not in sides or len(names) % 2 or names != [*pair] * (len(names) // 2):
        return None
    ends = [*(mark.start() for mark in marks[1:]), len(text)]
    said = [text[mark.end() : end].strip() for mark, end in zip(marks, ends, strict=True)]
    # Letters stand in front of lines for many reasons.
    if not all(said) or (pair[0] in _LETTERS and not all(text.endswith(_QUESTION_MARKS) for text in said[::2])):
        return None
    return None if any(map(_OPTION.search, said)) else said


_OPTION = re.compile(r"(?m)^[ \t]*B[.)][ \t]")
"""Where A. is an option and not an answer, B. follows."""
_LETTERS = {one for one, _ in _SIDES if len(one) == 1} - {"问", "問", "문"}
