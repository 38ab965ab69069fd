"""Calls a gateway with OpenAI's own client, and checks each answer as that client understands it.

usage: openai_client.py BASE_URL API_KEY FILE TEXT, where FILE is recorded speech and TEXT what is said in it.
"""

import sys

import openai

base, key, path, text = sys.argv[1:]
client = openai.OpenAI(base_url=base, api_key=key, max_retries=0, timeout=120)


def transcribe(**options):
    with open(path, "rb") as file:
        return client.audio.transcriptions.create(model="whisper-1", file=file, language="en", **options)


def same(what, got, want):
    assert got == want, f"{what}: {got!r}, want {want!r}"
    print("ok", what)


def words(text):
    return [w.strip(".,").lower() for w in text.split()]


same("json", transcribe().text, text)
same("text", transcribe(response_format="text").strip(), text)

srt = transcribe(response_format="srt")
assert srt.startswith("1\n00:00:0") and " --> " in srt, srt
same("srt", words(" ".join(line for line in srt.splitlines() if line and "-->" not in line and not line.isdigit())), words(text))

vtt = transcribe(response_format="vtt")
assert vtt.startswith("WEBVTT\n"), vtt
same("vtt", words(" ".join(line for line in vtt.splitlines()[1:] if line and "-->" not in line)), words(text))

verbose = transcribe(response_format="verbose_json", timestamp_granularities=["word", "segment"])
same("verbose_json", (verbose.text, verbose.language, round(verbose.duration)), (text, "english", 11))
same("words", words(" ".join(w.word for w in verbose.words)), words(text))
times = [t for w in verbose.words for t in (w.start, w.end)]
assert times == sorted(times) and 0 <= times[0] and times[-1] <= 11, times
assert all(s.start < s.end and s.avg_logprob < 0 for s in verbose.segments), verbose.segments

diarized = transcribe(response_format="diarized_json")
same("diarized_json", (diarized.text, {s.speaker for s in diarized.segments}, round(diarized.duration)), (text, {"Speaker 1"}, 11))

deltas, done = [], None
for event in transcribe(stream=True):
    if event.type == "transcript.text.delta":
        deltas.append(event.delta)
    elif event.type == "transcript.text.done":
        done = event.text
same("stream", ("".join(deltas), done), (text, text))

with open(path, "rb") as file:
    same("translation", client.audio.translations.create(model="whisper-1", file=file).text, text)

assert "whisper-1" in [m.id for m in client.models.list()]
same("model", client.models.retrieve("whisper-1").owned_by, "steno")

for what, kind, call in [
    ("unknown model", openai.UnprocessableEntityError, lambda: transcribe_as("no-such-model")),
    ("no audio", openai.UnprocessableEntityError, lambda: client.audio.transcriptions.create(model="whisper-1", file=("a.wav", b"text"))),
    ("no such format", openai.UnprocessableEntityError, lambda: transcribe(response_format="jsonl")),
    ("wrong key", openai.AuthenticationError, lambda: openai.OpenAI(base_url=base, api_key="sk-steno-x", max_retries=0).models.list()),
]:

    def transcribe_as(model):
        with open(path, "rb") as file:
            return client.audio.transcriptions.create(model=model, file=file)

    try:
        call()
    except kind as e:
        assert e.body and e.body["message"] and e.body["code"], e.body
        print("ok", what, "->", e.body["code"])
    else:
        raise AssertionError(f"{what} was taken")
