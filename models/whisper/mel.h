// The log-mel spectrogram as Whisper defines it (openai/whisper, whisper/audio.py): frames of 400 samples every 160, a Hann window,
// mel filters over the power spectrum, log10, nothing more than 8 below the loudest, (x+4)/4.
#pragma once

enum { MEL_FRAME = 400, MEL_STEP = 160, MEL_BINS = MEL_FRAME / 2 + 1 };

// steno_mel writes frames values for each of bands to dst[band*frames + frame]. What lies after the n samples is silence.
// filters[band*MEL_BINS + bin] come from the model's file. It is free of state and may run on many threads at once.
void steno_mel(float *dst, int frames, const float *samples, int n, const float *filters, int bands);
