// Walkers and their steps.
//
//   Langevin   y = x - eps grad E(x) / T + sqrt(2 eps) z            aims at exp(-E / T)
//   MALA       the same y, taken with probability min(1, exp(-(E(y) - E(x)) / T) q(x|y) / q(y|x)),
//              q(y|x) = N(x - eps grad E(x) / T, 2 eps I)

const MAX_WALKERS = 2000;

function makeWalkers() {
  const x = new Float64Array(MAX_WALKERS), y = new Float64Array(MAX_WALKERS);
  const energy = new Float64Array(MAX_WALKERS);
  const slopeX = new Float64Array(MAX_WALKERS), slopeY = new Float64Array(MAX_WALKERS);
  const out = new Float64Array(3);
  const walkers = { x, y, count: 0, oldest: 0, accepted: 1, lost: 0 };

  function place(i, atX, atY, field) {
    x[i] = atX;
    y[i] = atY;
    field.at(atX, atY, out);
    energy[i] = out[0];
    slopeX[i] = out[1];
    slopeY[i] = out[2];
  }

  walkers.place = place;

  // After another field was chosen, the energies of the same places.
  walkers.refresh = (field) => {
    for (let i = 0; i < walkers.count; i++) place(i, x[i], y[i], field);
  };

  // One step of all; `again` gives a new place to a walker that a step too large threw out.
  walkers.step = (field, settings, random, again) => {
    const { stepSize, temperature, isMala } = settings;
    const noise = Math.sqrt(2 * stepSize), drift = stepSize / temperature;
    const far = 20 * field.side;
    let accepted = 0;
    for (let i = 0; i < walkers.count; i++) {
      const dx = -drift * slopeX[i] + noise * random.normal();
      const dy = -drift * slopeY[i] + noise * random.normal();
      const toX = x[i] + dx, toY = y[i] + dy;
      field.at(toX, toY, out);
      let isTaken = true;
      if (isMala) {
        const there = squared(dx + drift * slopeX[i], dy + drift * slopeY[i]);
        const back = squared(-dx + drift * out[1], -dy + drift * out[2]);
        const log = -(out[0] - energy[i]) / temperature - (back - there) / (4 * stepSize);
        isTaken = Math.log(1 - random.uniform()) < log;
      }
      if (!isTaken) continue;
      accepted++;
      x[i] = toX;
      y[i] = toY;
      energy[i] = out[0];
      slopeX[i] = out[1];
      slopeY[i] = out[2];
      if (!(Math.abs(toX - field.lowX) < far && Math.abs(toY - field.lowY) < far)) {
        walkers.lost++;
        const [backX, backY] = again();
        place(i, backX, backY, field);
      }
    }
    if (walkers.count) walkers.accepted += 0.05 * (accepted / walkers.count - walkers.accepted);
  };

  return walkers;
}

function squared(a, b) {
  return a * a + b * b;
}
