// Keeps the Plotly figure beside it as wide as its box. A figure is drawn before its element is in the page, where it has no
// width yet, and afterwards Plotly looks at its size only when the window changes. Which of the two comes first is chance.
function render({ el }) {
  el.style.display = "none";
  const known = new WeakSet();
  const sizes = new ResizeObserver(() => window.dispatchEvent(new Event("resize")));
  const look = (tries = 100) => {
    const figures = el.isConnected ? [...el.parentElement.querySelectorAll(".js-plotly-plot")] : [];
    for (const figure of figures.filter((one) => !known.has(one))) {
      known.add(figure);
      sizes.observe(figure);
    }
    if (!figures.length && tries > 0) setTimeout(look, 50, tries - 1);
  };
  const drawn = () => look();
  document.addEventListener("plotlywidget-after-render", drawn);
  look();
  return () => {
    document.removeEventListener("plotlywidget-after-render", drawn);
    sizes.disconnect();
  };
}

export default { render };
