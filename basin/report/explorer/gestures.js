// Pointers on the map: a click or tap is one thing, a drag another.
//
//   mouse, pen   click: tap; drag: move; wheel with Ctrl, as a pinch on a touch pad sends it: zoom
//   fingers      tap: tap; one finger scrolls the page as everywhere; two: move and zoom
//
// Places are in pixels of the map. All that a gesture does is measured from where it began (hold):
// move(fromX, fromY, toX, toY, factor) asks for the view as it was then, made larger by `factor`, so
// that what lay at `from` lies at `to`.

const TREMBLE = 5; // pixels that a click may move

function watchGestures(stage, act) {
  const pointers = new Map();
  let from = null, isTap = false;

  function place(event) {
    const box = stage.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  // Middle of all pointers, and how far they are from it.
  function hand() {
    const places = [...pointers.values()], n = places.length;
    const x = places.reduce((sum, p) => sum + p[0], 0) / n, y = places.reduce((sum, p) => sum + p[1], 0) / n;
    return { x, y, reach: places.reduce((sum, p) => sum + Math.hypot(p[0] - x, p[1] - y), 0) / n };
  }

  function begin() {
    from = pointers.size ? hand() : null;
    if (from) act.hold();
  }

  stage.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    isTap = pointers.size === 0;
    pointers.set(event.pointerId, place(event));
    stage.setPointerCapture(event.pointerId);
    begin();
  });

  stage.addEventListener("pointermove", (event) => {
    if (!pointers.has(event.pointerId)) return;
    pointers.set(event.pointerId, place(event));
    const now = hand();
    if (isTap && Math.hypot(now.x - from.x, now.y - from.y) <= TREMBLE) return;
    isTap = false;
    if (event.pointerType === "touch" && pointers.size < 2) return; // the page scrolls
    act.move(from.x, from.y, now.x, now.y, from.reach ? now.reach / from.reach : 1);
  });

  function end(event) {
    if (!pointers.has(event.pointerId)) return;
    if (isTap && event.type === "pointerup") act.tap(...place(event), event.shiftKey);
    isTap = false;
    pointers.delete(event.pointerId);
    begin();
    act.release();
  }
  for (const name of ["pointerup", "pointercancel"]) stage.addEventListener(name, end);

  stage.addEventListener("wheel", (event) => {
    if (!event.ctrlKey) return; // the page scrolls
    event.preventDefault();
    const pixels = event.deltaMode === 0 ? event.deltaY : 16 * event.deltaY; // else lines
    const [x, y] = place(event);
    act.hold();
    act.move(x, y, x, y, 2 ** Math.min(Math.max(-pixels / 200, -1), 1));
    act.release();
  }, { passive: false });
}
