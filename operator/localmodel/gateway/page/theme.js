// Light or dark before the first paint, so that nothing flashes. A classic script: modules run too late for that.

(() => {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  let chosen = "";
  try {
    chosen = JSON.parse(localStorage.getItem("localmodel.settings") ?? "{}").theme;
  } catch {
    // No store, or rubbish in it: as the system.
  }
  const apply = () => {
    document.documentElement.dataset.theme = ["light", "dark"].includes(chosen) ? chosen : dark.matches ? "dark" : "light";
  };
  apply();
  dark.addEventListener("change", apply);
  document.addEventListener("themechange", (event) => {
    chosen = event.detail;
    apply();
  });
})();
