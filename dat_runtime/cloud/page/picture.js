// Evidence: a picture, when there is one, under the boxes of the alert's own numbers.
//
// Every drawing has the coordinates of the camera's frame: a ROI is a window into it, so that its
// boxes need no shift, and an alert without any picture yet is drawn on an empty frame.

import { s } from "./dom.js";
import { picture as address } from "./api.js";

const RATIO = [0.4, 3];

const windowOf = (event, kind) => {
  const { width, height } = event.data.frame;
  if (kind === "roi" && event.data.roi) {
    const [x1, y1, x2, y2] = event.data.roi;
    return { x: x1, y: y1, width: x2 - x1, height: y2 - y1 };
  }
  return { x: 0, y: 0, width, height };
};

export const hasPicture = (event, kind) => event.visuals.includes(kind);

// Changes when the drawing would.
export const signature = (event, kind, boxes) => JSON.stringify([
  event.node, event.id, kind, boxes, event.data.revision, hasPicture(event, kind),
]);

export function drawing(event, kind, { boxes = true, large = false } = {}) {
  const view = windowOf(event, kind);
  // A strip of 2,200 x 100 is shown with room above and below.
  const ratio = Math.min(Math.max(view.width / view.height, RATIO[0]), RATIO[1]);
  const shown = { ...view };
  if (view.width / view.height > ratio) shown.height = view.width / ratio;
  else shown.width = view.height * ratio;
  shown.x -= (shown.width - view.width) / 2;
  shown.y -= (shown.height - view.height) / 2;
  const svg = s("svg", {
    viewBox: `${shown.x} ${shown.y} ${shown.width} ${shown.height}`,
    class: "drawing", role: "img", "aria-label": inWords(event, kind),
  });
  svg.append(s("rect", { ...view, class: "empty" }));
  if (hasPicture(event, kind)) {
    const href = `${address(event, kind)}&revision=${event.data.revision}`;
    const image = s("image", { ...view, href, preserveAspectRatio: "none" });
    // The picture of another revision is shown without boxes: they would lie elsewhere in it.
    image.addEventListener("error", () => {
      svg.querySelectorAll(".box, .halo, text").forEach((mark) => mark.remove());
      image.setAttribute("href", address(event, kind));
    }, { once: true });
    svg.append(image);
  } else if (kind === "box" && event.data.roi) {
    svg.append(s("rect", { ...windowOf(event, "roi"), class: "roi" }));
  }
  // What lies outside the picture is cut off at its edge.
  const window = s("svg", { ...view, viewBox: `${view.x} ${view.y} ${view.width} ${view.height}`, class: "marks" });
  if (boxes) window.append(...boxesOf(event, view, large));
  svg.append(window);
  return svg;
}

function boxesOf(event, view, large) {
  const marks = [];
  const size = Math.max(view.width, view.height) / 26;
  event.data.answer.accidents.forEach(({ bbox: [x1, y1, x2, y2], severity }, index) => {
    const box = { x: x1, y: y1, width: x2 - x1, height: y2 - y1 };
    marks.push(s("rect", { ...box, class: "halo" }), s("rect", { ...box, class: `box ${severity}` }));
    const isSeen = x2 > view.x && y2 > view.y && x1 < view.x + view.width && y1 < view.y + view.height;
    if (large && isSeen) {
      const y = Math.min(Math.max(y1 + size * 1.1, view.y + size), view.y + view.height - size * 0.3);
      const x = Math.min(Math.max(x1, view.x) + size * 0.35, view.x + view.width - size);
      marks.push(s("text", { x, y, "font-size": size, "stroke-width": size / 7, class: severity }, `${index + 1}`));
    }
  });
  return marks;
}

function inWords(event, kind) {
  const { count } = event.data.answer;
  const what = hasPicture(event, kind) ? "picture" : "empty frame, no picture yet,";
  return `${kind === "roi" ? "ROI" : "Whole frame"}: ${what} with ${count} ${count === 1 ? "box" : "boxes"}`;
}
