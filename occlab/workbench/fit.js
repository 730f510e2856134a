// Keeps the Plotly figure beside it as wide as its box. A figure is drawn before its element is in the page, where it has no
// width yet, and afterwards Plotly looks at its size only when the window changes.
function render({ el }) {
  el.style.display = "none";
  const sizes = new ResizeObserver(() => window.dispatchEvent(new Event("resize")));
  const drawn = ({ detail: { element } }, tries = 100) => {
    if (el.parentElement?.contains(element)) sizes.observe(element);
    else if (!element.isConnected && tries > 0) setTimeout(drawn, 50, { detail: { element } }, tries - 1);
  };
  document.addEventListener("plotlywidget-after-render", drawn);
  return () => {
    document.removeEventListener("plotlywidget-after-render", drawn);
    sizes.disconnect();
  };
}

export default { render };
