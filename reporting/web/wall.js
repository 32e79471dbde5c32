"use strict";
/** Samples: filtered, ordered, and one of them beside its nearest training images. */
const wall = () => {
  const list = find("wall");
  const given = [...list.children];
  const nearestOf = (item) => data.near[item.dataset.row] ?? [];
  const visible = () => [...list.children].filter((item) => !item.hidden);
  let chosen = null;

  const neighbour = ([index, distance]) => {
    const { image, label, key } = data.pool[index];
    const item = make("li");
    const shown = make("img", { src: image, alt: `training image ${key}${label ? `, ${label}` : ""}`, title: key });
    item.append(shown, make("span", { textContent: `${short(distance)}${label ? ` · ${label}` : ""}` }));
    return item;
  };

  /** A line in the histogram of distances at the chosen sample. */
  const mark = (distance) => {
    const { high, start, end } = data.histogram;
    const x = start + ((end - start) * Math.min(distance, high)) / high;
    find("here").setAttribute("x1", x);
    find("here").setAttribute("x2", x);
    find("here-text").setAttribute("x", x);
    find("here-text").setAttribute("text-anchor", x > (start + end) / 2 ? "end" : "start");
    find("here-text").textContent = `the chosen sample, ${short(distance)}`;
    find("histogram").classList.add("reading");
  };

  const choose = (item, focus) => {
    if (chosen) chosen.firstElementChild.tabIndex = -1;
    given.forEach((other) => other.firstElementChild.setAttribute("aria-current", String(other === item)));
    chosen = item;
    find("detail").hidden = item === null;
    if (!item) return;
    const button = item.firstElementChild, image = button.firstElementChild;
    button.tabIndex = 0;
    if (focus) button.focus();
    find("chosen-image").src = image.src;
    find("chosen-image").alt = image.alt;
    find("chosen-name").textContent = button.title;
    const near = nearestOf(item);
    find("near").replaceChildren(...near.map(neighbour));
    find("near-note").textContent = near.length ? "with their distances in feature space" : "This sample was not among those that were scored.";
    if (near.length) mark(near[0][1]);
  };

  /** Show the items for which `wanted` holds. */
  const only = (wanted) => {
    given.forEach((item) => { item.hidden = !wanted(item.dataset.label); });
    const shown = visible();
    find("shown-count").textContent = shown.length;
    find("no-match").hidden = shown.length > 0;
    if (!chosen || chosen.hidden) choose(shown[0] ?? null, false);
  };

  const buttons = [...document.querySelectorAll("#filters button")];
  buttons.forEach((button) => button.addEventListener("click", () => {
    buttons.forEach((other) => other.setAttribute("aria-pressed", String(other === button)));
    only((label) => "all" in button.dataset || label === button.dataset.label);
  }));
  find("search")?.addEventListener("input", (event) => {
    const words = event.target.value.toLowerCase().trim();
    only((label) => label.toLowerCase().includes(words));
  });
  find("order").addEventListener("change", (event) => {
    const distance = (item) => nearestOf(item)[0]?.[1] ?? Infinity;
    const sorted = event.target.value === "nearest" ? [...given].sort((a, b) => distance(a) - distance(b)) : given;
    list.replaceChildren(...sorted);
    choose(visible()[0] ?? null, false);
  });
  list.addEventListener("click", (event) => {
    const item = event.target.closest("li");
    if (item) choose(item, true);
  });
  list.addEventListener("keydown", (event) => {
    const shown = visible(), tops = shown.map((item) => item.offsetTop);
    const columns = tops.filter((top) => top === tops[0]).length;
    const at = shown.indexOf(event.target.closest("li"));
    const ends = { Home: 0, End: shown.length - 1 };
    const to = event.key in ends ? ends[event.key] : at + stepOf(event.key, columns);
    if (at < 0 || to === at || !shown[to] || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    choose(shown[to], true);
  });
  choose(given[0] ?? null, false);
};
