// The page: controls, keys, the link that restores the view, and the loop.

const SETTINGS = {
  sigma: 0, step_size: -0.7, temperature: 0, num_walkers: 1000, speed: 2,
  mala: false, start: "uniform", against: "truth", zoom: 0, pan_x: 0, pan_y: 0, seed: 1, layers: "ecw",
};
const LAYERS = { energy: "e", contours: "c", score: "s", data: "d", samples: "x", dots: "w" };
const ARROWS_OF_KEYS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
const STEPS_A_LEVEL = 60; // on the way down from noise
const NUMBERS_EVERY = 6; // frames
const STEPS_TIME = 9; // ms of a frame's 16.7 that steps may take: drawing needs some of the rest
const DROPPED = 0.1; // share of the walkers that one click moves
const NUDGE = 0.1; // of the view's side: one press of a key that moves the map
const ZOOMS = [-3, 4]; // powers of two of the window's side

function startExplorer(scene) {
  const find = (id) => document.getElementById(id);
  const own = scene.own;
  const fields = scene.levels.map((level) => makeField(level, scene.margin));
  const ownSide = fields[own].side;
  const centre = [fields[own].lowX + ownSide / 2, fields[own].lowY + ownSide / 2];
  const points = {
    data: scene.data && decode(scene.data, Float32Array),
    samples: scene.samples && decode(scene.samples, Float32Array),
    axes: { names: scene.names, ticks: scene.ticks },
  };
  const settings = { ...SETTINGS, sigma: own };
  const walkers = makeWalkers(), histogram = makeHistogram();
  const drawWalkers = makeWalkerLayer(find("walkers"));
  const seen = { steps: 0, curve: [], every: 1, frames: [], numFrames: 0, stepsOfFrame: 0, descent: 0, isPlaying: false, isMoving: false, cross: null };
  const masses = new Map();
  // The middle of the view stays on the widest square that the model was evaluated on.
  const farthest = Math.max(...fields.map((field) => field.side)) / ownSide / 2;
  let held = null, linkTimer = 0;
  let random = makeRandom(settings.seed), view, palette, target, isMapStale = true;

  // ---- what follows from the settings ----
  const field = () => fields[settings.sigma];
  const level = () => scene.levels[settings.sigma];
  const unit = () => level().sigma ** 2 || (ownSide / 40) ** 2;
  const stepSize = () => unit() * 10 ** settings.step_size;
  const temperature = () => 10 ** settings.temperature;
  const hasTruth = () => Boolean(level().truth);
  const has = (name) => settings.layers.includes(LAYERS[name]);

  function halfOfView(zoomed) {
    const wide = seen.descent ? Math.max(field().side, ownSide) : ownSide;
    return (wide / 2) * 2 ** zoomed;
  }

  const middleOfView = () => [centre[0] + settings.pan_x * ownSide, centre[1] + settings.pan_y * ownSide];

  function targetMass() {
    const which = settings.against === "truth" && hasTruth() ? "truth" : "model";
    const key = `${settings.sigma} ${which} ${settings.temperature}`;
    if (!masses.has(key)) {
      const log = which === "truth" ? trueLogDensity(level().truth) : modelLogDensity(field());
      if (masses.size > 40) masses.clear();
      masses.set(key, binMasses(log, field().cells, temperature()));
    }
    return masses.get(key);
  }

  // ---- walkers ----
  function spread() {
    const rows = points.data || points.samples;
    if (!rows) return [centre[0], centre[1], ownSide / 6, ownSide / 6];
    let mx = 0, my = 0, vx = 0, vy = 0;
    const n = rows.length / 2;
    for (let i = 0; i < n; i++) { mx += rows[2 * i] / n; my += rows[2 * i + 1] / n; }
    for (let i = 0; i < n; i++) { vx += (rows[2 * i] - mx) ** 2 / n; vy += (rows[2 * i + 1] - my) ** 2 / n; }
    const noise = (level().sigma || 0) ** 2;
    return [mx, my, Math.sqrt(vx + noise), Math.sqrt(vy + noise)];
  }

  function startPlace() {
    const { lowX, lowY, side } = field();
    const rows = points.data || points.samples;
    if (settings.start === "data" && rows) {
      const row = Math.floor((random.uniform() * rows.length) / 2);
      return [rows[2 * row], rows[2 * row + 1]];
    }
    if (settings.start === "uniform" && !seen.descent) return [lowX + side * random.uniform(), lowY + side * random.uniform()];
    const [mx, my, sx, sy] = spread();
    return [mx + sx * random.normal(), my + sy * random.normal()];
  }

  function setCount(count) {
    for (let i = walkers.count; i < count; i++) walkers.place(i, ...startPlace(), field());
    walkers.count = count;
  }

  function forget() {
    histogram.clear();
    seen.steps = 0;
    seen.curve = [];
    seen.every = 1;
    walkers.lost = 0;
    walkers.accepted = 1;
  }

  function reset() {
    random = makeRandom(settings.seed);
    walkers.count = 0;
    setCount(settings.num_walkers);
    forget();
    count();
  }

  function count() {
    histogram.add(walkers, field());
  }

  function drop(x, y, isAll) {
    if (!walkers.count) return;
    const number = isAll ? walkers.count : Math.max(1, Math.round(DROPPED * walkers.count));
    const width = 0.012 * view.half;
    for (let k = 0; k < number; k++) {
      walkers.oldest = (walkers.oldest + 1) % walkers.count;
      walkers.place(walkers.oldest, x + width * random.normal(), y + width * random.normal(), field());
    }
    forget();
    count();
    redraw(false);
  }

  function step() {
    const now = { stepSize: stepSize(), temperature: temperature(), isMala: settings.mala };
    walkers.step(field(), now, random, startPlace);
    count();
    seen.steps++;
    if (seen.steps % seen.every === 0) {
      seen.curve.push(histogram.divergence(target));
      if (seen.curve.length >= 400) {
        seen.curve = seen.curve.filter((_, i) => i % 2);
        seen.every *= 2;
      }
    }
    if (seen.descent && --seen.descent % STEPS_A_LEVEL === 0 && settings.sigma > own) setLevel(settings.sigma - 1, true);
  }

  function setLevel(index, isOnTheWay) {
    settings.sigma = Math.min(Math.max(index, 0), fields.length - 1);
    if (!isOnTheWay) seen.descent = 0;
    walkers.refresh(field());
    target = targetMass();
    forget();
    count();
    showSettings();
    redraw(true);
  }

  // From the Gaussian at the top of the ladder, STEPS_A_LEVEL steps at each level, down to the run's.
  function fromNoise() {
    settings.sigma = fields.length - 1;
    seen.descent = (fields.length - 1 - own) * STEPS_A_LEVEL;
    target = targetMass();
    reset();
    showSettings();
    play(true);
    redraw(true);
  }

  // ---- showing ----
  function redraw(isMapToo) {
    if (isMapToo) isMapStale = true;
    if (!seen.isPlaying) requestAnimationFrame(draw);
  }

  function draw() {
    if (isMapStale) {
      isMapStale = false;
      const pixels = find("map").clientWidth;
      view = makeView(...middleOfView(), halfOfView(settings.zoom), pixels);
      palette = colours();
      const layers = Object.fromEntries(Object.keys(LAYERS).map((name) => [name, has(name)]));
      const numPixels = seen.isMoving ? MOVING_PIXELS : MAP_PIXELS;
      drawMap(fitted(find("map")), field(), view, layers, points, palette, numPixels);
      drawAxes(fitted(find("axes")), view, points.axes, palette);
      drawBins(find("target"), target, 1, peak(), palette);
      showLegend();
    }
    drawWalkers(walkers, view, has("dots"), document.activeElement === find("walkers") && seen.cross, palette);
    // Ten times a second is enough for what is read rather than watched.
    if (seen.isPlaying && seen.numFrames++ % NUMBERS_EVERY) return;
    drawBins(find("histogram"), histogram.counts, histogram.total, peak(), palette);
    drawCurve(find("curve"), seen.curve, palette);
    showNumbers();
  }

  const peak = () => target.reduce((a, b) => Math.max(a, b), 1e-12);

  function showNumbers() {
    const divergence = histogram.divergence(target);
    find("kl").textContent = Number.isFinite(divergence) ? divergence.toFixed(divergence < 1 ? 3 : 2) : "–";
    const bins = numBinsOf(target), n = walkers.count;
    find("floor").textContent = n
      ? `As many independent draws, counted once, would give about ${((bins - 1) / (2 * n)).toFixed(2)}; ` +
        "counting many steps brings it below that."
      : "";
    const parts = [`${seen.steps} steps`];
    if (settings.mala) parts.push(`${Math.round(100 * walkers.accepted)} % accepted`);
    if (histogram.outside) parts.push(`${histogram.outside} walkers outside the dashed square`);
    if (seen.descent) parts.push("walking down the ladder");
    if (walkers.lost) parts.push(`${walkers.lost} walkers flew off and began again: the step is too large`);
    if (seen.isPlaying && seen.stepsOfFrame < settings.speed) {
      parts.push(`time for only ${seen.stepsOfFrame} of ${settings.speed} steps a frame`);
    }
    const times = seen.frames;
    if (seen.isPlaying && times.length > 10) {
      parts.push(`${Math.round((1000 * (times.length - 1)) / (times[times.length - 1] - times[0]))} frames a second`);
    }
    find("readout").textContent = `${parts.join(" · ")}.`;
  }

  function showLegend() {
    const parts = [];
    const noise = level().sigma === null ? "" : ` at σ = ${shortNumber(level().sigma)}`;
    if (has("energy")) parts.push(`Strong colour: low energy${noise}, likely x`);
    if (has("contours")) parts.push(`lines at ${CONTOURS.slice(0, 6).join(", ")} … nats above the lowest`);
    if (has("score")) parts.push("arrows: the score −∇E");
    const errors = level().energyError === null ? "" :
      ` Here the page’s interpolated energy is within ${rounded(level().energyError)} nats of the model’s, its score within ${rounded(100 * level().scoreError)} %.`;
    find("legend").textContent = `${parts.join("; ")}${parts.length ? "." : ""}${errors}`;
  }

  const rounded = (error) => shortNumber(Number(error.toPrecision(2)));

  function showSettings() {
    const write = (id, text) => {
      find(`${id}_out`).textContent = text;
      find(id).setAttribute("aria-valuetext", text);
    };
    for (const id of ["sigma", "step_size", "temperature", "num_walkers", "speed"]) find(id).value = String(settings[id]);
    write("sigma", level().sigma === null ? "none" : shortNumber(level().sigma) + (settings.sigma === own ? " (the run’s)" : ""));
    write("step_size", level().sigma === null ? shortNumber(stepSize()) : `${shortNumber(stepSize())} = ${shortNumber(10 ** settings.step_size)} σ²`);
    write("temperature", shortNumber(temperature()));
    write("num_walkers", String(settings.num_walkers));
    write("speed", String(settings.speed));
    find("mala").checked = settings.mala;
    find("start").value = settings.start;
    find("against").value = hasTruth() ? settings.against : "model";
    for (const name of Object.keys(LAYERS)) find(name).checked = has(name);
    writeLink();
  }

  // ---- the link ----
  function writeLink() {
    const words = Object.keys(SETTINGS).map((key) => `${key}=${encodeURIComponent(String(settings[key]))}`);
    history.replaceState(null, "", `#${words.join("&")}`);
  }

  function readLink() {
    const words = new URLSearchParams(location.hash.slice(1));
    const bounds = {
      sigma: [0, fields.length - 1], step_size: [-3, 1], temperature: [-1, 1], num_walkers: [0, MAX_WALKERS],
      speed: [1, 20], zoom: ZOOMS, pan_x: [-farthest, farthest], pan_y: [-farthest, farthest], seed: [0, 2 ** 31],
    };
    for (const [key, [low, high]] of Object.entries(bounds)) {
      const value = words.has(key) ? Number(words.get(key)) : NaN;
      if (Number.isFinite(value)) settings[key] = Math.min(Math.max(value, low), high);
    }
    for (const key of ["sigma", "num_walkers", "speed", "seed"]) settings[key] = Math.round(settings[key]);
    if (words.has("mala")) settings.mala = words.get("mala") === "true";
    if (["uniform", "gaussian", "data"].includes(words.get("start"))) settings.start = words.get("start");
    if (["truth", "model"].includes(words.get("against"))) settings.against = words.get("against");
    if (words.has("layers")) settings.layers = Object.values(LAYERS).filter((letter) => words.get("layers").includes(letter)).join("");
  }

  async function copyLink() {
    writeLink();
    const button = find("link");
    try {
      await navigator.clipboard.writeText(location.href);
      button.textContent = "Copied";
    } catch {
      button.textContent = "It is in the address bar";
    }
    setTimeout(() => { button.textContent = "Copy link"; }, 1800);
  }

  // ---- the loop ----
  function frame(now) {
    if (!seen.isPlaying) return;
    seen.frames.push(now);
    if (seen.frames.length > 60) seen.frames.shift();
    const end = performance.now() + STEPS_TIME;
    seen.stepsOfFrame = 0;
    do {
      step();
      seen.stepsOfFrame++;
    } while (seen.stepsOfFrame < settings.speed && performance.now() < end);
    draw();
    requestAnimationFrame(frame);
  }

  function play(isOn) {
    const was = seen.isPlaying;
    seen.isPlaying = isOn;
    seen.frames = [];
    find("play").textContent = isOn ? "Pause" : "Play";
    if (isOn && !was) requestAnimationFrame(frame);
    if (!isOn) redraw(false);
  }

  function oneStep() {
    play(false);
    step();
    redraw(false);
  }

  // ---- controls ----
  // The cross of the keyboard stays where it can be seen, in the middle at first.
  function cross() {
    const [x, y] = seen.cross || middleOfView();
    const stay = (value, middle) => within(value, [middle - view.half, middle + view.half]);
    return [stay(x, view.centreX), stay(y, view.centreY)];
  }

  function moveCross(alongX, alongY) {
    const [x, y] = cross();
    seen.cross = [x + 0.05 * view.half * alongX, y + 0.05 * view.half * alongY];
    seen.cross = cross();
    redraw(false);
  }

  function toggle(letter) {
    const isOn = (other) => settings.layers.includes(other) !== (other === letter);
    settings.layers = Object.values(LAYERS).filter(isOn).join("");
    showSettings();
    redraw(true);
  }

  const within = (value, [low, high]) => Math.min(Math.max(value, low), high);

  // Moves the map so that `middle` is in its middle; rounded, as the link is read by people too.
  function look(middle, zoomed) {
    const pan = (axis) => Number(within((middle[axis] - centre[axis]) / ownSide, [-farthest, farthest]).toFixed(4));
    settings.zoom = Number(within(zoomed, ZOOMS).toFixed(3));
    settings.pan_x = pan(0);
    settings.pan_y = pan(1);
    // A moment later: some browsers allow few changes of the address a second.
    clearTimeout(linkTimer);
    linkTimer = setTimeout(writeLink, 250);
    redraw(true);
  }

  const zoom = (by) => look(middleOfView(), settings.zoom + by);

  function nudge(alongX, alongY) {
    const [x, y] = middleOfView(), side = 2 * halfOfView(settings.zoom);
    look([x + NUDGE * side * alongX, y + NUDGE * side * alongY], settings.zoom);
  }

  function setMoving(isOn) {
    if (seen.isMoving !== isOn) redraw(true);
    seen.isMoving = isOn;
    stage.classList.toggle("moving", isOn);
  }

  const gestures = {
    tap: (px, py, isAll) => {
      seen.cross = [view.fromX(px), view.fromY(py)];
      drop(...seen.cross, isAll);
    },
    hold: () => { held = { view, zoom: settings.zoom }; },
    move: (fromX, fromY, toX, toY, factor) => {
      const zoomed = within(held.zoom - Math.log2(factor), ZOOMS);
      const half = halfOfView(zoomed), scale = view.pixels / (2 * half);
      const x = held.view.fromX(fromX) + half - toX / scale;
      const y = held.view.fromY(fromY) - half + toY / scale;
      setMoving(true);
      look([x, y], zoomed);
    },
    release: () => setMoving(false),
  };

  function setMala(isOn) {
    settings.mala = isOn;
    walkers.accepted = 1;
    showSettings();
  }

  const act = {
    play: () => play(!seen.isPlaying),
    step: oneStep,
    reset: () => { seen.descent = 0; reset(); redraw(true); },
    anneal: fromNoise,
    link: copyLink,
    zoom_in: () => zoom(-0.5),
    zoom_out: () => zoom(0.5),
    whole: () => look(centre, 0),
  };
  for (const [id, action] of Object.entries(act)) find(id).addEventListener("click", action);

  const slide = {
    sigma: (value) => setLevel(value, false),
    step_size: (value) => { settings.step_size = value; showSettings(); },
    temperature: (value) => { settings.temperature = value; target = targetMass(); forget(); count(); showSettings(); redraw(true); },
    num_walkers: (value) => { settings.num_walkers = value; setCount(value); forget(); count(); showSettings(); redraw(false); },
    speed: (value) => { settings.speed = value; showSettings(); },
  };
  for (const [id, action] of Object.entries(slide)) {
    find(id).addEventListener("input", () => action(Number(find(id).value)));
  }
  find("mala").addEventListener("change", () => setMala(find("mala").checked));
  find("start").addEventListener("change", () => { settings.start = find("start").value; act.reset(); writeLink(); });
  find("against").addEventListener("change", () => { settings.against = find("against").value; target = targetMass(); seen.curve = []; writeLink(); redraw(true); });
  for (const [name, letter] of Object.entries(LAYERS)) find(name).addEventListener("change", () => toggle(letter));

  const stage = find("walkers");
  watchGestures(stage, gestures);
  stage.addEventListener("keydown", (event) => {
    const along = ARROWS_OF_KEYS[event.key];
    if (along && !event.shiftKey) {
      moveCross(...along);
    } else if (event.key === "Enter") {
      drop(...cross(), event.shiftKey);
    } else {
      return;
    }
    event.preventDefault();
  });
  for (const name of ["focus", "blur"]) stage.addEventListener(name, () => redraw(false));

  const keys = {
    " ": act.play, ".": act.step, r: act.reset, n: act.anneal, l: act.link, m: () => setMala(!settings.mala),
    "[": () => setLevel(settings.sigma - 1, false), "]": () => setLevel(settings.sigma + 1, false),
    "+": act.zoom_in, "=": act.zoom_in, "-": act.zoom_out, "−": act.zoom_out, "0": act.whole,
  };
  for (const letter of Object.values(LAYERS)) keys[letter] = () => toggle(letter);
  document.addEventListener("keydown", (event) => {
    const isChoice = ["SELECT", "SUMMARY", "BUTTON"].includes(event.target.tagName) && [" ", "Enter"].includes(event.key);
    const isTyping = event.target.tagName === "SELECT";
    if (event.ctrlKey || event.metaKey || event.altKey || isChoice || isTyping) return;
    if (event.target.type === "checkbox" && event.key === " ") return;
    const along = event.shiftKey && event.target.type !== "range" && ARROWS_OF_KEYS[event.key];
    const action = along ? () => nudge(...along) : keys[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!action) return;
    event.preventDefault();
    action();
  });
  addEventListener("resize", () => redraw(true));
  addEventListener("hashchange", () => { readLink(); begin(); });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => redraw(true));

  // ---- begin ----
  function begin() {
    find("sigma").max = String(fields.length - 1);
    find("sigma").disabled = find("anneal").disabled = fields.length < 2;
    find("data").disabled = !points.data;
    find("samples").disabled = !points.samples;
    find("against").querySelector('[value="truth"]').disabled = !hasTruth();
    find("start").querySelector('[value="data"]').disabled = !points.data && !points.samples;
    target = targetMass();
    reset();
    showSettings();
    redraw(true);
  }

  readLink();
  begin();

  // For the console, and for the tests.
  return {
    settings, walkers, histogram, fields, play, reset, drop, setLevel,
    run: (steps) => { for (let k = 0; k < steps; k++) step(); redraw(false); },
    divergence: () => histogram.divergence(target),
    steps: () => seen.steps,
    view: () => view,
  };
}

const scene = JSON.parse(document.getElementById("scene").textContent);
window.basin = { explorer: scene.levels ? startExplorer(scene) : null, walk: scene.walk ? startWalk(scene.walk) : null };
