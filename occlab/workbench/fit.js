// Keeps the Plotly figure beside it as wide as its box. A figure is drawn before its element is in the page, where it has no
// width yet, and afterwards Plotly looks at its size only when the window changes.
function render({ el }) {
  el.style.display = "none";
  const sizes = new ResizeObserver(() => window.dispatchEvent(new Event("resize")));
  const drawn = ({ detail }) => {
    if (el.parentElement?.contains(detail.element)) sizes.observe(detail.element);
  };
  document.addEventListener("plotlywidget-after-render", drawn);
  return () => {
    document.removeEventListener("plotlywidget-after-render", drawn);
    sizes.disconnect();
  };
}

export default { render };
