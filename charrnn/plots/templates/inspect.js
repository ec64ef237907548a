"use strict";
// What a character is, in words, and the choice of a unit. Without this the page shows bits and the first unit.
(() => {
  const states = document.getElementById("states");
  const surprise = document.getElementById("bits");
  const choice = document.getElementById("unit");
  const bits = surprise.dataset.bits.split(" ");
  const expected = surprise.dataset.expected.split("\n");
  let coded = "";
  let scale = 1;

  const names = { "": "line end", " ": "space", "\t": "tab" };
  const name = (element) => names[element.textContent] ?? `“${element.textContent}”`;
  const cost = (place) =>
    bits[place] === "" ? "nothing before it to predict it from" : `${bits[place]} bits. Expected: ${expected[place]}`;
  const signed = (value, figures) => `${value > 0 ? "+" : ""}${Number(value.toPrecision(figures))}`;
  const state = (place) => `state about ${signed(((parseInt(coded[place], 36) - 10) / 10) * scale, 2)}`;

  const follow = (block, describe) => {
    const characters = [...block.querySelectorAll("i, b")];
    const places = new Map(characters.map((element, place) => [element, place]));
    const readout = block.previousElementSibling;
    let at = -1;
    const show = (place) => {
      if (at >= 0) delete characters[at].dataset.at;
      at = place;
      characters[at].dataset.at = "";
      readout.textContent = `${name(characters[at])}: ${describe(at)}`;
    };
    const pointed = (event) => {
      const place = places.get(event.target);
      if (place !== undefined && place !== at) show(place);
    };
    block.addEventListener("pointerover", pointed);
    block.addEventListener("click", pointed);
    block.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (step === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      show(Math.min(Math.max(at + step, 0), characters.length - 1));
      characters[at].scrollIntoView({ block: "nearest" });
    });
    readout.hidden = false;
    return { characters, refresh: () => at >= 0 && show(at) };
  };

  const view = follow(states, state);
  const choose = () => {
    const option = choice.selectedOptions[0];
    coded = option.dataset.states;
    scale = Number(option.dataset.scale);
    view.characters.forEach((element, place) => {
      element.className = `u${coded[place]}`;
    });
    document.getElementById("chosen").textContent = option.dataset.title;
    document.getElementById("lowest").textContent = signed(-scale, 3);
    document.getElementById("highest").textContent = signed(scale, 3);
    view.refresh();
  };

  follow(surprise, cost);
  choice.selectedIndex = 0;
  choice.addEventListener("change", choose);
  states.addEventListener("keydown", (event) => {
    const step = { ArrowUp: -1, ArrowDown: 1 }[event.key];
    if (step === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    choice.selectedIndex = Math.min(Math.max(choice.selectedIndex + step, 0), choice.length - 1);
    choose();
  });
  choice.parentElement.hidden = false;
  choose();
})();
