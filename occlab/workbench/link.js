// Turns the other scenes of a figure while one is dragged, and spares the browser what this figure has no use for.
const scenes = (plot) => (plot._fullLayout?._subplots?.gl3d ?? []).map((id) => plot._fullLayout[id]._scene);

function turnOthers(plot, moved) {
  for (const [name, camera] of Object.entries(moved ?? {})) {
    const [id, what] = name.split(".");
    if (what !== "camera") continue;
    for (const scene of scenes(plot)) {
      if (scene.id !== id) scene.setViewport({ camera, aspectratio: scene.glplot.getAspectratio() });
    }
  }
}

function lighten(plot) {
  for (const { glplot } of scenes(plot)) {
    glplot.pixelRatio = window.devicePixelRatio || 1; // Plotly's own is 2: on a plain screen four times the pixels
    // Nothing here is picked. Otherwise every frame is drawn twice, the second time to find what lies under the mouse.
    const picked = glplot.objects.filter((object) => object.pickSlots);
    for (const object of picked) object.pickSlots = 0;
    if (picked.length) {
      glplot.remove(picked[0]); // pick buffers are counted where an object comes or goes
      glplot.add(picked[0]);
    }
  }
}

function render({ model }) {
  const attach = (plot) => {
    if (plot?._fullLayout?.meta !== model.get("mark") || plot.occlabLinked) return;
    plot.occlabLinked = true;
    plot.on("plotly_relayouting", (moved) => turnOthers(plot, moved));
    plot.on("plotly_afterplot", () => lighten(plot));
    lighten(plot);
  };
  const drawn = (event) => attach(event.detail.element);
  document.addEventListener("plotlywidget-after-render", drawn);
  document.querySelectorAll(".js-plotly-plot").forEach(attach);
  return () => document.removeEventListener("plotlywidget-after-render", drawn);
}

export default { render };
