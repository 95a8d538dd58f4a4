// A short tone for new severe events: off until the operator asks for it.

let context = null;

export function chime() {
  if (!context) return;
  const start = context.currentTime;
  for (const [at, pitch] of [[0, 660], [0.18, 880]]) {
    const tone = context.createOscillator();
    const volume = context.createGain();
    tone.frequency.value = pitch;
    volume.gain.setValueAtTime(0.15, start + at);
    volume.gain.exponentialRampToValueAtTime(0.001, start + at + 0.16);
    tone.connect(volume).connect(context.destination);
    tone.start(start + at);
    tone.stop(start + at + 0.17);
  }
}

// Browsers allow sound only after a gesture: this is called by a click.
chime.toggle = () => {
  if (context) { context.close(); context = null; return false; }
  context = new AudioContext();
  chime();
  return true;
};
