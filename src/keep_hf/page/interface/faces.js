// The value has the choice: what is displayed is what a click on "Restore" sends.
const change = (changed) => {
  const focused = document.activeElement.dataset ? { ...document.activeElement.dataset } : {};
  const people = props.value.people.map((person) => ({ ...person, ...changed(person) }));
  props.value = { ...props.value, people };
  trigger("select");
  // The template was rendered again: the focus stays on the same control.
  requestAnimationFrame(() => {
    const [name, value] = Object.entries(focused)[0] ?? [];
    if (name) element.querySelector(`[data-${name}="${value}"]`)?.focus();
  });
};
element.addEventListener("change", (event) => {
  const { number, strength } = event.target.dataset;
  const changed = number ? { is_chosen: event.target.checked } : { strength: JSON.parse(event.target.value) };
  change((person) => person.number === Number(number ?? strength) ? changed : {});
});
element.addEventListener("click", (event) => {
  const { all } = event.target.dataset;
  if (all) change(() => ({ is_chosen: all === "true" }));
});
