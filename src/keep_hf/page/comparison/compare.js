// Before and after are the halves of one video. Every frame is copied once, and both halves are drawn from the copy:
// two reads of the playing video could return different frames.
const find = (name) => element.querySelector(name);
const clamp = (value, low, high) => Math.max(low, Math.min(high, value));
const clock = (seconds) => `${Math.floor(seconds / 60)}:${(seconds % 60).toFixed(1).padStart(4, "0")}`;
const FACE_SHARE = 0.5; // of the view, for the larger side of a face when zoomed
const MAX_ZOOM = 8;
const copy = document.createElement("canvas");
let state = null; // of the video that is shown

// A new video. The template is rendered into the same elements again, so all of their state is set here.
const start = (video) => {
  state?.video.cancelVideoFrameCallback(state.callback);
  const { times, faces, divider, autoplay } = props.value;
  state = { video, times, index: 0, wanted: null, sought: null, split: divider, face: null,
    faces: faces.map((face) => ({ ...face, zoom: zoomOf(face.boxes) })) };
  copy.width = video.videoWidth;
  copy.height = video.videoHeight;
  for (const canvas of element.querySelectorAll("canvas")) {
    canvas.width = copy.width / 2;
    canvas.height = copy.height;
  }
  const views = find(".views"), aspect = copy.width / 2 / copy.height;
  views.style.setProperty("--aspect", aspect);
  views.classList.toggle("wide", aspect > 1);
  find(".seek").max = times.length - 1;
  for (const select of element.querySelectorAll("select")) select.selectedIndex = 0;
  find(".comparison").dataset.view = "divider";
  find("[data-action=full]").hidden = !document.fullscreenEnabled;
  find(".failure").hidden = true;
  video.playbackRate = 1;
  const plays = autoplay && !matchMedia("(prefers-reduced-motion: reduce)").matches;
  video.muted = plays; // browsers start sound only after a click
  moveDivider(divider);
  showButtons();
  nextFrame();
  if (plays) play();
};

// Frames

const nextFrame = () => {
  state.callback = state.video.requestVideoFrameCallback((now, frame) => {
    draw(nearest(frame.mediaTime));
    nextFrame();
  });
};
const nearest = (time) => {
  const { times } = state;
  let low = 0, high = times.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((times[middle] + times[middle + 1]) / 2 < time) low = middle + 1;
    else high = middle;
  }
  return low;
};
const draw = (index) => {
  const { width, height } = copy, half = width / 2;
  copy.getContext("2d").drawImage(state.video, 0, 0, width, height);
  for (const [number, name] of ["before", "after"].entries()) {
    const context = find(`.${name} canvas`).getContext("2d");
    context.drawImage(copy, number * half, 0, half, height, 0, 0, half, height);
  }
  state.index = index;
  zoom();
  showTime();
};
const showTime = () => {
  const { times, index, wanted } = state, seek = find(".seek");
  if (wanted === null) seek.value = index; // otherwise the thumb would return to the frame before
  seek.ariaValueText = `frame ${index + 1} of ${times.length}`;
  find(".time").textContent = `${clock(times[index])} / ${clock(times.at(-1))}`;
};

// Time

const play = () => state.video.play().catch(() => {}); // a pause ends the promise with an error
// Seeks end in the middle of a frame, where rounding cannot lead to its neighbour. One seek runs at a time.
const show = (index) => {
  state.wanted = clamp(index, 0, state.times.length - 1);
  if (state.sought === null) seek();
};
const seek = () => {
  const { times, wanted } = state, last = times.length - 1;
  const end = wanted < last ? times[wanted + 1] : 2 * times[last] - (times[last - 1] ?? -0.02);
  state.sought = wanted;
  state.video.currentTime = (times[wanted] + end) / 2;
};
const step = (change) => {
  state.video.pause();
  show((state.wanted ?? state.index) + change);
};

// Divider and zoom

