// A new result is scrolled to and focused, so that neither eyes nor screen readers have to search for it. The videos
// below get their size later: until then, and unless the user does something, the heading is kept in place.
const SETTLING = 3000; // milliseconds
let last = null;
const scrollTo = (heading) => {
  const observer = new ResizeObserver(() => heading.scrollIntoView({ block: "start" }));
  const stop = () => observer.disconnect();
  observer.observe(document.body);
  for (const name of ["wheel", "touchstart", "pointerdown", "keydown"]) addEventListener(name, stop, { once: true });
  setTimeout(stop, SETTLING);
  heading.focus({ preventScroll: true });
};
watch("value", () => {
  const value = props.value;
  if (value?.id && value.id !== last && value.is_new) scrollTo(element.querySelector(".heading"));
  last = value?.id ?? null;
});
