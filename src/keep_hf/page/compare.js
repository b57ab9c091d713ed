// Two synchronized videos: the restored one has the sound and sets the time, the other follows it.
const find = (name) => element.querySelector(name);
const clock = (seconds) => `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, "0")}`;
const TOLERANCE = 0.04; // seconds; one frame at 25 frames per second

const play = async () => {
  const before = find(".before"), after = find(".after");
  before.currentTime = after.currentTime;
  await Promise.all([before.play(), after.play()]);
};
const pause = () => {
  const before = find(".before"), after = find(".after");
  before.pause();
  after.pause();
  before.currentTime = after.currentTime;
};

// The template is rendered again for every result, so the listeners are on the element around it.
element.addEventListener("input", (event) => {
  if (event.target.matches(".divider")) find(".stage").style.setProperty("--split", `${event.target.value}%`);
  if (event.target.matches(".seek")) {
    const after = find(".after");
    after.currentTime = find(".before").currentTime = (event.target.value / 1000) * after.duration;
  }
});
element.addEventListener("click", (event) => {
  if (event.target.matches(".play")) find(".after").paused ? play() : pause();
  if (event.target.matches(".sound")) {
    const after = find(".after");
    after.muted = !after.muted;
    event.target.setAttribute("aria-pressed", after.muted);
    event.target.textContent = after.muted ? "Unmute" : "Mute";
  }
});
for (const name of ["play", "pause"]) {
  element.addEventListener(name, (event) => {
    if (event.target.matches(".after")) find(".play").textContent = name === "play" ? "Pause" : "Play";
  }, true);
}
const synchronize = () => {
  const before = find(".before"), after = find(".after");
  if (before && after && after.duration) {
    const drift = after.currentTime - before.currentTime;
    // Both loop, so at the end one may have restarted already: seek then, otherwise adjust the speed.
    if (Math.abs(drift) > 0.25) before.currentTime = after.currentTime;
    before.playbackRate = Math.abs(drift) > TOLERANCE ? 1 + Math.max(-0.3, Math.min(0.3, drift)) : 1;
    if (!after.paused) {
      if (before.paused) before.play();
      if (document.activeElement !== find(".seek")) find(".seek").value = (1000 * after.currentTime) / after.duration;
    }
    find(".time").textContent = `${clock(after.currentTime)} / ${clock(after.duration)}`;
  }
  if (element.isConnected) requestAnimationFrame(synchronize);
};
requestAnimationFrame(synchronize);