const moveDivider = (share) => {
  const divider = find(".divider"), percent = Math.round(1000 * share) / 10;
  state.split = share;
  divider.value = percent;
  divider.ariaValueText = `${Math.round(percent)} % before, ${100 - Math.round(percent)} % restored`;
  find(".views").style.setProperty("--split", `${percent}%`);
};
const median = (values) => values.sort((a, b) => a - b)[values.length >> 1];
const zoomOf = (boxes) => {
  const sides = boxes.map(([left, top, right, bottom]) => Math.max(right - left, bottom - top));
  return clamp(FACE_SHARE / median(sides), 1, MAX_ZOOM);
};
const boxAt = ({ times, boxes }, time) => {
  const after = times.findIndex((sample) => sample >= time);
  if (after <= 0) return boxes.at(after); // before the first sample, or after the last one
  const share = (time - times[after - 1]) / (times[after] - times[after - 1]);
  return boxes[after].map((side, index) => share * side + (1 - share) * boxes[after - 1][index]);
};
// The most important face in the frame; while there is none, the last one.
const mainFace = (time) => {
  const { faces, face } = state;
  return faces.find(({ times }) => times[0] <= time && time <= times.at(-1)) ?? face ?? faces[0];
};
const zoom = () => {
  const chosen = find("[name=zoom]").value, views = find(".views"), time = state.times[state.index];
  state.face = chosen === "main" ? mainFace(time) : state.faces[chosen];
  if (chosen === "") return views.style.setProperty("--zoom", "none");
  const factor = state.face.zoom, [left, top, right, bottom] = boxAt(state.face, time);
  const [x, y] = [left + right, top + bottom].map((sum) => 100 * clamp((sum - 1 / factor) / 2, 0, 1 - 1 / factor));
  views.style.setProperty("--zoom", `scale(${factor}) translate(${-x}%, ${-y}%)`);
};

// Events. Those of media and full screen do not bubble to the element, but are captured there.

const ACTIONS = {
  play: () => (state.video.paused ? play() : state.video.pause()),
  back: () => step(-1),
  forward: () => step(1),
  sound: () => { state.video.muted = !state.video.muted; },
  full: () => (document.fullscreenElement ? document.exitFullscreen() : find(".comparison").requestFullscreen()),
};
const CHOICES = {
  view: (value) => { find(".comparison").dataset.view = value; },
  speed: (value) => { state.video.playbackRate = value; },
  zoom: (value) => {
    moveDivider(value === "" ? props.value.divider : 0.5); // a face is in the middle when zoomed
    zoom();
  },
};
const KEYS = { " ": "play", ",": "back", ".": "forward" };
const showButtons = () => {
  find("[data-action=play]").textContent = state.video.paused ? "Play" : "Pause";
  find("[data-action=sound]").textContent = state.video.muted ? "Unmute" : "Mute";
  find("[data-action=full]").textContent = document.fullscreenElement ? "Exit full screen" : "Full screen";
};
const listen = (type, handle) => element.addEventListener(type, (event) => {
  if (type === "loadedmetadata" || type === "error" || state) handle(event.target, event);
}, true);
listen("loadedmetadata", start);
listen("loadeddata", () => draw(state.index));
listen("error", () => { find(".failure").hidden = false; });
for (const type of ["play", "pause", "volumechange", "fullscreenchange"]) listen(type, showButtons);
listen("seeked", () => {
  const { sought, wanted } = state;
  if (sought !== wanted) return seek();
  state.sought = state.wanted = null;
  if (sought !== null) draw(sought); // a frame that arrives between two callbacks has none
});
listen("click", (target) => ACTIONS[target.dataset.action]?.());
listen("change", (target) => CHOICES[target.name]?.(target.value));
listen("input", (target) => {
  if (target.matches(".divider")) moveDivider(target.value / 100);
  if (target.matches(".seek")) show(Number(target.value));
});
listen("keydown", (target, event) => {
  const action = KEYS[event.key];
  if (!action || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === " " && target.matches("button, select")) return; // they use it
  event.preventDefault();
  ACTIONS[action]();
});
