// Drawing. The map (energy, contours, score, data, samples) is drawn once into one canvas, whenever
// the view changes; the walkers move on another above it, and the numbers of the axes lie on a third
// above them.

const MAP_PIXELS = 320;
const MOVING_PIXELS = 160; // while a hand moves the map: four times as fast
const DEPTH = 12; // nats above the lowest energy at which the shading ends
const CONTOURS = [0.5, 1, 2, 4, 8, 16, 32, 64];
const ARROWS = 21;

function colours() {
  const style = getComputedStyle(document.documentElement);
  const known = {};
  const named = (name) => (known[name] ??= style.getPropertyValue(`--${name}`).trim());
  const parsed = (name) => {
    const number = parseInt(named(name).slice(1), 16);
    return [number >> 16, (number >> 8) & 255, number & 255];
  };
  return {
    named,
    ramp: [parsed("map-low"), parsed("map-middle"), parsed("map-high")],
    isDark: matchMedia("(prefers-color-scheme: dark)").matches,
  };
}

function fitted(canvas) {
  const ratio = Math.min(window.devicePixelRatio || 1, 2);
  const width = Math.max(1, Math.round(canvas.clientWidth * ratio));
  const height = Math.max(1, Math.round(canvas.clientHeight * ratio));
  if (canvas.width !== width || canvas.height !== height) {
    canvas.width = width;
    canvas.height = height;
  }
  const context = canvas.getContext("2d");
  context.setTransform(width / canvas.clientWidth, 0, 0, height / canvas.clientHeight, 0, 0);
  return context;
}

// A square window of the plane on a canvas: pixel <-> plane, y upward.
function makeView(centreX, centreY, half, pixels) {
  const scale = pixels / (2 * half);
  return {
    half, pixels, scale, centreX, centreY,
    toX: (x) => (x - centreX + half) * scale,
    toY: (y) => (centreY + half - y) * scale,
    fromX: (px) => px / scale + centreX - half,
    fromY: (py) => centreY + half - py / scale,
  };
}

function drawMap(context, field, view, layers, points, palette, numPixels) {
  context.clearRect(0, 0, view.pixels, view.pixels);
  const grid = sampled(field, view, numPixels);
  if (layers.energy) drawShading(context, field, view, grid, palette);
  if (layers.contours) drawContours(context, field, view, grid, palette);
  if (layers.data && points.data) drawPoints(context, view, points.data, palette.named("data"));
  if (layers.samples && points.samples) drawPoints(context, view, points.samples, palette.named("samples"));
  if (layers.score) drawArrows(context, field, view, palette);
  drawFrame(context, field, view, palette);
}

// Energy and gradient at the middles of n x n squares of the view.
function sampled(field, view, n) {
  const out = new Float64Array(3), side = view.pixels / n;
  const energy = new Float32Array(n * n), alongX = new Float32Array(n * n), alongY = new Float32Array(n * n);
  for (let j = 0; j < n; j++) {
    const y = view.fromY((j + 0.5) * side);
    for (let i = 0; i < n; i++) {
      field.at(view.fromX((i + 0.5) * side), y, out);
      energy[j * n + i] = out[0] - field.lowest;
      alongX[j * n + i] = out[1];
      alongY[j * n + i] = out[2];
    }
  }
  return { n, side, energy, alongX, alongY };
}

function drawShading(context, field, view, grid, palette) {
  const { n } = grid;
  const image = new ImageData(n, n);
  const steep = view.half / 25; // nats a window that tilt the surface by 45 degrees
  const [low, middle, high] = palette.ramp;
  for (let k = 0; k < n * n; k++) {
    const height = Math.sqrt(Math.min(Math.max(grid.energy[k], 0) / DEPTH, 1));
    const [from, to] = height < 0.5 ? [low, middle] : [middle, high];
    const t = height < 0.5 ? 2 * height : 2 * height - 1;
    // Light from the upper left on a surface of that height, fading out with the colours.
    const tiltX = grid.alongX[k] * steep, tiltY = grid.alongY[k] * steep;
    const light = (tiltX - tiltY) / Math.sqrt(1 + tiltX * tiltX + tiltY * tiltY) / Math.SQRT2;
    const shade = 1 - (palette.isDark ? 0.3 : 0.14) * light * (1 - height * height);
    for (let part = 0; part < 3; part++) {
      image.data[4 * k + part] = (from[part] + t * (to[part] - from[part])) * shade;
    }
    image.data[4 * k + 3] = 255;
  }
  const small = document.createElement("canvas");
  small.width = small.height = n;
  small.getContext("2d").putImageData(image, 0, 0);
  context.imageSmoothingEnabled = true;
  context.imageSmoothingQuality = "high";
  context.drawImage(small, 0, 0, view.pixels, view.pixels);
}

