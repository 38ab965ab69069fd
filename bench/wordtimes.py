"""Measures the times of words: wordtimes.py STENO MODELS CORPUS [MODEL]

The reference is a forced alignment: pocketsphinx, whose acoustic model is no relative of Whisper, lays the known text of each clean
English clip of the corpus over its audio. Its own error is told first, on the clip whose words were marked by hand (LDC93S1, the
public sample of TIMIT; the marks are in samples of 16 kHz). Words that were heard otherwise than they are written do not count.
"""

import difflib
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile

from pocketsphinx import Decoder

BY_HAND = {
    "LDC93S1.wav": [3050, 5723, 10337, 11517, 16334, 21199, 22560, 28064, 33754, 37556, 40313],
}
OTHER = {"noise", "music", "two-channel", "two-speaker", "reverb"}
LONGEST = 60  # seconds


def plain(text):
    return [w for w in (w.strip("'") for w in re.sub("[^a-z' ]", " ", text.lower()).split()) if w]


class Aligner:
    def __init__(self):
        # Beams far wider than for recognition, so that the true path is never cut off.
        self.decoder = Decoder(samprate=16000, lm=None, loglevel="FATAL", beam=1e-80, pbeam=1e-80, wbeam=1e-60)

    def align(self, path, text):
        """The start in seconds of each word, or None where a word is not in the dictionary or the text does not fit."""
        words = plain(text)
        if any(self.decoder.lookup_word(w) is None for w in words):
            return None
        pcm = subprocess.run(["ffmpeg", "-v", "error", "-nostdin", "-i", path, "-ar", "16000", "-ac", "1", "-f", "s16le", "-"],
                             capture_output=True, check=True).stdout
        self.decoder.set_align_text(" ".join(words))
        self.decoder.start_utt()
        self.decoder.process_raw(pcm, full_utt=True)
        self.decoder.end_utt()
        segments = [s for s in self.decoder.seg() or [] if re.match("[a-z']", s.word)]
        if len(segments) != len(words):
            return None
        return [(w, s.start_frame / 100) for w, s in zip(words, segments)]


def quantile(values, share):
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def line(name, errors):
    away = [abs(e) for e in errors]
    return (f"{name:36s} {len(errors):4d} words, start off by {statistics.median(errors):+.3f} s, "
            f"without sign median {statistics.median(away):.3f} s, p95 {quantile(away, 0.95):.3f} s")


def main(steno, models, corpus, model="base"):
    with open(os.path.join(corpus, "manifest.json"), encoding="utf-8") as f:
        manifest = json.load(f)
    rows = manifest if isinstance(manifest, list) else next(v for v in manifest.values() if isinstance(v, list))
    aligner, known = Aligner(), {}
    for row in rows:
        text = row.get("reference_spoken") or row.get("reference")
        if row.get("language") != "en" or not text or row["duration_s"] > LONGEST or OTHER & set(row["categories"]):
            continue
        words = aligner.align(os.path.join(corpus, row["file"]), text)
        if words:
            known[row["file"]] = words
    own = [at - mark / 16000 for name, marks in BY_HAND.items() if name in known
           for (_, at), mark in zip(known[name], marks)]
    if not own:
        sys.exit("no clip with marks by hand is in the corpus, so nobody knows how good the alignment is")
    bias = statistics.median(own)
    print(line("the alignment, against marks by hand", own))
    with tempfile.TemporaryDirectory() as out:
        errors = []
        for name, reference in known.items():
            text = subprocess.run([steno, "transcribe", os.path.join(corpus, name), "-m", model, "-l", "en", "--words", "--json"],
                                  capture_output=True, check=True, cwd=out, env=os.environ | {"STENO_MODELS": models}).stdout
            heard = [(plain(w["text"]), w["start"]) for s in json.loads(text)["segments"] for w in s.get("words") or []]
            heard = [(w[0], at) for w, at in heard if len(w) == 1]
            match = difflib.SequenceMatcher(None, [w for w, _ in reference], [w for w, _ in heard], autojunk=False)
            clip = [heard[b + k][1] - (reference[a + k][1] - bias) for a, b, n in match.get_matching_blocks() for k in range(n)]
            if clip:
                print(line(name, clip))
            errors += clip
    print(line(f"all {len(known)} clips, {model}", errors))


if __name__ == "__main__":
    if len(sys.argv) not in (4, 5):
        sys.exit(__doc__)
    main(*map(os.path.abspath, sys.argv[1:4]), *sys.argv[4:])
