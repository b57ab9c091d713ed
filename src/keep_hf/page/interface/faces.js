// The value has the choice: what is displayed is what a click on "Restore" sends.
const choose = (isChosen) => {
  const focused = document.activeElement.dataset ? { ...document.activeElement.dataset } : {};
  const people = props.value.people.map((person) => ({ ...person, is_chosen: isChosen(person) }));
  props.value = { ...props.value, people };
  trigger("select");
  // The template was rendered again: the focus stays on the same control.
  requestAnimationFrame(() => {
    const [name, value] = Object.entries(focused)[0] ?? [];
    if (name) element.querySelector(`[data-${name}="${value}"]`)?.focus();
  });
};
element.addEventListener("change", (event) => {
  const number = Number(event.target.dataset.number);
  const isChecked = event.target.checked;
  choose((person) => person.number === number ? isChecked : person.is_chosen);
});
element.addEventListener("click", (event) => {
  if (event.target.dataset.all) choose(() => event.target.dataset.all === "true");
});