// Marching squares: in each square of four values, the segments that separate above from below.
function drawContours(context, field, view, grid, palette) {
  const { n, side, energy } = grid;
  context.strokeStyle = palette.named("line");
  context.lineWidth = 1;
  for (const height of CONTOURS) {
    context.globalAlpha = height <= 8 ? 0.5 : 0.22;
    context.beginPath();
    for (let j = 0; j + 1 < n; j++) {
      for (let i = 0; i + 1 < n; i++) {
        const a = energy[j * n + i] - height, b = energy[j * n + i + 1] - height;
        const c = energy[(j + 1) * n + i + 1] - height, d = energy[(j + 1) * n + i] - height;
        const code = (a > 0) + 2 * (b > 0) + 4 * (c > 0) + 8 * (d > 0);
        if (code === 0 || code === 15) continue;
        const x = (i + 0.5) * side, y = (j + 0.5) * side;
        const top = [x + (a / (a - b)) * side, y], right = [x + side, y + (b / (b - c)) * side];
        const bottom = [x + (d / (d - c)) * side, y + side], left = [x, y + (a / (a - d)) * side];
        const ends = [];
        if (a > 0 !== b > 0) ends.push(top);
        if (b > 0 !== c > 0) ends.push(right);
        if (c > 0 !== d > 0) ends.push(bottom);
        if (d > 0 !== a > 0) ends.push(left);
        for (let k = 0; k + 1 < ends.length; k += 2) {
          context.moveTo(ends[k][0], ends[k][1]);
          context.lineTo(ends[k + 1][0], ends[k + 1][1]);
        }
      }
    }
    context.stroke();
  }
  context.globalAlpha = 1;
}

function drawPoints(context, view, points, colour) {
  context.fillStyle = colour;
  context.globalAlpha = 0.55;
  const side = view.pixels > 450 ? 2.2 : 1.7;
  for (let i = 0; i < points.length; i += 2) {
    context.fillRect(view.toX(points[i]) - side / 2, view.toY(points[i + 1]) - side / 2, side, side);
  }
  context.globalAlpha = 1;
}

// The score -grad E: direction true, length growing with size up to the spacing of the arrows.
function drawArrows(context, field, view, palette) {
  const out = new Float64Array(3), found = [];
  const spacing = view.pixels / ARROWS;
  for (let j = 0; j < ARROWS; j++) {
    for (let i = 0; i < ARROWS; i++) {
      const px = (i + 0.5) * spacing, py = (j + 0.5) * spacing;
      const x = view.fromX(px), y = view.fromY(py);
      if (!isWithin(field, x, y)) continue;
      field.at(x, y, out);
      found.push([px, py, -out[1], out[2], Math.hypot(out[1], out[2])]);
    }
  }
  const sizes = found.map((arrow) => arrow[4]).sort((a, b) => a - b);
  const usual = sizes[sizes.length >> 1] || 1;
  context.strokeStyle = context.fillStyle = palette.named("ink");
  context.lineWidth = 1.2;
  context.globalAlpha = 0.75;
  for (const [px, py, ux, uy, size] of found) {
    if (!(size > 0)) continue;
    const length = spacing * 0.85 * (1 - Math.exp(-size / usual));
    const dx = (ux / size) * length, dy = (uy / size) * length;
    const head = Math.min(4, length / 2.2);
    const endX = px + dx / 2, endY = py + dy / 2;
    context.beginPath();
    context.moveTo(px - dx / 2, py - dy / 2);
    context.lineTo(endX, endY);
    context.stroke();
    const angle = Math.atan2(dy, dx);
    context.beginPath();
    context.moveTo(endX + head * 0.5 * Math.cos(angle), endY + head * 0.5 * Math.sin(angle));
    context.lineTo(endX - head * Math.cos(angle - 0.5), endY - head * Math.sin(angle - 0.5));
    context.lineTo(endX - head * Math.cos(angle + 0.5), endY - head * Math.sin(angle + 0.5));
    context.fill();
  }
  context.globalAlpha = 1;
}

