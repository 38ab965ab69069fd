/** The 16-bit samples of a recording. */
function samplesOf(wav: Buffer): Buffer {
  const at = wav.indexOf('data') + 8
  return wav.subarray(at, at + wav.readUInt32LE(at - 4))
}

/** One mono recording after the other. */
export function joined(...wavs: Buffer[]): Buffer {
  return wav(Buffer.concat(wavs.map(samplesOf)), 1)
}

/** A stereo recording of a mono one of 16 bits: it is heard left, then right. */
export function inTurn(mono: Buffer): Buffer {
  const samples = samplesOf(mono)
  const stereo = Buffer.alloc(samples.length * 4)
  for (let i = 0; i < samples.length; i += 2) {
    samples.copy(stereo, 2 * i, i, i + 2)
    samples.copy(stereo, 2 * (samples.length + i) + 2, i, i + 2)
  }
  return wav(stereo, 2)
}

/** A WAV file of 16-bit samples at 16 kHz. */
function wav(samples: Buffer, channels: number): Buffer {
  const head = Buffer.alloc(44)
  head.write('RIFF'); head.writeUInt32LE(36 + samples.length, 4); head.write('WAVEfmt ', 8); head.writeUInt32LE(16, 16)
  head.writeUInt16LE(1, 20); head.writeUInt16LE(channels, 22); head.writeUInt32LE(16000, 24); head.writeUInt32LE(32000 * channels, 28)
  head.writeUInt16LE(2 * channels, 32); head.writeUInt16LE(16, 34); head.write('data', 36); head.writeUInt32LE(samples.length, 40)
  return Buffer.concat([head, samples])
}
