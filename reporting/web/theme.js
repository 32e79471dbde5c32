"use strict";
// The reader's choice of light or dark: auto follows the system. It is kept where the browser lets a file keep things.
(() => {
  const NEXT = { auto: "light", light: "dark", dark: "auto" };
  const stored = () => {
    try {
      return localStorage.getItem("theme");
    } catch {
      return null; // storage is off: the choice lasts as long as the page
    }
  };
  const store = (name) => {
    try {
      localStorage.setItem("theme", name);
    } catch {
      return;
    }
  };
  let theme = stored() in NEXT ? stored() : "auto";
  const apply = () => {
    document.documentElement.dataset.theme = theme;
    const told = document.getElementById("theme-name");
    if (told) told.textContent = theme;
  };
  apply();
  document.addEventListener("DOMContentLoaded", () => {
    apply();
    document.getElementById("theme").addEventListener("click", () => {
      theme = NEXT[theme];
      store(theme);
      apply();
    });
  });
})();