function isWithin(field, x, y) {
  return x >= field.lowX && x <= field.lowX + field.side && y >= field.lowY && y <= field.lowY + field.side;
}

// Where the model was evaluated ends; outside, the energy is a bowl of this page's.
function drawFrame(context, field, view, palette) {
  const left = view.toX(field.lowX), top = view.toY(field.lowY + field.side), side = field.side * view.scale;
  context.save();
  context.beginPath();
  context.rect(0, 0, view.pixels, view.pixels);
  context.rect(left, top, side, side);
  context.fillStyle = palette.named("map-high");
  context.fill("evenodd");
  context.strokeStyle = palette.named("muted");
  context.setLineDash([5, 4]);
  context.lineWidth = 1;
  context.strokeRect(left, top, side, side);
  context.restore();
}

// Numbers along the left and lower edges, in the units of the data.
function drawAxes(context, view, axes, palette) {
  context.clearRect(0, 0, view.pixels, view.pixels);
  context.fillStyle = palette.named("ink");
  context.strokeStyle = palette.named("map-high");
  context.lineWidth = 3;
  context.lineJoin = "round";
  context.font = "12px system-ui, sans-serif";
  const write = (text, px, py) => { // with a rim, so that it can be read on whatever lies beneath
    context.strokeText(text, px, py);
    context.fillText(text, px, py);
  };
  const edges = [
    [view.fromX(0), view.fromX(view.pixels), axes.ticks[0]],
    [view.fromY(view.pixels), view.fromY(0), axes.ticks[1]],
  ];
  edges.forEach(([from, to, [offset, factor]], axis) => {
    const step = roundStep(offset + factor * from, offset + factor * to);
    for (let k = Math.ceil((offset + factor * from) / step); k * step <= offset + factor * to; k++) {
      const at = (k * step - offset) / factor;
      const text = tickNumber(k * step, step);
      if (axis === 0) {
        const px = view.toX(at);
        if (px < 34 || px > view.pixels - 16) continue;
        context.fillRect(px, view.pixels - 6, 1, 6);
        context.textAlign = "center";
        write(text, px, view.pixels - 9);
      } else {
        const py = view.toY(at);
        if (py < 22 || py > view.pixels - 26) continue;
        context.fillRect(0, py, 6, 1);
        context.textAlign = "left";
        write(text, 9, py + 4);
      }
    }
  });
  context.font = "600 12px system-ui, sans-serif";
  context.textAlign = "right";
  write(axes.names[0], view.pixels - 6, view.pixels - 24);
  context.textAlign = "left";
  write(axes.names[1], 9, 15);
}

// 1, 2 or 5 times a power of ten, of which some five lie between.
function roundStep(from, to) {
  const rough = (to - from) / 5;
  const power = 10 ** Math.floor(Math.log10(rough));
  return [1, 2, 5, 10].find((factor) => factor * power >= rough) * power;
}

// As many digits as tell it from its neighbours a step away: 2005 is not 2010.
function tickNumber(value, step) {
  if (Math.abs(value) < step / 2) return "0";
  const place = Math.floor(Math.log10(step) + 1e-9);
  if (Math.abs(value) < 1e7 && place >= -4) return value.toFixed(Math.max(0, -place)).replace("-", "−");
  return powerOfTen(value.toExponential(Math.max(0, Math.floor(Math.log10(Math.abs(value))) - place)));
}

function shortNumber(value) {
  if (value === 0 || Math.abs(value) < 1e-12) return "0";
  const short = Number(value.toPrecision(3)), size = Math.abs(short);
  return size >= 1e5 || size < 1e-4 ? powerOfTen(short.toExponential()) : String(short).replace("-", "−");
}

// "-1.5e-7" as people write it.
function powerOfTen(text) {
  const [digits, power] = text.replace("+", "").split("e");
  const raised = [...power].map((letter) => (letter === "-" ? "⁻" : "⁰¹²³⁴⁵⁶⁷⁸⁹"[Number(letter)]));
  return `${digits.replace("-", "−")} × 10${raised.join("")}`;
}

