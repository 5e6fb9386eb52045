// The energy of one noise level: a cubic B-spline on a square grid (spline.py says how it was made).
//
//   E(x, y) = sum c_ij B(u - i) B(v - j),   u = (x - low_x) / h + margin
//
// Outside the square nothing is known of the model: the energy goes on with the slope at the edge and
// a bowl on top, which brings walkers back.

function decode(text, Kind) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  return new Kind(bytes.buffer);
}

function makeField(level, margin) {
  const c = decode(level.coefficients, Float32Array);
  const size = level.size;
  const cells = size - 1 - 2 * margin;
  const h = level.spacing;
  const [lowX, lowY] = level.low;
  const side = cells * h;
  const bowl = 16 / (side * side);
  const wx = new Float64Array(4), wy = new Float64Array(4);
  const sx = new Float64Array(4), sy = new Float64Array(4);

  function weights(t, w, s) {
    const r = 1 - t;
    w[0] = (r * r * r) / 6;
    w[1] = (3 * t * t * t - 6 * t * t + 4) / 6;
    w[2] = (-3 * t * t * t + 3 * t * t + 3 * t + 1) / 6;
    w[3] = (t * t * t) / 6;
    s[0] = -(r * r) / 2;
    s[1] = (3 * t * t - 4 * t) / 2;
    s[2] = (-3 * t * t + 2 * t + 1) / 2;
    s[3] = (t * t) / 2;
  }

  // Writes [E, dE/dx, dE/dy] into out.
  function at(x, y, out) {
    const insideX = Math.min(Math.max(x, lowX), lowX + side);
    const insideY = Math.min(Math.max(y, lowY), lowY + side);
    const u = (insideX - lowX) / h + margin, v = (insideY - lowY) / h + margin;
    const i = Math.floor(u), j = Math.floor(v);
    weights(u - i, wx, sx);
    weights(v - j, wy, sy);
    let energy = 0, alongX = 0, alongY = 0;
    for (let row = 0; row < 4; row++) {
      const start = (j - 1 + row) * size + i - 1;
      const c0 = c[start], c1 = c[start + 1], c2 = c[start + 2], c3 = c[start + 3];
      const line = c0 * wx[0] + c1 * wx[1] + c2 * wx[2] + c3 * wx[3];
      energy += wy[row] * line;
      alongY += sy[row] * line;
      alongX += wy[row] * (c0 * sx[0] + c1 * sx[1] + c2 * sx[2] + c3 * sx[3]);
    }
    const outX = x - insideX, outY = y - insideY;
    out[1] = alongX / h + bowl * outX;
    out[2] = alongY / h + bowl * outY;
    out[0] = energy + (alongX / h) * outX + (alongY / h) * outY + 0.5 * bowl * (outX * outX + outY * outY);
  }

  return { at, lowX, lowY, side, cells, sigma: level.sigma, lowest: lowestOf(at, lowX, lowY, h, cells) };
}

function lowestOf(at, lowX, lowY, h, cells) {
  const out = new Float64Array(3);
  let lowest = Infinity;
  for (let j = 0; j <= cells; j++) {
    for (let i = 0; i <= cells; i++) {
      at(lowX + i * h, lowY + j * h, out);
      if (out[0] < lowest) lowest = out[0];
    }
  }
  return lowest;
}
