/** Turns what mouse, pen or finger does on a canvas into strokes: onMove(points) meanwhile, onEnd(points or null). */
export function followPen(canvas, onMove, onEnd) {
  let pointer = null;
  let points = [];

  const add = (event) => {
    const box = canvas.getBoundingClientRect();
    const finer = event.getCoalescedEvents?.() ?? [];
    for (const { clientX, clientY } of finer.length ? finer : [event]) {
      points.push([(clientX - box.left) / box.width, (clientY - box.top) / box.height]);
    }
    onMove(points);
  };
  const end = (stroke) => {
    pointer = null;
    onEnd(stroke);
  };

  canvas.addEventListener("pointerdown", (event) => {
    if (pointer !== null || event.button !== 0) return; // a second finger, another button
    event.preventDefault();
    pointer = event.pointerId;
    canvas.setPointerCapture(pointer);
    points = [];
    add(event);
  });
  canvas.addEventListener("pointermove", (event) => event.pointerId === pointer && add(event));
  canvas.addEventListener("pointerup", (event) => event.pointerId === pointer && end(points));
  canvas.addEventListener("pointercancel", (event) => event.pointerId === pointer && end(null));
}
