// What the workbench asks of the page it is on.

// Whether it is dark: by the colour of its background, which both JupyterLab and Voila set by a variable.
function isDark() {
  const probe = document.createElement("span");
  probe.style.color = "var(--jp-layout-color0, white)";
  probe.style.display = "none";
  document.body.append(probe);
  const [r, g, b] = getComputedStyle(probe).color.match(/[\d.]+/g).map(Number);
  probe.remove();
  return 0.299 * r + 0.587 * g + 0.114 * b < 128;
}

// JupyterLab takes arrow keys and letters for its own commands wherever a control has the focus, unless the control says so.
function keepKeys() {
  const focused = ({ target }) => {
    if (target.closest?.(".occlab")) target.setAttribute("data-lm-suppress-shortcuts", "true");
  };
  document.addEventListener("focusin", focused);
  return () => document.removeEventListener("focusin", focused);
}

function render({ model, el }) {
  el.style.display = "none";
  const look = () => {
    const dark = isDark();
    if (dark !== model.get("dark")) {
      model.set("dark", dark);
      model.save_changes();
    }
  };
  look();
  // A theme's style sheet may be applied a moment after its name is set on the body.
  const theme = new MutationObserver(() => { look(); setTimeout(look, 400); });
  theme.observe(document.body, { attributes: true });
  const leave = [keepKeys(), () => theme.disconnect()];
  return () => leave.forEach((end) => end());
}

export default { render };
