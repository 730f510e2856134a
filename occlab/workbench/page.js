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

// A Plotly figure is drawn before its element is in the page, where it has no width yet, and afterwards looks at its size only
// when the window changes. So the window is said to change whenever the box around a figure did.
function fitFigures() {
  const sizes = new ResizeObserver(() => window.dispatchEvent(new Event("resize")));
  const drawn = ({ detail: { element } }, tries = 100) => {
    if (element.closest(".occlab")) sizes.observe(element);
    else if (!element.isConnected && tries > 0) setTimeout(drawn, 50, { detail: { element } }, tries - 1);
  };
  document.addEventListener("plotlywidget-after-render", drawn);
  return () => {
    document.removeEventListener("plotlywidget-after-render", drawn);
    sizes.disconnect();
  };
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
  const leave = [fitFigures(), keepKeys(), () => theme.disconnect()];
  return () => leave.forEach((end) => end());
}

export default { render };
