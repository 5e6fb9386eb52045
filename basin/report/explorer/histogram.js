// Where the walkers were, in BINS x BINS bins of a level's square, against a density.
//
//   h <- (1 - 1 / MEMORY) h + counts       forgets what lies more than some MEMORY steps back
//   KL(h || q) = sum_b h_b log(h_b / q_b)  in nats, both normalised on the square

const BINS = 40;
const MEMORY = 200;

function makeHistogram() {
  const counts = new Float64Array(BINS * BINS);
  const histogram = { counts, outside: 0, total: 0 };

  histogram.clear = () => {
    counts.fill(0);
    histogram.total = 0;
    histogram.outside = 0;
  };

  histogram.add = (walkers, field) => {
    const keep = 1 - 1 / MEMORY, scale = BINS / field.side;
    for (let b = 0; b < counts.length; b++) counts[b] *= keep;
    histogram.total *= keep;
    histogram.outside = 0;
    for (let i = 0; i < walkers.count; i++) {
      const column = Math.floor((walkers.x[i] - field.lowX) * scale);
      const row = Math.floor((walkers.y[i] - field.lowY) * scale);
      if (column >= 0 && column < BINS && row >= 0 && row < BINS) {
        counts[row * BINS + column]++;
        histogram.total++;
      } else {
        histogram.outside++;
      }
    }
  };

  histogram.divergence = (mass) => {
    if (!histogram.total) return NaN;
    let sum = 0;
    for (let b = 0; b < counts.length; b++) {
      if (counts[b] > 0) {
        const share = counts[b] / histogram.total;
        sum += share * Math.log(share / Math.max(mass[b], 1e-30));
      }
    }
    return sum;
  };

  return histogram;
}

// Mass of exp(log density / T) in each bin, from the middles of the cells; sums to one.
function binMasses(logDensity, cells, temperature) {
  const each = cells / BINS;
  const mass = new Float64Array(BINS * BINS);
  let top = -Infinity, sum = 0;
  for (const value of logDensity) top = Math.max(top, value);
  for (let j = 0; j < cells; j++) {
    for (let i = 0; i < cells; i++) {
      const weight = Math.exp((logDensity[j * cells + i] - top) / temperature);
      mass[Math.floor(j / each) * BINS + Math.floor(i / each)] += weight;
      sum += weight;
    }
  }
  for (let b = 0; b < mass.length; b++) mass[b] /= sum;
  return mass;
}

// -E in the middles of the cells.
function modelLogDensity(field) {
  const { cells } = field;
  const found = new Float64Array(cells * cells), out = new Float64Array(3);
  const h = field.side / cells;
  for (let j = 0; j < cells; j++) {
    for (let i = 0; i < cells; i++) {
      field.at(field.lowX + (i + 0.5) * h, field.lowY + (j + 0.5) * h, out);
      found[j * cells + i] = -out[0];
    }
  }
  return found;
}

// The true log density, unpacked from 16 bits.
function trueLogDensity(truth) {
  const steps = decode(truth.values, Uint16Array);
  return Float64Array.from(steps, (step) => truth.lowest + truth.step * step);
}

// Bins that hold all but a thousandth of the mass.
function numBinsOf(mass) {
  const ordered = Array.from(mass).sort((a, b) => b - a);
  let sum = 0, number = 0;
  while (sum < 0.999 && number < ordered.length) sum += ordered[number++];
  return number;
}