// Walkers as squares with a rim, written into the pixels: 2,000 rectangles take a canvas longer.
function makeWalkerLayer(canvas) {
  let image = new ImageData(1, 1), pixels = new Uint32Array(image.data.buffer);

  function stamp(px, py, reach, colour) {
    const { width, height } = image;
    const left = Math.max(0, px - reach), right = Math.min(width - 1, px + reach);
    const bottom = Math.min(height - 1, py + reach);
    for (let row = Math.max(0, py - reach); row <= bottom; row++) {
      for (let column = left; column <= right; column++) pixels[row * width + column] = colour;
    }
  }

  return (walkers, view, isShown, cross, palette) => {
    const context = fitted(canvas);
    const { width, height } = canvas;
    if (image.width !== width || image.height !== height) {
      image = new ImageData(width, height);
      pixels = new Uint32Array(image.data.buffer);
    }
    pixels.fill(0);
    const ratio = width / view.pixels;
    const reach = Math.max(1, Math.round(ratio * (walkers.count > 800 ? 1 : 1.5)));
    const rounds = [[reach + 1, opaque(palette.named("halo"))], [reach, opaque(palette.named("walkers"))]];
    for (const [wide, colour] of isShown ? rounds : []) {
      for (let i = 0; i < walkers.count; i++) {
        stamp(Math.round(view.toX(walkers.x[i]) * ratio), Math.round(view.toY(walkers.y[i]) * ratio), wide, colour);
      }
    }
    context.putImageData(image, 0, 0);
    if (!cross) return;
    const px = view.toX(cross[0]), py = view.toY(cross[1]);
    context.fillStyle = palette.named("walkers");
    context.fillRect(px - 11, py - 1, 22, 2);
    context.fillRect(px - 1, py - 11, 2, 22);
  };
}

// "#rrggbb" as the bytes of a pixel, which lie red first in memory (little-endian, as all browsers).
function opaque(colour) {
  const number = parseInt(colour.slice(1), 16);
  return (0xff000000 | ((number & 255) << 16) | (number & 0xff00) | (number >> 16)) >>> 0;
}

// Masses of the bins as a picture, on the scale of `top`.
function drawBins(canvas, masses, total, top, palette) {
  canvas.width = canvas.height = BINS;
  const image = new ImageData(BINS, BINS);
  const [low, middle, high] = palette.ramp;
  const full = palette.isDark ? [216, 245, 238] : [12, 78, 76];
  for (let row = 0; row < BINS; row++) {
    for (let column = 0; column < BINS; column++) {
      const share = total > 0 ? masses[(BINS - 1 - row) * BINS + column] / total / top : 0;
      const t = Math.sqrt(Math.min(share, 1)) * 2;
      const [from, to, part] = t < 1 ? [high, low, t] : [low, full, t - 1];
      const k = 4 * (row * BINS + column);
      for (let p = 0; p < 3; p++) image.data[k + p] = from[p] + part * (to[p] - from[p]);
      image.data[k + 3] = 255;
    }
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
}

// The divergence against the steps, on a logarithmic scale from 0.01 to 10 nats.
function drawCurve(canvas, values, palette) {
  const context = fitted(canvas), width = canvas.clientWidth, height = canvas.clientHeight;
  const toY = (value) => 8 + ((height - 16) * (1 - Math.log10(Math.min(Math.max(value, 0.01), 10)))) / 3;
  context.clearRect(0, 0, width, height);
  context.font = "11px system-ui, sans-serif";
  for (const value of [10, 1, 0.1, 0.01]) {
    context.fillStyle = palette.named("rule");
    context.fillRect(30, toY(value), width - 30, 1);
    context.fillStyle = palette.named("muted");
    context.fillText(String(value), 0, toY(value) + 4);
  }
  if (values.length < 2) return;
  context.strokeStyle = palette.named("accent");
  context.lineWidth = 2;
  context.beginPath();
  values.forEach((value, i) => {
    const px = 30 + ((width - 32) * i) / (values.length - 1);
    if (i) context.lineTo(px, toY(value));
    else context.moveTo(px, toY(value));
  });
  context.stroke();
}
