// The walk of images from noise down the ladder: frames computed beforehand, shown one by one.

function startWalk(walk) {
  const find = (id) => document.getElementById(id);
  const slider = find("frame"), button = find("walk_play");
  const numFrames = walk.sigmas.length;
  const rows = [[find("noisy"), decode(walk.noisy, Uint8Array)], [find("expected"), decode(walk.expected, Uint8Array)]];
  let frame = 0, timer = 0;

  function show(at) {
    frame = at;
    slider.value = String(frame);
    slider.setAttribute("aria-valuetext", `sigma ${shortNumber(walk.sigmas[frame])}`);
    find("frame_out").textContent = `σ = ${shortNumber(walk.sigmas[frame])}`;
    for (const [canvas, pixels] of rows) drawImages(canvas, walk, pixels, frame);
  }

  function play(isOn) {
    clearInterval(timer);
    timer = 0;
    if (isOn) {
      if (frame === numFrames - 1) show(0);
      timer = setInterval(() => {
        if (frame < numFrames - 1) show(frame + 1);
        else play(false);
      }, 140);
    }
    button.textContent = timer ? "Pause" : "Play";
  }

  slider.max = String(numFrames - 1);
  slider.addEventListener("input", () => {
    play(false);
    show(Number(slider.value));
  });
  button.addEventListener("click", () => play(!timer));
  show(numFrames - 1);
  return { show, play, frame: () => frame };
}

function drawImages(canvas, walk, pixels, frame) {
  const { count, height, width, colours } = walk;
  const gap = 1;
  canvas.width = count * width + (count - 1) * gap;
  canvas.height = height;
  const image = new ImageData(canvas.width, height);
  const size = height * width * colours;
  for (let which = 0; which < count; which++) {
    const start = (frame * count + which) * size;
    for (let row = 0; row < height; row++) {
      for (let column = 0; column < width; column++) {
        const from = start + (row * width + column) * colours;
        const to = 4 * (row * canvas.width + which * (width + gap) + column);
        for (let part = 0; part < 3; part++) image.data[to + part] = pixels[from + (colours === 3 ? part : 0)];
        image.data[to + 3] = 255;
      }
    }
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
}
